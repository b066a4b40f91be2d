"""Tables: CSV, a row per tag or box, and JSON-Lines, a picture per line; boxes relative, as OwnVision keeps them."""

import csv
import io
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ownvision.data_rights.formats import Entry, Picture
from ownvision.data_rights.formats.documents import json_lines, text_lines
from ownvision.data_rights.formats.finding import MISSING, Finder, is_picture
from ownvision.data_rights.formats.geometry import cornered
from ownvision.data_rights.formats.report import Report
from ownvision.data_rights.formats.text import Spool, chunks, quoted
from ownvision.data_rights.formats.unpack import Files, refused
from ownvision.errors import OwnVisionError

COLUMNS = ("image", "image_width", "image_height", "tag", "left", "top", "width", "height")
_NO_BOX = ("", "", "", "", "")


def write(pictures: Iterable[Picture], tags: Sequence[str], detection: bool) -> Iterator[Entry]:
    """``annotations.csv`` and ``annotations.jsonl``."""
    with Spool() as lines:
        yield "annotations.csv", chunks(_rows(pictures, detection, lines))
        yield "annotations.jsonl", lines.read()


def _rows(pictures: Iterable[Picture], detection: bool, lines: Spool) -> Iterator[str]:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for picture in pictures:
        lines.write(_object(picture, detection))
        start = (picture.path, picture.width, picture.height)
        if detection:
            rows = [(*start, box.tag, box.left, box.top, box.width, box.height) for box in picture.boxes]
            writer.writerows(rows or [(*start, *_NO_BOX)])
        else:
            writer.writerows((*start, tag, *_NO_BOX[1:]) for tag in picture.tags or [""])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _object(picture: Picture, detection: bool) -> str:
    regions = ""
    if detection:
        shown = ",".join(
            f'{{"tag":{quoted(box.tag)},"left":{box.left},"top":{box.top},"width":{box.width},"height":{box.height}}}'
            for box in picture.boxes
        )
        regions = f',"regions":[{shown}]'
    sides = f'"width":{picture.width},"height":{picture.height}'
    tags = ",".join(map(quoted, picture.tags))
    return f'{{"image":{quoted(picture.path)},{sides},"tags":[{tags}]{regions}}}\n'


# How the columns and keys are called, in small letters without "_", "-" and spaces; the first that is there counts.
_ALIASES: dict[str, tuple[str, ...]] = {
    "image": (
        "image", "imagepath", "imageurl", "imagegcsuri", "gcsuri", "imagefile", "imagename", "imageid",
        "filename", "filepath", "file", "path", "img", "imgpath", "uri", "url",
    ),
    "tag": ("tag", "tagname", "label", "labelname", "class", "classname", "category", "categoryname", "displayname"),
    "tags": ("tags", "labels", "classes", "categories"),
    "left": ("left", "x"),
    "top": ("top", "y"),
    "xmin": ("xmin", "x1", "minx", "topx", "xtopleft", "bboxxmin"),
    "ymin": ("ymin", "y1", "miny", "topy", "ytopleft", "bboxymin"),
    "xmax": ("xmax", "x2", "maxx", "bottomx", "xbottomright", "bboxxmax"),
    "ymax": ("ymax", "y2", "maxy", "bottomy", "ybottomright", "bboxymax"),
    "width": ("width", "w", "boxwidth", "bboxwidth"),
    "height": ("height", "h", "boxheight", "bboxheight"),
    "imagewidth": ("imagewidth", "imgwidth", "imgw"),
    "imageheight": ("imageheight", "imgheight", "imgh"),
}  # fmt: skip
_CORNERS, _SIDES = ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "width", "height")
# Coordinates up to this are parts of the picture, not pixels: a box may reach out a little.
_RELATIVE = 2.0


@dataclass(frozen=True)
class _Row:
    """What a row says, before it is known what its numbers count."""

    image: str
    tags: list[str]
    corner: tuple[float, float, float, float] | None  # left, top, width, height
    size: tuple[float, float]
    where: str


def recognises(files: Files) -> bool:
    """Whether a data set has a table that names pictures."""
    return bool(_tables(files))


