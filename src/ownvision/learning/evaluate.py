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
    average_precision_std: float = 0.0


@dataclass(frozen=True)
class Performance:
    """Of a model: overall and per tag, in the order of its tags."""

    precision: float
    recall: float
    average_precision: float
    precision_std: float = 0.0
    recall_std: float = 0.0
    average_precision_std: float = 0.0
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
            *_spread(scores[:, tag : tag + 1], truth[:, tag : tag + 1], threshold, folds),
        )
        for tag in range(truth.shape[1])
    ]
    present = [tag.average_precision for tag, count in zip(per_tag, true_count, strict=True) if count]
    return Performance(
        _share(hits.sum(), said_count.sum()),
        _share(hits.sum(), true_count.sum()),
        float(np.mean(present)) if present else 0.0,
        *_spread(scores, truth, threshold, folds),
        per_tag=per_tag,
    )


def _spread(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], threshold: float, folds: NDArray[np.int64] | None
) -> tuple[float, float, float]:
    """Standard deviations over folds of precision, recall and mean average precision, all columns together."""
    if folds is None:
        return 0.0, 0.0, 0.0
    found = []
    for number in np.unique(folds):
        p, t = scores[folds == number], truth[folds == number]
        s = p >= threshold
        aps = [average_precision(p[:, tag], t[:, tag]) for tag in np.flatnonzero(t.any(0))]
        hits = (s & t).sum()
        found.append((_share(hits, s.sum()), _share(hits, t.sum()), float(np.mean(aps)) if aps else 0.0))
    precision, recall, average = np.std(found, axis=0)
    return float(precision), float(recall), float(average)


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


@dataclass(frozen=True)
class Operating:
    """What one threshold gives: a point of a precision-recall curve."""

    threshold: float
    precision: float
    recall: float


def curve(scores: NDArray[np.floating], hits: NDArray[np.bool_], positives: int, most: int = 50) -> list[Operating]:
    """The precision-recall curve, from the highest threshold to the lowest.

    Args:
        scores: [K] of all predictions.
        hits: [K] which of them are right.
        positives: How many there are to be found.
        most: How many points at most: chosen so that they lie evenly in recall.
    """
    if not positives or not len(scores):
        return []
    order = np.argsort(-scores, kind="stable")
    ordered, found = scores[order], np.cumsum(hits[order])
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    recall = found[ends] / positives
    if len(ends) > most:
        # Of each step of recall the first, which has the best precision; and the very last.
        chosen = np.searchsorted(recall, np.linspace(recall[0], recall[-1], most - 1))
        chosen = np.unique(np.append(chosen, len(ends) - 1))
    else:
        chosen = np.arange(len(ends))
    return [Operating(float(ordered[ends[i]]), float(found[ends[i]] / (ends[i] + 1)), float(recall[i])) for i in chosen]


def classification_curves(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], most: int = 50
) -> list[list[Operating]]:
    """`curve` of each tag of a classifier; arguments as of `classification`."""
    return [curve(scores[:, tag], truth[:, tag], int(truth[:, tag].sum()), most) for tag in range(truth.shape[1])]


def detection_curves(
    predictions: Sequence[Detections], truth: Sequence[Detections], tags: int, overlap: float, most: int = 50
) -> list[list[Operating]]:
    """`curve` of each tag of a detector; arguments as of `detection`."""
    return [curve(*_matched(predictions, truth, tag, overlap), most) for tag in range(tags)]


def single_confusion(scores: NDArray[np.floating], truth: NDArray[np.bool_], threshold: float) -> NDArray[np.int64]:
    """Confusion matrix [T, T + 1] of one tag per image: rows are true tags, columns the most probable ones.

    The last column counts the images of which no tag reaches the threshold.
    """
    tags = truth.shape[1]
    said = np.where(scores.max(1) >= threshold, scores.argmax(1), tags)
    return _counted(truth.argmax(1), said, (tags, tags + 1))


