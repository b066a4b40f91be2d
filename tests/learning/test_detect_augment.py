from dataclasses import replace

import numpy as np
import pytest

from ownvision.learning.augment import Scene, Variation, variation, vary
from ownvision.learning.tiling import Tiling

GREEN = (0, 255, 0)


def scene(left: float, top: float, right: float, bottom: float, tag: int = 0) -> Scene:
    """A green rectangle on black."""
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[round(top * 200) : round(bottom * 200), round(left * 200) : round(right * 200)] = GREEN
    return pixels, np.array([[left, top, right, bottom]], np.float32), np.array([tag], np.int64)


@pytest.mark.parametrize(
    "how",
    [
        Variation((0.6, 1.6), 1.3, moves=True, flips=True, colour=0.0, mosaic=0.0),
        Variation((0.5, 0.5), 1.0, moves=True, flips=False, colour=0.0, mosaic=0.0),
        Variation((1.8, 1.8), 1.0, moves=False, flips=True, colour=0.0, mosaic=0.0),
    ],
    ids=["all", "smaller", "larger"],
)
def test_boxes_follow_the_pixels(how: Variation) -> None:
    for number in range(40):
        rng = np.random.default_rng(number)
        pixels, boxes, tags = vary(0, lambda _: scene(0.3, 0.4, 0.5, 0.8, tag=3), 1, 160, how, rng)
        assert pixels.shape == (160, 160, 3)
        green = (pixels[..., 1] > 127) & (pixels[..., 0] < 60)
        if len(boxes):
            rows, columns = np.nonzero(green)
            seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 160
            assert np.abs(boxes[0] - seen).max() <= 2.5 / 160
            assert tags.tolist() == [3]
        else:
            # Next to nothing of it is left where its box was dropped.
            assert green.mean() < 0.2


def test_a_mosaic_holds_four_pictures() -> None:
    how = Variation((1.0, 1.0), 1.0, moves=False, flips=False, colour=0.0, mosaic=1.0)
    pictures = [scene(0.25, 0.25, 0.75, 0.75, tag) for tag in range(4)]
    pixels, boxes, tags = vary(2, pictures.__getitem__, 4, 160, how, np.random.default_rng(0))
    assert len(boxes) == 4
    assert tags[0] == 2
    for left, top, right, bottom in np.rint(boxes * 160).astype(int):
        assert pixels[top + 2 : bottom - 2, left + 2 : right - 2, 1].min() > 200


def test_background_stays_background() -> None:
    black = (np.zeros((50, 50, 3), np.uint8), np.empty((0, 4), np.float32), np.empty(0, np.int64))
    pixels, boxes, tags = vary(0, lambda _: black, 1, 64, variation({}, final=False), np.random.default_rng(0))
    assert pixels.shape == (64, 64, 3)
    assert (boxes.shape, tags.shape) == ((0, 4), (0,))


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [
        ("scaling", "zoom", (1.0, 1.0)),
        ("scaling", "mosaic", 0.0),
        ("translation", "moves", False),
        ("horizontal flip", "flips", False),
        ("equalize", "colour", 0.0),
        ("solarize", "solarize", 0.0),
    ],
)
def test_a_method_switched_off_does_nothing(method: str, field: str, value: object) -> None:
    assert getattr(variation({method: False}, final=False), field) == value
    assert getattr(variation({method: True}, final=False), field) != value


def test_everything_off_is_the_plain_picture() -> None:
    off = dict.fromkeys(("scaling", "translation", "horizontal flip", "equalize", "solarize"), False)
    picture = scene(0.1, 0.2, 0.6, 0.9)
    pixels, boxes, _ = vary(0, lambda _: picture, 1, 200, variation(off, final=False), np.random.default_rng(0))
    assert np.array_equal(pixels, picture[0])
    assert np.allclose(boxes, picture[1])


def test_chance_comes_from_the_generator_alone() -> None:
    how = variation({}, final=False)
    first, second = (
        vary(0, lambda _: scene(0.2, 0.2, 0.5, 0.6), 1, 96, how, np.random.default_rng(5)) for _ in range(2)
    )
    for part in range(3):
        assert np.array_equal(first[part], second[part])


def test_windows_on_tiles_show_objects_at_the_size_they_are_served_in() -> None:
    tiles = Tiling(800, 400, 30, whole=False)
    how = replace(
        variation(dict.fromkeys(["scaling", "equalize", "solarize"], False), final=True, tiles=tiles, side=160)
    )
    seen = []
    for number in range(30):
        rng = np.random.default_rng(number)
        pixels, boxes, _ = vary(0, lambda _: scene(0.7, 0.6, 0.75, 0.7), 1, 160, how, rng)
        green = (pixels[..., 1] > 127) & (pixels[..., 0] < 60)
        assert len(boxes) == 1 or green.mean() < 0.05
        seen += [((box[2:] - box[:2]) * 160).tolist() for box in boxes if box.min() > 0 and box.max() < 1]
    # Most windows are placed on the object, whole: 5 % of 800 pixels by 10 % of 400.
    assert len(seen) >= 15
    assert np.allclose(seen, 40, atol=0.01)


def test_tiles_of_a_mosaic_keep_that_size() -> None:
    off = dict.fromkeys(["scaling", "equalize", "solarize"], False)
    how = replace(variation(off, final=True, tiles=Tiling(320, 320, 30, whole=False), side=160), mosaic=1.0)
    sides = []
    for number in range(10):
        _, boxes, _ = vary(0, lambda _: scene(0.45, 0.45, 0.55, 0.55), 1, 160, how, np.random.default_rng(number))
        sides += [(box[2:] - box[:2]) * 160 for box in boxes]
    assert np.median(np.array(sides)) == pytest.approx(32, abs=0.5)
