"""Objects encrypted with their project's key: AES-256-GCM in frames of 1 MiB, so that ranges can be read.

An object is a header (magic, 16 random bytes) and frames. Each object has a key of its own, HMAC-SHA256 of the random
bytes under the project's key, so that no number of objects brings two frames to the same key and nonce. A frame's nonce
is its number; its additional data are the object's name, the number and whether it is the last: no frame can be moved,
dropped or added. The scheme is that of STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015).
"""

import hmac
import secrets
import struct
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ownvision.store.blobs import BlobDamaged, BlobStore
from ownvision.store.keys import KeyStore

FRAME = 1 << 20
_MAGIC = b"OVB1"
_SALT = 16
_HEADER = len(_MAGIC) + _SALT
_TAG = 16


class SealedBlobs:
    """A `BlobStore` whose objects are sealed; the project's id is the first part of every key.

    Args:
        store: Where the sealed bytes go.
        keys: Where the projects' keys come from.
    """

    def __init__(self, store: BlobStore, keys: KeyStore) -> None:
        self.store = store
        self.keys = keys

    def put_new(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """See `BlobStore.put_new`."""
        salt = secrets.token_bytes(_SALT)
        cipher = self._cipher(key, salt)
        count = max(1, -(-len(data) // FRAME))
        view = memoryview(data)
        parts = [_MAGIC, salt]
        for number in range(count):
            frame = view[number * FRAME : (number + 1) * FRAME]
            parts.append(cipher.encrypt(_nonce(number), frame, _context(key, number, number == count - 1)))
        self.store.put_new(key, b"".join(parts), durable=durable)

    def put_parts(self, key: str, parts: Iterable[bytes]) -> None:
        """See `BlobStore.put_parts`; they are sealed frame by frame as they come."""
        salt = secrets.token_bytes(_SALT)
        cipher = self._cipher(key, salt)

        def sealed() -> Iterator[bytes]:
            yield _MAGIC + salt
            waiting, number = bytearray(), 0
            for part in parts:
                waiting += part
                # A frame leaves once it is known not to be the last.
                while len(waiting) > FRAME:
                    frame = bytes(memoryview(waiting)[:FRAME])
                    del waiting[:FRAME]
                    yield cipher.encrypt(_nonce(number), frame, _context(key, number, False))
                    number += 1
            yield cipher.encrypt(_nonce(number), bytes(waiting), _context(key, number, True))

        self.store.put_parts(key, sealed())

    def read(self, key: str) -> bytes:
        """See `BlobStore.read`.

        Raises:
            BlobDamaged: It is not what was written.
        """
        sealed = self.store.read(key)
        salt = _salt(key, sealed[:_HEADER])
        count = _frames(key, len(sealed))
        cipher = self._cipher(key, salt)
        view = memoryview(sealed)
        return b"".join(
            _open(cipher, key, number, number == count - 1, view[_offset(number) : _offset(number + 1)])
            for number in range(count)
        )

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """See `BlobStore.read_range`; only the frames that hold the range are read.

        Raises:
            BlobDamaged: A frame is not what was written.
        """
        length = self.size(key)
        end = min(end, length)
        if start >= end:
            return b""
        first, last = start // FRAME, (end - 1) // FRAME
        count = max(1, -(-length // FRAME))
        salt = _salt(key, self.store.read_range(key, 0, _HEADER))
        sealed = memoryview(self.store.read_range(key, _offset(first), _offset(last + 1)))
        cipher = self._cipher(key, salt)
        step = FRAME + _TAG
        opened = b"".join(
            _open(cipher, key, first + i, first + i == count - 1, sealed[i * step : (i + 1) * step])
            for i in range(last - first + 1)
        )
        return opened[start - first * FRAME : end - first * FRAME]

    def size(self, key: str) -> int:
        """See `BlobStore.size`: the length before sealing."""
        sealed = self.store.size(key)
        return sealed - _HEADER - _TAG * _frames(key, sealed)

    def exists(self, key: str) -> bool:
        """See `BlobStore.exists`."""
        return self.store.exists(key)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """See `BlobStore.list`; sizes are of the sealed objects."""
        return self.store.list(prefix)

    def names(self, prefix: str = "") -> Iterator[str]:
        """See `BlobStore.names`."""
        return self.store.names(prefix)

    def delete_prefix(self, prefix: str) -> None:
        """See `BlobStore.delete_prefix`."""
        self.store.delete_prefix(prefix)

    def sync(self) -> None:
        """See `BlobStore.sync`."""
        self.store.sync()

    def _cipher(self, key: str, salt: bytes) -> AESGCM:
        owner_key = self.keys.owner_key(key.partition("/")[0])
        return AESGCM(hmac.digest(owner_key, b"object " + salt, "sha256"))


def sealed_size(size: int) -> int:
    """The length of a sealed object of so many bytes; `size` may be an SQL expression of whole numbers above 0."""
    return _HEADER + size + _TAG * ((size - 1) // FRAME + 1)


def _offset(number: int) -> int:
    return _HEADER + number * (FRAME + _TAG)


def _frames(key: str, sealed: int) -> int:
    count = -(-(sealed - _HEADER) // (FRAME + _TAG))
    if sealed < _HEADER + _TAG or (sealed - _HEADER) - (count - 1) * (FRAME + _TAG) < _TAG:
        raise BlobDamaged(f"{key} is too short")
    return count


def _salt(key: str, header: bytes) -> bytes:
    if len(header) != _HEADER or not header.startswith(_MAGIC):
        raise BlobDamaged(f"{key} does not begin as a sealed object does")
    return header[len(_MAGIC) :]


def _nonce(number: int) -> bytes:
    return struct.pack(">4xQ", number)


def _context(key: str, number: int, last: bool) -> bytes:
    return f"{key}\n{number}\n{int(last)}".encode()


def _open(cipher: AESGCM, key: str, number: int, last: bool, frame: memoryview) -> bytes:
    try:
        return cipher.decrypt(_nonce(number), frame, _context(key, number, last))
    except (InvalidTag, ValueError):
        raise BlobDamaged(f"frame {number} of {key} is not what was written") from None
