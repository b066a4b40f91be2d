"""How good an iteration is, at any threshold: from the scores that training kept of images its model had not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from ownvision.domains import CLASSIFICATION, DOMAINS
from ownvision.learning import evaluate
from ownvision.learning.evaluate import Detections, Performance
from ownvision.services import images as image_service
from ownvision.services import iterations
from ownvision.services import tags as tag_service
from ownvision.services.images import ImageView, valid_at
from ownvision.services.predictions import boxed, labelled
from ownvision.store.tables import Image, ImageTag, Iteration, Project, ScoredImage

THRESHOLD, OVERLAP = 0.5, 0.3


def of_iteration(
    session: Session, project: Project, iteration_id: str, threshold: float = THRESHOLD, overlap: float = OVERLAP
) -> dict[str, Any]:
    """`IterationPerformance` in the wire's shape.

    Args:
        session: Of a transaction.
        project: The iteration's.
        iteration_id: A completed iteration.
        threshold: Least probability of a positive prediction, 0 to 1.
        overlap: Least intersection over union of a hit (detection), 0 to 1.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained.
    """
    iteration = iterations.trained(session, project, iteration_id)
    if iteration.origin is not None:
        # Measured by another service, at its own thresholds: how it averages is not known.
        return dict(iteration.origin["performance"])
    tags = iterations.learned_tags(session, iteration_id)
    measured = measure(session, iteration, len(tags), threshold, overlap)
    return {
        "perTagPerformance": [
            {
                "id": tag.tag_id,
                "name": tag.name,
                "precision": one.precision,
                "precisionStdDeviation": one.precision_std,
                "recall": one.recall,
                "recallStdDeviation": one.recall_std,
                "averagePrecision": one.average_precision,
            }
            for tag, one in zip(tags, measured.per_tag, strict=True)
        ],
        "precision": measured.precision,
        "precisionStdDeviation": measured.precision_std,
        "recall": measured.recall,
        "recallStdDeviation": measured.recall_std,
        "averagePrecision": measured.average_precision,
    }


def measure(session: Session, iteration: Iteration, tags: int, threshold: float, overlap: float) -> Performance:
    """Precision, recall and average precision of a completed iteration of so many tags."""
    return kept(session, iteration, tags).performance(threshold, overlap)


@dataclass(frozen=True)
class Kept:
    """The scores that training kept, beside the truth. One of `labels` and `boxes` is there.

    Attributes:
        tags: How many the model knows.
        images: Ids; None of an image that was erased everywhere.
        folds: int64 [N], which fold each image was held out in.
        labels: Of a classifier probabilities float32 [N, T] and truth bool [N, T].
        boxes: Of a detector predictions and truth, each per image.
    """

    tags: int
    images: list[str | None]
    folds: NDArray[np.int64]
    labels: tuple[NDArray[np.float32], NDArray[np.bool_]] | None
    boxes: tuple[list[Detections], list[Detections]] | None

    def performance(self, threshold: float, overlap: float) -> Performance:
        """Precision, recall and average precision."""
        if self.labels is not None:
            return evaluate.classification(*self.labels, threshold, self.folds)
        predictions, truth = self.boxes or ([], [])
        return evaluate.detection(predictions, truth, self.tags, threshold, overlap)


def kept(session: Session, iteration: Iteration, tags: int) -> Kept:
    """All scores of a completed iteration of so many tags."""
    scored = session.execute(
        select(ScoredImage.image_id, ScoredImage.scores, ScoredImage.truth, ScoredImage.fold)
        .where(*_current(iteration))
        .order_by(ScoredImage.id)
    ).all()
    images, folds = [row.image_id for row in scored], np.array([row.fold for row in scored], np.int64)
    if DOMAINS[iteration.domain_id].type != CLASSIFICATION:
        boxes = [_predicted(row.scores) for row in scored], [_real(row.truth) for row in scored]
        return Kept(tags, images, folds, None, boxes)
    labels = (
        np.frombuffer(b"".join(row.scores for row in scored), "<f4").reshape(-1, tags),
        np.frombuffer(b"".join(row.truth for row in scored), np.uint8).reshape(-1, tags).astype(bool),
    )
    return Kept(tags, images, folds, labels, None)


def images(
    session: Session,
    project: Project,
    iteration_id: str,
    tag_ids: Sequence[str] = (),
    newest: bool = True,
    take: int = 50,
    skip: int = 0,
) -> list[tuple[ImageView, list[dict[str, Any]]]]:
    """One page of the images that training has scored, each with its predictions in the wire's shape.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained.
    """
    iteration = iterations.trained(session, project, iteration_id)
    order = Image.seq.desc() if newest else Image.seq.asc()
    found = session.execute(_scored(iteration, tag_ids).order_by(order).offset(skip).limit(take)).all()
    return _predicted_images(session, project, iteration, found)


def following(
    session: Session, project: Project, iteration_id: str, seq: int, take: int
) -> list[tuple[ImageView, list[dict[str, Any]]]]:
    """`images` by their `seq`, those beyond one: the cost of a page does not grow with its number.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained.
    """
    iteration = iterations.trained(session, project, iteration_id)
    found = session.execute(_scored(iteration, ()).where(Image.seq > seq).order_by(Image.seq).limit(take)).all()
    return _predicted_images(session, project, iteration, found)


def chosen(
    session: Session, project: Project, iteration: Iteration, image_ids: Sequence[str]
) -> list[tuple[ImageView, list[dict[str, Any]]]]:
    """`images` that are named, in the order named; those that are not there are passed over."""
    found = session.execute(_scored(iteration, ()).where(Image.id.in_(image_ids))).all()
    place = {image_id: number for number, image_id in enumerate(image_ids)}
    found = sorted(found, key=lambda row: place[row.Image.id])
    return _predicted_images(session, project, iteration, found)


def _predicted_images(
    session: Session, project: Project, iteration: Iteration, found: Sequence[Any]
) -> list[tuple[ImageView, list[dict[str, Any]]]]:
    tags = iterations.learned_tags(session, iteration.id)
    shown = image_service.views(
        session,
        project,
        [row.Image for row in found],
        iteration.revision,
        tag_service.names(session, project, iteration.id),
    )
    classifies = DOMAINS[iteration.domain_id].type == CLASSIFICATION
    return [
        (
            view,
            labelled(np.frombuffer(row.scores, "<f4"), tags) if classifies else boxed(_predicted(row.scores), tags),
        )
        for view, row in zip(shown, found, strict=True)
    ]


def image_count(session: Session, project: Project, iteration_id: str, tag_ids: Sequence[str] = ()) -> int:
    """How many images `images` would page through.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained.
    """
    iteration = iterations.trained(session, project, iteration_id)
    query = _scored(iteration, tag_ids).with_only_columns(Image.seq)
    return session.scalar(select(func.count()).select_from(query.subquery())) or 0


def _current(iteration: Iteration) -> list[ColumnElement[bool]]:
    """Scores of the model that the iteration has in this very statement: it may be replaced between two."""
    model = select(Iteration.model_id).where(Iteration.id == iteration.id).scalar_subquery()
    return [ScoredImage.iteration_id == iteration.id, ScoredImage.model_id == model]


def _scored(iteration: Iteration, tag_ids: Sequence[str]) -> Select[Image, bytes]:
    conditions = _current(iteration)
    if tag_ids:
        carries = select(ImageTag.id).where(
            ImageTag.image_seq == Image.seq, ImageTag.tag_id.in_(tag_ids), valid_at(ImageTag, iteration.revision)
        )
        conditions.append(carries.exists())
    return select(Image, ScoredImage.scores).join(ScoredImage, ScoredImage.image_id == Image.id).where(*conditions)


def _predicted(scores: bytes) -> Detections:
    """From [K, 6] rows of (tag position, probability, left, top, width, height)."""
    found: NDArray[np.float32] = np.frombuffer(scores, "<f4").reshape(-1, 6)
    return Detections(found[:, 2:], found[:, 1], found[:, 0].astype(np.int64))


def _real(truth: bytes) -> Detections:
    """From [K, 5] rows of (tag position, left, top, width, height)."""
    boxes: NDArray[np.float32] = np.frombuffer(truth, "<f4").reshape(-1, 5)
    return Detections(boxes[:, 1:], np.ones(len(boxes), np.float32), boxes[:, 0].astype(np.int64))
