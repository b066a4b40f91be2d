"""A takeout's archive as it is read: nothing of it is believed, and nothing is written anywhere before all is checked.

The standard library's reader keeps half a kilobyte an entry and reads whatever names them. Here an entry is 80 bytes,
and an archive is refused as a whole that holds anything but regular files at places of their own, each once, each of
the size and hash that its lists tell.
"""

import hashlib
import json
import os
import re
import stat
import unicodedata
import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from ownvision.data_rights.takeout.contents import FORMAT, VERSION, Manifest
from ownvision.data_rights.takeout.zip import (
    CENTRAL,
    CENTRAL_HEADER,
    DEFLATED,
    END,
    END64,
    END64_HEADER,
    END_HEADER,
    LARGE,
    LOCAL,
    LOCAL_HEADER,
    LOCATOR64,
    LOCATOR64_HEADER,
    MANY,
    STORED,
    UTF8,
)
from ownvision.services.travel.tar import Damaged

M = TypeVar("M", bound=BaseModel)
ENTRIES = 5_000_000
_DIRECTORY = 2 * 2**30
_NAME = 1_024
_JSON = 16 * 2**20
_RATIO, _SMALL = 1_100, 2**20  # deflate's most is 1,032; what unpacks to less is no bomb
_STEP = 2**20
_LONGEST = CENTRAL_HEADER.size + 3 * MANY  # bytes of a line of the directory
_UNIX = 3
_ENCRYPTED = 1 | 1 << 6 | 1 << 13
_LISTS = ("files.jsonl", "manifest.json")
_LINE = 4_096
# Parts between slashes, none of them empty or leading up, no drive; a folder's name ends in a slash.
_PLAIN = re.compile(r"(?![A-Za-z]:)(?:(?!\.{1,2}(?:/|$))[^/\\\0-\x1f]+(?:/|$))+")
# A line of the list as it is written here; another one is read as any JSON.
_LISTED = re.compile(rb'\{"path":"([^"\\]+)","bytes":(\d{1,18}),"sha256":"([0-9a-f]{64})"\}')
_FOLDER = re.compile(r"projects/[^/]+/")


def is_takeout(path: Path) -> bool:
    """Whether a file is an archive that says of itself that it is a takeout; a damaged one may be."""
    try:
        with Reader(path) as reader:
            return reader.has("manifest.json") and _told(reader).get("format") == FORMAT
    except (Damaged, ValueError):
        return False


def _told(reader: "Reader") -> dict[str, Any]:
    value = json.loads(reader.read("manifest.json", _JSON))
    return value if isinstance(value, dict) else {}


