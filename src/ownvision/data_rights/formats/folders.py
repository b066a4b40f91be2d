"""A folder per class, as YOLO's classifiers, torchvision and Keras read it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ownvision.data_rights.formats import Entry, Picture
from ownvision.data_rights.formats.linking import LINKS, line
from ownvision.data_rights.formats.naming import file_name, spelled
from ownvision.data_rights.formats.text import chunks


def write(pictures: Iterable[Picture], tags: Sequence[str], detection: bool) -> Iterator[Entry]:
    """``yolo/``: ``data.yaml`` and which picture belongs in which folder: ``train/<tag>``, or ``untagged`` without one.

    A picture with several tags belongs in several folders.
    """
    spellings = spelled(tags, file_name)
    yield "yolo/data.yaml", chunks(_config(spellings))
    yield f"yolo/{LINKS}", chunks(_links(pictures, spellings))


def mapping(key: str, values: Mapping[int, str]) -> Iterator[str]:
    """Texts by number, as YAML that every reader of YAML understands alike: nothing but ASCII, in double quotes."""
    yield f"{key}:\n" if values else f"{key}: {{}}\n"
    for number, value in values.items():
        yield f'  {number}: "{"".join(map(_quoted, value))}"\n'


def _quoted(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return "\\" + character
    if 32 <= code < 127:
        return character
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def _config(spellings: Mapping[str, str]) -> Iterator[str]:
    yield f"train: train\nval: train\nnc: {len(spellings)}\n"
    yield from mapping("names", dict(enumerate(spellings)))
    yield from mapping("folders", dict(enumerate(spellings.values())))


def _links(pictures: Iterable[Picture], spellings: Mapping[str, str]) -> Iterator[str]:
    for picture in pictures:
        name = picture.path.rpartition("/")[2]
        for folder in [f"train/{spellings[tag]}" for tag in picture.tags] or ["untagged"]:
            yield line(picture.path, f"{folder}/{name}")
