"""ZIP as it is written for a takeout: a stream of entries whose sizes are known before them (APPNOTE 6.3.10, ZIP64).

The standard library's writer keeps 390 bytes an entry in memory, which three files for each of 100,000 images make
120 MB. Here the central directory waits in a nameless file. No entry has a data descriptor: every reader, also one that
reads from the front, knows where an entry ends.
"""

import hashlib
import struct
import tempfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import IO

STORED, DEFLATED = 0, 8
LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
END64, LOCATOR64 = b"PK\6\6", b"PK\6\7"
LOCAL_HEADER = struct.Struct("<4s5H3L2H")
CENTRAL_HEADER = struct.Struct("<4s6H3L5H2L")
END_HEADER = struct.Struct("<4s4H2LH")
END64_HEADER = struct.Struct("<4sQ2H2L4Q")
LOCATOR64_HEADER = struct.Struct("<4sLQL")
MANY, LARGE = 0xFFFF, 0xFFFFFFFF
UTF8 = 0x800
_FIRST = datetime(1980, 1, 1, tzinfo=UTC)
_REGULAR = 0o100600 << 16
_BY_UNIX = 3 << 8 | 45
_TINY, _IN_MEMORY, _STEP = 1_024, 4 * 2**20, 2**20
_LEVEL = 1  # of JSON and XML the best one saves a third more, and takes five times as long


@dataclass(frozen=True)
class Written:
    """What an entry holds, before it was compressed."""

    path: str
    size: int
    sha256: str


# Parts of the archive; `yield from` gives what the entry held.
Parts = Generator[bytes, None, Written]


class Writer:
    """Gives the bytes of an archive, entry after entry.

    Args:
        folder: Where nameless files may be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._directory: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        self._count = 0
        self._offset = 0

    def close(self) -> None:
        """Let the nameless file go."""
        self._directory.close()

    def stored(self, path: str, data: bytes, crc: int, at: datetime | None = None) -> Iterator[bytes]:
        """An entry that is not compressed, as pictures and archives are already; `crc` is its CRC-32."""
        yield self._header(path, STORED, crc, len(data), len(data), at)
        yield data
        self._offset += len(data)

    def text(self, path: str, chunks: Iterable[bytes]) -> Parts:
        """A compressed entry of any length."""
        # Most entries are the annotation of one picture: they are not worth a compressor.
        beginning, size, rest = [], 0, iter(chunks)
        for chunk in rest:
            beginning.append(chunk)
            size += len(chunk)
            if size > _TINY:
                return (yield from self._spooled(path, chain(beginning, rest), DEFLATED))
        data = b"".join(beginning)
        yield from self.stored(path, data, zlib.crc32(data))
        return Written(path, size, hashlib.sha256(data).hexdigest())

    def binary(self, path: str, chunks: Iterable[bytes]) -> Parts:
        """An entry of any length that is not compressed."""
        return self._spooled(path, chunks, STORED)

    def _spooled(self, path: str, chunks: Iterable[bytes], method: int) -> Parts:
        crc, size, digest = 0, 0, hashlib.sha256()
        pack = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._folder)) as spool:
            for chunk in chunks:
                crc, size = zlib.crc32(chunk, crc), size + len(chunk)
                digest.update(chunk)
                spool.write(chunk if method == STORED else pack.compress(chunk))
            if method == DEFLATED:
                spool.write(pack.flush())
            packed = spool.tell()
            spool.seek(0)
            yield self._header(path, method, crc, packed, size, None)
            while part := spool.read(_STEP):
                yield part
        self._offset += packed
        return Written(path, size, digest.hexdigest())

    def end(self) -> Iterator[bytes]:
        """The central directory and the archive's end."""
        begin, size = self._offset, self._directory.tell()
        self._directory.seek(0)
        while part := self._directory.read(_STEP):
            yield part
        if self._count >= MANY or begin + size >= LARGE:
            yield END64_HEADER.pack(
                END64, END64_HEADER.size - 12, _BY_UNIX, 45, 0, 0, self._count, self._count, size, begin
            )
            yield LOCATOR64_HEADER.pack(LOCATOR64, 0, begin + size, 1)
        count = min(self._count, MANY)
        yield END_HEADER.pack(END, 0, 0, count, count, min(size, LARGE), min(begin, LARGE), 0)

    def _header(self, path: str, method: int, crc: int, packed: int, size: int, at: datetime | None) -> bytes:
        """An entry's local header; its line of the directory is kept."""
        name = path.encode()
        flags = 0 if path.isascii() else UTF8
        day, time = _dos(at)
        large = packed >= LARGE or size >= LARGE
        extra = struct.pack("<2H2Q", 1, 16, size, packed) if large else b""
        told = (LARGE, LARGE) if large else (packed, size)
        header = LOCAL_HEADER.pack(
            LOCAL, 45 if large else 20, flags, method, time, day, crc, *told, len(name), len(extra)
        )
        far = self._offset >= LARGE
        wide = [*((size, packed) if large else ()), *((self._offset,) if far else ())]
        more = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        line = CENTRAL_HEADER.pack(
            CENTRAL,
            _BY_UNIX,
            45 if wide else 20,
            flags,
            method,
            time,
            day,
            crc,
            *told,
            len(name),
            len(more),
            0,
            0,
            0,
            _REGULAR,
            LARGE if far else self._offset,
        )
        self._directory.write(line + name + more)
        self._count += 1
        self._offset += len(header) + len(name) + len(extra)
        return header + name + extra


def _dos(at: datetime | None) -> tuple[int, int]:
    """A moment as MS-DOS has it: two seconds exact, not before 1980."""
    moment = _FIRST if at is None else max(at.astimezone(UTC), _FIRST)
    day = (min(moment.year, 2107) - 1980) << 9 | moment.month << 5 | moment.day
    return day, moment.hour << 11 | moment.minute << 5 | moment.second // 2
