"""COCO: one JSON document; boxes in pixels of the upright picture, from its upper left corner."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ownvision.data_rights.formats import Box, Entry, Picture
from ownvision.data_rights.formats.text import Spool, chunks

_DECIMALS = 6  # of a pixel


def write(pictures: Iterable[Picture], tags: Sequence[str], detection: bool) -> Iterator[Entry]:
    """``coco.json``, beside the folder ``images/``; a picture of a classification has annotations without a box."""
    yield "coco.json", chunks(_document(pictures, tags, detection))


def _document(pictures: Iterable[Picture], tags: Sequence[str], detection: bool) -> Iterator[str]:
    categories = {tag: number for number, tag in enumerate(dict.fromkeys(tags), 1)}
    listed = [{"id": number, "name": tag, "supercategory": ""} for tag, number in categories.items()]
    yield f'{{"info":{{"description":"OwnVision"}},\n"licenses":[],\n"categories":{json.dumps(listed)},\n"images":['
    annotations, made = Spool(), 0
    for number, picture in enumerate(pictures, 1):
        yield (",\n" if number > 1 else "\n") + json.dumps(
            {
                "id": number,
                "file_name": picture.path.rpartition("/")[2],
                "width": picture.width,
                "height": picture.height,
            }
        )
        for carried in _annotations(picture, detection):
            made += 1
            tag = carried.pop("tag")
            row = {"id": made, "image_id": number, "category_id": categories[tag], **carried}
            annotations.write((",\n" if made > 1 else "\n") + json.dumps(row))
    yield '\n],\n"annotations":['
    for chunk in annotations.read():
        yield chunk.decode()
    yield "\n]}\n"


def _annotations(picture: Picture, detection: bool) -> Iterator[dict[str, Any]]:
    if not detection:
        for tag in picture.tags:
            yield {"tag": tag}
        return
    for box in picture.boxes:
        left, top, width, height = pixels(box, picture.width, picture.height)
        yield {
            "tag": box.tag,
            "bbox": [left, top, width, height],
            "area": round(width * height, _DECIMALS),
            "iscrowd": 0,
            "segmentation": [],
        }


def pixels(box: Box, width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, width, height of a box in pixels of a picture of that size."""
    return (
        round(box.left * width, _DECIMALS),
        round(box.top * height, _DECIMALS),
        round(box.width * width, _DECIMALS),
        round(box.height * height, _DECIMALS),
    )