def read(files: Files, report: Report) -> Iterator[Picture]:
    """What the rows of every table say, one part of a picture each.

    Raises:
        OwnVisionError: BadRequestInvalid, for a row that can't be read.
    """
    finder = Finder(files)
    for name in _tables(files):
        relative = all(_is_relative(row.corner) for row in _parsed(files, name) if row.corner)
        for row in _parsed(files, name):
            path = finder.find(row.image, name)
            if path is None:
                report.remark(MISSING, row.where)
            elif row.corner is None or not row.tags:
                yield Picture(path, tags=row.tags)
            else:
                yield from _boxed(path, row, relative, finder, report)


def _boxed(path: str, row: _Row, relative: bool, finder: Finder, report: Report) -> Iterator[Picture]:
    assert row.corner is not None  # `read` saw to it
    report.detection = True
    size = (1.0, 1.0) if relative else row.size if min(row.size) > 0 else finder.size(path)
    for tag in row.tags:
        box = cornered(tag, row.corner, size, report, row.where)
        if box:
            yield Picture(path, tags=[tag], boxes=[box])


def _is_relative(corner: tuple[float, float, float, float]) -> bool:
    left, top, width, height = corner
    return max(abs(left), abs(top), abs(left + width), abs(top + height)) <= _RELATIVE


def _tables(files: Files) -> list[str]:
    """The tables that name pictures; of our own two, which say the same, one."""
    found = [name for name in files.names if name.lower().endswith((".csv", ".jsonl")) and _is_table(files, name)]
    return [name for name in found if not (name.endswith(".jsonl") and name[: -len("jsonl")] + "csv" in found)]


def _is_table(files: Files, name: str) -> bool:
    try:
        if name.lower().endswith(".jsonl"):
            return any(_object_image(row) for _, row in islice(json_lines(files, name), 1))
        with closing(_cells(files, name)) as rows:
            _, first = next(rows, (0, []))
            return _columns(first) is not None or _headless(first) is not None
    except OwnVisionError:
        return False


def _parsed(files: Files, name: str) -> Iterator[_Row]:
    return _of_lines(files, name) if name.lower().endswith(".jsonl") else _of_csv(files, name)


def _cells(files: Files, name: str) -> Generator[tuple[int, list[str]]]:
    """The rows of a CSV file with the numbers of their lines, from 1."""
    with files.open(name) as stream:
        start = stream.read(4096)
    first = start.decode(errors="replace").partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader((line for _, line in text_lines(files, name)), delimiter=separator)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise refused("The data set", f"{name}, line {reader.line_num}", f"is no CSV ({error})") from None


def _folded(name: str) -> str:
    return name.strip().casefold().replace("_", "").replace("-", "").replace(" ", "")


def _columns(header: Sequence[str]) -> dict[str, int] | None:
    """Where each column is, by our names; None when this is no header of a table of pictures."""
    places = {_folded(cell): place for place, cell in reversed(list(enumerate(header)))}
    found = {}
    for column, aliases in _ALIASES.items():
        for alias in aliases:
            if alias in places:
                found[column] = places[alias]
                break
    return found if "image" in found and ("tag" in found or "tags" in found) else None


def _headless(row: Sequence[str]) -> int | None:
    """Where the picture is in a row of Google's AutoML, which has no header: first, or behind the name of its set."""
    return next((place for place, cell in enumerate(row[:2]) if len(row) > 1 and is_picture(cell.strip())), None)


def _of_csv(files: Files, name: str) -> Iterator[_Row]:
    columns: dict[str, int] | None = None
    for number, row in _cells(files, name):
        where = f"{name}, line {number}"
        if columns is None and _headless(row) is None:
            columns = _columns(row)
            if columns is None:
                raise refused("The data set", where, "names no column for pictures and tags")
            continue
        yield _named(row, columns, where) if columns else _automl(row, where)


