"""COCO: one JSON document; boxes in pixels of the upright picture, from its upper left corner."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ownvision.data_rights.formats import Box, Entry, Picture
from ownvision.data_rights.formats.documents import elements
from ownvision.data_rights.formats.finding import MISSING, Finder
from ownvision.data_rights.formats.geometry import cornered
from ownvision.data_rights.formats.report import Report
from ownvision.data_rights.formats.text import Spool, chunks, quoted
from ownvision.data_rights.formats.unpack import Files, refused

_DECIMALS = 6  # of a pixel
_KEYS = re.compile(rb'"(images|annotations|categories)"\s{0,99}:\s{0,99}\[')
_OVERLAP, _CHUNK = 512, 2**20


def write(pictures: Iterable[Picture], tags: Sequence[str], detection: bool) -> Iterator[Entry]:
    """``coco.json``, beside the folder ``images/``; a picture of a classification has annotations without a box."""
    yield "coco.json", chunks(_document(pictures, tags, detection))


def _document(pictures: Iterable[Picture], tags: Sequence[str], detection: bool) -> Iterator[str]:
    categories = {tag: number for number, tag in enumerate(dict.fromkeys(tags), 1)}
    listed = [{"id": number, "name": tag, "supercategory": ""} for tag, number in categories.items()]
    yield f'{{"info":{{"description":"OwnVision"}},\n"licenses":[],\n"categories":{json.dumps(listed)},\n"images":['
    made = 0
    with Spool() as annotations:
        for number, picture in enumerate(pictures, 1):
            name = quoted(picture.path.rpartition("/")[2])
            sides = f'"width":{picture.width},"height":{picture.height}'
            yield f'{"," if number > 1 else ""}\n{{"id":{number},"file_name":{name},{sides}}}'
            for tag, geometry in _annotations(picture, detection):
                made += 1
                ids = f'"id":{made},"image_id":{number},"category_id":{categories[tag]}'
                annotations.write(f"{',' if made > 1 else ''}\n{{{ids}{geometry}}}")
        yield '\n],\n"annotations":['
        for chunk in annotations.read():
            yield chunk.decode()
        yield "\n]}\n"


def _annotations(picture: Picture, detection: bool) -> Iterator[tuple[str, str]]:
    """Each annotation's tag and what it says beside its ids."""
    if not detection:
        for tag in picture.tags:
            yield tag, ""
        return
    for box in picture.boxes:
        left, top, width, height = pixels(box, picture.width, picture.height)
        area = round(width * height, _DECIMALS)
        yield box.tag, f',"bbox":[{left},{top},{width},{height}],"area":{area},"iscrowd":0,"segmentation":[]'


