"""Files that have no name until they are whole (Linux)."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

# What file systems without nameless files answer (network shares, some container mounts).
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


def write_new(path: str | Path, data: bytes, *, durable: bool) -> None:
    """Write a file that is there whole or not at all, in a folder that exists; a taken name is never replaced.

    Args:
        path: Its name.
        data: Its bytes.
        durable: Whether its bytes are on the disk before it gets its name. The folder is left to `sync_folder`.

    Raises:
        FileExistsError: The name is taken.
        OSError: The folder is gone, or the disk is full; nothing of the file is left.
    """
    write_parts(path, (data,), durable=durable)


def write_parts(path: str | Path, parts: Iterable[bytes], *, durable: bool) -> None:
    """`write_new` of bytes that come in parts; only one of them is in memory. What `parts` raises undoes it all."""
    try:
        descriptor = os.open(os.path.dirname(path), os.O_TMPFILE | os.O_WRONLY, 0o600)
    except OSError as error:
        if error.errno not in _UNSUPPORTED or not os.path.isdir(os.path.dirname(path)):
            raise
        _write_hidden(Path(path), parts, durable=durable)
        return
    try:
        _write_all(descriptor, parts, durable=durable)
        # Naming a folder, which an absolute path makes meaningless, is what makes Python follow the link.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of another, whole and durable or not at all; what it replaces is overwritten.

    Raises:
        OSError: The disk is full, or the folder is not there; the file is as it was before.
    """
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        with path.open("r+b") if path.exists() else nullcontext() as before:
            hidden.rename(path)
            sync_folder(path.parent)
            if before is not None:
                overwrite(before)
    finally:
        hidden.unlink(missing_ok=True)


def overwrite(file: IO[bytes]) -> None:
    """Random bytes in place of a file's own, on the disk when this returns."""
    left = os.fstat(file.fileno()).st_size
    file.seek(0)
    while left:
        left -= file.write(secrets.token_bytes(min(left, 1 << 20)))
    file.flush()
    os.fsync(file.fileno())


def is_hidden(name: str) -> bool:
    """Whether a file's name is one that only a file not yet whole has."""
    return name.startswith(".")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_hidden(path: Path, parts: Iterable[bytes], *, durable: bool) -> None:
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write_all(descriptor, parts, durable=durable)
        finally:
            os.close(descriptor)
        os.link(hidden, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            hidden.unlink()


def _write_all(descriptor: int, parts: Iterable[bytes], *, durable: bool) -> None:
    for data in parts:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    if durable:
        os.fsync(descriptor)
