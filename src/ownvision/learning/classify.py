"""Classifiers on frozen embeddings: shrinkage linear discriminant analysis, cross-validated and calibrated.

The discriminant (Fisher 1936; Ledoit and Wolf 2004 for the shrinkage) needs one factorisation and no iterations. Where
there are fewer images than features it is solved in the dual, by the Woodbury identity. Cross-validation gives every
image a score from a model that never saw it; these choose the shrinkage, calibrate the probabilities (temperature:
Guo et al. 2017; per tag: Platt 1999), and are kept with the iteration.

Folds follow each image's key (its SHA-256), never its place: the same images give the same model in any order.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ownvision.learning import pixels
from ownvision.learning.backbones import BACKBONES
from ownvision.learning.graph import Head, embedder

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

FOLDS = 5
_SHRINKAGES = (0.03, 0.1, 0.3, 0.6)
# Above so many images the covariance is well known, and each candidate costs seconds.
_MANY_IMAGES = 2_000
_BATCH = 16
_PART = 4_096


@dataclass(frozen=True)
class ClassifierFit:
    """A trained head and what cross-validation says of it.

    Attributes:
        head: Fitted on all images, calibration folded in.
        out_of_fold: float32 [N, T], calibrated probabilities from models that never saw the image.
        folds: int64 [N], which fold each image was held out in.
    """

    head: Head
    out_of_fold: Floats
    folds: NDArray[np.int64]


class Embedder:
    """A backbone's embeddings, with onnxruntime.

    Args:
        backbone: A name of `BACKBONES`.
        threads: Of one run; 0: as many as there are cores.
    """

    def __init__(self, backbone: str, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.backbone = BACKBONES[backbone]
        self._session = onnxruntime.InferenceSession(embedder(backbone), options, providers=["CPUExecutionProvider"])

    def __call__(self, images: Sequence[bytes]) -> Floats:
        """Embeddings [N, D] of encoded images.

        Raises:
            pixels.BadImage: One can't be decoded.
        """
        size = self.backbone.input_size
        parts = []
        for start in range(0, len(images), _BATCH):
            batch = np.stack([pixels.load(data, size, size) for data in images[start : start + _BATCH]])
            parts.append(self._session.run(None, {"image": _planes(batch)})[0])
        return np.concatenate(parts)


def _planes(rgb: NDArray[np.uint8]) -> Floats:
    return np.ascontiguousarray(rgb.transpose(0, 3, 1, 2), dtype=np.float32)


def embed(images: Iterable[bytes], backbone: str, *, threads: int = 0) -> Floats:
    """Embeddings [N, D] of encoded images."""
    return Embedder(backbone, threads)(list(images))


def fit(
    embeddings: NDArray[np.floating],
    labels: Bools,
    *,
    multilabel: bool,
    keys: Sequence[bytes],
    blocks: Sequence[int] = (),
    progress: Callable[[float], None] = lambda _: None,
) -> ClassifierFit:
    """Fit a head on embeddings.

    Args:
        embeddings: float16 or float32 [N, D].
        labels: bool [N, T]; with `multilabel=False` exactly one per row.
        multilabel: Independent probabilities per tag, or ones that sum to one.
        keys: The images' SHA-256, which decide order and folds; rows of one key are views of one image.
        blocks: Lengths of one or two groups of features that are fitted apart and mixed (`Backbone.blocks`).
        progress: Told the share done, 0 to 1.

    Returns:
        Head and out-of-fold probabilities, in the order given.

    Raises:
        ValueError: There is nothing to tell apart: no row, or in multiclass fewer than two tags.
    """
    if not len(labels) or (not multilabel and labels.shape[1] < 2):
        raise ValueError("A classifier needs images, and two tags to tell apart.")
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    y = labels[order]
    # Rows of one key are views of one image: they are held out together.
    first = np.array([place == 0 or keys[order[place - 1]] != keys[row] for place, row in enumerate(order)])
    folds = assign_folds(y[first])[np.cumsum(first) - 1]
    bounds = [0, *np.cumsum(blocks or [embeddings.shape[1]])]
    parts = [
        _fit_block(
            _rows(embeddings, order, slice(int(start), int(end))),
            y,
            folds,
            multilabel,
            lambda share, done=number: progress(0.9 * (done + share) / (len(bounds) - 1)),  # type: ignore[misc]
        )
        for number, (start, end) in enumerate(itertools.pairwise(bounds))
    ]
    mixes = _MIXES if len(parts) == 2 else ((1.0,),)
    logits = [_mixed(mix, [part.logits for part in parts]) for mix in mixes]
    losses = [_loss(_cross_calibrated(one, y, folds, multilabel), y, multilabel) for one in logits]
    best = int(np.argmin(losses))
    slope, offset = _calibration(logits[best], y, multilabel)
    weights = np.concatenate([share * part.weights for share, part in zip(mixes[best], parts, strict=True)]) * slope
    bias = _mixed(mixes[best], [part.bias for part in parts]) * slope + offset
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    progress(1.0)
    probabilities = _cross_calibrated(logits[best], y, folds, multilabel)
    head = Head(weights.astype(np.float32), bias.astype(np.float32), "sigmoid" if multilabel else "softmax")
    return ClassifierFit(head, probabilities[back], folds[back])


# How much of the early and of the late layers' opinion: the early ones know drawings and digits, the late ones things.
_MIXES = ((0.5, 0.5), (0.25, 0.75), (0.75, 0.25), (0.0, 1.0), (1.0, 0.0))


def _mixed(shares: Sequence[float], parts: Sequence[Floats]) -> Floats:
    total = np.zeros_like(parts[0])
    for share, part in zip(shares, parts, strict=True):
        total += share * part
    return total


@dataclass(frozen=True)
class _Block:
    """One block of features' opinion: out-of-fold logits [N, T], and the head that gives them."""

    logits: Floats
    weights: Floats
    bias: Floats


