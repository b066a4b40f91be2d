"""Uploaded parts on their way in: small ones in memory, the rest in a file that has no name and goes with the request.

A batch of 64 × 6 MB so never lies in memory at once, and a crash leaves nothing behind.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

from ownvision.api.errors import no_space

_IN_MEMORY = 8 * 2**20


class Spool:
    """Holds the parts of one request.

    Args:
        folder: Where the nameless file is made, once it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._kept = 0
        self._end = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def keep(self, data: bytes | bytearray) -> Callable[[], bytes]:
        """Keep one part; the result gives it back, from any thread, until the request ends.

        Raises:
            Refused: There is no room for it.
        """
        if self._kept + len(data) <= _IN_MEMORY:
            self._kept += len(data)
            kept = bytes(data)
            return lambda: kept
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed with the spool
            self._file.write(data)
            self._file.flush()
        except OSError:
            raise no_space() from None
        descriptor, start, length = self._file.fileno(), self._end, len(data)
        self._end += length
        return lambda: os.pread(descriptor, length, start)


def check_space(folder: Path, floor: int, coming: int) -> None:
    """Refuse to take bytes in while the disk is nearly full.

    Args:
        folder: The data folder.
        floor: Bytes to be left free.
        coming: Bytes that the request declares.

    Raises:
        Refused: 507.
    """
    if shutil.disk_usage(folder).free - coming < floor:
        raise no_space()
