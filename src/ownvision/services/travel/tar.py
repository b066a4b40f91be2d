"""The least of POSIX tar (ustar): regular files one after the other, written and read as a stream.

The standard library's reader follows what the archive says: links, long names and extended headers of any size. This
one knows the one shape that `leaving` writes and refuses all else, so what a stranger sends costs no more than it may.
"""

import tarfile
from collections.abc import Iterator

_BLOCK = 512
END = bytes(2 * _BLOCK)
# The header of a file without name and bytes; making each anew would cost as much as reading a small picture.
_EMPTY = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
_SIZE, _CHECKSUM = slice(124, 135), slice(148, 156)


class Damaged(Exception):
    """The stream is not such an archive, or ends early; one sentence for the person."""


def member(name: str, data: bytes) -> bytes:
    """One file, whole blocks.

    Args:
        name: At most 100 ASCII characters.
        data: Its bytes.
    """
    header = bytearray(_EMPTY)
    header[: len(name)] = name.encode("ascii")
    header[_SIZE] = b"%011o" % len(data)
    header[_CHECKSUM] = b" " * 8
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return b"".join((header, data, bytes(-len(data) % _BLOCK)))


class Archive:
    """Reads an archive member by member; never more of it in memory than a member and one chunk.

    Args:
        chunks: The stream's bytes, in parts of any size.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._next: tuple[str, int] | None = None

    def name(self) -> str:
        """The name of the member that comes next.

        Raises:
            Damaged: None can come: the archive ends here, or what comes is no header.
        """
        if self._next is None:
            self._next = _header(self._take(_BLOCK))
        return self._next[0]

    def size(self) -> int:
        """The bytes of the member that comes next.

        Raises:
            Damaged: As `name`.
        """
        self.name()
        assert self._next is not None
        return self._next[1]

    def read(self, name: str, most: int) -> bytes:
        """The bytes of the next member.

        Args:
            name: What it must be named.
            most: Bytes it may have.

        Raises:
            Damaged: It has another name, is larger, or is cut off.
        """
        if self.name() != name:
            raise Damaged(f"{name} should come where {self.name()!r} is.")
        size = self.size()
        if size > most:
            raise Damaged(f"{name} has {size} bytes; it may have {most}.")
        self._next = None
        data = self._take(size)
        self._take(-size % _BLOCK)
        return data

    def end(self) -> None:
        """See that the archive ends here.

        Raises:
            Damaged: It goes on.
        """
        if (
            self._next is not None
            or self._take(len(END)) != END
            or self._buffer
            or next(self._chunks, None) is not None
        ):
            raise Damaged("Something follows where the archive should end.")

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise Damaged("It ends before it is complete.")
            self._buffer += chunk
        taken = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        return taken


def _header(block: bytes) -> tuple[str, int]:
    try:
        name = block[:100].partition(b"\0")[0].decode("ascii")
        size, checksum = _octal(block[_SIZE]), _octal(block[148:154])
    except ValueError:
        raise Damaged("It is no tar archive, or is damaged.") from None
    if checksum != sum(block) - sum(block[_CHECKSUM]) + sum(b" " * 8):
        raise Damaged("It is no tar archive, or is damaged.")
    if block[156:157] not in (b"0", b"\0") or block[257:265] != b"ustar\x0000" or block[345:500].strip(b"\0"):
        raise Damaged(f"{name!r} is no regular file.")
    return name, size


def _octal(digits: bytes) -> int:
    digits = digits.rstrip(b" \0")
    if not digits.isdigit():
        raise ValueError(digits)
    return int(digits, 8)
