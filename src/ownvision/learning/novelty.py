"""How unlike everything learned from an image is, so that a classifier can say "none of these".

The distance is the mean square of the embedding's features, each by how it varied among the images learned from
(Mahalanobis 1936, with a diagonal covariance). Images that a fold's numbers did not include tell how far familiar ones
lie; beyond that, what the classifier says fades into a fallback.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ownvision.learning.graph import Familiar

Floats = NDArray[np.float32]
Parts = Callable[[], Iterable[tuple[NDArray[np.int64], Floats]]]

_FLOOR = 0.1
_REACH, _LEAST_REACH, _STEEPNESS = 1.8, 0.38, 10.0


@dataclass(frozen=True)
class Familiarity:
    """The measure that goes into the model, and what it says of the images learned from.

    Attributes:
        measure: From all images.
        shares: float32 [N], how familiar each is by numbers that did not include it.
    """

    measure: Familiar
    shares: Floats

    def blended(self, likely: Floats) -> Floats:
        """Held-out probabilities [N, T] as the model would have given them."""
        share = self.shares[:, None]
        return (share * likely + (1 - share) * self.measure.fallback).astype(np.float32)


def fallback(tags: int, multilabel: bool, negative: int | None) -> Floats:
    """What an image like none learned from is given: float32 [T].

    Nothing with `multilabel`; else the Negative tag whole where there is one, or the same to all.
    """
    given = np.zeros(tags, np.float32)
    if not multilabel:
        given[slice(None) if negative is None else negative] = 1 / tags if negative is None else 1
    return given


def familiarity(parts: Parts, folds: NDArray[np.int64], given: Floats) -> Familiarity:
    """Measure how familiar images look.

    Args:
        parts: Gives rows' numbers and their standardised features [n, D], in parts, each time it is called.
        folds: int64 [N].
        given: float32 [T], what unfamiliar images are given.
    """
    count = int(folds.max()) + 1
    rows = np.bincount(folds, minlength=count).astype(np.float64)
    first = next(iter(parts()))[1].shape[1]
    totals, squares = np.zeros((count, first)), np.zeros((count, first))
    for numbers, x in parts():
        for fold in np.unique(folds[numbers]):
            own = x[folds[numbers] == fold]
            totals[fold] += own.sum(0, dtype=np.float64)
            squares[fold] += (own * own).sum(0, dtype=np.float64)
    held_out = [_center(*(one.sum(0) - one[fold] for one in (rows, totals, squares))) for fold in range(count)]
    distances = np.zeros(len(folds))
    for numbers, x in parts():
        for fold in np.unique(folds[numbers]):
            mine = folds[numbers] == fold
            center, scale = held_out[fold]
            distances[numbers[mine]] = np.log((((x[mine] - center) / scale) ** 2).mean(1) + 1e-9)
    middle = float(np.median(distances))
    reach = max(_REACH * float(np.quantile(distances, 0.9) - middle), _LEAST_REACH)
    center, scale = _center(rows.sum(), totals.sum(0), squares.sum(0))
    measure = Familiar(
        center.astype(np.float32),
        (1 / (scale * scale) / len(scale)).astype(np.float32),
        np.float32(middle + reach),
        np.float32(_STEEPNESS / reach),
        given,
    )
    shares = 1 / (1 + np.exp(-np.clip((middle + reach - distances) * _STEEPNESS / reach, -80, 80)))
    return Familiarity(measure, shares.astype(np.float32))


def _center(
    rows: float, total: NDArray[np.float64], squares: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and floored standard deviation of each feature [D]."""
    mean = total / max(rows, 1)
    spread = np.sqrt(np.maximum(squares / max(rows, 1) - mean * mean, 0))
    return mean, spread + _FLOOR * spread.mean() + 1e-6
