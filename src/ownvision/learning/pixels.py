"""Decode, orient, resize: the only preprocessing there is.

Embedding, training, serving and the exported `predict.py` all turn a file into pixels exactly this way: EXIF
orientation applied, transparency over white, a plain stretch to the network's size.
"""

import io
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile

PIXELS_VERSION = "1"
FORMATS = ("JPEG", "PNG", "GIF", "BMP")
MAX_SIDE = 10_240
MAX_ASPECT = 25.0
THUMBNAIL_SIDE = 256
RESIZED_SIDE = 1_600
# What decoding may hold in memory at once, whatever the number of threads. A picture that needs more runs alone.
BYTES_IN_FLIGHT = 160_000_000
_ORIENTATION = 0x0112
_ORIENTED = frozenset(("exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp"))  # where Pillow looks for one
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTERS = {_TURNS[value] for value in (5, 6, 7, 8)}
_FROM_THE_END = {_TURNS[value] for value in (3, 4, 7, 8)}  # their first rows are the file's last rows or columns
# Pictures become upright and RGB by strips of about so many pixels, so that no whole copy of one is made.
_STRIP = 1 << 18
_STRIP_BYTES = 20  # of a pixel in a strip: as cropped, with alpha, the ground, both together, RGB

# The header is checked against MAX_SIDE before anything is decoded; Pillow's own guard stands behind it. Its warning is
# made an error once, here: `catch_warnings` around each picture would not be safe with threads.
Image.MAX_IMAGE_PIXELS = MAX_SIDE * MAX_SIDE
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# Texts are unpacked on opening, 64 MB of them from a file of 64 kB.
PngImagePlugin.MAX_TEXT_MEMORY = 8 << 20

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
    """Lets pictures be decoded while what they need fits; one alone may always run, however large."""

    def __init__(self, total: int) -> None:
        self._free = self._total = total
        self._changed = threading.Condition()
        self._first = threading.Lock()

    @contextmanager
    def spend(self, size: int) -> Iterator[None]:
        share = min(size, self._total)
        with self._first, self._changed:  # one waits, the others behind it: else small ones would starve a large one
            self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()


_BUDGET = _Budget(BYTES_IN_FLIGHT)


def inspect(data: bytes) -> ImageInfo:
    """What the header says, checked against the limits.

    Nothing is decoded, unless a PNG says behind its pixels how it is turned.

    Raises:
        BadImage: It is none of `FORMATS`, or its sides or their ratio are beyond the limits.
    """
    with _opened(data) as image:
        if _oriented_behind(image, data):
            with _decoding(_stored(image)):
                image.load()
        return _info(image, image.size)


def verify(data: bytes) -> ImageInfo:
    """As `inspect`, and decode it once to see that it is whole.

    Raises:
        BadImage: As `inspect`, or the file ends early or is damaged.
    """
    with _opened(data) as image:
        size, coefficients = image.size, _coefficients(image, data)
        _draft(image, 64, 64)  # reads the whole stream, transforms an eighth of it
        with _decoding(coefficients + _stored(image)):
            image.load()
        return _info(image, size)


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
        coefficients = _coefficients(image, data)
        if isinstance(image, JpegImageFile):
            _draft(image, *((height, width) if _turn(image) in _QUARTERS else (width, height)))
        with _decoding(_stored(image) + max(coefficients, _fitting(image, (width, height)))):
            image.load()
            return np.asarray(_fitted(image, (width, height)))


