"""Every format a takeout holds."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from ownvision.data_rights.formats import Entry, Picture, coco, linking, table, voc, yolo


def write(pictures: Callable[[], Iterable[Picture]], tags: Sequence[str], detection: bool) -> Iterator[Entry]:
    """The files below a project's ``annotations/``: COCO, VOC, YOLO, CSV and JSON-Lines, and ``link.py``.

    Args:
        pictures: Called once for each format; gives the project's pictures, those without a tag too.
        tags: Names of all the project's tags, in their order. What carries another one, made meanwhile, is left out.
        detection: Whether tags belong to boxes.

    Yields:
        Paths below ``annotations/`` with their bytes in chunks, to be used up before the next is asked for.
    """
    known = frozenset(tags)
    for module in (coco, voc, yolo, table):
        yield from module.write((_of(picture, known) for picture in pictures()), tags, detection)
    yield linking.script()


def _of(picture: Picture, known: frozenset[str]) -> Picture:
    """The picture with each of its known tags once."""
    carried = [*picture.tags, *[box.tag for box in picture.boxes]]
    if known.issuperset(carried) and len(set(picture.tags)) == len(picture.tags):
        return picture
    boxes = [box for box in picture.boxes if box.tag in known]
    return replace(picture, tags=[tag for tag in dict.fromkeys(picture.tags) if tag in known], boxes=boxes)
