"""Classifiers on frozen embeddings: heads chosen by cross-validation, calibrated, with an honest "none of these".

The embedding's groups of features (a backbone's early and late layers) are weighed against each other, and a head is
chosen among shrinkage discriminants and, where images are few, logistic regressions: whichever gives held-out images
the least log loss. Rows are written in coordinates of the span of at most `SPAN` of them (exact where there are no
more: the kernel trick; Nyström's method beyond, Williams and Seeger 2001), so that everything is solved in that many
dimensions. Every image is scored by a head that never saw it; these scores calibrate the probabilities and are kept
with the iteration.

Folds, and the rows that span, follow each image's key (its SHA-256), never its place: the same images give the same
model in any order.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ownvision.learning import device, pixels
from ownvision.learning.backbones import BACKBONES
from ownvision.learning.calibration import calibrate, cross_calibrated, log_loss
from ownvision.learning.graph import Head, embedder
from ownvision.learning.heads import HEADS, PENALTIES, SHRINKAGES, Discriminants, Linear, Logistic
from ownvision.learning.novelty import fallback, familiarity

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

FOLDS = 5
SPAN = 2_048
# What is weighed how, and how strongly a head is held back, is chosen on so many images; logistic regression, which
# takes iterations, is tried on fewer.
_CHOSEN_ON, _LOGISTIC = 400, 150
# How much the early and the late layers count: the early ones know drawings and digits, the late ones things.
_EMPHASES = ((0.0, 1.0), (0.3, 1.0), (1.0, 1.0), (1.0, 0.3))
_JITTER = 1e-5
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
        threads: Of one run, as of `device.threads`.
    """

    def __init__(self, backbone: str, threads: int = 0) -> None:
        self.backbone = BACKBONES[backbone]
        self._session = device.session(embedder(backbone), threads)

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
    known: Bools | None = None,
    negative: int | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> ClassifierFit:
    """Fit a head on embeddings.

    Args:
        embeddings: float16 or float32 [N, D].
        labels: bool [N, T]; with `multilabel=False` exactly one per row.
        multilabel: Independent probabilities per tag, or ones that sum to one.
        keys: The images' SHA-256, which decide order and folds; rows of one key are views of one image.
        blocks: Lengths of the groups of features that are weighed against each other: of early and of late layers
            (`Backbone.blocks`), or of one group; empty for one.
        known: bool [N, T], which labels are known (multilabel); None for all.
        negative: Column of the Negative tag, which images unlike all others are given (multiclass).
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
    truth = _Truth(y, np.ones_like(y) if known is None else known[order], folds, multilabel)
    rows = _rows(embeddings, order, list(blocks) or [embeddings.shape[1]])
    spread = _evenly(y)
    few = np.sort(spread[:_CHOSEN_ON])
    choice = _choose(rows, truth.of(few), few, progress)
    span = _Span(rows.weighed(choice.emphasis), np.sort(spread[:SPAN]))
    progress(0.5)
    scores, linear = _fitted(span, truth, choice)
    likely = cross_calibrated(scores, y, truth.known, folds, multilabel)
    slope, offset = calibrate(scores, y, truth.known, multilabel)
    slope *= _surer(first.sum() / y.shape[1])
    weights, bias = span.unfold(linear)
    familiar = familiarity(rows.plain().parts, folds, fallback(y.shape[1], multilabel, negative))
    head = Head(
        (weights * slope).astype(np.float32),
        (bias * slope + offset).astype(np.float32),
        "sigmoid" if multilabel else "softmax",
        familiar.measure,
    )
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    progress(1.0)
    return ClassifierFit(head, familiar.blended(likely)[back], truth.folds[back])


def _surer(images_per_tag: float) -> float:
    """How much surer a head from all images may be than the folds' heads, which had four fifths of them.

    Found in a trial on unseen images of five sets (docs/decisions/0020): nothing at 5 per tag, a fifth from 20 on.
    """
    return 1.0 + 0.2 * float(np.clip((images_per_tag - 5) / 15, 0, 1))


@dataclass(frozen=True)
class _Truth:
    """What is known of the rows: labels and which of them are known, bool [N, T], and folds, int64 [N]."""

    y: Bools
    known: Bools
    folds: NDArray[np.int64]
    multilabel: bool

    def of(self, rows: NDArray[np.int64]) -> "_Truth":
        return _Truth(self.y[rows], self.known[rows], self.folds[rows], self.multilabel)

    def loss(self, scores: Floats) -> float:
        likely = cross_calibrated(scores, self.y, self.known, self.folds, self.multilabel)
        return log_loss(likely, self.y, self.known, self.multilabel)


@dataclass(frozen=True)
class _Choice:
    """How features are weighed, which kind of head, how strongly held back; and what it cost, and its scores."""

    loss: float
    emphasis: tuple[float, ...]
    kind: str
    strength: float
    scores: Floats


def _choose(rows: "_Rows", truth: _Truth, few: NDArray[np.int64], progress: Callable[[float], None]) -> _Choice:
    """The least log loss of held-out rows."""
    emphases = _EMPHASES if len(rows.sizes) == 2 else ((1.0,) * len(rows.sizes),)
    best: _Choice | None = None
    for number, emphasis in enumerate(emphases):
        z = _Span(rows.weighed(emphasis), few).coordinates(few)
        for kind, strengths in _strengths(len(few), truth).items():
            for strength, scores in zip(strengths, _held_out(z, truth, kind, strengths)[0], strict=True):
                loss = truth.loss(scores)
                if best is None or loss < best.loss:
                    best = _Choice(loss, emphasis, kind, strength, scores)
        progress(0.4 * (number + 1) / len(emphases))
    assert best is not None
    return best


def _strengths(rows: int, truth: _Truth) -> dict[str, tuple[float, ...]]:
    few = rows <= _LOGISTIC and rows * truth.y.shape[1] <= 10 * _LOGISTIC
    return {"discriminant": SHRINKAGES, **({"logistic": PENALTIES} if few else {})}


def _held_out(
    z: Floats, truth: _Truth, kind: str, strengths: Sequence[float]
) -> tuple[Floats, Discriminants | Logistic]:
    """Scores [S, N, T] of each fold's rows from all others, and what gives heads from any folds."""
    solver = HEADS[kind](z, truth.y, truth.known, truth.folds, truth.multilabel)
    scores = np.zeros((len(strengths), *truth.y.shape), np.float32)
    numbers = [int(one) for one in np.unique(truth.folds)]
    for fold in numbers if len(numbers) > 1 else ():
        out = truth.folds == fold
        for number, (weights, bias) in enumerate(solver.fit([one for one in numbers if one != fold], strengths)):
            scores[number, out] = z[out] @ weights.astype(np.float32) + bias
    return scores, solver