def pixels(box: Box, width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, width, height of a box in pixels of a picture of that size."""
    return (
        round(box.left * width, _DECIMALS),
        round(box.top * height, _DECIMALS),
        round(box.width * width, _DECIMALS),
        round(box.height * height, _DECIMALS),
    )


def recognises(files: Files) -> bool:
    """Whether a data set has COCO's document."""
    return bool(_documents(files))


def read(files: Files, report: Report) -> Iterator[Picture]:
    """The pictures of every COCO document, and then what they carry.

    Raises:
        OwnVisionError: BadRequestInvalid, for a document that contradicts itself.
    """
    finder = Finder(files)
    for name in _documents(files):
        tags: dict[Any, str] = {}
        images: dict[Any, tuple[str | None, int, int]] = {}
        for key, value in elements(files, name):
            if key == "categories":
                tags[_id(value, name, key)] = _tag(value, name)
            elif key == "images":
                images[_id(value, name, key)] = _image(value, name, finder, report)
        report.tags.update(dict.fromkeys(tags.values()))
        for path, width, height in images.values():
            if path is not None:
                yield Picture(path, width, height)
        for key, value in elements(files, name):
            if key == "annotations" and (carried := _carried(value, name, tags, images, finder, report)):
                yield carried


def _documents(files: Files) -> list[str]:
    """Those with images and annotations; of one task where there are several of the same pictures."""
    found = [name for name in files.names if name.lower().endswith(".json") and _is_document(files, name)]
    instances = [name for name in found if name.rpartition("/")[2].startswith("instances_")]
    return instances or found


def _is_document(files: Files, name: str) -> bool:
    """Whether an object's keys are in it; a document that breaks off counts, reading it says what is wrong."""
    keys: set[bytes] = set()
    with files.open(name) as stream:
        end = stream.read(_OVERLAP).removeprefix(codecs.BOM_UTF8)
        if not end.lstrip().startswith(b"{"):
            return False
        ended = False
        while not ended:
            chunk = stream.read(_CHUNK)
            keys |= set(_KEYS.findall(end + chunk))
            ended, end = not chunk, chunk[-_OVERLAP:]
    return b"images" in keys and len(keys) > 1


def _id(value: Any, name: str, key: str) -> Any:
    id = value.get("id") if isinstance(value, dict) else None
    if not isinstance(id, int | str):
        raise refused("The data set", name, f"has an element of {key!r} without an id")
    return id


def _tag(value: dict[str, Any], name: str) -> str:
    tag = value.get("name")
    if not isinstance(tag, str):
        raise refused("The data set", name, f"has a category without a name (id {value['id']!r})")
    return tag


def _image(value: dict[str, Any], name: str, finder: Finder, report: Report) -> tuple[str | None, int, int]:
    reference = value.get("file_name") or value.get("coco_url")
    if not isinstance(reference, str):
        raise refused("The data set", name, f"has an image without a file_name (id {value['id']!r})")
    path = finder.find(reference, name)
    if path is None:
        report.remark(MISSING, reference)
    size = [value.get(side) for side in ("width", "height")]
    width, height = (side if isinstance(side, int) and side > 0 else 0 for side in size)
    return path, width, height


def _carried(
    value: Any,
    name: str,
    tags: dict[Any, str],
    images: dict[Any, tuple[str | None, int, int]],
    finder: Finder,
    report: Report,
) -> Picture | None:
    if not isinstance(value, dict):
        raise refused("The data set", name, "has an annotation that is no object")
    where = f"{name}, annotation {value.get('id', '?')}"
    if "category_id" not in value:
        report.remark("annotation without a category, such as a caption: left out", where)
        return None
    try:
        tag, (path, width, height) = tags[value["category_id"]], images[value.get("image_id")]
    except (KeyError, TypeError):
        raise refused("The data set", where, "names a category or an image that the document does not list") from None
    if value.get("iscrowd") in (1, True, "1"):
        report.remark("crowd region (iscrowd): left out, it is no box around one thing", where)
        return None
    if path is None:
        return None
    corner = _corner(value, where)
    if corner is None:
        return Picture(path, tags=[tag])
    report.detection = True
    size = (width, height) if width and height else finder.size(path)
    box = cornered(tag, corner, size, report, where)
    return Picture(path, tags=[tag], boxes=[box]) if box else None


def _corner(value: dict[str, Any], where: str) -> tuple[float, float, float, float] | None:
    """Left, top, width, height; of the mask's outline where there is no box."""
    given = value.get("bbox")
    if given:
        return _numbers(given, where, 4)  # type: ignore[return-value] # four
    outlines = value.get("segmentation")
    if not isinstance(outlines, list) or not outlines:
        return None
    points = _numbers([number for outline in outlines if isinstance(outline, list) for number in outline], where, None)
    if len(points) < 4:
        return None
    left, top = min(points[::2]), min(points[1::2])
    return left, top, max(points[::2]) - left, max(points[1::2]) - top


def _numbers(values: Any, where: str, count: int | None) -> tuple[float, ...]:
    if not isinstance(values, list) or (count is not None and len(values) != count):
        raise refused("The data set", where, "has a bbox that is not left, top, width and height")
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        raise refused("The data set", where, "has a coordinate that is no number") from None
