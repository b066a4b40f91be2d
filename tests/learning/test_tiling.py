from itertools import pairwise

import numpy as np
import pytest

from ownvision.learning.tiling import KEY, Tiling, plan, read, starts


def boxes(side: float, count: int = 50) -> np.ndarray:
    places = np.random.default_rng(0).uniform(0, 1 - side, (count, 2))
    return np.column_stack([places, np.full((count, 2), side)]).astype(np.float32)


@pytest.mark.parametrize(("length", "overlap"), [(320, 80), (321, 80), (1_000, 64), (1_440, 128), (1_441, 48)])
def test_tiles_cover_a_length_and_overlap(length: int, overlap: int) -> None:
    found = starts(length, 320, overlap)
    assert (found[0], found[-1]) == (0, length - 320)
    assert all(320 - (after - before) >= overlap - 1 for before, after in pairwise(found))


@pytest.mark.parametrize(
    ("side", "size", "tiled"),
    [(0.3, 1_000, False), (0.08, 1_000, False), (0.03, 1_000, True), (0.01, 4_000, True), (0.03, 240, False)],
    ids=["large", "large enough", "small", "tiny", "a picture without detail"],
)
def test_small_objects_are_looked_at_in_tiles(side: float, size: int, tiled: bool) -> None:
    found = plan(boxes(side), [(size, size)] * 3, 320)
    assert (found is not None) == tiled
    if found is not None:
        assert len(found.tiles(320)) <= 64
        assert not found.whole
        assert side * found.width > 14


def test_tiles_are_square_in_a_wide_picture() -> None:
    found = plan(boxes(0.03), [(2_000, 1_000)], 320)
    assert found is not None
    assert found.width / found.height == pytest.approx(2, abs=0.02)


def test_large_objects_beside_small_ones_are_looked_for_in_the_whole_picture() -> None:
    found = plan(np.concatenate([boxes(0.03), boxes(0.5)]), [(1_000, 1_000)], 320)
    assert found is not None
    assert found.whole


@pytest.mark.parametrize(("values", "sizes"), [(np.empty((0, 4), np.float32), [(100, 100)]), (boxes(0.01), [])])
def test_nothing_to_learn_from_is_not_tiled(values: np.ndarray, sizes: list[tuple[int, int]]) -> None:
    assert plan(values, sizes, 320) is None


@pytest.mark.parametrize("whole", [False, True])
def test_every_object_up_to_the_overlap_is_seen_whole_by_exactly_one_tile(whole: bool) -> None:
    tiling = Tiling(1_000, 700, 90, whole)
    rng = np.random.default_rng(1)
    for _ in range(300):
        width, height = rng.uniform(5, 80, 2)
        left, top = rng.uniform(0, 1_000 - width), rng.uniform(0, 700 - height)
        owners = []
        for tile in tiling.tiles(320):
            # As a network would find it: only what lies within the tile.
            low = np.clip([left - tile[0], top - tile[1]], 0, 320)
            high = np.clip([left + width - tile[0], top + height - tile[1]], 0, 320)
            if (high - low).min() <= 0:
                continue
            box = np.array([[*low, *(high - low)]], np.float32) / 320
            if tiling.owned(box, tile, 320)[0]:
                owners.append(np.allclose(high - low, [width, height], atol=0.01))
        assert owners == [True]


def test_a_plan_stands_in_the_metadata() -> None:
    tiling = Tiling(1_000, 700, 90, whole=True)
    assert read({KEY: tiling.text()}) == tiling
    assert read({}) is None
