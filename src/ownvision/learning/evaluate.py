"""Precision, recall and average precision of scored predictions against the truth.

Overall precision and recall are micro-averaged (all predictions of all tags together); overall average precision is the
mean over the tags that occur. Precision without any prediction is 0, as the original shows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """Boxes on one image.

    Attributes:
        boxes: float32 [K, 4] left, top, width, height, relative to the picture, 0 to 1.
        scores: float32 [K], 0 to 1.
        tags: int64 [K], positions in the model's list of tags.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    tags: NDArray[np.int64]


@dataclass(frozen=True)
class TagPerformance:
    """Of one tag; each 0 to 1, with its standard deviation over folds where there are folds."""

    precision: float
    recall: float
    average_precision: float
    precision_std: float = 0.0
    recall_std: float = 0.0


@dataclass(frozen=True)
class Performance:
    """Of a model: overall and per tag, in the order of its tags."""

    precision: float
    recall: float
    average_precision: float
    precision_std: float = 0.0
    recall_std: float = 0.0
    per_tag: list[TagPerformance] = field(default_factory=list)


def classification(
    scores: NDArray[np.floating],
    truth: NDArray[np.bool_],
    threshold: float,
    folds: NDArray[np.int64] | None = None,
) -> Performance:
    """Performance of a classifier.

    Args:
        scores: [N, T] probabilities.
        truth: bool [N, T].
        threshold: A probability at or above it is a positive prediction.
        folds: [N], for the standard deviations.
    """
    said = scores >= threshold
    hits, said_count, true_count = (said & truth).sum(0), said.sum(0), truth.sum(0)
    per_tag = [
        TagPerformance(
            _share(hits[tag], said_count[tag]),
            _share(hits[tag], true_count[tag]),
            average_precision(scores[:, tag], truth[:, tag]),
            *_spread(said[:, tag : tag + 1], truth[:, tag : tag + 1], folds),
        )
        for tag in range(truth.shape[1])
    ]
    present = [tag.average_precision for tag, count in zip(per_tag, true_count, strict=True) if count]
    return Performance(
        _share(hits.sum(), said_count.sum()),
        _share(hits.sum(), true_count.sum()),
        float(np.mean(present)) if present else 0.0,
        *_spread(said, truth, folds),
        per_tag=per_tag,
    )


def _spread(said: NDArray[np.bool_], truth: NDArray[np.bool_], folds: NDArray[np.int64] | None) -> tuple[float, float]:
    """Standard deviations over folds of precision and of recall, all columns together."""
    if folds is None:
        return 0.0, 0.0
    precisions, recalls = [], []
    for number in np.unique(folds):
        s, t = said[folds == number], truth[folds == number]
        precisions.append(_share((s & t).sum(), s.sum()))
        recalls.append(_share((s & t).sum(), t.sum()))
    return float(np.std(precisions)), float(np.std(recalls))


def average_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve as the sum of its steps (equal scores are one step); 0 without truth."""
    positives = int(truth.sum())
    if not positives:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    last_of_equals = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = hits[last_of_equals]
    precision = hits / (last_of_equals + 1)
    recall = hits / positives
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def detection(
    predictions: Sequence[Detections], truth: Sequence[Detections], tags: int, threshold: float, overlap: float
) -> Performance:
    """Performance of a detector; matching is COCO's: best score first, each box of the truth once.

    Args:
        predictions: Per image, after suppression.
        truth: Per image; its scores are not looked at.
        tags: How many tags there are.
        threshold: A box at or above it counts for precision and recall.
        overlap: Least intersection over union for a hit; average precision is taken at it, too.
    """
    per_tag, hits, said, true = [], 0, 0, 0
    present = []
    for tag in range(tags):
        scores, matched, positives = _matched(predictions, truth, tag, overlap)
        above = scores >= threshold
        tag_hits = int((matched & above).sum())
        per_tag.append(
            TagPerformance(
                _share(tag_hits, above.sum()), _share(tag_hits, positives), _interpolated(scores, matched, positives)
            )
        )
        hits, said, true = hits + tag_hits, said + int(above.sum()), true + positives
        if positives:
            present.append(per_tag[-1].average_precision)
    return Performance(
        _share(hits, said), _share(hits, true), float(np.mean(present)) if present else 0.0, per_tag=per_tag
    )


def _matched(
    predictions: Sequence[Detections], truth: Sequence[Detections], tag: int, overlap: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_], int]:
    scores, matched, positives = [], [], 0
    for said, real in zip(predictions, truth, strict=True):
        boxes = real.boxes[real.tags == tag]
        positives += len(boxes)
        chosen = np.flatnonzero(said.tags == tag)
        chosen = chosen[np.argsort(-said.scores[chosen], kind="stable")]
        overlaps = iou(said.boxes[chosen], boxes)
        free = np.ones(len(boxes), bool)
        for row, index in enumerate(chosen):
            candidates = np.where(free, overlaps[row], -1.0)
            best = int(np.argmax(candidates)) if len(boxes) else -1
            hit = best >= 0 and candidates[best] >= overlap
            if hit:
                free[best] = False
            scores.append(said.scores[index])
            matched.append(hit)
    return np.array(scores, np.float32), np.array(matched, bool), positives


def _interpolated(scores: NDArray[np.float32], matched: NDArray[np.bool_], positives: int) -> float:
    """COCO's average precision: the mean of the interpolated precision at 101 recalls (Lin et al. 2014)."""
    if not positives or not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(matched[order])
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    recall = hits / positives
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, 0.0)[np.minimum(at, len(precision))].mean())


def iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union [K, M] of boxes [K, 4] and [M, 4], left, top, width, height."""
    a64, b64 = a.astype(np.float64).reshape(-1, 1, 4), b.astype(np.float64).reshape(1, -1, 4)
    width = np.minimum(a64[..., 0] + a64[..., 2], b64[..., 0] + b64[..., 2]) - np.maximum(a64[..., 0], b64[..., 0])
    height = np.minimum(a64[..., 1] + a64[..., 3], b64[..., 1] + b64[..., 3]) - np.maximum(a64[..., 1], b64[..., 1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    union = a64[..., 2] * a64[..., 3] + b64[..., 2] * b64[..., 3] - common
    overlap: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlap


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
