"""Room to erase on a full disk: a file that is given up when there is no other space left.

Deleting a row needs space first (the write-ahead log grows before the files shrink). The file is made while there is
plenty, and removed when a write finds the disk all but full; uploads are refused long before that.
"""

import os
import secrets
import shutil
from pathlib import Path

BALLAST_BYTES = 16 * 2**20
_LOW_BYTES = 4 * 2**20
_PLENTY_BYTES = 64 * 2**20


class Ballast:
    """The file ``ballast`` of a data folder.

    Args:
        folder: Where it lies; must be on the file system that fills up.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ballast"

    def keep(self) -> bool:
        """Make the file if it is missing and there is plenty of space; returns whether it is there."""
        if self.path.exists():
            return True
        if shutil.disk_usage(self.path.parent).free < _PLENTY_BYTES:
            return False
        # Random bytes, so that no file system keeps them as a hole or compresses them away.
        temporary = self.path.with_suffix(".new")
        temporary.write_bytes(secrets.token_bytes(BALLAST_BYTES))
        temporary.rename(self.path)
        return True

    def drop_when_low(self) -> None:
        """Give the file up when the disk is all but full; costs one system call otherwise."""
        try:
            usage = os.statvfs(self.path.parent)
        except OSError:
            return
        if usage.f_bavail * usage.f_frsize < _LOW_BYTES:
            self.drop()

    def drop(self) -> None:
        """Give the file up."""
        self.path.unlink(missing_ok=True)
