"""YOLO: a text file per picture for boxes (class, centre, size; relative), a folder per class for classification."""

from collections.abc import Iterable, Iterator, Sequence

from ownvision.data_rights.formats import Entry, Picture, folders
from ownvision.data_rights.formats.linking import LINKS, line
from ownvision.data_rights.formats.text import Spool, chunks


def write(pictures: Iterable[Picture], tags: Sequence[str], detection: bool) -> Iterator[Entry]:
    """``yolo/``: ``data.yaml``, ``train.txt``, ``labels`` and where the pictures belong (``images``); or folders."""
    if not detection:
        yield from folders.write(pictures, tags, detection)
        return
    numbers = {tag: number for number, tag in enumerate(dict.fromkeys(tags))}
    yield "yolo/data.yaml", chunks(_config(numbers))
    paths = Spool()
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
