"""Training pictures varied: zoomed, moved, mirrored, recoloured, and four in one (mosaic).

The names of the original's augmentation methods switch their kind off. Two change nothing here: a turned box is no
longer tight (rotation), and the network's input is a stretched picture, never a padded one (padtosquare).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ownvision.learning.tiling import Tiling

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Scene = tuple[Pixels, Floats, NDArray[np.int64]]
"""uint8 [H, W, 3]; boxes float32 [M, 4] left, top, right, bottom, relative; tags int64 [M]."""

# What lies beyond the picture's edge: the mean of ImageNet, so that it says nothing.
_GROUND = (124, 116, 104)
_LEAST_VISIBLE = 0.35
_TRIES = 8
# From here on solarizing inverts, as in a darkroom.
_BRIGHT = 128
# Share of the windows on a part of a picture that are placed on one of its objects.
_ANCHORED = 0.8


@dataclass(frozen=True)
class Variation:
    """How strongly pictures vary.

    Attributes:
        zoom: Least and greatest factor.
        stretch: Greatest factor between width and height.
        moves: Whether the window moves at random; it is centred otherwise.
        flips: Whether pictures are mirrored left to right, half of the time.
        colour: Greatest relative change of brightness, contrast, saturation and each channel; 0 for none.
        mosaic: Share of pictures made of four.
        solarize: Share of pictures whose bright parts are inverted.
        extent: Width and height of the window at zoom 1, relative to the picture: a tile's, where pictures are tiled.
        whole: Share of windows that show all of the picture nevertheless.
    """

    zoom: tuple[float, float]
    stretch: float
    moves: bool
    flips: bool
    colour: float
    mosaic: float
    solarize: float = 0.0
    extent: tuple[float, float] = (1.0, 1.0)
    whole: float = 0.0


def variation(methods: Mapping[str, bool], *, final: bool, tiles: Tiling | None = None, side: int = 0) -> Variation:
    """How strongly to vary, by the names of the original's methods; what is not named is on.

    Args:
        methods: `imageProcessingSettings.augmentationMethods`: ``scaling``, ``translation``, ``horizontal flip``,
            ``equalize`` (colours) and ``solarize`` are looked at.
        final: Milder and without mosaics, for the last part of training: what is learned last is what is predicted.
        tiles: How pictures are tiled; None where they are not.
        side: Of a tile, pixels.
    """
    scales = methods.get("scaling", True)
    zoom = ((0.8, 1.3) if final else (0.55, 1.7)) if scales else (1.0, 1.0)
    return Variation(
        zoom=zoom,
        stretch=(1.1 if final else 1.25) if scales else 1.0,
        moves=methods.get("translation", True),
        flips=methods.get("horizontal flip", True),
        colour=(0.15 if final else 0.25) if methods.get("equalize", True) else 0.0,
        mosaic=0.3 if scales and not final else 0.0,
        solarize=0.05 if methods.get("solarize", True) and not final else 0.0,
        extent=(side / tiles.width, side / tiles.height) if tiles else (1.0, 1.0),
        whole=0.3 if tiles and tiles.whole else 0.0,
    )


def vary(
    index: int, pick: Callable[[int], Scene], count: int, size: int, how: Variation, rng: np.random.Generator
) -> Scene:
    """One training picture.

    Args:
        index: Of the picture.
        pick: Gives a picture by its index.
        count: How many there are to pick from.
        size: Side of the result, pixels.
        how: How strongly to vary.
        rng: Where chance comes from.

    Returns:
        A scene of size × size.
    """
    if rng.random() < how.mosaic:
        others = rng.integers(0, count, 3)
        scene = _mosaic([pick(index), *(pick(int(other)) for other in others)], size, how, rng)
    else:
        scene = _view(pick(index), size, size, how, rng)
    pixels, boxes, tags = scene
    if how.colour:
        pixels = _recolour(pixels, how.colour, rng)
    if how.solarize and rng.random() < how.solarize:
        pixels = np.where(pixels >= _BRIGHT, 255 - pixels, pixels)
    return pixels, boxes, tags


def _mosaic(scenes: list[Scene], size: int, how: Variation, rng: np.random.Generator) -> Scene:
    """Four pictures around a random point (Bochkovskiy et al. 2020, arXiv:2004.10934 §3.3)."""
    x, y = (int(size * number) for number in rng.uniform(0.35, 0.65, 2))
    canvas = np.empty((size, size, 3), np.uint8)
    corners = [(0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size)]
    boxes, tags = [], []
    for scene, (left, top, right, bottom) in zip(scenes, corners, strict=True):
        # A window on a part of a picture shrinks with its place: objects keep the size they are served in.
        place = (how.extent[0] * (right - left) / size, how.extent[1] * (bottom - top) / size)
        mine = replace(how, extent=place) if min(how.extent) < 1 else how
        tile, found, named = _view(scene, right - left, bottom - top, mine, rng)
        canvas[top:bottom, left:right] = tile
        scale = np.array([right - left, bottom - top] * 2, np.float32)
        boxes.append((found * scale + np.array([left, top] * 2, np.float32)) / np.float32(size))
        tags.append(named)
    return canvas, np.concatenate(boxes), np.concatenate(tags)


def _view(scene: Scene, width: int, height: int, how: Variation, rng: np.random.Generator) -> Scene:
    """A random window on a picture, which may reach beyond its edges."""
    pixels, boxes, tags = scene
    if how.flips and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
        boxes = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], 1)
    part = (1.0, 1.0) if how.whole and rng.random() < how.whole else how.extent
    for _ in range(_TRIES):
        anchor = None
        if min(part) < 1 and len(boxes) and rng.random() < _ANCHORED:
            anchor = boxes[rng.integers(len(boxes))]
        origin, extent = _window(how, part, anchor, rng)
        moved, visible = _within(boxes, origin, extent)
        # A window that shows none of the objects teaches little, one that cuts many teaches half an object.
        if not len(boxes) or visible.max() > 0.8 or (anchor is None and min(part) < 1):
            break
    kept = visible >= _LEAST_VISIBLE
    return _render(pixels, origin, extent, width, height), moved[kept], tags[kept]


def _window(
    how: Variation, part: tuple[float, float], anchor: Floats | None, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Origin and extent of a window of about `part` of the picture; around a box's middle where one is given."""
    zoom = np.exp(rng.uniform(*np.log(how.zoom)))
    aspect = np.exp(rng.uniform(-0.5, 0.5) * np.log(how.stretch))
    extent = np.array([aspect, 1 / aspect]) * part / zoom
    share = rng.uniform(0, 1, 2) if how.moves or min(part) < 1 else np.full(2, 0.5)
    origin = (1 - extent) * share
    if anchor is not None:
        room = np.maximum(1 - extent, 0)
        near = (anchor[:2] + anchor[2:]) / 2 - extent * share
        origin = np.where(room > 0, np.clip(near, 0, room), origin)
    return origin.astype(np.float32), extent.astype(np.float32)


