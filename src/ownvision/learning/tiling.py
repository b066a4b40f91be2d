"""Small objects: a picture is looked at in tiles, each at the network's size, where objects would vanish in the whole.

What is trained on windows of a scale is served on tiles of that scale: the plan follows from the boxes, stands in the
model file's metadata, and everybody who serves the file reads it there.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

KEY = "ownvision.tiles"
# Side of a small object (geometric mean of width and height) in the network's pixels that tiles bring about, and how
# small is small: all but a fifth are larger.
_WANTED, _SMALL = 28.0, 0.2
# Less magnification is not worth the passes; more would make a picture more than 49 of them.
_LEAST_ZOOM, _LARGEST_ZOOM = 1.4, 4.5
# Beyond its own resolution a picture is magnified this much at most.
_BEYOND = 1.5
# Tiles overlap by what nine of ten objects measure, within these shares of a tile.
_COMMON, _OVERLAP = 0.9, (0.15, 0.4)
# Boxes this near to a tile's inner border, in pixels, show a part of an object.
_CUT = 2.0


@dataclass(frozen=True)
class Tiling:
    """How a picture is looked at.

    Attributes:
        width: Of the stretched picture that tiles are cut from, pixels.
        height: Likewise.
        overlap: Of neighbouring tiles at least, pixels.
        whole: Whether the whole picture is looked at, too, for objects that are larger than the overlap.
    """

    width: int
    height: int
    overlap: int
    whole: bool

    def text(self) -> str:
        """As it stands in a model file's metadata."""
        return json.dumps(asdict(self), sort_keys=True)

    def tiles(self, side: int) -> list[tuple[int, int]]:
        """Left and top of every tile of this side, row by row."""
        return [
            (left, top)
            for top in starts(self.height, side, self.overlap)
            for left in starts(self.width, side, self.overlap)
        ]

    def owned(self, boxes: Floats, tile: tuple[int, int], side: int) -> NDArray[np.bool_]:
        """Which boxes of a tile count.

        Those whose centre is nearer to this tile's middle than to a neighbour's: what is no larger than the overlap is
        seen whole there, and once. Where the whole picture is looked at, too, boxes cut by an inner border are left
        to that.

        Args:
            boxes: [K, 4] left, top, width, height, relative to the tile.
            tile: Its left and top.
            side: Its side, pixels.
        """
        kept = np.ones(len(boxes), bool)
        for axis, (start, length) in enumerate(zip(tile, (self.width, self.height), strict=True)):
            all_starts = starts(length, side, self.overlap)
            place = all_starts.index(start)
            low, high = boxes[:, axis] * side + start, (boxes[:, axis] + boxes[:, axis + 2]) * side + start
            middle = (low + high) / 2
            if place > 0:
                kept &= middle >= (all_starts[place - 1] + side + start) / 2
                kept &= (low > start + _CUT) | (not self.whole)
            if place + 1 < len(all_starts):
                kept &= middle < (start + side + all_starts[place + 1]) / 2
                kept &= (high < start + side - _CUT) | (not self.whole)
        return kept


def starts(length: int, side: int, overlap: int) -> list[int]:
    """Where tiles begin along a length: as few as overlap that much, evenly spread."""
    count = 1 if length <= side else math.ceil((length - overlap) / (side - overlap))
    return [round(index * (length - side) / max(count - 1, 1)) for index in range(count)]


def plan(boxes: Floats, sizes: Sequence[tuple[int, int]], side: int) -> Tiling | None:
    """Whether and how to tile, from what is to be learned.

    Args:
        boxes: [N, 4] left, top, width, height, relative to their pictures, of all pictures.
        sizes: Width and height of some of the pictures.
        side: Of the network's input, pixels.

    Returns:
        None where objects are large enough for one look at the whole picture.
    """
    if not len(boxes) or not sizes:
        return None
    extent = np.asarray(boxes, np.float64)[:, 2:]
    objects = np.sqrt(extent.prod(axis=1)) * side
    resolution = float(np.median([math.sqrt(width * height) for width, height in sizes])) / side
    small = max(float(np.quantile(objects, _SMALL)), 1.0)
    zoom = min(_WANTED / small, _LARGEST_ZOOM, _BEYOND * resolution)
    if zoom < _LEAST_ZOOM:
        return None
    # Tiles are about square in the pictures' own pixels.
    aspect = math.sqrt(float(np.median([width / height for width, height in sizes])))
    width, height = (max(side, round(side * zoom * factor)) for factor in (aspect, 1 / aspect))
    sides = (extent * [width, height]).max(axis=1)
    low, high = (share * side for share in _OVERLAP)
    overlap = round(min(max(float(np.quantile(sides, _COMMON)) * 1.1, low), high))
    return Tiling(width, height, overlap, whole=bool((sides > overlap).mean() > 1 - _COMMON + 0.01))


def read(metadata: dict[str, str]) -> Tiling | None:
    """The plan in a model file's metadata; None where there is none."""
    return Tiling(**json.loads(metadata[KEY])) if KEY in metadata else None
