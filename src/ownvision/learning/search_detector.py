"""What Advanced training tries for a detector, and how it tells whether that is better.

Every candidate is a whole training (`detect.fit`) with one thing changed from the best so far, measured on the hold-out
that quick training was measured on. It counts as better only where mAP@50 is no worse and the mean of mAP@50 and mAP@75
is better by more than a standard error of the difference (delete-a-group jackknife over images: Wolter 2007, ch. 4).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ownvision.learning import detect, evaluate
from ownvision.learning.curve import Point
from ownvision.learning.detect import DetectorFit, Example, Predict
from ownvision.learning.evaluate import Detections
from ownvision.learning.search import Candidate, NotFitting, Rules, Trial, search

_GROUPS = 10
# What a step costs more on another backbone than on the smallest.
_BACKBONE_COST = {"efficientnet_lite0": 1.0, "efficientnet_lite2": 1.7}
_NO_GAIN = 0.995


@dataclass(frozen=True)
class Task:
    """What is to be learned.

    Attributes:
        examples: As `detect.fit` takes them.
        tag_ids: One per tag.
        predict: As `detect.fit` takes it.
        backbone: A name of `BACKBONES`.
        others: Names of further backbones that may be tried.
        tiles: Whether small objects may have pictures looked at in tiles.
        augmentation: The original's names of methods; None for all.
        options: What every training gets besides, by the names of `detect.fit`'s arguments.
    """

    examples: Sequence[Example]
    tag_ids: Sequence[str]
    predict: Predict
    backbone: str
    others: Sequence[str] = ()
    tiles: bool = True
    augmentation: Mapping[str, bool] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Way:
    """How a detector is trained; `share`: of quick training's steps."""

    backbone: str
    size: int = detect.INPUT_SIZE
    share: float = 1.0
    augmentation: Mapping[str, bool] | None = None
    seed: int = 0

    @property
    def cost(self) -> float:
        """Of this training, relative to quick training on the smallest backbone."""
        return self.share * (self.size / detect.INPUT_SIZE) ** 2 * _BACKBONE_COST.get(self.backbone, 2.0)


@dataclass(frozen=True)
class _Best:
    fit: DetectorFit
    way: _Way


def improve(
    task: Task,
    quick: DetectorFit,
    *,
    quick_seconds: float,
    seconds: float,
    report: Callable[[float], None] = lambda _: None,
    watch: Callable[[Point], None] = lambda _: None,
) -> tuple[DetectorFit, list[Trial]]:
    """Search for a better detector than quick training's.

    Args:
        task: What is to be learned.
        quick: Its quick training.
        quick_seconds: What that took.
        seconds: The budget.
        report: As `search.search`.
        watch: As `search.search`.

    Returns:
        The best, and what was tried.
    """
    shop = _Workshop(task, quick, quick_seconds)
    rules = Rules[_Best](shop.score, shop.better, shop.perfect)
    begin = _Best(quick, shop.first)
    best, trials = search(begin, _candidates(shop), rules, seconds=seconds, report=report, watch=watch)
    return best.fit, trials


def _candidates(shop: "_Workshop") -> list[Candidate[_Best]]:
    mild = {**(shop.task.augmentation or {}), "scaling": False}
    changes: list[tuple[str, str, Mapping[str, Any]]] = [
        ("pictures neither scaled nor joined to mosaics", "variation", {"augmentation": mild}),
        ("twice the steps", "steps", {"share": 2.0}),
        ("input of 416 px", "input size", {"size": 416}),
        *((f"backbone {other}", "backbone", {"backbone": other}) for other in shop.task.others),
        ("three times the steps", "steps", {"share": 3.0}),
        ("input of 512 px", "input size", {"size": 512}),
        ("another order", "order", {"seed": 1}),
        ("five times the steps", "steps", {"share": 5.0}),
    ]
    return [
        Candidate(what, family, partial(shop.time_of, change), partial(shop.trained, change))
        for what, family, change in changes
    ]


class _Workshop:
    """Trains candidates of a task, and compares them."""

    def __init__(self, task: Task, quick: DetectorFit, quick_seconds: float) -> None:
        self.task, self.first = task, _Way(task.backbone, augmentation=task.augmentation)
        self._seconds = quick_seconds / self.first.cost
        self._steps = sum(detect.schedule(len(task.examples) - len(quick.held_out)))
        self._truth = [_truth(task.examples[row]) for row in quick.held_out]
        self._groups = np.arange(len(self._truth)) % _GROUPS

    def score(self, best: _Best) -> float:
        """mAP@50 on the hold-out."""
        return self._precision(best.fit.predictions, self._truth, 0.5)

    def perfect(self, best: _Best) -> bool:
        """Whether nothing is left to gain on the hold-out."""
        return not self._truth or self._mean(best.fit.predictions, self._truth) >= _NO_GAIN

    def better(self, old: _Best, new: _Best) -> bool:
        """Whether mAP@50 is no worse, and its mean with mAP@75 better by more than a standard error."""
        gain = self._gain(old, new, np.ones(len(self._truth), bool))
        groups = np.unique(self._groups)
        without = np.array([self._gain(old, new, self._groups != group) for group in groups])
        spread = float(np.sqrt((len(groups) - 1) / len(groups) * ((without - without.mean()) ** 2).sum()))
        return self.score(new) >= self.score(old) and len(groups) > 1 and gain > spread

    def time_of(self, change: Mapping[str, Any], best: _Best, _: float) -> float:
        """Seconds that a training will take, by the one that is known."""
        return self._seconds * replace(best.way, **change).cost

    def trained(self, change: Mapping[str, Any], best: _Best, check: Callable[[], None]) -> _Best:
        """A whole training with something changed."""
        way = replace(best.way, **change)
        if way == best.way:
            raise NotFitting("the best so far does so already.")
        fit = detect.fit(
            self.task.examples,
            self.task.tag_ids,
            predict=self.task.predict,
            backbone=way.backbone,
            tiles=self.task.tiles,
            seed=way.seed,
            augmentation=way.augmentation,
            progress=lambda _: check(),
            **{"input_size": way.size, "steps": round(self._steps * way.share), **self.task.options},
        )
        return _Best(fit, way)

    def _gain(self, old: _Best, new: _Best, kept: Any) -> float:
        rows = np.flatnonzero(kept)
        truth = [self._truth[row] for row in rows]
        means = [self._mean([one.fit.predictions[row] for row in rows], truth) for one in (old, new)]
        return means[1] - means[0]

    def _mean(self, predictions: Sequence[Detections], truth: Sequence[Detections]) -> float:
        return float(np.mean([self._precision(predictions, truth, overlap) for overlap in (0.5, 0.75)]))

    def _precision(self, predictions: Sequence[Detections], truth: Sequence[Detections], overlap: float) -> float:
        return evaluate.detection(predictions, truth, len(self.task.tag_ids), 0.5, overlap).average_precision


def _truth(example: Example) -> Detections:
    return Detections(np.asarray(example.boxes, np.float32), np.ones(len(example.tags), np.float32), example.tags)
