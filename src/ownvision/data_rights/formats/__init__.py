"""Annotation formats as pure functions, both directions: COCO, Pascal VOC, YOLO, CSV/JSON-Lines, a folder per class.

Writers take pictures once, in any number, and give the files below a takeout's ``annotations/``. Readers take the files
of a data set and give pictures; one picture may come in several parts, which belong together by their path.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

# One file of an archive: its path and its bytes in chunks, to be used up before the next file is asked for.
Entry = tuple[str, Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Box:
    """A tagged box: left, top, width, height relative to the upright picture, 0 to 1."""

    tag: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture with what it carries.

    Attributes:
        path: Where its bytes are: in a takeout ``images/<name>`` below the project's folder, else in the data set.
            A path that is written holds no line feed.
            Writers count on names without their suffix being unique in a project, upper and lower case alike: VOC and
            YOLO call an annotation like its picture but for the suffix.
        width: Of the upright picture in pixels; 0 where a data set does not tell.
        height: Likewise.
        tags: Names of its tags; in detection those of its boxes.
        boxes: Its regions (detection).
    """

    path: str
    width: int = 0
    height: int = 0
    tags: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
