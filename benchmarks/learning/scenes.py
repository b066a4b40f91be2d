"""Detection scenes of rising difficulty, drawn: the same seed gives the same pictures.

Three kinds of objects on every level; what makes them harder is how small and how many they are, how restless the
ground is, and how much other things look like them.
"""

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ownvision.learning.detect import Example

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Level:
    """How hard scenes are.

    Attributes:
        size: Width and height of a picture, pixels.
        objects: Least and greatest number of them.
        side: Least and greatest larger side of an object, pixels.
        clutter: Number of lines and patches on the ground.
        strangers: Number of things of other kinds.
        alike: Whether kinds, and strangers, differ by little.
    """

    size: tuple[int, int]
    objects: tuple[int, int]
    side: tuple[float, float]
    clutter: int = 0
    strangers: int = 0
    alike: bool = False


LEVELS = {
    "plain": Level((640, 480), (1, 3), (100, 220)),
    "sizes": Level((640, 480), (1, 6), (32, 300)),
    "clutter": Level((640, 480), (2, 6), (50, 160), clutter=120, strangers=4),
    "look-alikes": Level((640, 480), (2, 6), (60, 160), clutter=60, strangers=4, alike=True),
    "dense": Level((1_024, 1_024), (50, 80), (24, 64), clutter=60, strangers=6),
}
KINDS = ("first", "second", "third")


def star(spikes: int, depth: float) -> Callable[[], Points]:
    """A star's outline in the unit circle."""

    def points() -> Points:
        found = []
        for index in range(2 * spikes):
            radius = 1.0 if index % 2 == 0 else depth
            angle = math.pi * index / spikes
            found.append((radius * math.cos(angle), radius * math.sin(angle)))
        return found

    return points


def polygon(corners: int, stretch: float = 1.0) -> Callable[[], Points]:
    """A regular polygon's outline, made narrower by a factor."""

    def points() -> Points:
        angles = [2 * math.pi * index / corners for index in range(corners)]
        return [(math.cos(angle), stretch * math.sin(angle)) for angle in angles]

    return points


def cross(width: float) -> Callable[[], Points]:
    """A cross's outline."""
    quarter = [(1.0, -width), (1.0, width), (width, width)]

    def points() -> Points:
        turns = [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)]
        return [(a * x + b * y, c * x + d * y) for a, b, c, d in turns for x, y in quarter]

    return points


_KINDS = [star(5, 0.42), polygon(40), cross(0.3)]
_STRANGERS = [polygon(3), polygon(4, 0.6), polygon(40, 0.4)]
_ALIKE = [star(5, 0.5), star(6, 0.5), star(7, 0.5)]
_ALIKE_STRANGERS = [star(4, 0.5), star(9, 0.5), polygon(6)]


def scene(level: Level, seed: int) -> Example:
    """One scene, as a JPEG with the boxes of its objects."""
    rng = np.random.default_rng(seed)
    width, height = level.size
    picture = _ground(width, height, rng)
    draw = ImageDraw.Draw(picture)
    for _ in range(level.clutter):
        _clutter(draw, width, height, rng)
    kinds, strangers = (_ALIKE, _ALIKE_STRANGERS) if level.alike else (_KINDS, _STRANGERS)
    boxes: list[list[float]] = []
    tags: list[int] = []
    taken: list[tuple[float, float, float, float]] = []
    count = int(rng.integers(level.objects[0], level.objects[1] + 1))
    for number in range(count + level.strangers):
        radius = math.exp(rng.uniform(*np.log(level.side))) / 2
        place = _free(taken, radius, width, height, rng)
        if place is None:
            continue
        kind = int(rng.integers(3))
        outline = kinds[kind]() if number < count else strangers[kind]()
        box = _draw(picture, outline, place, radius, rng)
        taken.append(box)
        if number < count:
            boxes.append([box[0] / width, box[1] / height, (box[2] - box[0]) / width, (box[3] - box[1]) / height])
            tags.append(kind)
    picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    data = buffer.getvalue()
    values = np.array(boxes, np.float32).reshape(-1, 4)
    return Example(partial(bytes, data), values, np.array(tags, np.int64), hashlib.sha256(data).digest())


def _ground(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    coarse = rng.integers(60, 200, (6, 8, 3)).astype(np.uint8)
    ground = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noisy = ground + rng.normal(0, 8, (height, width, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _clutter(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    dx, dy = rng.normal(0, 50, 2)
    if rng.random() < 0.6:
        draw.line([(x, y), (x + dx, y + dy)], fill=_colour(rng), width=int(rng.integers(1, 6)))
    else:
        corners = [(x + rng.normal(0, 18), y + rng.normal(0, 18)) for _ in range(4)]
        draw.polygon(corners, fill=_colour(rng))


def _colour(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def _free(
    taken: list[tuple[float, float, float, float]], radius: float, width: int, height: int, rng: np.random.Generator
) -> tuple[float, float] | None:
    """A place where little is covered; None where none was found."""
    for _ in range(60):
        x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        near = 0.85 * radius
        if all(x + near < box[0] or x - near > box[2] or y + near < box[1] or y - near > box[3] for box in taken):
            return float(x), float(y)
    return None


def _draw(
    picture: Image.Image, outline: Points, place: tuple[float, float], radius: float, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Draw an object of any colour, turned anyhow, its edge in another; returns left, top, right, bottom."""
    angle, squeeze = rng.uniform(0, 2 * math.pi), rng.uniform(0.8, 1.0)
    cos, sin = math.cos(angle), math.sin(angle)
    points = [
        (place[0] + radius * (cos * x - sin * y * squeeze), place[1] + radius * (sin * x + cos * y * squeeze))
        for x, y in outline
    ]
    # Its least distance from the ground's greys makes it visible, no more.
    fill = _colour(rng)
    while max(fill) - min(fill) < 80:
        fill = _colour(rng)
    draw = ImageDraw.Draw(picture)
    draw.polygon(points, fill=fill, outline=_colour(rng), width=max(1, round(radius / 12)))
    x, y = (np.array(side).clip(0, limit) for side, limit in zip(zip(*points, strict=True), picture.size, strict=True))
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())
