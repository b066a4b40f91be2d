"""A folder per class, as YOLO's classifiers, torchvision and Keras read it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ownvision.data_rights.formats import Entry, Picture
from ownvision.data_rights.formats.documents import json_lines, yaml_mapping
from ownvision.data_rights.formats.finding import MISSING, Finder
from ownvision.data_rights.formats.finding import pictures as pictures_of
from ownvision.data_rights.formats.linking import LINKS, line
from ownvision.data_rights.formats.naming import file_name, spelled
from ownvision.data_rights.formats.report import Report
from ownvision.data_rights.formats.text import chunks
from ownvision.data_rights.formats.unpack import Files

# Folders that split a data set for training; what they hold is brought together.
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


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


def recognises(files: Files) -> bool:
    """Whether there are pictures at all."""
    return bool(pictures_of(files))


def read(files: Files, report: Report) -> Iterator[Picture]:
    """Every picture with its folder's name as tag; without one at the top.

    Raises:
        OwnVisionError: BadRequestInvalid, for a list of our own that can't be read.
    """
    if any(name.rpartition("/")[2] == LINKS for name in files.names) and (known := spellings(files)):
        yield from _linked(files, known, report)
        return
    names = pictures_of(files)
    start = _common(names)
    for name in names:
        parts = name.split("/")[start:-1]
        if parts and parts[0].casefold() in SPLITS:
            report.remark(f"picture of the split {parts[0]!r}: all splits were brought together", name)
            parts = parts[1:]
        if len(parts) > 1:
            report.remark("picture in a folder of a folder: the outer one's name is its tag", name)
        report.tags.update(dict.fromkeys(parts[:1]))
        yield Picture(name, tags=parts[:1])


def _common(names: Sequence[str]) -> int:
    """How many folders there are around all the rest, beyond those that are tags or splits; `names` are sorted."""
    first, last = names[0].split("/")[:-1], names[-1].split("/")[:-1]
    depth = 0
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    if first == last and len({name.rpartition("/")[0] for name in names}) == 1:
        depth = max(depth - 1, 0)  # the only folder with pictures is a tag
    while depth and first[depth - 1].casefold() in SPLITS:
        depth -= 1
    return depth


def spellings(files: Files) -> dict[str, str]:
    """Tags by the folders that stand for them, of our own ``data.yaml``; empty when there is none."""
    for name in files.names:
        if name.rpartition("/")[2] == "data.yaml":
            config = yaml_mapping(files, name)
            tags, written = numbered(config, "names"), numbered(config, "folders")
            return {written[number]: tag for number, tag in tags.items() if number in written}
    return {}


def numbered(config: Mapping[str, Any], key: str) -> dict[int, str]:
    """Texts by number: a list's, or a mapping's whose keys are numbers."""
    value = config.get(key)
    if isinstance(value, list):
        return {number: text for number, text in enumerate(value) if isinstance(text, str)}
    if isinstance(value, dict) and all(isinstance(number, str) and number.isdecimal() for number in value):
        return {int(number): text for number, text in value.items() if isinstance(text, str)}
    return {}


def _linked(files: Files, known: Mapping[str, str], report: Report) -> Iterator[Picture]:
    """What our own list says, whether `link.py` was run or not."""
    report.tags.update(dict.fromkeys(known.values()))
    finder = Finder(files)
    for listing in files.names:
        if listing.rpartition("/")[2] != LINKS:
            continue
        for number, row in json_lines(files, listing):
            picture, parts = str(row.get("picture")), str(row.get("link")).split("/")
            path = finder.find(picture, listing)
            if path is None:
                report.remark(MISSING, f"{listing}, line {number}")
            elif parts[0] == "train" and len(parts) == 3 and parts[1] in known:
                yield Picture(path, tags=[known[parts[1]]])
            else:
                yield Picture(path)
