"""The demo's pictures: handwritten digits that scikit-learn packages, photographs that scikit-image packages."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from ownvision.client.folders import pictures_by_tag

DIGIT_PIXELS = 64
SCENE = (320, 240)
# Those that lie in scikit-image's wheel; the others would be fetched from the network.
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins", "grass", "brick", "gravel", "moon")
SCENE_DIGITS = (1, 4, 8)


@dataclass(frozen=True)
class Box:
    """A digit in a scene: left, top, width, height from 0 to 1."""

    tag: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Picture:
    """A file with what is on it: one tag (classification) or boxes (detection)."""

    name: str
    data: bytes
    tag: str = ""
    boxes: tuple[Box, ...] = ()


def digits() -> list[Picture]:
    """The 1,797 digits of 8×8 pixels as PNG files, enlarged to 64×64, in a fixed random order."""
    source = load_digits()
    order = np.random.default_rng(0).permutation(len(source.target))
    return [
        Picture(f"digit-{index:04}.png", _png(_ink(source.images[index], DIGIT_PIXELS)), str(source.target[index]))
        for index in order
    ]


def folder(path: Path) -> list[Picture]:
    """The pictures of a folder per tag, in a fixed random order."""
    found = [
        Picture(file.name, file.read_bytes(), tag)
        for tag, files in pictures_by_tag(path).items()
        if tag is not None
        for file in files
    ]
    order = np.random.default_rng(0).permutation(len(found))
    return [found[index] for index in order]


def scenes(count: int, seed: int) -> list[Picture]:
    """Photographs with three to five digits on cards, none over another.

    Scenes of different seeds share neither a digit's handwriting nor a detail of a photograph.
    """
    random = np.random.default_rng(seed)
    source = load_digits()
    halves = [index for index in range(len(source.target)) if index % 2 == seed % 2]
    drawn = {digit: [index for index in halves if source.target[index] == digit] for digit in SCENE_DIGITS}
    photographs = [_photograph(name) for name in PHOTOGRAPHS]
    made = []
    for number in range(count):
        canvas = _detail(photographs[number % len(photographs)], random, seed)
        taken: list[tuple[int, int, int]] = []
        boxes = []
        for digit in random.permutation([*SCENE_DIGITS, *random.choice(SCENE_DIGITS, random.integers(0, 3))]):
            side = int(random.integers(52, 84))
            place = _free_place(taken, side, random)
            if place is None:
                continue
            taken.append((*place, side))
            card = Image.fromarray(_ink(source.images[random.choice(drawn[int(digit)])], side))
            canvas.paste(card, place)
            width, height = SCENE
            boxes.append(Box(str(digit), place[0] / width, place[1] / height, side / width, side / height))
        made.append(Picture(f"scene-{seed}-{number:03}.png", _png(np.asarray(canvas)), boxes=tuple(boxes)))
    return made


def split(pictures: Sequence[Picture], held_out: int) -> tuple[list[Picture], list[Picture]]:
    """To train, to test: the last `held_out`."""
    return list(pictures[:-held_out]), list(pictures[-held_out:])


def _free_place(
    taken: Sequence[tuple[int, int, int]], side: int, random: np.random.Generator
) -> tuple[int, int] | None:
    for _ in range(50):
        left, top = int(random.integers(0, SCENE[0] - side)), int(random.integers(0, SCENE[1] - side))
        if all(left + side < x or x + other < left or top + side < y or y + other < top for x, y, other in taken):
            return left, top
    return None


def _photograph(name: str) -> Image.Image:
    picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    factor = max(2 * SCENE[0] / picture.width, SCENE[1] / picture.height)
    return picture.resize((round(picture.width * factor), round(picture.height * factor)))


def _detail(photograph: Image.Image, random: np.random.Generator, seed: int) -> Image.Image:
    """A detail from the left half for even seeds, from the right half for odd ones."""
    half = photograph.width // 2
    left = int(random.integers(0, half - SCENE[0] + 1)) + half * (seed % 2)
    top = int(random.integers(0, photograph.height - SCENE[1] + 1))
    return photograph.crop((left, top, left + SCENE[0], top + SCENE[1]))


def _ink(image: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    """Dark ink on white paper, [side, side, 3], from intensities 0 to 16."""
    paper = Image.fromarray((255 - image * 255 / 16).astype(np.uint8))
    return np.asarray(paper.resize((side, side), Image.Resampling.BICUBIC).convert("RGB"))


def _png(array: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()
