"""Text of any length in constant memory: in chunks of bytes, and put aside until it is wanted."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from json.encoder import encode_basestring_ascii

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

_CHUNK = 64 * 1024
# A text as JSON, ASCII only. Rows are put together from it: `json.dumps` makes an encoder anew for each.
quoted = encode_basestring_ascii


def chunks(texts: Iterable[str]) -> Iterator[bytes]:
    """The texts as UTF-8, in chunks of about 64 KiB."""
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= _CHUNK:
            yield "".join(waiting).encode()
            waiting, size = [], 0
    if size:
        yield "".join(waiting).encode()


class Spool:
    """Text put aside: written once, then read as often as needed.

    A temporary file without a name holds it, enciphered by a key that only this object knows: names and tags must not
    lie about on a disk after the process that wrote them.
    """

    def __init__(self) -> None:
        self._cipher = Cipher(AES(os.urandom(32)), CTR(os.urandom(16)))
        self._seal = self._cipher.encryptor()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `__exit__`
        self._waiting: list[str] = []
        self._size = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, text: str) -> None:
        """Add text."""
        self._waiting.append(text)
        self._size += len(text)
        if self._size >= _CHUNK:
            self._flush()

    def read(self) -> Iterator[bytes]:
        """All of it from the start; nothing may be written meanwhile."""
        self._flush()
        opening = self._cipher.decryptor()
        self._file.seek(0)
        while sealed := self._file.read(_CHUNK):
            yield opening.update(sealed)

    def lines(self) -> Iterator[str]:
        """The lines that were written, without their ends."""
        rest = b""
        for chunk in self.read():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode()
        if rest:
            yield rest.decode()

    def _flush(self) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(self._seal.update("".join(self._waiting).encode()))
        self._waiting, self._size = [], 0