def _named(row: Sequence[str], columns: Mapping[str, int], where: str) -> _Row:
    def cell(column: str) -> str:
        place = columns.get(column)
        return row[place] if place is not None and place < len(row) else ""

    several = [tag.strip() for tag in cell("tags").split(";")] if "tag" not in columns else [cell("tag")]
    numbers = {column: cell(column) for column in (*_CORNERS, *_SIDES)}
    size = [cell(side) for side in ("imagewidth", "imageheight")]
    if not all(size) and "xmin" in columns:  # then "width" and "height" are not the box's
        size = [cell("width"), cell("height")]
    width, height = (_number(side, where) if side.strip() else 0.0 for side in size)
    return _Row(cell("image"), [tag for tag in several if tag.strip()], _corner(numbers, where), (width, height), where)


def _automl(row: Sequence[str], where: str) -> _Row:
    """Google's AutoML: [set,] picture, label, x1, y1, x2, y1, x2, y2, x1, y2; of a classification all are labels."""
    place = _headless(row)
    if place is None:
        raise refused("The data set", where, "names no picture")
    rest = [cell.strip() for cell in row[place + 1 :]]
    if len(rest) < 7:
        return _Row(row[place].strip(), [tag for tag in rest if tag], None, (0, 0), where)
    xs = [_number(cell, where) for cell in rest[1::2] if cell]
    ys = [_number(cell, where) for cell in rest[2::2] if cell]
    corner = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)) if xs and ys else None
    return _Row(row[place].strip(), [tag for tag in rest[:1] if tag], corner, (0, 0), where)


def _corner(numbers: Mapping[str, str], where: str) -> tuple[float, float, float, float] | None:
    if all(numbers.get(edge, "").strip() for edge in _CORNERS):
        left, top, right, bottom = (_number(numbers[edge], where) for edge in _CORNERS)
        return min(left, right), min(top, bottom), abs(right - left), abs(bottom - top)
    if all(numbers.get(side, "").strip() for side in _SIDES):
        left, top, width, height = (_number(numbers[side], where) for side in _SIDES)
        return left, top, width, height
    return None


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise refused("The data set", where, f"has {text[:40]!r} where a number belongs") from None


def _object_image(row: Mapping[str, Any]) -> str | None:
    names = {_folded(key): value for key, value in row.items()}
    return next((names[alias] for alias in _ALIASES["image"] if isinstance(names.get(alias), str)), None)


def _of_lines(files: Files, name: str) -> Iterator[_Row]:
    for number, row in json_lines(files, name):
        where = f"{name}, line {number}"
        image = _object_image(row)
        if image is None:
            raise refused("The data set", where, "names no picture")
        details = row.get("image_details")
        size = _size(details if isinstance(details, dict) else row)
        labels = list(_labels(row))
        # A picture without a label stays in.
        yield _Row(image, [tag for tag, given in labels if given is None], None, size, where)
        for tag, given in labels:
            if given is not None:
                yield _Row(image, [tag], _corner({key: str(value) for key, value in given.items()}, where), size, where)


def _size(row: Mapping[str, Any]) -> tuple[float, float]:
    sides = [row.get(side) for side in ("width", "height")]
    width, height = (float(str(side).rstrip("px")) if _is_number(str(side).rstrip("px")) else 0.0 for side in sides)
    return width, height


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _labels(row: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Tags with their boxes' numbers by our names: ours, Azure Machine Learning's and Google's."""
    for key, value in row.items():
        if _folded(key) in _LABELS:
            for item in value if isinstance(value, list) else [value]:
                yield from _label(item)


_LABELS = {
    *_ALIASES["tag"], *_ALIASES["tags"], "regions", "boxes", "annotations",
    "classificationannotation", "classificationannotations", "boundingboxannotations",
}  # fmt: skip


def _label(item: Any) -> Iterator[tuple[str, dict[str, Any] | None]]:
    if isinstance(item, str):
        if item:
            yield item, None
    elif isinstance(item, dict):
        names = {_folded(key): value for key, value in item.items()}
        tag = next((names[alias] for alias in _ALIASES["tag"] if isinstance(names.get(alias), str)), None)
        numbers = {
            column: names[alias]
            for column in (*_CORNERS, *_SIDES)
            for alias in _ALIASES[column]
            if isinstance(names.get(alias), int | float)
        }
        if tag and names.get("iscrowd") not in (1, True, "true"):
            yield tag, numbers or None
