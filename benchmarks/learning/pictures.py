"""Sets of pictures with tags: scikit-learn's digits, drawn textures and shapes, and the folders beside this repository.

Textures and shapes are drawn by seed, the same each time; folders are left out where they are not.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
_TEXTURES, _SHAPES, _SIDE = 8, 7, 192


@dataclass(frozen=True)
class Pictures:
    """Encoded pictures and the number of each one's tag, int64 [N]."""

    files: list[bytes]
    tags: NDArray[np.int64]


def digits() -> Pictures:
    """1,797 handwritten digits of 8 × 8 pixels, enlarged."""
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = [Image.fromarray((array * 255 / 16).astype(np.uint8)) for array in found.images]
    return Pictures([_png(one.resize((64, 64), Image.Resampling.BICUBIC)) for one in grey], found.target)


def textures(per_tag: int = 100) -> Pictures:
    """Noise of eight kinds, told apart by its spectrum only; its two colours say nothing."""
    made = [_texture(tag, np.random.default_rng([7, tag, at])) for tag in range(_TEXTURES) for at in range(per_tag)]
    return Pictures(made, np.repeat(np.arange(_TEXTURES), per_tag))


def shapes(per_tag: int = 100) -> Pictures:
    """One of seven outlines on a restless ground, of any size, turn and colour."""
    made = [_shape(tag, np.random.default_rng([11, tag, at])) for tag in range(_SHAPES) for at in range(per_tag)]
    return Pictures(made, np.repeat(np.arange(_SHAPES), per_tag))


def folder(*path: str) -> Callable[[], Pictures]:
    """A folder per tag."""

    def read() -> Pictures:
        where = SHARED.joinpath(*path)
        names = sorted(one.name for one in where.iterdir() if one.is_dir() and one.name.lower() != "test")
        found = [(one.read_bytes(), tag) for tag, name in enumerate(names) for one in sorted((where / name).iterdir())]
        return Pictures([data for data, _ in found], np.array([tag for _, tag in found]))

    return read


SETS: dict[str, Callable[[], Pictures]] = {"digits": digits, "textures": textures, "shapes": shapes} | {
    name: folder(*path)
    for name, path in {
        "fruit": ("fruit", "classification"),
        "quickstart": ("quickstart", "classification"),
        "fork and scissors": ("quickstart", "detection"),
    }.items()
    if SHARED.joinpath(*path).is_dir()
}


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _texture(tag: int, rng: np.random.Generator, side: int = 160) -> bytes:
    spectrum = np.fft.fft2(rng.normal(size=(side, side)))
    y, x = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None]
    radius, angle = np.hypot(x, y) + 1e-3, np.arctan2(y, x)
    if tag < 4:  # slopes of the spectrum
        z = np.fft.ifft2(spectrum * radius ** -(0.6 + 0.35 * tag)).real
    elif tag < 6:  # grain of one direction, narrow or wide
        away = np.angle(np.exp(2j * (angle - rng.uniform(0, np.pi)))) / 2
        z = np.fft.ifft2(spectrum * np.exp(-(away**2) / (0.05 if tag == 4 else 0.25)) / radius).real
    else:  # blobs or cells
        rows, columns = np.mgrid[:side, :side]
        centres = rng.uniform(0, side, (60, 2))
        apart = np.hypot(rows[..., None] - centres[:, 0], columns[..., None] - centres[:, 1])
        apart = np.partition(apart, 1, axis=-1)
        z = apart[..., 0] if tag == 6 else apart[..., 1] - apart[..., 0]
    share = 1 / (1 + np.exp(-1.5 * (z - z.mean()) / z.std()))[..., None]
    light, dark = rng.uniform(0, 255, (2, 3))
    mixed = light * share + dark * (1 - share) + rng.normal(0, 12, (side, side, 1))
    return _png(Image.fromarray(mixed.clip(0, 255).astype(np.uint8)))


def _shape(tag: int, rng: np.random.Generator) -> bytes:
    ground = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    picture = ground.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        ends, colour = rng.integers(0, _SIDE, 4), tuple(int(one) for one in rng.integers(0, 255, 3))
        draw.line([tuple(ends[:2]), tuple(ends[2:])], fill=colour, width=int(rng.integers(1, 5)))
    centre, radius, turn = rng.uniform(70, 122, 2), rng.uniform(30, 58), rng.uniform(0, 2 * math.pi)
    fill = tuple(int(one) for one in rng.integers(0, 255, 3))
    line = tuple(255 - one for one in fill)
    if tag == 5:
        draw.ellipse([*(centre - radius), *(centre + radius)], fill=fill, outline=line, width=3)
    else:
        corners, inner = (tag + 3, 1.0) if tag < 4 else (10, 0.45) if tag == 4 else (8, 0.4)
        points = [
            tuple(
                centre
                + radius * (inner if at % 2 and inner < 1 else 1) * np.array([math.cos(turn + a), math.sin(turn + a)])
            )
            for at, a in enumerate(np.linspace(0, 2 * math.pi, corners, endpoint=False))
        ]
        draw.polygon(points, fill=fill, outline=line, width=3)
    return _png(picture)