@dataclass(frozen=True)
class _Rows:
    """One block of the embeddings in the order of the keys, standardised as they are asked for.

    So 100,000 images are held once, as they came.
    """

    embeddings: NDArray[np.floating]
    order: NDArray[np.int64]
    columns: slice
    center: Floats
    scale: Floats

    def take(self, rows: NDArray[np.int64]) -> Floats:
        """Standardised rows, float32 [len(rows), D]."""
        x = np.asarray(self.embeddings[self.order[rows], self.columns], np.float32)
        return (x - self.center) / self.scale

    def parts(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """The same in parts that fit in memory."""
        for start in range(0, len(rows), _PART):
            yield rows[start : start + _PART], self.take(rows[start : start + _PART])


def _rows(embeddings: NDArray[np.floating], order: NDArray[np.int64], columns: slice) -> _Rows:
    plain = _Rows(embeddings, order, columns, np.zeros(1, np.float32), np.ones(1, np.float32))
    total = np.zeros(columns.stop - columns.start)
    for _, x in plain.parts(np.arange(len(order))):
        total += x.sum(0, dtype=np.float64)
    center = total / len(order)
    squares = np.zeros_like(total)
    for _, x in plain.parts(np.arange(len(order))):
        squares += ((x - center) ** 2).sum(0)
    scale = np.sqrt(squares / len(order)) + 1e-6
    return _Rows(embeddings, order, columns, center.astype(np.float32), scale.astype(np.float32))


def _fit_block(
    rows: _Rows, y: Bools, folds: NDArray[np.int64], multilabel: bool, progress: Callable[[float], None]
) -> _Block:
    candidates = _SHRINKAGES if len(y) <= _MANY_IMAGES else _SHRINKAGES[1:2]
    scores = np.zeros((len(candidates), *y.shape), np.float32)
    solver = (_Dual if len(y) <= len(rows.center) else _Primal)(rows, y, folds, within=not multilabel)
    count = int(folds.max()) + 1
    for number in range(count):
        solver.score(number, candidates, scores)
        progress((number + 1) / (count + 1))
    losses = [_loss(_cross_calibrated(one, y, folds, multilabel), y, multilabel) for one in scores]
    best = int(np.argmin(losses))
    weights, bias = solver.final(candidates[best])
    slope, offset = _calibration(scores[best], y, multilabel)
    folded = (weights * slope / rows.scale[:, None]).astype(np.float32)
    return _Block(
        scores[best] * slope + offset, folded, (bias * slope + offset - rows.center @ folded).astype(np.float32)
    )


def assign_folds(labels: Bools) -> NDArray[np.int64]:
    """Stratified folds [N] of rows sorted by key: each row counts for the rarest tag it carries."""
    count = min(FOLDS, max(2, len(labels)))
    rarity = labels.sum(0).argsort(kind="stable")
    stratum = np.full(len(labels), -1)
    for tag in rarity[::-1]:
        stratum[labels[:, tag]] = tag
    folds = np.zeros(len(labels), np.int64)
    shift = 0
    for tag in np.unique(stratum):
        rows = np.flatnonzero(stratum == tag)
        folds[rows] = (np.arange(len(rows)) + shift) % count
        shift += len(rows)
    return folds


class _Dual:
    """Discriminants of fewer rows than features. Everything follows from the rows' products with each other, which are
    computed once: a fold's discriminants are combinations of rows, scores are products again.

    `within` takes the covariance around each class's mean (one class per row); otherwise around the common mean, and
    each tag is told from the rest.
    """

    def __init__(self, rows: _Rows, y: Bools, folds: NDArray[np.int64], *, within: bool) -> None:
        self._rows, self._y, self._folds, self._within = rows, y, folds, within
        self._x = rows.take(np.arange(len(y)))
        self._gram = (self._x @ self._x.T).astype(np.float64)

    def score(self, fold: int, shrinkages: Sequence[float], scores: Floats) -> None:
        """Fill in `scores` [S, N, T] of the rows of a fold, from all others."""
        keep, held_out = np.flatnonzero(self._folds != fold), np.flatnonzero(self._folds == fold)
        products = self._gram[np.ix_(held_out, keep)]
        for number, (shares, bias) in enumerate(self._solve(keep, shrinkages)):
            scores[number, held_out] = products @ shares + bias

    def final(self, shrinkage: float) -> tuple[Floats, Floats]:
        """Weights [D, T] and bias [T] from all rows."""
        ((shares, bias),) = self._solve(np.arange(len(self._y)), [shrinkage])
        return self._x.T @ shares.astype(np.float32), bias.astype(np.float32)

    def _solve(self, keep: NDArray[np.int64], shrinkages: Sequence[float]) -> list[tuple[Doubles, Doubles]]:
        """For each shrinkage what every row contributes to each discriminant [n, T], and the bias [T]."""
        y, gram = self._y[keep].astype(np.float64), self._gram[np.ix_(keep, keep)]
        total = len(keep)
        count = y.sum(0)
        own = y / np.maximum(count, 1)  # a mean is rows' @ own
        rest = np.zeros_like(own) if self._within else (1 - y) / np.maximum(total - count, 1)
        group, mean = (y, own) if self._within else (np.ones((total, 1)), np.full((total, 1), 1 / total))
        root = np.sqrt(max(total - 1, 1))
        centred = (gram - group @ (mean.T @ gram)) / root  # residuals' products with the rows
        inner = (centred - (centred @ mean) @ group.T) / root
        variance = float(np.trace(inner)) / self._x.shape[1] + 1e-9
        directions = own - rest
        right = centred @ directions
        middle = gram @ (own + rest)
        results = []
        for shrinkage in shrinkages:
            # Woodbury: (s A'A + r I)^-1 B = (B - A' (A A' + r/s I)^-1 A B) / r
            ridge = shrinkage * variance
            answer = np.linalg.solve(inner + ridge / (1 - shrinkage) * np.eye(total), right)
            shares = (directions - (answer - mean @ (group.T @ answer)) / root) / ridge
            results.append(_biased(shares, -0.5 * (middle * shares).sum(0), count, total, within=self._within))
        return results


class _Primal:
    """Discriminants of more rows than features: each fold's products of features are computed once and subtracted.

    Arguments and methods as of `_Dual`.
    """

    def __init__(self, rows: _Rows, y: Bools, folds: NDArray[np.int64], *, within: bool) -> None:
        self._rows, self._y, self._folds, self._within = rows, y, folds, within
        features, count = len(rows.center), int(folds.max()) + 1
        self._products = np.zeros((count, features, features), np.float32)
        self._sums = np.zeros((count, y.shape[1], features))
        self._totals = np.zeros((count, features))
        for fold in range(count):
            for part, x in rows.parts(np.flatnonzero(folds == fold)):
                self._products[fold] += x.T @ x
                self._sums[fold] += y[part].T.astype(np.float32) @ x
                self._totals[fold] += x.sum(0, dtype=np.float64)

    def score(self, fold: int, shrinkages: Sequence[float], scores: Floats) -> None:
        solutions = self._solve([one for one in range(len(self._products)) if one != fold], shrinkages)
        for part, x in self._rows.parts(np.flatnonzero(self._folds == fold)):
            for number, (weights, bias) in enumerate(solutions):
                scores[number, part] = x @ weights.astype(np.float32) + bias

    def final(self, shrinkage: float) -> tuple[Floats, Floats]:
        ((weights, bias),) = self._solve(list(range(len(self._products))), [shrinkage])
        return weights.astype(np.float32), bias.astype(np.float32)

    def _solve(self, folds: list[int], shrinkages: Sequence[float]) -> list[tuple[Doubles, Doubles]]:
        y = self._y[np.isin(self._folds, folds)]
        count, total = y.sum(0).astype(np.float64), len(y)
        sums, everything = self._sums[folds].sum(0), self._totals[folds].sum(0)
        own = sums / np.maximum(count, 1)[:, None]
        rest = np.zeros_like(own) if self._within else (everything - sums) / np.maximum(total - count, 1)[:, None]
        covariance = np.zeros(self._products.shape[1:])
        for fold in folds:
            covariance += self._products[fold]
        covariance -= sums.T @ own if self._within else np.outer(everything, everything) / total
        covariance /= max(total - 1, 1)
        variance = float(np.trace(covariance)) / len(covariance) + 1e-9
        results = []
        for shrinkage in shrinkages:
            shrunk = (1 - shrinkage) * covariance
            shrunk[np.diag_indices_from(shrunk)] += shrinkage * variance
            weights = np.linalg.solve(shrunk, (own - rest).T)
            bias = -0.5 * ((own + rest).T * weights).sum(0)
            results.append(_biased(weights, bias, count, total, within=self._within))
        return results


def _biased(weights: Doubles, bias: Doubles, count: Doubles, total: int, *, within: bool) -> tuple[Doubles, Doubles]:
    if within:
        return weights, bias + np.log((count + 0.5) / (total + 1.0))
    # A tag that every image or none carries can't be told from the rest: its share is its probability.
    lone = (count == 0) | (count == total)
    return np.where(lone, 0.0, weights), np.where(lone, np.log((count + 0.5) / (total - count + 0.5)), bias)


def _cross_calibrated(scores: Floats, y: Bools, folds: NDArray[np.int64], multilabel: bool) -> Floats:
    """Probabilities of each fold, calibrated on the other folds."""
    probabilities = np.zeros_like(scores)
    for number in range(int(folds.max()) + 1):
        held_out = folds == number
        slope, offset = _calibration(scores[~held_out], y[~held_out], multilabel)
        probabilities[held_out] = _probabilities(scores[held_out] * slope + offset, multilabel)
    return probabilities


def _probabilities(scores: Floats, multilabel: bool) -> Floats:
    if multilabel:
        odds: Floats = np.exp(-np.clip(scores, -50, 50)).astype(np.float32)
        likely: Floats = 1.0 / (1.0 + odds)
        return likely
    shifted: Floats = np.exp(scores - scores.max(1, keepdims=True)).astype(np.float32)
    shares: Floats = shifted / shifted.sum(1, keepdims=True)
    return shares


def _loss(probabilities: Floats, y: Bools, multilabel: bool) -> float:
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    if multilabel:
        return float(-np.where(y, np.log(p), np.log1p(-p)).mean())
    return float(-np.log(p[y]).mean())


def _calibration(scores: Floats, y: Bools, multilabel: bool) -> tuple[float, Floats]:
    """Slope, and per tag an offset, for the least log loss; the offsets are drawn to 0 where data is thin."""
    if not multilabel:
        return _temperature(scores, y), np.zeros(y.shape[1], np.float32)
    slope, offset = 1.0, np.zeros(y.shape[1])
    s, target = scores.astype(np.float64), y.astype(np.float64)
    scale = np.abs(s).mean() + 1e-9
    s = s / scale
    slope = min(scale, 1.0)
    for _ in range(50):  # Newton, tags share the slope
        p = 1 / (1 + np.exp(-np.clip(s * slope + offset, -50, 50)))
        error, curve = p - target, p * (1 - p) + 1e-9
        gradient = np.append((error * s).sum() + 0.01 * slope, error.sum(0) + offset)
        hessian = np.diag(np.append((curve * s * s).sum() + 0.01, curve.sum(0) + 1.0))
        hessian[0, 1:] = hessian[1:, 0] = (curve * s).sum(0)
        step = np.linalg.solve(hessian, gradient)
        step /= max(1.0, np.abs(step).max() / 2.0)
        slope, offset = slope - step[0], offset - step[1:]
        if np.abs(step).max() < 1e-6:
            break
    return float(max(slope, 1e-6) / scale), offset.astype(np.float32)


def _temperature(scores: Floats, y: Bools) -> float:
    """The slope of least log loss: Newton's method, kept in a bracket."""
    z = scores.astype(np.float64)
    z -= z.max(1, keepdims=True)
    wanted, size = float(z[y].mean()), float(np.abs(scores).mean())
    low, high, slope = 1e-3, 30.0, 1.0
    for _ in range(40):
        odds = np.exp(z * slope)
        odds /= odds.sum(1, keepdims=True)
        mean = (odds * z).sum(1)
        # One image's worth of doubt: on a set told apart perfectly the best slope would be infinite.
        doubt = size / (1 + slope * size) / (4 * len(y))
        gradient = float(mean.mean()) - wanted + doubt
        curve = float(((odds * z * z).sum(1) - mean * mean).mean()) - 4 * len(y) * doubt * doubt
        low, high = (low, slope) if gradient > 0 else (slope, high)
        step = slope - gradient / curve if curve > 0 else 0.0
        following = step if low < step < high else float(np.sqrt(low * high))
        if abs(following - slope) <= 1e-5 * slope:
            break
        slope = following
    return slope