def _fitted(span: "_Span", truth: _Truth, choice: _Choice) -> tuple[Floats, Linear]:
    """Held-out scores [N, T] of all rows, and the head from all of them, in the span's coordinates."""
    strengths: tuple[float, ...] = (choice.strength,)
    if len(choice.scores) < len(truth.y):
        # More images than it was chosen on need less holding back.
        at = SHRINKAGES.index(choice.strength)
        strengths = SHRINKAGES[max(at - 2, 0) : at + 1]
    z = span.coordinates(np.arange(len(truth.y)))
    scores, solver = _held_out(z, truth, choice.kind, strengths)
    best = int(np.argmin([truth.loss(one) for one in scores]))
    (linear,) = solver.fit(range(int(truth.folds.max()) + 1), [strengths[best]])
    return scores[best], linear


@dataclass(frozen=True)
class _Rows:
    """The embeddings in the order of the keys, standardised and weighed as they are asked for.

    So 100,000 images are held once, as they came.
    """

    embeddings: NDArray[np.floating]
    order: NDArray[np.int64]
    sizes: Sequence[int]
    center: Floats
    scale: Floats

    def take(self, rows: NDArray[np.int64]) -> Floats:
        """Standardised rows, float32 [len(rows), D]."""
        x = np.asarray(self.embeddings[self.order[rows]], np.float32)
        x -= self.center
        x /= self.scale
        return x

    def parts(self) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """All of them in parts that fit in memory."""
        everything = np.arange(len(self.order))
        for start in range(0, len(everything), _PART):
            yield everything[start : start + _PART], self.take(everything[start : start + _PART])

    def plain(self) -> "_Rows":
        """The same as they came."""
        return replace(self, center=np.zeros_like(self.center), scale=np.ones_like(self.scale))

    def weighed(self, emphasis: Sequence[float]) -> "_Rows":
        """The same, each group of features by its weight; rows are of about unit length."""
        whole = sum(emphasis)
        shares = [np.sqrt(weight / whole / size) for weight, size in zip(emphasis, self.sizes, strict=True)]
        factor = np.repeat(np.array(shares, np.float32), self.sizes)
        with np.errstate(divide="ignore"):
            return replace(self, scale=(self.scale / factor).astype(np.float32))