class Reader:
    """The entries of a ZIP file, by name.

    Args:
        path: The file.

    Raises:
        Damaged: It is no ZIP file, or one that a takeout can't be.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)
        try:
            self._places: dict[bytes, int] = {}
            self._offsets, self._packed, self._sizes = array("Q"), array("Q"), array("Q")
            self._methods, self._names = bytearray(), array("H")
            self._read_directory()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.close(self._file)

    def __len__(self) -> int:
        return len(self._offsets)

    def place(self, name: str) -> int | None:
        """The number of the entry of that name."""
        return self._places.get(_digest(name))

    def has(self, name: str) -> bool:
        """Whether there is an entry of that name."""
        return self.place(name) is not None

    def size(self, place: int) -> int:
        """Bytes of an entry, unpacked."""
        return self._sizes[place]

    def read(self, name: str, most: int) -> bytes:
        """A whole entry.

        Args:
            name: Which.
            most: Bytes it may have.

        Raises:
            Damaged: It is not there, larger, or not what the directory says.
        """
        place = self._known(name)
        if self._sizes[place] > most:
            raise Damaged(f"{_shown(name)} has {self._sizes[place]} bytes; it may have {most}.")
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """An entry in parts.

        Raises:
            Damaged: As `read`; also after some parts.
        """
        place = self._known(name)
        size, packed = self._sizes[place], self._packed[place]
        # Nearly always the local header is as long as the directory says: one read for a small entry.
        guess = LOCAL_HEADER.size + self._names[place]
        head = os.pread(self._file, guess + min(packed, _STEP), self._offsets[place])
        begin = self._begin(name, place, head)
        waiting = head[begin:][:packed]
        at, left = self._offsets[place] + begin + len(waiting), packed - len(waiting)
        unpack = None if self._methods[place] == STORED else zlib.decompressobj(-15)
        came = 0
        while True:
            for part in (waiting,) if unpack is None else _unpacked(name, unpack, waiting):
                came += len(part)
                if came > size:
                    raise _wrong(name)
                yield part
            if not left:
                break
            waiting = os.pread(self._file, min(left, _STEP), at)
            if not waiting:
                raise Damaged(f"{_shown(name)} is cut off.")
            at, left = at + len(waiting), left - len(waiting)
        if came != size or (unpack is not None and not unpack.eof):
            raise _wrong(name)

    def _known(self, name: str) -> int:
        place = self.place(name)
        if place is None:
            raise Damaged(f"{_shown(name)} is missing.")
        return place

    def _begin(self, name: str, place: int, head: bytes) -> int:
        """Where an entry's bytes begin after its local header, which must say what the directory says."""
        if len(head) < LOCAL_HEADER.size:
            raise _wrong(name)
        sign, _, _, method, _, _, _, packed, size, length, extra = LOCAL_HEADER.unpack_from(head)
        told = head[LOCAL_HEADER.size : LOCAL_HEADER.size + length]
        if sign != LOCAL or method != self._methods[place] or _digest(_decoded(told)) != _digest(name):
            raise _wrong(name)
        if {packed, size} - {0, LARGE} and (packed, size) != (self._packed[place], self._sizes[place]):
            raise _wrong(name)
        return int(LOCAL_HEADER.size + length + extra)

    def _read_directory(self) -> None:
        count, size, begin = _ending(self._file)
        if count > ENTRIES or size > _DIRECTORY:
            raise Damaged(f"It names more than {ENTRIES} files.")
        lines, place, at, end = b"", 0, begin, begin + size
        for _ in range(count):
            if len(lines) - place < _LONGEST and at < end:
                part = os.pread(self._file, min(_STEP, end - at), at)
                lines, place, at = lines[place:] + part, 0, at + len(part)
            place += self._take(lines, place)
        if place != len(lines) or at != end:
            raise Damaged("Its list of files is not what its end says.")
        self._check_apart(begin)

    def _take(self, lines: bytes, at: int) -> int:
        """Note the entry of the directory that begins there; gives how long its line is."""
        if len(lines) - at < CENTRAL_HEADER.size:
            raise Damaged("Its list of files is cut off.")
        sign, by, _, flags, method, _, _, _, packed, size, length, extra, remark, disk, _, mode, offset = (
            CENTRAL_HEADER.unpack_from(lines, at)
        )
        end = CENTRAL_HEADER.size + length + extra + remark
        if sign != CENTRAL or len(lines) - at < end or disk not in (0, MANY):
            raise Damaged("Its list of files is damaged.")
        begin = at + CENTRAL_HEADER.size
        raw, more = lines[begin : begin + length], lines[begin + length : begin + length + extra]
        name = _decoded(raw)
        _check_name(name, raw, flags)
        size, packed, offset = _wide(more, size, packed, offset)
        if name.endswith("/"):
            if size or packed:
                raise Damaged(f"{_shown(name)} is a folder with bytes.")
            return int(end)
        kind = stat.S_IFMT(mode >> 16) if by >> 8 == _UNIX else 0
        if kind not in (0, stat.S_IFREG):
            raise Damaged(f"{_shown(name)} is a link, or no regular file.")
        if flags & _ENCRYPTED:
            raise Damaged(f"{_shown(name)} is encrypted.")
        if method not in (STORED, DEFLATED) or (method == STORED and size != packed):
            raise Damaged(f"{_shown(name)} is packed in a way that a takeout is not.")
        if size > _SMALL and size > _RATIO * packed:
            raise Damaged(f"{_shown(name)} would unpack to more than it can.")
        key = _digest(name)
        if key in self._places:
            raise Damaged(f"{_shown(name)} is there twice.")
        self._places[key] = len(self._offsets)
        self._offsets.append(offset)
        self._packed.append(packed)
        self._sizes.append(size)
        self._methods.append(method)
        self._names.append(length)
        return int(end)

    def _check_apart(self, directory: int) -> None:
        """See that no two entries share bytes."""
        if not self._offsets:
            raise Damaged("It is empty.")
        begins = np.frombuffer(self._offsets, np.uint64).astype(np.float64)
        lengths = LOCAL_HEADER.size + np.frombuffer(self._names, np.uint16) + np.frombuffer(self._packed, np.uint64)
        order = np.argsort(begins, kind="stable")
        ends = (begins + lengths)[order]
        nexts = np.append(begins[order][1:], float(directory))
        if (ends > nexts).any():
            raise Damaged("Files in it share their bytes, or go beyond its end.")


