"""Opening what a stranger sends: a folder or a zip file. Nothing is extracted: entries are read where they are.

What is hostile or can't be right is refused as a whole, before anything is read from it.
"""

import io
import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from ownvision.errors import OwnVisionError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ENTRIES = 1_000_000  # files in a data set
UNPACKED_BYTES = 2**40
RATIO = 200  # an entry unpacks to so many times its size; what is smaller than `SMALL` may to more
SMALL = 16 * 2**20
PATH_BYTES = 1_024
PART_BYTES = 255
DEPTH = 32  # folders in folders
_DIRECTORY_BYTES = 256 * 2**20  # of a zip's own list of what it holds
# Left by the systems that packed or hold the folder; nobody's data.
_JUNK_PARTS = {"__MACOSX", ".git", ".ipynb_checkpoints", "$RECYCLE.BIN", "System Volume Information"}
_JUNK_NAMES = {".ds_store", "thumbs.db", "desktop.ini"}


class Files(Protocol):
    """The files of a data set."""

    @property
    def names(self) -> Sequence[str]:
        """Their paths, sorted; relative, with "/"."""

    def open(self, name: str) -> IO[bytes]:
        """A file for reading; raises OwnVisionError when it is damaged, also while it is read."""

    def size(self, name: str) -> int:
        """Its bytes once unpacked."""


def refused(what: str, where: str, why: str) -> OwnVisionError:
    """The refusal of a data set: `what` it is and `where` the fault is."""
    return OwnVisionError("BadRequestInvalid", f"{what} can't be imported: {_shown(where)} {why}. Nothing was changed.")


def read(files: Files, name: str, limit: int) -> bytes:
    """A whole file that is expected to be small.

    Raises:
        OwnVisionError: It is larger than `limit`, or damaged.
    """
    if files.size(name) > limit:
        raise refused("The data set", name, f"has {files.size(name):,} bytes; {limit:,} are allowed here")
    with files.open(name) as stream:
        return stream.read(limit + 1)


@contextmanager
def opened(path: Path) -> Iterator[Files]:
    """The files of a folder or zip file.

    Raises:
        OwnVisionError: BadRequestInvalid, for what is neither, or hostile, with what was found and where.
    """
    with ExitStack() as stack:
        if path.is_dir():
            files: Files = _Folder.of(path)
        elif path.is_file():
            files = _Zip.of(path, stack)
        else:
            raise OwnVisionError("BadRequestInvalid", f"There is no file or folder {path}.")
        yield files


@dataclass(frozen=True)
class _Folder:
    root: Path
    sizes: dict[str, int]
    names: Sequence[str]

    @classmethod
    def of(cls, root: Path) -> "_Folder":
        sizes: dict[str, int] = {}
        for name, found in _walk(root):
            if stat.S_ISLNK(found.st_mode):
                raise refused("The folder", name, "is a link; put the file itself there (cp -rL copies a folder so)")
            if not stat.S_ISREG(found.st_mode):
                raise refused("The folder", name, "is no ordinary file")
            sizes[name] = found.st_size
            if len(sizes) > ENTRIES:
                raise refused("The folder", str(root), f"holds more than {ENTRIES:,} files")
        return cls(root, sizes, sorted(sizes))

    def open(self, name: str) -> IO[bytes]:
        try:
            # Looked at once more: it may have become a link since.
            return os.fdopen(os.open(self.root / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb")
        except OSError as error:
            raise refused("The folder", name, f"can't be read ({error.strerror})") from None

    def size(self, name: str) -> int:
        return self.sizes[name]


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """What is below a folder and no folder itself, links not followed."""
    waiting = [(root, "", 0)]
    while waiting:
        folder, prefix, depth = waiting.pop()
        if depth > DEPTH:
            raise refused("The folder", prefix, f"lies more than {DEPTH} folders deep")
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise refused("The folder", prefix or str(root), f"can't be read ({error.strerror})") from None
        for entry in entries:
            name = prefix + entry.name
            if _is_junk(name):
                continue
            _check_text("The folder", name)
            if entry.is_dir(follow_symlinks=False):
                waiting.append((folder / entry.name, name + "/", depth + 1))
            else:
                yield name, entry.stat(follow_symlinks=False)


@dataclass(frozen=True)
class _Zip:
    archive: zipfile.ZipFile
    entries: dict[str, zipfile.ZipInfo]
    names: Sequence[str]

    @classmethod
    def of(cls, path: Path, stack: ExitStack) -> "_Zip":
        stream = stack.enter_context(path.open("rb"))
        _check_directory(stream, path.name)
        try:
            archive = stack.enter_context(zipfile.ZipFile(stream))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, struct.error, OSError):
            raise refused("The file", path.name, "is no zip file, or a damaged one") from None
        entries = _checked(archive.infolist())
        return cls(archive, entries, sorted(entries))

    def open(self, name: str) -> IO[bytes]:
        try:
            return io.BufferedReader(_Whole(name, self.archive.open(self.entries[name])))
        except _DAMAGED:
            raise _damaged(name) from None

    def size(self, name: str) -> int:
        return self.entries[name].file_size


_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
    OSError,
)


