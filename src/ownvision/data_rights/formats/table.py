"""Tables: CSV, a row per tag or box, and JSON-Lines, a picture per line; boxes relative, as OwnVision keeps them."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence

from ownvision.data_rights.formats import Entry, Picture
from ownvision.data_rights.formats.text import Spool, chunks

COLUMNS = ("image", "image_width", "image_height", "tag", "left", "top", "width", "height")


def write(pictures: Iterable[Picture], tags: Sequence[str], detection: bool) -> Iterator[Entry]:
    """``annotations.csv`` and ``annotations.jsonl``."""
    lines = Spool()
    yield "annotations.csv", chunks(_rows(pictures, detection, lines))
    yield "annotations.jsonl", lines.read()


def _rows(pictures: Iterable[Picture], detection: bool, lines: Spool) -> Iterator[str]:
    yield _row(*COLUMNS)
    for picture in pictures:
        lines.write(json.dumps(_object(picture, detection)) + "\n")
        start = (picture.path, picture.width, picture.height)
        if detection and picture.boxes:
            for box in picture.boxes:
                yield _row(*start, box.tag, box.left, box.top, box.width, box.height)
        elif not detection and picture.tags:
            for tag in picture.tags:
                yield _row(*start, tag, "", "", "", "")
        else:
            yield _row(*start, "", "", "", "", "")


def _row(*cells: object) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()


def _object(picture: Picture, detection: bool) -> dict[str, object]:
    shown: dict[str, object] = {"image": picture.path, "width": picture.width, "height": picture.height}
    shown["tags"] = picture.tags
    if detection:
        shown["regions"] = [
            {"tag": box.tag, "left": box.left, "top": box.top, "width": box.width, "height": box.height}
            for box in picture.boxes
        ]
    return shown
