"""Data sets for the tests of the formats: made of names and bytes, written as a folder or zip file, read back."""

import io
import random
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import ModuleType

from PIL import Image as Pillow

from ownvision.data_rights.formats import Entry, Picture, unpack
from ownvision.data_rights.formats.catalogue import Catalogue
from ownvision.data_rights.formats.report import Report


def png(seed: int, width: int = 64, height: int = 48) -> bytes:
    """A small picture of noise, always the same for a seed."""
    buffer = io.BytesIO()
    Pillow.frombytes("RGB", (width, height), random.Random(seed).randbytes(3 * width * height)).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(path: Path, members: Mapping[str, bytes | str]) -> Path:
    """A zip file of these members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def laid_out(root: Path, members: Mapping[str, bytes | str]) -> Path:
    """A folder of these members."""
    for name, data in members.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def collected(entries: Iterable[Entry]) -> dict[str, bytes]:
    """What a writer gives, by path."""
    return {path: b"".join(chunks) for path, chunks in entries}


def project(
    module: ModuleType, pictures: Sequence[Picture], tags: Sequence[str], detection: bool, data: bytes = b""
) -> dict[str, bytes]:
    """A project's folder of a takeout with the annotations of one format; its pictures hold `data`."""
    entries = collected(module.write(pictures, tags, detection))
    return {picture.path: data for picture in pictures} | {f"annotations/{path}": it for path, it in entries.items()}


def read(module: ModuleType, path: Path) -> tuple[dict[str, Picture], Report]:
    """The pictures of a data set by path, brought together, and what the reader reported."""
    report = Report()
    with unpack.opened(path) as files, closing(Catalogue()) as catalogue:
        for part in module.read(files, report):
            catalogue.add(part)
        return {picture.path: picture for page in catalogue.pictures() for picture in page}, report
