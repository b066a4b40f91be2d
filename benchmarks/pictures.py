"""Photographs of about 20 kB, no two alike."""

import io

import numpy as np
import skimage.data
from PIL import Image


def jpegs(count: int, seed: int = 0, side: int = 360) -> list[bytes]:
    """Details of packaged photographs as JPEG files."""
    random = np.random.default_rng(seed)
    photographs = [
        Image.fromarray(getattr(skimage.data, name)()).convert("RGB").resize((900, 900))
        for name in ("astronaut", "chelsea", "coffee", "rocket")
    ]
    made = []
    for number in range(count):
        left, top = (int(value) for value in random.integers(0, 900 - side, 2))
        buffer = io.BytesIO()
        detail = photographs[number % len(photographs)].crop((left, top, left + side, top + side))
        detail.save(buffer, "JPEG", quality=88, comment=f"{seed}-{number}")
        made.append(buffer.getvalue())
    return made
