"""Linear heads on rows of features: shrinkage linear discriminants and regularised logistic regression.

Both give, for each of several strengths, weights [R, T] and a bias [T]. The discriminant (Fisher 1936; shrinkage as
Ledoit and Wolf 2004) needs no iterations; shrunk nearly whole it compares with each tag's mean, a prototype (Snell et
al. 2017), which is what very few images allow. Logistic regression is fitted with L-BFGS (Liu and Nocedal 1989).
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Linear = tuple[Doubles, Doubles]

SHRINKAGES = (0.003, 0.01, 0.03, 0.1, 0.3, 0.9)
PENALTIES = (0.1, 0.01, 0.001)
_STEPS, _MEMORY, _ENOUGH = 60, 8, 1e-5


class Discriminants:
    """Shrinkage linear discriminants: sums and products of rows, fold by fold, from which those of any folds follow.

    Args:
        z: float32 [N, R].
        y: bool [N, T].
        known: bool [N, T], which of `y` is known.
        folds: int64 [N].
        multilabel: Take the covariance around the common mean, and tell each tag from the rest; otherwise, with one tag
            per row, take it around each tag's mean.
    """

    def __init__(self, z: Floats, y: Bools, known: Bools, folds: NDArray[np.int64], multilabel: bool) -> None:
        self._within = not multilabel
        count, tags, width = int(folds.max()) + 1, y.shape[1], z.shape[1]
        self._products = np.zeros((count, width, width), np.float32)
        self._totals, self._rows = np.zeros((count, width)), np.zeros(count)
        self._sums, self._counts = np.zeros((2, count, tags, width)), np.zeros((2, count, tags))
        for fold in range(count):
            rows = folds == fold
            x = z[rows]
            self._products[fold] = x.T @ x
            self._totals[fold], self._rows[fold] = x.sum(0, dtype=np.float64), len(x)
            for side, members in enumerate((y[rows] & known[rows], ~y[rows] & known[rows])):
                self._sums[side, fold] = members.T.astype(np.float32) @ x
                self._counts[side, fold] = members.sum(0)

    def fit(self, folds: Sequence[int], strengths: Sequence[float]) -> list[Linear]:
        """Weights and bias from the rows of some folds, for each shrinkage in (0, 1]."""
        chosen = list(folds)
        total, everything = self._rows[chosen].sum(), self._totals[chosen].sum(0)
        sums, counts = self._sums[:, chosen].sum(1), self._counts[:, chosen].sum(1)
        means = sums / np.maximum(counts, 1)[:, :, None]
        own, rest = means if not self._within else (means[0], np.zeros_like(means[0]))
        covariance = self._products[chosen].sum(0, dtype=np.float64)
        covariance -= sums[0].T @ own if self._within else np.outer(everything, everything) / total
        covariance /= max(total - 1, 1)
        variance = float(np.trace(covariance)) / len(covariance) + 1e-9
        return [self._solve(covariance, variance, one, own, rest, counts) for one in strengths]

    def _solve(
        self, covariance: Doubles, variance: float, shrinkage: float, own: Doubles, rest: Doubles, counts: Doubles
    ) -> Linear:
        shrunk = (1 - shrinkage) * covariance
        shrunk[np.diag_indices_from(shrunk)] += shrinkage * variance
        weights = np.asarray(np.linalg.solve(shrunk, (own - rest).T), np.float64)
        bias = np.asarray(-0.5 * ((own + rest).T * weights).sum(0), np.float64)
        positive, negative = counts
        if self._within:
            return weights, bias + np.log((positive + 0.5) / (positive.sum() + 1.0))
        # A tag that every image or none carries can't be told from the rest: its share is its probability.
        lone = (positive == 0) | (negative == 0)
        return np.where(lone, 0.0, weights), np.where(lone, np.log((positive + 0.5) / (negative + 0.5)), bias)


class Logistic:
    """Logistic regression: one softmax over all tags, or with `multilabel` one logistic function per tag.

    Arguments as of `Discriminants`; rows of about unit length.
    """

    def __init__(self, z: Floats, y: Bools, known: Bools, folds: NDArray[np.int64], multilabel: bool) -> None:
        self._z, self._y, self._known, self._folds, self._multilabel = z.astype(np.float64), y, known, folds, multilabel

    def fit(self, folds: Sequence[int], strengths: Sequence[float]) -> list[Linear]:
        """Weights and bias from the rows of some folds, for each of falling penalties, each begun where the last ended.

        Half a penalty times the sum of squared weights is added to the rows' summed log loss.
        """
        rows = np.isin(self._folds, list(folds))
        x, y, known = self._z[rows], self._y[rows], self._known[rows]
        loss = _separate if self._multilabel else _shared
        tags = y.shape[1]
        flat, found = np.zeros((x.shape[1] + 1) * tags), []

        def objective(point: Doubles, penalty: float) -> tuple[float, Doubles]:
            weights, bias = point[:-tags].reshape(-1, tags), point[-tags:]
            value, error = loss(x @ weights + bias, y, known)
            gradient = np.concatenate([(x.T @ error + penalty * weights).ravel(), error.sum(0)])
            return value + 0.5 * penalty * float((weights * weights).sum()), gradient

        for penalty in strengths:
            flat = _least(flat, partial(objective, penalty=penalty))
            found.append((flat[:-tags].reshape(-1, tags), flat[-tags:]))
        return found


HEADS: dict[str, type[Discriminants] | type[Logistic]] = {"discriminant": Discriminants, "logistic": Logistic}


def _separate(scores: Doubles, y: Bools, known: Bools) -> tuple[float, Doubles]:
    """Log loss of a logistic function per tag, and its gradient by the scores [N, T]."""
    value = float((np.logaddexp(0, scores) - y * scores)[known].sum())
    return value, known * (1 / (1 + np.exp(-np.clip(scores, -80, 80))) - y)


def _shared(scores: Doubles, y: Bools, known: Bools) -> tuple[float, Doubles]:
    """The same of a softmax over all tags."""
    scores = scores - scores.max(1, keepdims=True)
    odds = np.exp(scores)
    whole = odds.sum(1, keepdims=True)
    return float((np.log(whole[:, 0]) - scores[y]).sum()), odds / whole - y


def _least(point: Doubles, objective: Callable[[Doubles], tuple[float, Doubles]]) -> Doubles:
    """Where a convex function is least, by L-BFGS with halved steps."""
    value, gradient = objective(point)
    pairs: list[tuple[Doubles, Doubles]] = []
    for _ in range(_STEPS):
        step = _direction(gradient, pairs)
        share, slope = 1.0, float(gradient @ step)
        for _ in range(12):
            following = point - share * step
            reached, changed = objective(following)
            if reached <= value - 1e-4 * share * slope:
                break
            share *= 0.5
        moved, turned = following - point, changed - gradient
        if moved @ turned > 1e-12:
            pairs = [*pairs[-_MEMORY + 1 :], (moved, turned)]
        done = abs(value - reached) <= _ENOUGH * max(abs(value), 1e-3)
        point, value, gradient = following, reached, changed
        if done:
            break
    return point


def _direction(gradient: Doubles, pairs: list[tuple[Doubles, Doubles]]) -> Doubles:
    step, shares = gradient.copy(), []
    for moved, turned in reversed(pairs):
        share = (moved @ step) / (moved @ turned)
        shares.append(share)
        step -= share * turned
    if pairs:
        moved, turned = pairs[-1]
        step *= (moved @ turned) / (turned @ turned)
    else:
        step /= max(float(np.abs(gradient).max()), 1e-9)
    for (moved, turned), share in zip(pairs, reversed(shares), strict=True):
        step += moved * (share - (turned @ step) / (moved @ turned))
    return step