def _ending(file: int) -> tuple[int, int, int]:
    """How many entries there are, how long their list is, and where it begins."""
    total = os.fstat(file).st_size
    start = max(0, total - END_HEADER.size - MANY)
    tail = os.pread(file, total - start, start)
    place = tail.rfind(END)
    if place < 0 or len(tail) - place < END_HEADER.size:
        raise Damaged("It is no ZIP file, or is cut off.")
    _, disk, other, _, count, size, begin, _ = END_HEADER.unpack_from(tail, place)
    if disk or other:
        raise Damaged("It is one of several parts.")
    end = start + place
    if count == MANY or size == LARGE or begin == LARGE:
        count, size, begin, end = _large_ending(file, end)
    if begin + size != end:
        raise Damaged("Its list of files is not where its end says.")
    return count, size, begin


def _large_ending(file: int, end: int) -> tuple[int, int, int, int]:
    locator = os.pread(file, LOCATOR64_HEADER.size, max(0, end - LOCATOR64_HEADER.size))
    if len(locator) < LOCATOR64_HEADER.size or not locator.startswith(LOCATOR64):
        raise Damaged("Its end is damaged.")
    at = LOCATOR64_HEADER.unpack(locator)[2]
    data = os.pread(file, END64_HEADER.size, min(at, end))
    if len(data) < END64_HEADER.size or not data.startswith(END64):
        raise Damaged("Its end is damaged.")
    count, size, begin = END64_HEADER.unpack(data)[7:10]
    return count, size, begin, at


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Sizes and offset, those of ZIP64 where the narrow ones are full."""
    values = [size, packed, offset]
    missing = [number for number, value in enumerate(values) if value == LARGE]
    at = 0
    while missing and at + 4 <= len(extra):
        kind, length = int.from_bytes(extra[at : at + 2], "little"), int.from_bytes(extra[at + 2 : at + 4], "little")
        if kind == 1 and length >= 8 * len(missing) and at + 4 + length <= len(extra):
            for place, number in enumerate(missing):
                start = at + 4 + 8 * place
                values[number] = int.from_bytes(extra[start : start + 8], "little")
            missing = []
        at += 4 + length
    if missing or max(values) >= 2**62:
        raise Damaged("Its list of files is damaged.")
    return values[0], values[1], values[2]


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Damaged("It has a file whose name is no UTF-8.") from None


def _check_name(name: str, raw: bytes, flags: int) -> None:
    if len(raw) > _NAME or not _PLAIN.fullmatch(name) or not (name.isascii() or flags & UTF8):
        raise Damaged(f"{_shown(name)} is no name that a file of a takeout has.")


def _digest(name: str) -> bytes:
    """Names that some file system takes for the same are the same."""
    folded = unicodedata.normalize("NFC", name).casefold() if not name.isascii() else name.lower()
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _unpacked(name: str, unpack: Any, data: bytes) -> Iterator[bytes]:
    try:
        while True:
            part = unpack.decompress(data, _STEP)
            data = unpack.unconsumed_tail
            if part:
                yield part
            if not data or unpack.eof:
                break
    except zlib.error:
        raise _wrong(name) from None
    if unpack.unused_data or (unpack.eof and data):
        raise _wrong(name)


def _wrong(name: str) -> Damaged:
    return Damaged(f"{_shown(name)} is not what the archive's list of files says.")


def _shown(name: str) -> str:
    return ascii(name[:120])


@dataclass
class Archive:
    """A whole takeout whose lists were checked against its entries; every file's hash is checked as it is read."""

    reader: Reader
    manifest: Manifest
    hashes: bytearray = field(repr=False)  # 32 bytes an entry

    @classmethod
    def of(cls, reader: Reader) -> "Archive":
        """See that manifest, list of files and entries say the same.

        Raises:
            Damaged: They don't, or the archive is of a newer version.
        """
        manifest = _manifest(reader)
        archive = cls(reader, manifest, bytearray(32 * len(reader)))
        count, total = archive._listed()
        if (count, total) != (manifest.files, manifest.bytes):
            there = f"{manifest.files} files of {manifest.bytes} bytes"
            raise Damaged(f"Its manifest tells of {there}, its list of {count} of {total}.")
        if count != len(reader) - len(_LISTS):
            raise Damaged("It holds files that its list does not name.")
        return archive

    def _listed(self) -> tuple[int, int]:
        """How many files the list names, and their bytes; every one is there, and has the size that is told."""
        count, total, digest, rest = 0, 0, hashlib.sha256(), b""
        for chunk in self.reader.chunks("files.jsonl"):
            digest.update(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LINE:
                raise Damaged("Its list of files is damaged.")
            for line in lines:
                total += self._note(line)
                count += 1
        if rest or digest.hexdigest() != self.manifest.files_sha256:
            raise Damaged("Its list of files is not the one that its manifest tells of.")
        return count, total

    def _note(self, line: bytes) -> int:
        name, size, sha256 = _listed(line)
        place = self.reader.place(name) if isinstance(name, str) and name not in _LISTS else None
        if place is None or self.reader.size(place) != size or len(sha256) != 32:
            raise Damaged(f"{_shown(str(name))} is not there, or not of the size that is listed.")
        if any(self.hashes[32 * place : 32 * place + 32]):
            raise Damaged(f"{_shown(name)} is listed twice.")
        self.hashes[32 * place : 32 * place + 32] = sha256
        return int(size)

    def sha256(self, name: str) -> str:
        """What the bytes of a file must hash to."""
        place = self.reader.place(name)
        return "" if place is None else self.hashes[32 * place : 32 * place + 32].hex()

    def read(self, name: str, most: int) -> bytes:
        """A whole file, seen to be what is listed.

        Raises:
            Damaged: It is not.
        """
        data = self.reader.read(name, most)
        if hashlib.sha256(data).hexdigest() != self.sha256(name):
            raise Damaged(f"{_shown(name)} does not have the SHA-256 that is listed.")
        return data

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file in parts, seen at its end to be what is listed.

        Raises:
            Damaged: It is not.
        """
        digest = hashlib.sha256()
        for part in self.reader.chunks(name):
            digest.update(part)
            yield part
        if digest.hexdigest() != self.sha256(name):
            raise Damaged(f"{_shown(name)} does not have the SHA-256 that is listed.")

    def member(self, name: str, model: type[M], most: int) -> M:
        """A file that is one JSON value.

        Raises:
            Damaged: It is none of the kind.
        """
        return parsed(name, model, self.read(name, most))

    def folders(self) -> list[str]:
        """Of the projects.

        Raises:
            Damaged: It names what can't be one.
        """
        found = [project.get("folder") for project in self.manifest.projects]
        if any(not isinstance(folder, str) or not _FOLDER.fullmatch(folder) for folder in found):
            raise Damaged("Its manifest names a project in no folder of its own.")
        if len(set(found)) != len(found):
            raise Damaged("Its manifest names a project twice.")
        return [str(folder) for folder in found]


def _listed(line: bytes) -> tuple[Any, Any, bytes]:
    try:
        if plain := _LISTED.fullmatch(line):
            return plain[1].decode(), int(plain[2]), bytes.fromhex(plain[3].decode())
        row = json.loads(line)
        return row["path"], row["bytes"], bytes.fromhex(row["sha256"])
    except (ValueError, KeyError, TypeError):
        raise Damaged("Its list of files is damaged.") from None


def parsed(name: str, model: type[M], data: bytes) -> M:
    """A model of the JSON of a file.

    Raises:
        Damaged: It is none, with the first thing that is wrong.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first: Mapping[str, Any] = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"][:6])
        raise Damaged(f"{_shown(name)} can't be read: {where:.80}: {first['msg']:.200}.") from None


def _manifest(reader: Reader) -> Manifest:
    if not reader.has("manifest.json"):
        raise Damaged("It has no manifest: it is no takeout, or is cut off.")
    try:
        told = _told(reader)
    except ValueError:
        raise Damaged("Its manifest is no JSON.") from None
    if told.get("format") != FORMAT:
        raise Damaged("It is no takeout of OwnVision.")
    if told.get("version") != VERSION:
        raise Damaged("A newer version of OwnVision made it; update this one.")
    return parsed("manifest.json", Manifest, json.dumps(told).encode())
