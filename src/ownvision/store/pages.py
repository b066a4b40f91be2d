"""The pages of a SQLite file as they lie on the disk: what belongs to a row, and what does not (its file format, §1).

SQL shows only rows. What was deleted may still lie in free pages and in the unused parts of the others.
"""

import mmap
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROW, SLACK, FREE, LOST = "row", "slack", "free", "lost"
_INDEX_INNER, _TABLE_INNER, _INDEX_LEAF, _TABLE_LEAF = 2, 5, 10, 13
_INNER = (_INDEX_INNER, _TABLE_INNER)
_KINDS = (*_INNER, _INDEX_LEAF, _TABLE_LEAF)
_HEADER = 100
_LOCK_BYTE = 1 << 30  # the page that holds it is never used
_TOGETHER = 256  # pages of a tree that are looked at in one go


class NoPages(Exception):
    """The file is not what SQLite writes, or was written while it was read."""


@dataclass(frozen=True)
class Part:
    """Bytes of the file that belong together.

    Attributes:
        kind: `ROW`: rows of pages, or the whole of a row that is longer than one; `SLACK`: what lies in a page beside
            its rows; `FREE`: a page that is not used; `LOST`: one that belongs to nothing.
        owner: The table or index, "" for none.
        page: Its number, from 1; of several the first.
        data: The bytes. Of slack and of free and lost pages there is only what is not zero.
    """

    kind: str
    owner: str
    page: int
    data: bytes