def resized(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Pixels uint8 [H, W, 3] stretched to a size, as `load` stretches a file's."""
    shown = Image.fromarray(np.ascontiguousarray(rgb)).resize(
        (width, height), Image.Resampling.BILINEAR, reducing_gap=2.0
    )
    return np.asarray(shown)


def derive(data: bytes) -> Derived:
    """Resized copy and thumbnail from one decode.

    Raises:
        BadImage: As `verify`.
    """
    with _opened(data) as image:
        size, coefficients = image.size, _coefficients(image, data)
        large = max(size) > RESIZED_SIDE
        side = RESIZED_SIDE if large else THUMBNAIL_SIDE
        scale = min(1.0, side / max(size))
        _draft(image, max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        with _decoding(_stored(image) + max(coefficients, _fitting(image, _within(image.size, side)))):
            image.load()
            shown = _fitted(image, _within(_upright(image, image.size), side))
            if not large:
                return Derived(_info(image, size), None, _jpeg(shown, 85))
            thumbnail = shown.resize(_within(shown.size, THUMBNAIL_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
            return Derived(_info(image, size), _jpeg(shown, 90), _jpeg(thumbnail, 85))


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    try:
        image = _open(data)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadImage("dimensions", f"The image has more than {MAX_SIDE} × {MAX_SIDE} pixels.") from None
    except Exception:  # Pillow's plugins raise many kinds on hostile headers
        raise BadImage("format", f"This is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image.") from None
    with image:
        _check_sides(*image.size)
        yield image


def _open(data: bytes) -> Image.Image:
    if not data.startswith(b"GIF"):
        return Image.open(io.BytesIO(data), formats=FORMATS)
    # Of an animation Pillow makes at once what follows the first picture, which nobody wants.
    with _BUDGET.spend(MAX_SIDE * MAX_SIDE):
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if isinstance(image, GifImageFile):
            image.dispose = None
        return image


def _check_sides(width: int, height: int) -> None:
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise BadImage("dimensions", f"The image has {width} × {height} pixels; each side may have 1 to {MAX_SIDE}.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImage("aspect", f"The image is {width} × {height}; one side may be {MAX_ASPECT:g} times the other.")


def _info(image: Image.Image, size: tuple[int, int]) -> ImageInfo:
    return ImageInfo(*_upright(image, size), str(image.format))


def _upright(image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    return (size[1], size[0]) if _turn(image) in _QUARTERS else size


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes the picture upright; of a PNG only once it is loaded."""
    if not _ORIENTED & image.info.keys():
        return None  # what looking for an orientation would find, without building anything
    try:
        # Not PngImageFile's own, which decodes the picture.
        return _TURNS.get(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing about the orientation
        return None


def _oriented_behind(image: Image.Image, data: bytes) -> bool:
    places = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
    return image.format == "PNG" and "exif" not in image.info and any(place in data for place in places)


def _draft(image: Image.Image, width: int, height: int) -> None:
    # Twice the target keeps the bilinear reduction that follows sharp; only JPEG can decode at a scale.
    image.draft("RGB", (2 * width, 2 * height))


@contextmanager
def _decoding(need: int) -> Iterator[None]:
    with _BUDGET.spend(need):
        try:
            yield
        except MemoryError:
            raise
        except Exception:
            raise BadImage("truncated", "The image ends early or is damaged.") from None


def _stored(image: Image.Image) -> int:
    """Bytes of the picture as it is decoded."""
    pixel = {"1": 1, "L": 1, "P": 1, "I;16": 2}.get(image.mode, 4)
    if any(tile.codec_name == "bmp_rle" for tile in getattr(image, "tile", ())):
        pixel += 3  # unpacked in Python before
    return pixel * image.width * image.height


def _coefficients(image: Image.Image, data: bytes) -> int:
    """Bytes that libjpeg holds beside the picture: all of it, at full size, where it comes in several scans."""
    if not isinstance(image, JpegImageFile) or _in_one_scan(data, len(image.getbands())):
        return 0
    return 2 * len(image.getbands()) * image.width * image.height


def _in_one_scan(data: bytes, components: int) -> bool:
    """Whether a JPEG's only scan holds it all; what is unclear counts as several."""
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return data[at + 4] == components
        if marker in (0xC2, 0xC6, 0xCA, 0xCE) or not (0xC0 <= marker < 0xD0 or 0xDA < marker < 0xFF):
            return False  # progressive, or a marker without a length
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _fitting(image: Image.Image, size: tuple[int, int]) -> int:
    """Bytes that `_fitted` takes beside the picture, whichever way it is turned."""
    # Of a PNG that isn't loaded it isn't known whether it is turned.
    whole = image.format != "PNG" and _is_ready(image)
    return max(_fitting_upright(one, size, whole) for one in (image.size, (image.height, image.width)))


def _fitting_upright(source: tuple[int, int], size: tuple[int, int], whole: bool) -> int:
    across, down = _reduction(source, size)
    width, height = math.ceil(source[0] / across), math.ceil(source[1] / down)
    reduced = 0 if whole and across == down == 1 else 4 * width * height
    strip = 0 if whole else _STRIP_BYTES * source[0] * min(_rows(source[0], down), source[1])
    return reduced + strip + 4 * size[0] * (height + size[1])


def _is_ready(image: Image.Image) -> bool:
    return image.mode == "RGB" and not image.has_transparency_data and _turn(image) is None


def _fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A loaded picture upright, RGB over white, in a size: as if it was turned, converted and resized whole."""
    if _is_ready(image):
        return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    width, height = _upright(image, image.size)
    across, down = _reduction((width, height), size)
    rows = _rows(width, down)
    reduced = Image.new("RGB", (math.ceil(width / across), math.ceil(height / down)))
    for top in range(0, height, rows):
        strip = _rgb(_strip(image, top, min(top + rows, height)))
        reduced.paste(strip.reduce((across, down)), (0, top // down))
    return reduced.resize(size, Image.Resampling.BILINEAR, box=(0, 0, width / across, height / down))


def _reduction(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """By how much `Image.resize` reduces before it interpolates, with a `reducing_gap` of 2."""
    return int(source[0] / size[0] / 2.0) or 1, int(source[1] / size[1] / 2.0) or 1


def _rows(width: int, down: int) -> int:
    """Rows of a strip: whole rows of what is reduced."""
    return max(1, _STRIP // (width * down)) * down


def _strip(image: Image.Image, top: int, bottom: int) -> Image.Image:
    """Rows of the upright picture."""
    turn = _turn(image)
    sideways = turn in _QUARTERS
    if turn in _FROM_THE_END:
        length = image.width if sideways else image.height
        top, bottom = length - bottom, length - top
    part = image.crop((top, 0, bottom, image.height) if sideways else (0, top, image.width, bottom))
    return part if turn is None else part.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:  # a channel, or in PNG and GIF one colour that stands for none
        picture = image.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(ground, picture).convert("RGB")
    if image.mode.startswith("I"):  # 16-bit grey: scale instead of clip
        grey = np.asarray(image).astype(np.float32)
        return Image.fromarray((grey / 257.0).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size that `Image.thumbnail` gives a picture."""
    width, height = size
    if max(size) <= side:
        return size
    aspect = width / height
    if aspect <= 1:
        return _rounded(side * aspect, lambda one: abs(aspect - one / side)), side
    return side, _rounded(side / aspect, lambda one: abs(aspect - side / one) if one else 0.0)


def _rounded(value: float, error: Callable[[int], float]) -> int:
    return max(1, min(math.floor(value), math.ceil(value), key=error))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, comment=b"")  # else Pillow carries an original's comment over
    return buffer.getvalue()