def _within(boxes: Floats, origin: Floats, extent: Floats) -> tuple[Floats, Floats]:
    """Boxes in the window's coordinates, clipped to it, and the visible share of each."""
    moved = (boxes - np.tile(origin, 2)) / np.tile(extent, 2)
    clipped = np.clip(moved, 0, 1)
    area = np.prod(moved[:, 2:] - moved[:, :2], axis=1)
    visible = np.prod(clipped[:, 2:] - clipped[:, :2], axis=1) / np.maximum(area, 1e-9)
    return clipped.astype(np.float32), visible.astype(np.float32)


def _render(pixels: Pixels, origin: Floats, extent: Floats, width: int, height: int) -> Pixels:
    side = np.array([pixels.shape[1], pixels.shape[0]], np.float64)
    target = np.array([width, height], np.float64)
    start, end = np.maximum(origin, 0.0), np.minimum(origin + extent, 1.0)
    first = np.rint((start - origin) / extent * target).astype(int)
    last = np.maximum(np.rint((end - origin) / extent * target).astype(int), first + 1)
    source = Image.fromarray(np.ascontiguousarray(pixels))
    box = (*(start * side), *(end * side))
    size = (int(last[0] - first[0]), int(last[1] - first[1]))
    shown = source.resize(size, Image.Resampling.BILINEAR, box=box)
    if size == (width, height):
        return np.asarray(shown)
    canvas = Image.new("RGB", (width, height), _GROUND)
    canvas.paste(shown, (int(first[0]), int(first[1])))
    return np.asarray(canvas)


def _recolour(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    brightness, contrast, saturation = 1 + rng.uniform(-strength, strength, 3)
    tint = 1 + rng.uniform(-strength, strength, 3) / 4
    x = pixels.astype(np.float32)
    grey = x.mean(-1, keepdims=True)
    x = grey + (x - grey) * np.float32(saturation)
    mean = grey.mean()
    x = (mean + (x - mean) * np.float32(contrast)) * (brightness * tint).astype(np.float32)
    varied: NDArray[np.uint8] = np.clip(x, 0, 255).astype(np.uint8)
    return varied