def parts(path: Path, roots: Mapping[int, str]) -> Iterator[Part]:
    """All there is in a database file, whose write-ahead log is empty.

    Args:
        path: The file.
        roots: Names of tables and indexes by the page they begin at (`rootpage` in `sqlite_schema`), in the order they
            are read in.

    Raises:
        NoPages: It can't be read so.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            yield from _File(data).parts({1: "sqlite_schema", **roots})
        except (struct.error, IndexError) as error:
            raise NoPages(f"{path} is not as SQLite writes it: {error}") from None


class _File:
    def __init__(self, data: mmap.mmap) -> None:
        if data[:16] != b"SQLite format 3\0":
            raise NoPages("it does not begin as a SQLite file")
        size = int.from_bytes(data[16:18], "big")
        self.data, self.size = data, 65_536 if size == 1 else size
        self.usable = self.size - data[20]
        self.count = len(data) // self.size
        self.seen = bytearray(self.count + 1)

    def parts(self, roots: Mapping[int, str]) -> Iterator[Part]:
        yield from self._free(int.from_bytes(self.data[32:36], "big"))
        for root, owner in roots.items():
            level = [root]
            while level:
                waiting: list[int] = []
                for at in range(0, len(level), _TOGETHER):
                    yield from self._together(level[at : at + _TOGETHER], owner, waiting)
                level = waiting
        for number in range(1, self.count + 1):
            if not self.seen[number] and number != _LOCK_BYTE // self.size + 1:
                yield from _left(LOST, "", number, self._page(number))

    def _together(self, numbers: list[int], owner: str, waiting: list[int]) -> Iterator[Part]:
        """Pages of a tree that are equally deep: at once those that hold nothing but short rows, the others singly."""
        read = b"".join(map(self._page, numbers))
        filled = _filled(read, self.size, self.usable).tolist()
        whole = [number for number, is_filled in zip(numbers, filled, strict=True) if is_filled]
        if whole:
            yield Part(ROW, owner, whole[0], b"".join(map(self._visit, whole)))
        for number, is_filled in zip(numbers, filled, strict=True):
            if not is_filled:
                yield from self._tree(number, owner, waiting)

    def _page(self, number: int) -> bytes:
        if not 1 <= number <= self.count:
            raise NoPages(f"there is no page {number}")
        return self.data[(number - 1) * self.size : number * self.size]

    def _visit(self, number: int) -> bytes:
        page = self._page(number)
        if self.seen[number]:
            raise NoPages(f"page {number} belongs to two")
        self.seen[number] = 1
        return page

    def _free(self, trunk: int) -> Iterator[Part]:
        while trunk:
            page = self._visit(trunk)
            following, count = struct.unpack_from(">II", page)
            yield from _left(FREE, "", trunk, page[8 + 4 * count :])
            for (leaf,) in struct.iter_unpack(">I", page[8 : 8 + 4 * count]):
                yield from _left(FREE, "", leaf, self._visit(leaf))
            trunk = following

    def _tree(self, number: int, owner: str, waiting: list[int]) -> Iterator[Part]:
        page = self._visit(number)
        start = _HEADER if number == 1 else 0
        kind, freeblock, count = struct.unpack_from(">BHH", page, start)
        if kind not in _KINDS:
            raise NoPages(f"page {number} is of kind {kind}")
        pointers = start + (12 if kind in _INNER else 8)
        if kind in _INNER:
            waiting.append(int.from_bytes(page[start + 8 : start + 12], "big"))
        used = [(0, pointers + 2 * count)]
        for (cell,) in struct.iter_unpack(">H", page[pointers : pointers + 2 * count]):
            end, overflow, length = self._cell(page, cell, kind, waiting)
            used.append((cell, max(end, cell + 4)))
            if overflow:
                yield from self._overflow(overflow, owner, page[cell : end - 4], length)
        while freeblock:
            used.append((freeblock, freeblock + 4))
            freeblock = int.from_bytes(page[freeblock : freeblock + 2], "big")
        rows = bytearray(page)
        for begin, end in _gaps(sorted(used), self.usable):
            rows[begin:end] = bytes(end - begin)
            if not _only_pointers(page[begin:end], self.size):
                yield from _left(SLACK, owner, number, page[begin:end])
        yield Part(ROW, owner, number, bytes(rows))

    def _cell(self, page: bytes, cell: int, kind: int, waiting: list[int]) -> tuple[int, int, int]:
        """Where a cell ends, the first page of what does not fit into it (0: none), and how long that is."""
        at = cell
        if kind in _INNER:
            waiting.append(int.from_bytes(page[at : at + 4], "big"))
            at += 4
        if kind == _TABLE_INNER:
            return _varint(page, at)[1], 0, 0
        length, at = _varint(page, at)
        most = (self.usable - 12) * 64 // 255 - 23
        if kind == _TABLE_LEAF:
            _, at = _varint(page, at)
            most = self.usable - 35
        if length <= most:
            return at + length, 0, 0
        least = (self.usable - 12) * 32 // 255 - 23
        here = least + (length - least) % (self.usable - 4)
        here = here if here <= most else least
        return at + here + 4, int.from_bytes(page[at + here : at + here + 4], "big"), length - here

    def _overflow(self, number: int, owner: str, begin: bytes, left: int) -> Iterator[Part]:
        first, pieces = number, [begin]
        while number:
            page = self._visit(number)
            here = min(left, self.usable - 4)
            pieces.append(page[4 : 4 + here])
            yield from _left(SLACK, owner, number, page[4 + here : self.usable])
            left -= here
            number = int.from_bytes(page[:4], "big")
        yield Part(ROW, owner, first, b"".join(pieces))


def _filled(data: bytes, size: int, usable: int) -> NDArray[np.bool_]:
    """Which of several pages are leaves of whose bytes each is accounted for: cells that do not overflow, and zeros.

    What is not so, or not known to be so by the sums alone, is to be looked at byte by byte.
    """
    flat = np.frombuffer(data + bytes(16), np.uint8)
    bases = np.arange(0, len(data), size)
    kinds, counts, begins = flat[bases], _short(flat, bases + 3), _short(flat, bases + 5)
    gaps = 8 + 2 * counts
    filled: NDArray[np.bool_] = np.isin(kinds, (_INDEX_LEAF, _TABLE_LEAF)) & (_short(flat, bases + 1) == 0)
    filled &= (gaps < begins) & (begins <= usable)
    counts = np.where(filled, counts, 0)
    # Each cell, by the page it is in.
    pages = np.repeat(np.arange(len(bases)), counts)
    pointers = np.arange(len(pages)) - np.repeat(np.cumsum(counts) - counts, counts)
    cells = bases[pages] + _short(flat, bases[pages] + 8 + 2 * pointers)
    lengths, ends = _varints(flat, cells)
    tables = kinds[pages] == _TABLE_LEAF
    ends[tables] = _varints(flat, ends[tables])[1]
    most = np.where(tables, usable - 35, (usable - 12) * 64 // 255 - 23)
    filled[pages[(lengths > most) | (cells < (bases + begins)[pages])]] = False
    used = np.bincount(pages, np.maximum(ends - cells + lengths, 4), len(bases))
    fragments = flat[bases + 7]  # of up to three bytes, by SQLite; more than a few could be something else
    filled &= (begins + used + fragments == usable) & (fragments < 12)
    between = np.stack([bases + gaps, bases + begins], axis=1)[filled].ravel()
    if len(between):
        filled[filled] = np.maximum.reduceat(flat, between)[::2] == 0
    return filled


def _short(flat: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.int64]:
    return flat[at].astype(np.int64) << 8 | flat[at + 1]


def _varints(flat: NDArray[np.uint8], at: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of up to five bytes, and where they end; longer ones are in no row that is short."""
    ends, values = at + 1, flat[at].astype(np.int64)
    longer = np.flatnonzero(values > 127)
    values &= 127
    for _ in range(4):
        bytes_ = flat[ends[longer]]
        values[longer] = values[longer] << 7 | bytes_ & 127
        ends[longer] += 1
        longer = longer[bytes_ > 127]
    return values, ends


def _gaps(used: list[tuple[int, int]], end: int) -> Iterator[tuple[int, int]]:
    at = 0
    for begin, until in [*used, (end, end)]:
        if begin > at:
            yield at, begin
        at = max(at, until)


def _left(kind: str, owner: str, page: int, data: bytes) -> Iterator[Part]:
    content = data.strip(b"\0")
    if content:
        yield Part(kind, owner, page, content)


_ZEROS = re.compile(rb"\0{3,}")


def _only_pointers(data: bytes, size: int) -> bool:
    """Whether nothing is left but where cells and free blocks were: numbers below the page's size."""
    highest = (size - 1) >> 8
    return all(_numbers(b"\0" + run + b"\0", highest) for run in _ZEROS.split(data) if run)


def _numbers(data: bytes, highest: int) -> bool:
    """Whether bytes are numbers of two bytes whose first is not above `highest`, and zeros between them."""
    here, following = True, False  # whether a number may begin at this byte, and at the next
    for byte in data:
        here, following = following or (here and byte == 0), here and byte <= highest
    return here


def _varint(page: bytes, at: int) -> tuple[int, int]:
    value = 0
    for number in range(9):
        byte = page[at + number]
        if number == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 127
        if byte < 128:
            return value, at + number + 1
    raise NoPages("a number is too long")