def several_confusion(scores: NDArray[np.floating], truth: NDArray[np.bool_], threshold: float) -> NDArray[np.int64]:
    """Confusion matrix [T + 1, T + 1] of several tags per image.

    Each true tag counts as found or as missed (last column), each other tag that was said as too many (last row): which
    tag was taken for which is not to be known.
    """
    tags, said = truth.shape[1], scores >= threshold
    matrix = np.zeros((tags + 1, tags + 1), np.int64)
    matrix[np.arange(tags), np.arange(tags)] = (said & truth).sum(0)
    matrix[:tags, tags] = (~said & truth).sum(0)
    matrix[tags, :tags] = (said & ~truth).sum(0)
    return matrix


def detection_confusion(
    predictions: Sequence[Detections], truth: Sequence[Detections], tags: int, threshold: float, overlap: float
) -> NDArray[np.int64]:
    """Confusion matrix [T + 1, T + 1] of a detector, the last row and column being background.

    Boxes of whatever tag are matched, best score first, each to the free box of the truth that it overlaps most. A box
    without one counts in the last row, a box of the truth that nobody found in the last column.
    """
    real_tags, said_tags = [], []
    for said, real in zip(predictions, truth, strict=True):
        matched, free = _matched_of_any_tag(said, real, threshold, overlap)
        real_tags += [int(real.tags[place]) if place >= 0 else tags for _, place in matched]
        said_tags += [int(said.tags[index]) for index, _ in matched]
        real_tags += real.tags[free].tolist()
        said_tags += [tags] * int(free.sum())
    return _counted(np.array(real_tags, np.int64), np.array(said_tags, np.int64), (tags + 1, tags + 1))


def _matched_of_any_tag(
    said: Detections, real: Detections, threshold: float, overlap: float
) -> tuple[list[tuple[int, int]], NDArray[np.bool_]]:
    """Pairs of (prediction, box of the truth or -1), and which boxes of the truth stay free."""
    chosen = np.flatnonzero(said.scores >= threshold)
    chosen = chosen[np.argsort(-said.scores[chosen], kind="stable")]
    overlaps = iou(said.boxes[chosen], real.boxes)
    free = np.ones(len(real.boxes), bool)
    matched = []
    for row, index in enumerate(chosen):
        candidates = np.where(free, overlaps[row], -1.0)
        best = int(np.argmax(candidates)) if len(candidates) else -1
        if best >= 0 and candidates[best] >= overlap:
            free[best] = False
        else:
            best = -1
        matched.append((int(index), best))
    return matched, free


def _counted(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    matrix = np.zeros(shape, np.int64)
    np.add.at(matrix, (rows, columns), 1)
    return matrix


def classification_errors(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How wrong a classifier is of each image [N], 0 to 1: the largest distance of a probability from the truth."""
    return np.asarray(np.abs(np.asarray(scores, np.float64) - truth).max(1, initial=0.0))


def detection_errors(
    predictions: Sequence[Detections], truth: Sequence[Detections], overlap: float
) -> NDArray[np.float64]:
    """How wrong a detector is of each image [N], 0 to 1.

    The largest of: the score of a box that is not there or has another tag; 1 - score of a box that is there, which is
    1 where nothing was found.
    """
    errors = np.zeros(len(predictions))
    for row, (said, real) in enumerate(zip(predictions, truth, strict=True)):
        matched, free = _matched_of_any_tag(said, real, 0.0, overlap)
        worst = 1.0 if free.any() else 0.0
        for index, place in matched:
            right = place >= 0 and real.tags[place] == said.tags[index]
            score = float(said.scores[index])
            worst = max(worst, 1 - score if right else score)
        errors[row] = worst
    return errors


def detection_right(
    predictions: Sequence[Detections], truth: Sequence[Detections], threshold: float, overlap: float
) -> NDArray[np.bool_]:
    """Of which images [N] every box is found, with its tag, and none too many; arguments as of `detection`."""
    right = np.zeros(len(predictions), bool)
    for row, (said, real) in enumerate(zip(predictions, truth, strict=True)):
        matched, free = _matched_of_any_tag(said, real, threshold, overlap)
        right[row] = not free.any() and all(
            place >= 0 and real.tags[place] == said.tags[index] for index, place in matched
        )
    return right
