"""Predictions: make one, keep it with its image until it expires, query, delete."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, and_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.inference import Classification
from ownvision.learning import pixels, uncertainty
from ownvision.learning.evaluate import Detections
from ownvision.limits import Limits
from ownvision.services import models, paging
from ownvision.services.components import Components
from ownvision.services.intake import within
from ownvision.services.paging import Order, Position
from ownvision.store import ledger, tally
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.keys import KeyMissing
from ownvision.store.tables import Iteration, IterationTag, Prediction, Project
from ownvision.store.tables.base import now

Predicted = dict[str, Any]

_CODE_BY_REASON = {
    "format": "BadRequestImageFormat",
    "truncated": "BadRequestImageFormat",
    "dimensions": "BadRequestImageDimensions",
    "aspect": "BadRequestImageAspectRatio",
}
_SIDES = ("left", "top", "width", "height")
_BATCH = 500


_SESSION = 2  # the kind of session that the original's tokens name
_ORDERS = {
    "newest": Order(Prediction.created, Prediction.id, False, paging.moment),
    "oldest": Order(Prediction.created, Prediction.id, True, paging.moment),
    "suggested": Order(Prediction.uncertainty, Prediction.id, False, paging.number),
}


def predict(
    components: Components, iteration: Iteration, tags: Sequence[IterationTag], data: bytes
) -> tuple[list[Predicted], pixels.ImageInfo]:
    """Predict one encoded image with a completed iteration.

    Args:
        components: With the model cache.
        iteration: Which one.
        tags: The iteration's, for names and types; in any order.
        data: The image file.

    Returns:
        Predictions in the wire's shape, and the picture's size and format. Classification: every tag, most probable
        first. Detection: boxes by tag, within a tag most probable first.

    Raises:
        OwnVisionError: BadRequestImage… for a bad image; ErrorPredictionModelNotFound.
    """
    if not data:
        raise OwnVisionError("BadRequestImageStream", "The request holds no image.")
    limits = components.settings.limits
    try:
        info = pixels.inspect(data)
        if not within(info, limits):
            raise pixels.BadImage(
                "dimensions",
                f"The image is {info.width} × {info.height}; its longer side may have {limits.image_side} pixels, and "
                f"{limits.image_aspect:g} times the shorter.",
            )
        model = components.models.get(iteration.id, lambda: models.read(components, iteration), iteration.model_id)
        found = model.predict(data)
    except pixels.BadImage as error:
        raise OwnVisionError(_CODE_BY_REASON[error.reason], str(error)) from None
    except (BlobMissing, BlobDamaged, KeyMissing):
        raise OwnVisionError(
            "ErrorPredictionModelNotFound", f"The model of {iteration.name} can't be read; `ownvision doctor` says why."
        ) from None
    known = {tag.tag_id: tag for tag in tags}
    ordered = [known[tag_id] for tag_id in model.tag_ids]
    if isinstance(found, Classification):
        return labelled(found.probabilities, ordered), info
    return boxed(found, ordered)[: limits.predicted_regions], info


def labelled(probabilities: NDArray[np.float32], tags: Sequence[IterationTag]) -> list[Predicted]:
    """A classifier's answer in the wire's shape, most probable first."""
    order = np.argsort(-probabilities, kind="stable")
    return [_shape(float(probabilities[position]), tags[position]) for position in order]


def boxed(found: Detections, tags: Sequence[IterationTag]) -> list[Predicted]:
    """A detector's answer in the wire's shape: by tag, within a tag most probable first."""
    order = np.lexsort((-found.scores, found.tags))
    return [
        _shape(float(found.scores[row]), tags[found.tags[row]], [float(side) for side in found.boxes[row]])
        for row in order
    ]


def _shape(probability: float, tag: IterationTag, box: Sequence[float] | None = None) -> Predicted:
    shape: Predicted = {"probability": probability, "tagId": tag.tag_id, "tagName": tag.name}
    if box is not None:
        shape["boundingBox"] = dict(zip(_SIDES, box, strict=True))
    return {**shape, "tagType": tag.type}


def kept(found: Sequence[Predicted]) -> list[Predicted]:
    """What is stored of predictions; names and types are not, they are the iteration's."""
    return [{key: one[key] for key in ("probability", "tagId", "boundingBox") if key in one} for one in found]


def doubt(found: Sequence[Predicted], *, exclusive: bool) -> float:
    """The entropy of a prediction in the wire's shape, in bits."""
    probabilities = [one["probability"] for one in found]
    if found and "boundingBox" in found[0]:
        return uncertainty.of_boxes(probabilities)
    return uncertainty.of_classes(probabilities, exclusive=exclusive) if found else 0.0


def store(
    components: Components,
    account_id: str,
    project: Project,
    iteration: Iteration,
    data: bytes,
    info: pixels.ImageInfo,
    predictions: Sequence[Predicted],
    prediction_id: str,
    application: str | None,
) -> Prediction:
    """Keep an image with what was predicted for it; names are not kept, they are the iteration's.

    Raises:
        OwnVisionError: BadRequestExceededQuota; NotFoundIteration, when it was deleted meanwhile: nothing is kept.
    """
    prefix = ledger.prediction_prefix(project.id, prediction_id)
    ledger.reserve(components.database, [(prefix, "prediction", account_id, project.id)])
    try:
        components.blobs.put_new(prefix + "original", data)
    except KeyMissing:
        raise OwnVisionError("NotFoundProject", f"Project {project.id} was deleted meanwhile.") from None
    with components.database.write() as session:
        there = select(Iteration.id).join(Project, Project.id == Iteration.project_id)
        if session.scalar(there.where(Iteration.id == iteration.id, Project.closed.is_(None))) is None:
            ledger.doom(session, [prefix])
            session.commit()
            raise OwnVisionError("NotFoundIteration", "Invalid iteration")
        ledger.make_live(session, [prefix])
        row = Prediction(
            id=prediction_id,
            project_id=project.id,
            iteration_id=iteration.id,
            domain_id=iteration.domain_id,
            application=application,
            created=now(),
            uncertainty=doubt(predictions, exclusive=iteration.classification_type == "Multiclass"),
            predictions=kept(predictions),
            sha256=hashlib.sha256(data).hexdigest(),
            width=info.width,
            height=info.height,
            size=len(data),
            format=info.format,
        )
        session.add(row)
    return row


