"""Classifiers on frozen embeddings: shrinkage linear discriminant analysis, cross-validated and calibrated.

The discriminant (Fisher 1936; Ledoit and Wolf 2004 for the shrinkage) needs one factorisation and no iterations. Where
there are fewer images than features it is solved in the dual, by the Woodbury identity. Cross-validation gives every
image a score from a model that never saw it; these choose the shrinkage, calibrate the probabilities (temperature:
Guo et al. 2017; per tag: Platt 1999), and are kept with the iteration.

Folds follow each image's key (its SHA-256), never its place: the same images give the same model in any order.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ownvision.learning import pixels
from ownvision.learning.backbones import BACKBONES
from ownvision.learning.graph import Head, embedder

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

FOLDS = 5
_SHRINKAGES = (0.03, 0.1, 0.3, 0.6)
# Above so many images the covariance is well known, and each candidate costs seconds.
_MANY_IMAGES = 3_000
_BATCH = 16


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
        keys: The images' SHA-256, which decide order and folds.
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
    folds = assign_folds(y)
    bounds = [0, *np.cumsum(blocks or [embeddings.shape[1]])]
    parts = [
        _fit_block(np.asarray(embeddings[order, start:end], np.float32), y, folds, multilabel, progress)
        for start, end in itertools.pairwise(bounds)
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


def _fit_block(
    x: Floats, y: Bools, folds: NDArray[np.int64], multilabel: bool, progress: Callable[[float], None]
) -> _Block:
    center, scale = x.mean(0), x.std(0) + 1e-6
    x = (x - center) / scale
    candidates = _SHRINKAGES if len(x) <= _MANY_IMAGES else _SHRINKAGES[1:2]
    scores = np.zeros((len(candidates), *y.shape), np.float32)
    solve = _Discriminant(x, y, within=not multilabel)
    for number in range(int(folds.max()) + 1):
        held_out = folds == number
        for row, (weights, bias) in enumerate(solve.without(held_out, candidates)):
            scores[row][held_out] = x[held_out] @ weights + bias
        progress(0.9 * (number + 1) / (folds.max() + 1))
    losses = [_loss(_cross_calibrated(one, y, folds, multilabel), y, multilabel) for one in scores]
    best = int(np.argmin(losses))
    ((weights, bias),) = solve.without(np.zeros(len(x), bool), candidates[best : best + 1])
    slope, offset = _calibration(scores[best], y, multilabel)
    folded = weights * slope / scale[:, None]
    return _Block(scores[best] * slope + offset, folded, bias * slope + offset - center @ folded)


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


class _Discriminant:
    """Linear discriminants of standardised rows, with any rows left out and for several shrinkages at once.

    `within` takes the covariance around each class's mean (one class per row); otherwise around the common mean, and
    each tag is told from the rest.
    """

    def __init__(self, x: Floats, y: Bools, *, within: bool) -> None:
        self.x, self.y, self.within = x, y, within
        # The products of all rows with each other serve every fold: computed once, in whichever form is smaller.
        self.dual = len(x) <= x.shape[1]

    def without(
        self, left_out: Bools, shrinkages: Sequence[float]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        x, y = self.x[~left_out], self.y[~left_out].astype(np.float32)
        count = y.sum(0)
        total, features = x.shape
        means = (y.T @ x) / np.maximum(count, 1)[:, None]
        if self.within:
            residual = x - y @ means
            others = np.zeros_like(means)
        else:
            common = x.mean(0)
            residual = x - common
            others = (x.sum(0) - y.T @ x) / np.maximum(total - count, 1)[:, None]
        directions = (means - others).T  # [D, T]
        a = residual / np.sqrt(max(total - 1, 1))
        variance = float((a * a).sum()) / features + 1e-9
        solutions = (
            self._dual(a, directions, variance, shrinkages)
            if self.dual
            else self._primal(a, directions, variance, shrinkages)
        )
        prior = np.log((count + 0.5) / (total + 1.0))
        results = []
        for weights in solutions:
            if self.within:
                bias = -0.5 * np.einsum("td,dt->t", means, weights) + prior
            else:
                bias = -0.5 * np.einsum("td,dt->t", means + others, weights)
                # A tag that every image or none carries can't be told from the rest: its share is its probability.
                lone = (count == 0) | (count == total)
                weights = np.where(lone, 0.0, weights).astype(np.float32)
                bias = np.where(lone, np.log((count + 0.5) / (total - count + 0.5)), bias)
            results.append((weights, bias.astype(np.float32)))
        return results

    @staticmethod
    def _dual(a: Floats, directions: Floats, variance: float, shrinkages: Sequence[float]) -> list[Floats]:
        # (s A'A + r I)^-1 B = (B - A' (A A' + r/s I)^-1 A B) / r
        values, vectors = np.linalg.eigh((a @ a.T).astype(np.float64))
        projected = vectors.T @ (a @ directions).astype(np.float64)
        solutions = []
        for shrinkage in shrinkages:
            ridge, share = shrinkage * variance, 1 - shrinkage
            inner = vectors @ (projected / (np.maximum(values, 0) + ridge / share)[:, None])
            solutions.append(((directions - a.T @ inner.astype(np.float32)) / ridge).astype(np.float32))
        return solutions

    @staticmethod
    def _primal(a: Floats, directions: Floats, variance: float, shrinkages: Sequence[float]) -> list[Floats]:
        covariance = (a.T @ a).astype(np.float64)
        identity = np.eye(len(covariance))
        return [
            np.linalg.solve((1 - shrinkage) * covariance + shrinkage * variance * identity, directions).astype(
                np.float32
            )
            for shrinkage in shrinkages
        ]


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
        slopes = np.exp(np.linspace(np.log(1e-3), np.log(30.0), 121)).astype(np.float32)
        losses = [_loss(_probabilities(scores * slope, False), y, False) for slope in slopes]
        # One image's worth of doubt: on a set told apart perfectly the best slope would be infinite.
        doubt = [np.log1p(slope * float(np.abs(scores).mean())) / (4 * len(y)) for slope in slopes]
        return float(slopes[int(np.argmin(np.add(losses, doubt)))]), np.zeros(y.shape[1], np.float32)
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
