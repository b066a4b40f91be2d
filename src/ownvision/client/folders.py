"""A folder of pictures as batches to upload: one sub-folder per tag, pictures beside them without a tag."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ownvision.client.http import ClientError

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp"}
BATCH_IMAGES = 64
BATCH_BYTES = 24 * 2**20


def pictures_by_tag(folder: Path) -> dict[str | None, list[Path]]:
    """The pictures of each sub-folder by its name; those directly in `folder` under None.

    Raises:
        ClientError: when the folder is missing or holds no picture.
    """
    if not folder.is_dir():
        raise ClientError(f"There is no folder {folder}.")
    found: dict[str | None, list[Path]] = {None: _pictures(folder)}
    for child in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found[child.name] = _pictures(child)
    found = {tag: paths for tag, paths in found.items() if paths}
    if not found:
        raise ClientError(f"{folder} holds no picture (JPEG, PNG, GIF or BMP), nor a folder of them per tag.")
    return found


def batches(paths: Iterable[Path]) -> Iterator[list[tuple[str, bytes]]]:
    """(file name, bytes) in groups that one call takes; read one group at a time."""
    batch: list[tuple[str, bytes]] = []
    size = 0
    for path in paths:
        data = path.read_bytes()
        if batch and (len(batch) == BATCH_IMAGES or size + len(data) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((path.name, data))
        size += len(data)
    if batch:
        yield batch


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES)
