import io
import itertools
import runpy
import struct
import threading
import zlib
from contextlib import AbstractContextManager
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from ownvision.learning import pixels

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def halves(width: int = 64, height: int = 32) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def turned(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "JPEG", exif=exif, quality=95)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.mark.parametrize("format", pixels.FORMATS)
def test_every_format_is_read(format: str) -> None:
    data = encoded(halves(), format)
    assert pixels.verify(data) == pixels.ImageInfo(64, 32, format)
    assert pixels.load(data, 20, 10).shape == (20, 10, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "format"),
        (b"<svg/>", "format"),
        (encoded(halves(), "TIFF"), "format"),
        (encoded(halves(), "WEBP"), "format"),
        (png_header(10_241, 10), "dimensions"),
        (png_header(60_000, 60_000), "dimensions"),
        (png_header(12_000, 12_000), "dimensions"),
        (encoded(Image.new("L", (26, 1))), "aspect"),
        (encoded(Image.effect_noise((200, 200), 50))[:-4000], "truncated"),
        (encoded(Image.effect_noise((200, 200), 50), "JPEG")[:4000], "truncated"),
    ],
    ids=["empty", "svg", "tiff", "webp", "wide", "bomb", "large", "aspect", "png ends early", "jpeg ends early"],
)
def test_bad_images_are_refused_with_the_reason(data: bytes, reason: str) -> None:
    for read in (pixels.verify, pixels.derive, lambda one: pixels.load(one, 8, 8)):
        with pytest.raises(pixels.BadImage) as caught:
            read(data)
        assert caught.value.reason == reason


def test_sides_at_the_limits_are_taken() -> None:
    assert pixels.inspect(png_header(10_240, 10_240)).width == 10_240
    assert pixels.inspect(encoded(Image.new("L", (25, 1)))).height == 1


@pytest.mark.parametrize(
    ("orientation", "size", "red_at"),
    [(1, (64, 32), "left"), (3, (64, 32), "right"), (6, (32, 64), "top"), (8, (32, 64), "bottom")],
)
def test_size_and_pixels_are_of_the_upright_picture(orientation: int, size: tuple[int, int], red_at: str) -> None:
    data = turned(halves(), orientation)
    info = pixels.inspect(data)
    rgb = pixels.load(data, 8, 8)
    corner = {"left": rgb[4, 0], "right": rgb[4, -1], "top": rgb[0, 4], "bottom": rgb[-1, 4]}[red_at]
    assert (info.width, info.height) == size
    assert corner[0] > 200
    assert corner[2] < 60


def _palette_with_transparency() -> bytes:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    return encoded(image, "PNG", transparency=0)


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0))), WHITE),
        (encoded(Image.new("LA", (8, 8), (0, 0))), WHITE),
        (_palette_with_transparency(), WHITE),
        (encoded(Image.new("RGB", (8, 8), RED), transparency=RED), WHITE),
        (encoded(Image.new("RGBA", (8, 8), (*RED, 255))), RED),
        (encoded(Image.new("1", (8, 8), 1)), WHITE),
        (encoded(Image.new("I;16", (8, 8), 65_535)), WHITE),
        (encoded(Image.new("I;16", (8, 8), 257 * 100)), (100, 100, 100)),
        (encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG"), WHITE),
    ],
    ids=["rgba", "la", "palette", "colour key", "opaque", "bilevel", "grey 16", "grey 16 dim", "cmyk"],
)
def test_every_mode_becomes_rgb_over_white(data: bytes, colour: tuple[int, int, int]) -> None:
    assert np.abs(pixels.load(data, 4, 4).astype(int) - colour).max() <= 1


def _written(mode: str, format: str, orientation: int, size: tuple[int, int]) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 4)).astype(np.uint8)
    image = Image.fromarray(noise).resize(size)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image if mode == "I;16" else image.convert(mode), format, exif=exif)


SIDEWAYS_AND_LARGE = list(itertools.product(range(1, 9), ((900, 600), (90, 130))))


@pytest.mark.parametrize(("orientation", "size"), SIDEWAYS_AND_LARGE)
@pytest.mark.parametrize(
    ("mode", "format"),
    [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("I;16", "PNG")],
)
def test_the_exported_program_sees_the_same_pixels(
    mode: str, format: str, orientation: int, size: tuple[int, int], tmp_path: Path
) -> None:
    program = runpy.run_path(str(files("ownvision.exporters") / "onnx_files" / "predict.py"))
    picture = tmp_path / "picture"
    picture.write_bytes(_written(mode, format, orientation, size))
    for height, width in ((224, 224), (48, 80)):
        assert np.array_equal(pixels.load(picture.read_bytes(), height, width), program["load"](picture, height, width))


def test_of_an_animation_the_first_picture_counts() -> None:
    data = encoded(Image.new("RGB", (8, 8), RED), "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8), BLUE)])
    assert tuple(pixels.load(data, 2, 2)[0, 0]) == RED


def test_reducing_does_not_alias() -> None:
    stripes = np.zeros((512, 512), np.uint8)
    stripes[:, ::2] = 255
    rgb = pixels.load(encoded(Image.fromarray(stripes)), 16, 16)
    assert np.abs(rgb.astype(int) - 127).max() <= 3


def test_derived_pictures_have_their_sides_and_no_exif() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    made = pixels.derive(encoded(halves(3200, 1000), "JPEG", exif=exif))
    assert made.resized is not None
    for data, size in ((made.resized, (500, 1600)), (made.thumbnail, (80, 256))):
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == size
            assert not image.getexif()
    assert (made.info.width, made.info.height) == (1000, 3200)
    assert pixels.derive(encoded(halves(1600, 900))).resized is None


def test_a_picture_larger_than_the_budget_runs_alone() -> None:
    budget = pixels._Budget(10)
    entered, second = threading.Event(), threading.Event()

    def small() -> None:
        entered.set()
        with budget.spend(1):
            second.set()

    with budget.spend(1_000):
        thread = threading.Thread(target=small)
        thread.start()
        entered.wait(5)
        assert not second.is_set()
    thread.join(5)
    assert second.is_set()


def _progressive(width: int, height: int) -> bytes:
    return encoded(Image.new("RGB", (width, height), RED), "JPEG", progressive=True)


def _oriented_png(width: int, height: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.new("RGB", (width, height), RED), "PNG", exif=exif)


@pytest.mark.parametrize("data", [_progressive(6000, 6000), _oriented_png(6000, 6000)], ids=["progressive", "png"])
@pytest.mark.parametrize("read", ["verify", "derive", "load"])
def test_memory_is_asked_for_before_it_is_taken(read: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a progressive JPEG or a turned PNG really takes is 36 million pixels of at least 4 bytes."""
    asked: list[int] = []
    spend = pixels._Budget.spend

    def listening(self: pixels._Budget, size: int) -> AbstractContextManager[None]:
        asked.append(size)
        return spend(self, size)

    monkeypatch.setattr(pixels._Budget, "spend", listening)
    {"verify": pixels.verify, "derive": pixels.derive, "load": lambda one: pixels.load(one, 224, 224)}[read](data)
    assert max(asked) >= 4 * 6000 * 6000


def test_a_pngs_sides_are_checked_before_its_orientation_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _oriented_png(30_000, 10)
    monkeypatch.setattr(PngImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(pixels.BadImage) as caught:
        pixels.inspect(data)
    assert caught.value.reason == "dimensions"