class _Whole(io.RawIOBase):
    """An entry being read, whose damage is told in our words."""

    def __init__(self, name: str, stream: IO[bytes]) -> None:
        self._name = name
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except _DAMAGED:
            raise _damaged(self._name) from None

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _damaged(name: str) -> OwnVisionError:
    return refused("The zip file", name, "is damaged: what is unpacked is not what was packed")


def _check_directory(stream: IO[bytes], name: str) -> None:
    """Look at how long a zip's list is before it is read: each of its entries takes half a kilobyte of memory."""
    stream.seek(0, os.SEEK_END)
    size = stream.tell()
    stream.seek(max(0, size - 65_557))
    tail = stream.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) < place + 22:
        raise refused("The file", name, "is no zip file, or lacks its end")
    count, length = struct.unpack_from("<HI", tail, place + 10)
    wide = place - 76  # where the end of a large archive stands, behind it 20 bytes that say so
    if wide >= 0 and tail[wide : wide + 4] == b"PK\x06\x06":
        wide_count, wide_length = struct.unpack_from("<QQ", tail, wide + 32)
        count, length = max(count, wide_count), max(length, wide_length)
    if count > ENTRIES or length > _DIRECTORY_BYTES:
        raise refused("The zip file", name, f"names more than {ENTRIES:,} files")
    stream.seek(0)


def _checked(infos: Sequence[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by their names; the whole archive is refused for one bad entry."""
    entries: dict[str, zipfile.ZipInfo] = {}
    folded: set[str] = set()
    if len(infos) > ENTRIES:
        raise refused("The zip file", "it", f"names more than {ENTRIES:,} files")
    for info in infos:
        name = _name(info)
        _check_name(name, info)
        if info.is_dir():
            continue
        _check_kind(name, info)
        key = unicodedata.normalize("NFC", name).casefold()
        if key in folded:
            raise refused("The zip file", name, "occurs twice (upper and lower case are taken for the same)")
        folded.add(key)
        if not _is_junk(name):
            entries[name] = info
    unpacked = sum(info.file_size for info in infos)
    if unpacked > UNPACKED_BYTES:
        raise refused("The zip file", "its contents", f"would be {unpacked:,} bytes; {UNPACKED_BYTES:,} are allowed")
    _check_apart(infos)
    return entries


def _name(info: zipfile.ZipInfo) -> str:
    """The name; many programs write UTF-8 without saying so."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return info.filename


def _check_name(name: str, info: zipfile.ZipInfo) -> None:
    parts = name.rstrip("/").split("/")
    if "\x00" in info.orig_filename:
        raise refused("The zip file", name, "has a name with a NUL in it")
    if "\\" in name:
        raise refused("The zip file", name, "has a name with a backslash; paths in a zip file are written with /")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        raise refused("The zip file", name, "is an absolute path")
    if any(part in ("", ".", "..") for part in parts):
        raise refused("The zip file", name, "leads out of the archive, or is no plain path")
    if len(parts) > DEPTH:
        raise refused("The zip file", name, f"lies more than {DEPTH} folders deep")
    _check_text("The zip file", name)


def _check_text(what: str, name: str) -> None:
    try:
        spelled = name.encode()
    except UnicodeEncodeError:
        raise refused(what, name, "has a name that is no UTF-8") from None
    if len(spelled) > PATH_BYTES or any(len(part.encode()) > PART_BYTES for part in name.split("/")):
        raise refused(what, name, f"has too long a name ({PATH_BYTES} bytes, {PART_BYTES} in each part)")


def _check_kind(name: str, info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    if kind == stat.S_IFLNK:
        raise refused("The zip file", name, "is a link")
    if kind not in (0, stat.S_IFREG):
        raise refused("The zip file", name, "is no ordinary file")
    if info.flag_bits & 0x1:
        raise refused("The zip file", name, "is encrypted; pack it without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refused("The zip file", name, "is packed in a way that is not read here; deflate and store are")
    if info.file_size > max(SMALL, RATIO * info.compress_size):
        raise refused("The zip file", name, f"would unpack to more than {RATIO} times its size")


def _check_apart(infos: Sequence[zipfile.ZipInfo]) -> None:
    """Entries that share their bytes unpack to any multiple of what was sent."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise refused("The zip file", _name(info), "shares its bytes with another entry")
        end = info.header_offset + 30 + info.compress_size


def _is_junk(name: str) -> bool:
    parts = name.rstrip("/").split("/")
    last = parts[-1]
    return last.casefold() in _JUNK_NAMES or last.startswith("._") or not _JUNK_PARTS.isdisjoint(parts)


def _shown(name: str) -> str:
    """A hostile name as it may stand in a sentence."""
    short = name if len(name) <= 120 else f"{name[:60]}…{name[-40:]}"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in short)
