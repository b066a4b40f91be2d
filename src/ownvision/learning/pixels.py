"""Decode, orient, resize: the only preprocessing there is.

Embedding, training, serving and the exported `predict.py` all turn a file into pixels exactly this way: EXIF
orientation applied, transparency over white, a plain stretch to the network's size.
"""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

PIXELS_VERSION = "1"
FORMATS = ("JPEG", "PNG", "GIF", "BMP")
MAX_SIDE = 10_240
MAX_ASPECT = 25.0
THUMBNAIL_SIDE = 256
RESIZED_SIDE = 1_600
# Decoded pixels that may lie in memory at once, whatever the number of threads: 4 bytes each.
PIXELS_IN_FLIGHT = 40_000_000
_ORIENTATION = 0x0112

# The header is checked against MAX_SIDE before anything is decoded; Pillow's own guard stands behind it. Its warning is
# made an error once, here: `catch_warnings` around each picture would not be safe with threads.
Image.MAX_IMAGE_PIXELS = MAX_SIDE * MAX_SIDE
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

Reason = Literal["format", "truncated", "dimensions", "aspect"]


class BadImage(ValueError):
    """Bytes that are no usable image.

    Attributes:
        reason: ``format``, ``truncated``, ``dimensions`` or ``aspect``.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ImageInfo:
    """Size in pixels of the upright picture, and the file's format."""

    width: int
    height: int
    format: str


@dataclass(frozen=True)
class Derived:
    """What is made from an original: JPEG without EXIF. `resized` is None where the original is small enough."""

    info: ImageInfo
    resized: bytes | None
    thumbnail: bytes


class _Budget:
    """Lets pictures be decoded while their pixels fit; one alone may always run, however large."""

    def __init__(self, total: int) -> None:
        self._free = self._total = total
        self._changed = threading.Condition()

    @contextmanager
    def spend(self, pixels: int) -> Iterator[None]:
        share = min(pixels, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()


_BUDGET = _Budget(PIXELS_IN_FLIGHT)


def inspect(data: bytes) -> ImageInfo:
    """What the header says, checked against the limits; nothing is decoded.

    Raises:
        BadImage: It is none of `FORMATS`, or its sides or their ratio are beyond the limits.
    """
    with _opened(data) as image:
        return _info(image)


def verify(data: bytes) -> ImageInfo:
    """As `inspect`, and decode it once to see that it is whole.

    Raises:
        BadImage: As `inspect`, or the file ends early or is damaged.
    """
    with _opened(data) as image:
        info = _info(image)
        _draft(image, 64, 64)  # reads the whole stream, transforms an eighth of it
        with _decoding(image):
            image.load()
        return info


def load(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """Decode to the network's input: upright, RGB, stretched.

    Args:
        data: A file.
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        uint8 [height, width, 3].

    Raises:
        BadImage: It can't be decoded.
    """
    with _opened(data) as image:
        _info(image)
        turned = _quarter_turned(image)
        _draft(image, *((height, width) if turned else (width, height)))
        with _decoding(image):
            upright = _rgb(ImageOps.exif_transpose(image))
        return np.asarray(upright.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))


def derive(data: bytes) -> Derived:
    """Resized copy and thumbnail from one decode.

    Raises:
        BadImage: As `verify`.
    """
    with _opened(data) as image:
        info = _info(image)
        large = max(info.width, info.height) > RESIZED_SIDE
        side = RESIZED_SIDE if large else THUMBNAIL_SIDE
        scale = min(1.0, side / max(info.width, info.height))
        turned = _quarter_turned(image)
        target = (max(1, round(info.width * scale)), max(1, round(info.height * scale)))
        _draft(image, *(target[::-1] if turned else target))
        with _decoding(image):
            upright = _rgb(ImageOps.exif_transpose(image))
        shown = _within(upright, RESIZED_SIDE) if large else upright
        return Derived(info, _jpeg(shown, 90) if large else None, _jpeg(_within(shown, THUMBNAIL_SIDE), 85))


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadImage("dimensions", f"The image has more than {MAX_SIDE} × {MAX_SIDE} pixels.") from None
    except Exception:  # Pillow's plugins raise many kinds on hostile headers
        raise BadImage("format", f"This is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image.") from None
    with image:
        yield image


def _info(image: Image.Image) -> ImageInfo:
    width, height = image.size
    if _quarter_turned(image):
        width, height = height, width
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise BadImage("dimensions", f"The image has {width} × {height} pixels; each side may have 1 to {MAX_SIDE}.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImage("aspect", f"The image is {width} × {height}; one side may be {MAX_ASPECT:g} times the other.")
    return ImageInfo(width, height, str(image.format))


def _quarter_turned(image: Image.Image) -> bool:
    if image.format == "JPEG" and "exif" not in image.info and "xmp" not in image.info:
        return False  # what looking for an orientation would find, without building anything
    try:
        return image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
    except Exception:  # damaged EXIF says nothing about the orientation
        return False


def _draft(image: Image.Image, width: int, height: int) -> None:
    # Twice the target keeps the bilinear reduction that follows sharp; only JPEG can decode at a scale.
    image.draft("RGB", (2 * width, 2 * height))


@contextmanager
def _decoding(image: Image.Image) -> Iterator[None]:
    with _BUDGET.spend(image.size[0] * image.size[1]):
        try:
            yield
        except MemoryError:
            raise
        except Exception:
            raise BadImage("truncated", "The image ends early or is damaged.") from None


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:  # a channel, or in PNG and GIF one colour that stands for none
        picture = image.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(ground, picture).convert("RGB")
    if image.mode.startswith("I"):  # 16-bit grey: scale instead of clip
        grey = np.asarray(image).astype(np.float32)
        return Image.fromarray((grey / 257.0).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _within(image: Image.Image, side: int) -> Image.Image:
    smaller = image.copy()
    smaller.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return smaller


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
