"""Searches of detectors that learn for three steps: the rules of what is better, and that the hold-out is kept to."""

from dataclasses import replace

import numpy as np
import pytest

from ownvision.learning import search_detector
from ownvision.learning.detect import DetectorFit
from ownvision.learning.evaluate import Detections
from ownvision.learning.search_detector import Task
from tests.learning.test_detect import SCENES, SIZE, TAG_IDS, fit, predict

pytestmark = pytest.mark.slow

TASK = Task(SCENES, TAG_IDS, predict, "efficientnet_lite0", options={"steps": 3, "input_size": SIZE})
HELD = list(range(10))


def answers(right: int, shift: float = 0.0) -> list[Detections]:
    """Of the first ten scenes: the truth of so many, moved by a share of the picture, and nothing of the others."""
    found = []
    for row in HELD:
        example = SCENES[row]
        kept = len(example.tags) if row < right else 0
        boxes = example.boxes[:kept] + np.array([shift, 0, 0, 0], np.float32)
        found.append(Detections(boxes, np.full(kept, 0.9, np.float32), example.tags[:kept]))
    return found


@pytest.mark.parametrize(
    ("old", "new", "better"),
    [
        (answers(2), answers(9), True),
        (answers(9), answers(2), False),
        (answers(9), answers(9), False),
        (answers(10, shift=0.06), answers(10), True),  # the same at half an overlap, tighter at three quarters
    ],
    ids=["more found", "less found", "the same", "tighter"],
)
def test_a_detector_is_better_by_more_than_chance(old: list[Detections], new: list[Detections], better: bool) -> None:
    quick = DetectorFit(b"", HELD, old, [])
    shop = search_detector._Workshop(TASK, quick, 1.0)
    first = search_detector._Best(quick, shop.first)
    assert shop.better(first, replace(first, fit=replace(quick, predictions=new))) is better


def test_a_search_ends_with_no_detector_that_is_worse_on_the_hold_out() -> None:
    pytest.importorskip("torch")
    quick = fit(SCENES, steps=3)
    best, trials = search_detector.improve(TASK, quick, quick_seconds=0.1, seconds=5.0)
    assert trials[0].what == "quick training"
    assert [trial.what for trial in trials][1] == "pictures neither scaled nor joined to mosaics"
    assert trials[1].score is not None
    assert best.held_out == quick.held_out
    chosen = next(trial for trial in trials if trial.chosen)
    assert chosen.score is not None
    assert chosen.score >= (trials[0].score or 0.0)
    assert predict(best.model, [SCENES[0].read()])
