"""Objects as files of a folder (Linux)."""

import contextlib
import ctypes
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from ownvision.store.blobs import BlobExists, BlobMissing
from ownvision.store.files import sync_folder, write_new, write_parts

_LIBC = ctypes.CDLL(None, use_errno=True)
_TRIES = 20
# Names between slashes, none hidden: no key leads out of the folder.
_KEY = re.compile(r"[^/.\\\0][^/\\\0]*(?:/[^/.\\\0][^/\\\0]*)*")


class LocalBlobs:
    """A `BlobStore` on a local file system.

    Args:
        root: The folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = str(root)  # a batch makes many names, and `Path` is slow to make them
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put_new(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """See `BlobStore.put_new`."""
        path = self._name(key)
        folder = os.path.dirname(path)
        for _ in range(_TRIES):
            try:
                _make_folder(folder)
                write_new(path, data, durable=durable)
                break
            except FileExistsError:
                raise BlobExists(key) from None
            except FileNotFoundError:
                continue  # a neighbour's removal took the folder, just empty, before the file was in it
        else:
            raise OSError(f"the folder of {key} is removed again and again")
        if durable:
            self._sync_folders(Path(folder))

    def put_parts(self, key: str, parts: Iterable[bytes]) -> None:
        """See `BlobStore.put_parts`."""
        path = self._name(key)
        if os.path.lexists(path):
            raise BlobExists(key)  # before much is written in vain
        folder = os.path.dirname(path)
        _make_folder(folder)
        try:
            write_parts(path, parts, durable=True)
        except FileExistsError:
            raise BlobExists(key) from None
        self._sync_folders(Path(folder))

    def read(self, key: str) -> bytes:
        """See `BlobStore.read`."""
        try:
            with open(self._name(key), "rb", buffering=0) as file:
                return file.readall()
        except (FileNotFoundError, NotADirectoryError):
            raise BlobMissing(key) from None

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """See `BlobStore.read_range`."""
        try:
            with open(self._name(key), "rb", buffering=0) as file:
                file.seek(start)
                parts = []
                left = max(end - start, 0)
                while left and (part := file.read(left)):
                    parts.append(part)
                    left -= len(part)
                return b"".join(parts)
        except (FileNotFoundError, NotADirectoryError):
            raise BlobMissing(key) from None

    def size(self, key: str) -> int:
        """See `BlobStore.size`."""
        try:
            return os.stat(self._name(key)).st_size
        except (FileNotFoundError, NotADirectoryError):
            raise BlobMissing(key) from None

    def exists(self, key: str) -> bool:
        """See `BlobStore.exists`."""
        return os.path.isfile(self._name(key))

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """See `BlobStore.list`."""
        if prefix.endswith("."):
            path = self._path(prefix)
            places: Iterable[tuple[str, list[str], list[str]]] = [(str(path.parent), [], _beginning(path))]
        else:
            places = os.walk(self._name(prefix) if prefix else self._root)
        for place, folders, files in places:
            folders.sort()
            folder = f"{place[len(self._root) + 1 :]}/" if place != self._root else ""
            for name in sorted(files):
                with contextlib.suppress(FileNotFoundError):  # removed while we look
                    yield folder + name, os.stat(f"{place}/{name}").st_size

    def names(self, prefix: str = "") -> Iterator[str]:
        """See `BlobStore.names`."""
        if prefix.endswith("."):
            yield from (key for key, _ in self.list(prefix))
            return
        for place, _, files in os.walk(self._name(prefix) if prefix else self._root):
            folder = place[len(self._root) + 1 :]
            yield from (f"{folder}/{name}" if folder else name for name in files)

    def delete_prefix(self, prefix: str) -> None:
        """See `BlobStore.delete_prefix`; folders left empty go too."""
        folder = self._path(prefix)
        if prefix.endswith("."):
            for name in _beginning(self._path(prefix)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(folder.parent / name)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():  # something could not be removed: say so instead of calling it gone
                shutil.rmtree(folder)
        for parent in folder.parents:
            if parent == self.root:
                return
            try:
                parent.rmdir()
            except OSError:
                return

    def sync(self) -> None:
        """See `BlobStore.sync`: one syncfs for all files of a batch, far cheaper than an fsync each."""
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            if _LIBC.syncfs(descriptor) != 0:
                raise OSError(ctypes.get_errno(), "syncfs failed")
        except AttributeError:  # not Linux
            os.sync()
        finally:
            os.close(descriptor)

    def _name(self, key: str) -> str:
        key = key.rstrip("/")
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no object key")
        return f"{self._root}/{key}"

    def _path(self, key: str) -> Path:
        return Path(self._name(key))

    def _sync_folders(self, folder: Path) -> None:
        for place in (folder, *folder.parents):
            sync_folder(place)
            if place == self.root:
                return


def _make_folder(folder: str) -> None:
    """Make a folder; nearly always its parent is there and it is not, which is then one call to the system."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        # A neighbour that removes the parents meanwhile makes Python say "exists" or "not found": it is tried again.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.makedirs(folder, mode=0o700, exist_ok=True)


def _beginning(path: Path) -> list[str]:
    """Names of the files beside `path` that begin with its name, those that are not yet whole included."""
    try:
        return [name for name in os.listdir(path.parent) if name.removeprefix(".").startswith(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
