"""Every format a takeout holds."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from ownvision.data_rights.formats import Entry, Picture, coco, table, voc, yolo


def write(pictures: Callable[[], Iterable[Picture]], tags: Sequence[str], detection: bool) -> Iterator[Entry]:
    """The files below a project's ``annotations/``: COCO, VOC, YOLO, CSV and JSON-Lines, and `link.py`.

    Args:
        pictures: Called once for each format; gives the project's pictures, those without a tag too.
        tags: Names of all the project's tags, in their order.
        detection: Whether tags belong to boxes.
    """
    for module in (coco, voc, yolo, table):
        yield from module.write(pictures(), tags, detection)
