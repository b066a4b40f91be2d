"""YOLO: a text file per picture for boxes (class, centre, size; relative), a folder per class for classification."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from ownvision.data_rights.formats import Box, Entry, Picture, folders
from ownvision.data_rights.formats.documents import text_lines, yaml_mapping
from ownvision.data_rights.formats.finding import pictures as pictures_of
from ownvision.data_rights.formats.finding import stem
from ownvision.data_rights.formats.geometry import between, cornered
from ownvision.data_rights.formats.linking import LINKS, line
from ownvision.data_rights.formats.report import Report
from ownvision.data_rights.formats.text import Spool, chunks
from ownvision.data_rights.formats.unpack import Files, refused


def write(pictures: Iterable[Picture], tags: Sequence[str], detection: bool) -> Iterator[Entry]:
    """``yolo/``: ``data.yaml``, ``train.txt``, ``labels`` and where the pictures belong (``images``); or folders."""
    if not detection:
        yield from folders.write(pictures, tags, detection)
        return
    numbers = {tag: number for number, tag in enumerate(dict.fromkeys(tags))}
    yield "yolo/data.yaml", chunks(_config(numbers))
    with Spool() as paths:
        for picture in pictures:
            name = picture.path.rpartition("/")[2]
            paths.write(picture.path + "\n")
            yield f"yolo/labels/{name.rpartition('.')[0] or name}.txt", chunks(_labels(picture, numbers))
        yield "yolo/train.txt", chunks(f"./images/{path.rpartition('/')[2]}\n" for path in paths.lines())
        yield f"yolo/{LINKS}", chunks(line(path, f"images/{path.rpartition('/')[2]}") for path in paths.lines())


def _config(numbers: dict[str, int]) -> Iterator[str]:
    # Without "path" a trainer takes this file's folder; the same pictures serve as "val", since it asks for some.
    yield f"train: train.txt\nval: train.txt\nnc: {len(numbers)}\n"
    yield from folders.mapping("names", {number: tag for tag, number in numbers.items()})


def _labels(picture: Picture, numbers: dict[str, int]) -> Iterator[str]:
    for box in picture.boxes:
        centre = (box.left + box.width / 2, box.top + box.height / 2)
        yield " ".join([str(numbers[box.tag]), *map(_number, (*centre, box.width, box.height))]) + "\n"


def _number(value: float) -> str:
    """Never with an exponent: some readers take digits and a point only."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def recognises(files: Files) -> bool:
    """Whether a data set has YOLO's label files, or our own list of folders."""
    return _is_folders(files) or bool(_labelled(files))


def read(files: Files, report: Report) -> Iterator[Picture]:
    """Every picture with the boxes of its label file; one without a label file or with an empty one has no tag.

    Raises:
        OwnVisionError: BadRequestInvalid, for a line that can't be read or a class without a name.
    """
    if _is_folders(files):
        yield from folders.read(files, report)
        return
    report.detection = True
    names = _names(files)
    report.tags.update(dict.fromkeys(names.values()))
    labels = _labelled(files)
    for path, label in labels.items():
        boxes = list(_boxes(files, label, names, report)) if label else []
        yield Picture(path, tags=list(dict.fromkeys(box.tag for box in boxes)), boxes=boxes)
    used = set(labels.values())
    for name in files.names:
        if "labels" in name.split("/")[:-1] and name.endswith(".txt") and name not in used:
            report.remark("label file without a picture of its name: left out", name)


def _is_folders(files: Files) -> bool:
    return any(name.rpartition("/")[2] == LINKS for name in files.names) and bool(folders.spellings(files))


def _labelled(files: Files) -> dict[str, str | None]:
    """Label files by picture, with the pictures beside them; empty when there is not one label file."""
    texts = {name for name in files.names if name.endswith(".txt")}
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in texts:
        if "labels" in name.split("/")[:-1]:
            by_stem[stem(name)].append(name)
    found: dict[str, str | None] = {}
    for path in pictures_of(files):
        found[path] = _label(path, texts, by_stem)
    return (
        found
        if any(found.values()) and all(_is_label(files, name) for name in islice(filter(None, found.values()), 3))
        else {}
    )


def _label(path: str, texts: set[str], by_stem: dict[str, list[str]]) -> str | None:
    """The label file of a picture: ``labels`` instead of ``images``, beside it, or the only one of its name."""
    parts = path.split("/")
    text = f"{stem(path)}.txt"
    for place in reversed(range(len(parts) - 1)):
        if parts[place] == "images":
            candidate = "/".join([*parts[:place], "labels", *parts[place + 1 : -1], text])
            if candidate in texts:
                return candidate
    beside = "/".join([*parts[:-1], text])
    if beside in texts:
        return beside
    named = by_stem.get(stem(path), [])
    return named[0] if len(named) == 1 else None


def _is_label(files: Files, name: str) -> bool:
    with files.open(name) as stream:
        fields = stream.readline(4096).split()
    try:
        return not fields or (len(fields) >= 5 and all(math.isfinite(float(field)) for field in fields))
    except ValueError:
        return False


def _names(files: Files) -> dict[int, str]:
    """Names of the classes by number: of ``data.yaml``, or a file with one per line."""
    for name in files.names:
        if name.lower().endswith((".yaml", ".yml")) and (found := folders.numbered(yaml_mapping(files, name), "names")):
            return found
    for name in files.names:
        last = name.rpartition("/")[2].lower()
        if last.endswith(".names") or last == "classes.txt":
            lines = [line.strip() for _, line in text_lines(files, name)]
            while lines and not lines[-1]:
                lines.pop()
            return dict(enumerate(lines))
    return {}


def _boxes(files: Files, label: str, names: dict[int, str], report: Report) -> Iterator[Box]:
    for number, text in text_lines(files, label):
        fields = text.split()
        if not fields:
            continue
        where = f"{label}, line {number}"
        try:
            values = [float(field) for field in fields]
            position = int(values[0])
        except (ValueError, OverflowError):
            raise refused("The data set", where, "holds something that is no number") from None
        if len(values) < 5 or position != values[0]:
            raise refused("The data set", where, "is not a class, and centre and size of a box")
        if names and position not in names:
            raise refused("The data set", where, f"has class {position}, which the list of names does not have")
        if not names:
            report.remark("box of a class that has no name: its number serves as its tag's name", where)
        box = _box(names.get(position, str(position)), values[1:], report, where)
        if box:
            yield box


def _box(tag: str, values: list[float], report: Report, where: str) -> Box | None:
    """Of centre and size (a sixth value is a confidence), or around an outline."""
    if len(values) < 6:
        x, y, width, height = values[:4]
        return cornered(tag, (x - width / 2, y - height / 2, width, height), (1, 1), report, where)
    report.remark("outline instead of a box: the box around it was taken", where)
    xs, ys = values[: len(values) // 2 * 2 : 2], values[1::2]
    return between(tag, (min(xs), min(ys), max(xs), max(ys)), (1, 1), report, where)
