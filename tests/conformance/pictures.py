"""Pictures that a model can tell apart, written as JPEG: red discs, blue squares, and scenes with boxes."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (200, 40, 40), "blue": (40, 60, 200)}
OF_EACH = 34
SCENES = 17
SIZE = (96, 80)
SIDE = 240


def _ground(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    level = random.integers(120, 200)
    noise = level + random.normal(0, 12, (size[1], size[0], 3))
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8))


def _shape(draw: ImageDraw.ImageDraw, name: str, corners: tuple[int, int, int, int]) -> None:
    (draw.ellipse if name == "red" else draw.rectangle)(corners, fill=COLOURS[name])


def write(folder: Path) -> None:
    """Write `red_00.jpg` …, `blue_00.jpg` …, `scene_00.jpg` … and `scenes.json`, the boxes (0 to 1) of each scene."""
    random = np.random.default_rng(3)
    for name in COLOURS:
        for number in range(OF_EACH):
            canvas = _ground(random, SIZE)
            left, top, side = (int(random.integers(*limits)) for limits in ((5, 30), (5, 20), (40, 58)))
            _shape(ImageDraw.Draw(canvas), name, (left, top, left + side, top + side))
            canvas.save(folder / f"{name}_{number:02}.jpg", quality=90)
    boxes: dict[str, list[float]] = {}
    for number in range(SCENES):
        canvas = _ground(random, (SIDE, SIDE))
        size = int(random.integers(80, 130))
        left, top = (int(random.integers(0, SIDE - size)) for _ in range(2))
        _shape(ImageDraw.Draw(canvas), "red", (left, top, left + size, top + size))
        canvas.save(folder / f"scene_{number:02}.jpg", quality=90)
        boxes[f"scene_{number:02}.jpg"] = [left / SIDE, top / SIDE, size / SIDE, size / SIDE]
    (folder / "scenes.json").write_text(json.dumps(boxes))
