"""How good an iteration is in detail: confusion, curves, the images it is most wrong about, two iterations compared.

All from the scores that training kept of images its model had not seen; averaging is as in `learning.evaluate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.learning import evaluate
from ownvision.learning.evaluate import Detections, Performance
from ownvision.services import iterations, performance
from ownvision.services.images import ImageView
from ownvision.services.performance import Kept
from ownvision.store.tables import Iteration, IterationTag, Project

MULTICLASS = "Multiclass"
# Cells of a confusion matrix that are told, the largest first: all of 99 tags.
CELLS = 10_000
POINTS = 50
_CHANGED = 1_000

Wrong = tuple[ImageView, list[dict[str, Any]], float]


@dataclass(frozen=True)
class _Measured:
    iteration: Iteration
    tags: list[IterationTag]
    kept: Kept


def detail(session: Session, project: Project, iteration_id: str, threshold: float, overlap: float) -> dict[str, Any]:
    """Figures per tag and of all with their spread over folds, and the confusion matrix.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained.
    """
    one = _measured(session, project, iteration_id)
    found = one.kept.performance(threshold, overlap)
    matrix = _confusion(one, threshold, overlap)
    ids = [tag.tag_id for tag in one.tags]
    return {
        "iterationId": one.iteration.id,
        "threshold": threshold,
        "overlapThreshold": None if one.kept.boxes is None else overlap,
        "images": len(one.kept.images),
        "folds": len(np.unique(one.kept.folds)),
        **_figures(found),
        "perTag": [
            {"tagId": tag.tag_id, "name": tag.name, "count": count, **_figures(figures)}
            for tag, figures, count in zip(one.tags, found.per_tag, _occurrences(one.kept), strict=True)
        ],
        "confusion": _cells(matrix, ids),
    }


def curves(
    session: Session, project: Project, iteration_id: str, overlap: float, points: int = POINTS
) -> list[dict[str, Any]]:
    """Precision and recall of each tag as the threshold falls, at most so many points of each.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained.
    """
    one = _measured(session, project, iteration_id)
    if one.kept.labels is not None:
        found = evaluate.classification_curves(*one.kept.labels, points)
    else:
        found = evaluate.detection_curves(*_boxes(one.kept), len(one.tags), overlap, points)
    return [
        {
            "tagId": tag.tag_id,
            "name": tag.name,
            "points": [
                {"threshold": point.threshold, "precision": point.precision, "recall": point.recall} for point in curve
            ],
        }
        for tag, curve in zip(one.tags, found, strict=True)
    ]


def most_wrong(
    session: Session, project: Project, iteration_id: str, overlap: float, take: int, skip: int
) -> list[Wrong]:
    """A page of the images that are still there, those the iteration is most wrong about first, each with how much.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained.
    """
    one = _measured(session, project, iteration_id)
    errors = _errors(one.kept, overlap)
    there = [row for row in np.argsort(-errors, kind="stable") if one.kept.images[row] is not None]
    wrong = {str(one.kept.images[row]): float(errors[row]) for row in there[skip : skip + take]}
    shown = performance.chosen(session, project, one.iteration, list(wrong))
    return [(view, predictions, wrong[view.image.id]) for view, predictions in shown]


def compare(
    session: Session, project: Project, iteration_id: str, other_id: str, threshold: float, overlap: float
) -> dict[str, Any]:
    """Two iterations on the images that both have scores of, and the tags that both know.

    What is true is what the later revision says, for both.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained; BadRequest: they are of different kinds, or
            have no image or tag in common.
    """
    pair = [_measured(session, project, one) for one in (iteration_id, other_id)]
    if (pair[0].kept.boxes is None) != (pair[1].kept.boxes is None):
        raise OwnVisionError("BadRequest", "A classifier and a detector can't be compared.")
    known = {tag.tag_id: tag.name for tag in pair[1].tags}
    tags = [tag for tag in pair[0].tags if tag.tag_id in known]
    rows = [{image: row for row, image in enumerate(one.kept.images) if image is not None} for one in pair]
    images = [image for image in rows[0] if image in rows[1]]
    if not tags or not images:
        raise OwnVisionError(
            "BadRequest", f"{pair[0].iteration.name} and {pair[1].iteration.name} share no held-out image, or no tag."
        )
    columns = [{tag.tag_id: place for place, tag in enumerate(one.tags)} for one in pair]
    both = [
        _narrowed(one.kept, [row[image] for image in images], [column[tag.tag_id] for tag in tags])
        for one, row, column in zip(pair, rows, columns, strict=True)
    ]
    later = int(pair[1].iteration.revision > pair[0].iteration.revision)
    both = [_with_truth(one, both[later]) for one in both]
    figures = [one.performance(threshold, overlap) for one in both]
    right = [_right(one, pair[0].iteration.classification_type, threshold, overlap) for one in both]
    gained, lost = right[0] & ~right[1], ~right[0] & right[1]
    return {
        "images": len(images),
        "iterations": [
            {
                "iterationId": one.iteration.id,
                "name": one.iteration.name,
                "rightImages": int(hits.sum()),
                **_figures(found),
                "perTag": [
                    {"tagId": tag.tag_id, "name": tag.name, **_figures(per_tag)}
                    for tag, per_tag in zip(tags, found.per_tag, strict=True)
                ],
            }
            for one, found, hits in zip(pair, figures, right, strict=True)
        ],
        "onlyFirstRight": [images[row] for row in np.flatnonzero(gained)[:_CHANGED]],
        "onlySecondRight": [images[row] for row in np.flatnonzero(lost)[:_CHANGED]],
        "onlyFirstRightCount": int(gained.sum()),
        "onlySecondRightCount": int(lost.sum()),
    }


def _measured(session: Session, project: Project, iteration_id: str) -> _Measured:
    iteration = iterations.with_model(session, project, iteration_id)
    tags = iterations.learned_tags(session, iteration_id)
    return _Measured(iteration, tags, performance.kept(session, iteration, len(tags)))


def _figures(found: Performance | evaluate.TagPerformance) -> dict[str, float]:
    return {
        "precision": found.precision,
        "precisionStdDeviation": found.precision_std,
        "recall": found.recall,
        "recallStdDeviation": found.recall_std,
        "averagePrecision": found.average_precision,
        "averagePrecisionStdDeviation": found.average_precision_std,
    }


def _boxes(kept: Kept) -> tuple[list[Detections], list[Detections]]:
    return kept.boxes or ([], [])


def _occurrences(kept: Kept) -> list[int]:
    if kept.labels is not None:
        return [int(count) for count in kept.labels[1].sum(0)]
    tags = [real.tags for real in _boxes(kept)[1]]
    counts = np.bincount(np.concatenate(tags) if tags else np.zeros(0, np.int64), minlength=kept.tags)
    return [int(count) for count in counts]


def _confusion(one: _Measured, threshold: float, overlap: float) -> NDArray[np.int64]:
    if one.kept.labels is None:
        return evaluate.detection_confusion(*_boxes(one.kept), one.kept.tags, threshold, overlap)
    count = evaluate.single_confusion if one.iteration.classification_type == MULTICLASS else evaluate.several_confusion
    return count(*one.kept.labels, threshold)


def _cells(matrix: NDArray[np.int64], ids: Sequence[str]) -> list[dict[str, Any]]:
    """The cells that are not empty, the fullest first; beyond the tags, background or none, stands None."""
    rows, columns = np.nonzero(matrix)
    order = np.argsort(-matrix[rows, columns], kind="stable")[:CELLS]
    name = [*ids, None]
    return [
        {"tagId": name[row], "predictedTagId": name[column], "count": int(matrix[row, column])}
        for row, column in zip(rows[order], columns[order], strict=True)
    ]


def _errors(kept: Kept, overlap: float) -> NDArray[np.float64]:
    if kept.labels is not None:
        return evaluate.classification_errors(*kept.labels)
    return evaluate.detection_errors(*_boxes(kept), overlap)


def _narrowed(kept: Kept, rows: Sequence[int], columns: Sequence[int]) -> Kept:
    """Only these images and tags, in this order."""
    images, folds = [kept.images[row] for row in rows], kept.folds[list(rows)]
    if kept.labels is not None:
        chosen = np.ix_(rows, columns)
        return Kept(len(columns), images, folds, (kept.labels[0][chosen], kept.labels[1][chosen]), None)
    predictions, truths = ([_renumbered(one[row], columns) for row in rows] for one in _boxes(kept))
    return Kept(len(columns), images, folds, None, (predictions, truths))


def _renumbered(boxes: Detections, columns: Sequence[int]) -> Detections:
    keep = np.isin(boxes.tags, columns)
    place = {tag: number for number, tag in enumerate(columns)}
    tags = np.array([place[tag] for tag in boxes.tags[keep].tolist()], np.int64)
    return Detections(boxes.boxes[keep], boxes.scores[keep], tags)


def _with_truth(one: Kept, other: Kept) -> Kept:
    if one.labels is not None and other.labels is not None:
        return Kept(one.tags, one.images, one.folds, (one.labels[0], other.labels[1]), None)
    return Kept(one.tags, one.images, one.folds, None, (_boxes(one)[0], _boxes(other)[1]))


def _right(kept: Kept, kind: str, threshold: float, overlap: float) -> NDArray[np.bool_]:
    """Of which images all is right: the most probable tag; all tags; all boxes and none too many."""
    if kept.labels is None:
        return evaluate.detection_right(*_boxes(kept), threshold, overlap)
    scores, labels = kept.labels
    if kind == MULTICLASS:
        return np.asarray(labels[np.arange(len(labels)), scores.argmax(1)])
    return np.asarray(((scores >= threshold) == labels).all(1))
