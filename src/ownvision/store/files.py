"""Files that have no name until they are whole (Linux)."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

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
