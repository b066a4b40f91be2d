"""A file that a command writes: under another name until it is whole, and never in the place of one that is there."""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType

from ownvision.client import ClientError

_SYNCED = 64 * 2**20


class PartFile:
    """Writes ``NAME.part`` and calls it ``NAME`` at the end; what is not finished is removed.

    Args:
        path: The file.

    Raises:
        ClientError: It is there already, or another command is writing it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._size = self._written = 0

    def __enter__(self) -> "PartFile":
        if os.path.lexists(self._path):
            raise ClientError(f"{self._path} is there already; choose another name, or remove it.")
        # What a command that was killed has left is written anew.
        self._file = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise ClientError(f"Another command is writing {self._part}.") from None
        os.ftruncate(self._file, 0)
        return self

    def write(self, data: bytes) -> None:
        """Add bytes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._size += len(data)
        if self._size - self._written >= _SYNCED:
            # So that the end does not wait for gigabytes to reach the disk.
            os.fdatasync(self._file)
            self._written = self._size

    def keep(self) -> int:
        """Give the file its name, durably; returns its bytes.

        Raises:
            ClientError: A file of that name has come meanwhile.
        """
        os.fsync(self._file)
        try:
            os.link(self._part, self._path)
        except FileExistsError:
            raise ClientError(f"{self._path} has come meanwhile; nothing was replaced.") from None
        except OSError:  # a file system without second names
            os.rename(self._part, self._path)
        return self._size

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._part.unlink()
        os.close(self._file)