def _rows(embeddings: NDArray[np.floating], order: NDArray[np.int64], sizes: Sequence[int]) -> _Rows:
    width = embeddings.shape[1]
    plain = _Rows(embeddings, order, sizes, np.zeros(width, np.float32), np.ones(width, np.float32))
    total, squares = np.zeros(width), np.zeros(width)
    for _, x in plain.parts():
        total += x.sum(0, dtype=np.float64)
    center = (total / len(order)).astype(np.float32)
    for _, x in replace(plain, center=center).parts():
        squares += (x * x).sum(0, dtype=np.float64)
    scale = np.sqrt(squares / len(order))
    # A feature that hardly moved here would drown all others where it does move.
    return replace(plain, center=center, scale=(scale + 0.01 * scale.mean() + 1e-6).astype(np.float32))


class _Span:
    """Coordinates of rows in the span of a few of them: z(x) = L⁻¹ k(x), where L Lᵀ are the few rows' products."""

    def __init__(self, rows: _Rows, few: NDArray[np.int64]) -> None:
        self._rows, self._few = rows, rows.take(few)
        products = (self._few @ self._few.T).astype(np.float64)
        products[np.diag_indices_from(products)] += _JITTER * float(np.trace(products)) / len(products) + 1e-12
        self._inverse = np.linalg.inv(np.linalg.cholesky(products)).astype(np.float32)

    def coordinates(self, rows: NDArray[np.int64]) -> Floats:
        """float32 [len(rows), R]."""
        parts = [rows[start : start + _PART] for start in range(0, len(rows), _PART)]
        return np.concatenate([(self._rows.take(part) @ self._few.T) @ self._inverse.T for part in parts])

    def unfold(self, linear: Linear) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights [D, T] and bias [T] on embeddings as they come, of ones on coordinates."""
        weights, bias = linear
        folded = (self._few.T @ (self._inverse.T @ weights.astype(np.float32))) / self._rows.scale[:, None]
        return folded.astype(np.float64), bias - self._rows.center.astype(np.float64) @ folded


def _evenly(y: Bools) -> NDArray[np.int64]:
    """Rows in an order whose every beginning has of each tag about as many as of any other."""
    rank = np.zeros(len(y), np.int64)
    stratum = _strata(y)
    for tag in np.unique(stratum):
        rows = np.flatnonzero(stratum == tag)
        rank[rows] = np.arange(len(rows))
    return np.argsort(rank, kind="stable")


def assign_folds(labels: Bools) -> NDArray[np.int64]:
    """Stratified folds [N] of rows sorted by key: each row counts for the rarest tag it carries."""
    count = min(FOLDS, max(2, len(labels)))
    stratum = _strata(labels)
    folds = np.zeros(len(labels), np.int64)
    shift = 0
    for tag in np.unique(stratum):
        rows = np.flatnonzero(stratum == tag)
        folds[rows] = (np.arange(len(rows)) + shift) % count
        shift += len(rows)
    return folds


def _strata(labels: Bools) -> NDArray[np.int64]:
    """The rarest tag [N] that each row carries; -1 for none."""
    stratum = np.full(len(labels), -1)
    for tag in labels.sum(0).argsort(kind="stable")[::-1]:
        stratum[labels[:, tag]] = tag
    return stratum
