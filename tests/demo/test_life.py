"""The demo's own measures and pictures."""

import io

import pytest
from PIL import Image

from ownvision.demo.life import average_precision, overlap
from ownvision.demo.pictures import SCENE, SCENE_DIGITS, Box, digits, scenes, split

pytestmark = pytest.mark.slow

LEFT, RIGHT = Box("a", 0, 0, 0.4, 0.4), Box("a", 0.5, 0, 0.4, 0.4)


@pytest.mark.parametrize(
    ("other", "expected"),
    [(LEFT, 1.0), (RIGHT, 0.0), (Box("a", 0.2, 0, 0.4, 0.4), 1 / 3), (Box("a", 0, 0, 0.2, 0.2), 0.25)],
)
def test_overlap_is_intersection_over_union(other: Box, expected: float) -> None:
    assert overlap(LEFT, other) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(0.9, 0, LEFT), (0.8, 0, RIGHT)], 1.0),
        ([(0.9, 0, LEFT)], 0.5),
        ([(0.9, 1, LEFT), (0.8, 0, LEFT), (0.7, 0, RIGHT)], 2 / 3),  # a false one first
        ([(0.9, 0, LEFT), (0.8, 0, LEFT), (0.7, 0, RIGHT)], (1 + 2 / 3) / 2),  # the same one twice
        ([], 0.0),
    ],
)
def test_average_precision_is_the_area_under_the_curve(found: list[tuple[float, int, Box]], expected: float) -> None:
    assert average_precision(found, [[LEFT, RIGHT], []]) == pytest.approx(expected)


def test_digits_are_pictures_with_ten_tags() -> None:
    train, test = split(digits(), 500)
    assert (len(train), len(test)) == (1297, 500)
    assert {picture.tag for picture in test} == {str(digit) for digit in range(10)}


def test_scenes_hold_every_digit_at_least_fifteen_times_and_none_over_another() -> None:
    made = scenes(20, seed=0)
    for picture in made:
        assert Image.open(io.BytesIO(picture.data)).size == SCENE
        for place, box in enumerate(picture.boxes):
            assert 0 <= box.left <= box.left + box.width <= 1
            assert all(overlap(box, other) == 0 for other in picture.boxes[place + 1 :])
    for digit in SCENE_DIGITS:
        assert sum(any(box.tag == str(digit) for box in picture.boxes) for picture in made) >= 15
    assert scenes(1, seed=0) == made[:1]