def query(
    session: Session, project: Project, token: Mapping[str, Any], limits: Limits
) -> tuple[dict[str, Any], list[Prediction]]:
    """One page of the stored predictions, and the token that leads to the next.

    A session sees what was there when it began. `Suggested` is the most doubtful first: the ones that teach most.

    Args:
        session: Of a transaction.
        project: Whose.
        token: `PredictionQueryToken` by its wire names; dates are datetimes.
        limits: For the largest page, which is also the default.

    Raises:
        OwnVisionError: BadRequestPrediction….
    """
    wanted = token.get("tags") or []
    size = token.get("maxCount") or limits.page
    if len(wanted) > limits.query_tags:
        raise OwnVisionError(
            "BadRequestPredictionTagsExceededCount", f"A query combines {limits.query_tags} tags, not {len(wanted)}."
        )
    if size > limits.page:
        raise OwnVisionError("BadRequestPredictionResultsExceededCount", f"maxCount is {limits.page} at most.")
    name = token.get("orderBy") or "Newest"
    if name.lower() not in _ORDERS:
        raise OwnVisionError(
            "BadRequestPredictionInvalidQueryParameters", f"orderBy is Newest, Oldest or Suggested, not {name!r}."
        )
    order = _ORDERS[name.lower()]
    begun = paging.begun(token.get("session"), _SESSION)
    after = order.position(token.get("continuation"))
    results: list[Prediction] = []
    more = True
    while more and len(results) < size:
        statement = select(Prediction).where(*_conditions(project, token, begun), *order.beyond(after))
        page = list(session.scalars(statement.order_by(*order.by()).limit(_BATCH)))
        more = len(page) == _BATCH
        for number, row in enumerate(page):
            after = order.at(row)
            if _matches(row, wanted):
                results.append(row)
                if len(results) == size:
                    more = more or number + 1 < len(page)
                    break
    return _answered(token, begun, after if more else None), results


def delete(session: Session, project: Project, ids: Sequence[str]) -> None:
    """Delete stored predictions with their images; ids that are not there are passed over.

    Raises:
        OwnVisionError: BadRequestPredictionIdsMissing.
    """
    if not ids:
        raise OwnVisionError("BadRequestPredictionIdsMissing", "Say which predictions to delete.")
    remove(session, project.id, ids)


def forget_erased(components: Components) -> None:
    """Let go of loaded models that were replaced, whose iteration is no more, or whose project is closed."""
    loaded = components.models.loaded()
    if not loaded:
        return
    there = select(Iteration.id, Iteration.model_id).join(Project, Project.id == Iteration.project_id)
    with components.database.read() as session:
        rows = session.execute(there.where(Iteration.id.in_(loaded), Project.closed.is_(None)))
        known = {row.id: row.model_id for row in rows}
    for iteration_id, model_id in loaded.items():
        if known.get(iteration_id) != model_id:
            components.models.evict(iteration_id)


def remove(session: Session, project_id: str, ids: Sequence[str]) -> int:
    """Delete stored predictions of a project with their images; returns how many of these there were."""
    chosen = and_(Prediction.project_id == project_id, Prediction.id.in_(list(ids)))
    found = session.scalars(select(Prediction.id).where(chosen)).all()
    if found:
        ledger.doom(session, [ledger.prediction_prefix(project_id, id) for id in found])
        session.execute(sql_delete(Prediction).where(chosen).execution_options(synchronize_session=False))
        tally.count(session, "predictions", len(found))
    return len(found)


def _conditions(project: Project, token: Mapping[str, Any], begun: datetime) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Prediction.project_id == project.id, Prediction.created <= begun]
    for column, name in ((Prediction.iteration_id, "iterationId"), (Prediction.application, "application")):
        if token.get(name):
            conditions.append(column == token[name])
    if token.get("startTime"):
        conditions.append(Prediction.created >= _utc(token["startTime"]))
    if token.get("endTime"):
        conditions.append(Prediction.created <= _utc(token["endTime"]))
    return conditions


def _matches(row: Prediction, wanted: Sequence[Mapping[str, Any]]) -> bool:
    def within(tag: Mapping[str, Any]) -> bool:
        least = tag.get("minThreshold") or 0.0
        most = 1.0 if tag.get("maxThreshold") is None else tag["maxThreshold"]
        return any(one["tagId"] == tag["id"] and least <= one["probability"] <= most for one in row.predictions)

    return not [tag for tag in wanted if not within(tag)]


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _answered(token: Mapping[str, Any], begun: datetime, after: Position | None) -> dict[str, Any]:
    def moment(value: datetime | None) -> str | None:
        return None if value is None else f"{_utc(value).astimezone(UTC).replace(tzinfo=None).isoformat()}Z"

    return {
        "session": paging.session_name(begun, _SESSION),
        "continuation": paging.continuation(after),
        "maxCount": token.get("maxCount") or 0,
        "orderBy": token.get("orderBy") or "Newest",
        "tags": token.get("tags") or None,
        "iterationId": token.get("iterationId"),
        "startTime": moment(token.get("startTime")),
        "endTime": moment(token.get("endTime")),
        "application": token.get("application"),
    }
