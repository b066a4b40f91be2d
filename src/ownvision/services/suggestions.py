"""Smart labelling: what an iteration suggests for images that nobody tagged yet, kept so that it can be asked again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import select
from sqlalchemy.orm import Session

from ownvision.domains import CLASSIFICATION, DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.limits import Limits
from ownvision.services import embedding, iterations, models, paging, projects, tags
from ownvision.services.components import Components
from ownvision.services.paging import Order, Position
from ownvision.services.predictions import Predicted, doubt, kept, labelled, predict
from ownvision.store import ledger
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.keys import KeyMissing
from ownvision.store.tables import Image, Iteration, IterationTag, Project, Suggestion
from ownvision.store.tables.base import now

_LEAST_BOX = 0.05  # boxes less probable than this are no suggestion
_PAGE = 500
_SESSION = 0  # the kind of session that the original's tokens name
ASCENDING, DESCENDING = "UncertaintyAscending", "UncertaintyDescending"
_ORDERS = {
    name: Order(Suggestion.uncertainty, Suggestion.image_seq, name == ASCENDING, paging.number, paging.count)
    for name in (ASCENDING, DESCENDING)
}
_NAMES = {name.lower(): name for name in _ORDERS}


@dataclass(frozen=True)
class Suggested:
    """A suggestion with its image and the names of its tags, as its iteration knew them."""

    image: Image
    row: Suggestion
    tags: Mapping[str, IterationTag]


def suggest(
    components: Components, account_id: str, project_id: str, iteration_id: str, image_ids: Sequence[str]
) -> list[Suggested]:
    """What a trained iteration suggests for images of the workspace, in the order asked for.

    What was suggested before and is still kept is given again as it was. The model runs outside any transaction.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundIteration, BadRequestIterationIsNotTrained; BadRequestInvalidIds for
            an image that the workspace does not have; ErrorPredictionModelNotFound.
    """
    with components.database.read() as session:
        project = projects.get(session, account_id, project_id)
        iteration = iterations.with_model(session, project, iteration_id)
        known = {tag.tag_id: tag for tag in iterations.learned_tags(session, iteration_id)}
        wanted = _asked(session, project, image_ids)
        there = {row.image_seq: row for row in _stored(session, iteration, [image.seq for image in wanted])}
    missing = [image for image in wanted if image.seq not in there]
    if missing:
        made = _predict(components, iteration, list(known.values()), missing)
        there |= _keep(components, account_id, project_id, iteration, missing, made)
    return [Suggested(image, there[image.seq], known) for image in wanted if image.seq in there]


def query(
    session: Session, project: Project, iteration_id: str, token: Mapping[str, Any], limits: Limits
) -> tuple[dict[str, Any], list[Suggested]]:
    """One page of the untagged images whose suggestions match, and the token that leads to the next.

    A session sees what was suggested before it began.

    Args:
        session: Of a transaction.
        project: Whose.
        iteration_id: Whose suggestions.
        token: `SuggestedTagAndRegionQueryToken` by its wire names.
        limits: For the largest page, which is also the default.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained, BadRequestInvalidIds, BadRequestPrediction….
    """
    iteration = iterations.with_model(session, project, iteration_id)
    size = token.get("maxCount") or limits.page
    if size > limits.page:
        raise OwnVisionError("BadRequestPredictionResultsExceededCount", f"maxCount is {limits.page} at most.")
    name = _NAMES.get((token.get("sortBy") or ASCENDING).lower())
    if name is None:
        raise OwnVisionError("BadRequestPredictionInvalidQueryParameters", f"sortBy is {' or '.join(_ORDERS)}.")
    order = _ORDERS[name]
    wanted = _checked_tags(session, project, iteration, token.get("tagIds") or [])
    begun = paging.begun(token.get("session"), _SESSION)
    after = order.position(token.get("continuation"))
    known = {tag.tag_id: tag for tag in iterations.learned_tags(session, iteration_id)}
    found: list[Suggested] = []
    last = None
    for image, row in _matching(session, iteration, wanted, token.get("threshold") or 0.0, begun, after, order):
        if len(found) == size:
            last = order.at(found[-1].row)
            break
        found.append(Suggested(image, row, known))
    answered = {
        "tagIds": token.get("tagIds"),
        "threshold": float(token.get("threshold") or 0.0),
        "session": paging.session_name(begun, _SESSION),
        "continuation": paging.continuation(last),
        "maxCount": token.get("maxCount") or 0,
        "sortBy": name,
    }
    return answered, found


def count(
    session: Session, project: Project, iteration_id: str, tag_ids: Sequence[str], threshold: float
) -> dict[str, int]:
    """How many untagged images have each of these tags (all, where none is named) suggested at least so probable.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained, BadRequestInvalidIds.
    """
    iteration = iterations.with_model(session, project, iteration_id)
    wanted = _checked_tags(session, project, iteration, tag_ids)
    if not wanted:
        wanted = [tag.tag_id for tag in iterations.learned_tags(session, iteration_id)]
    counts = dict.fromkeys(wanted, 0)
    for _, row in _matching(session, iteration, [], 0.0, now(), None, _ORDERS[ASCENDING]):
        for tag_id in {one["tagId"] for one in row.predictions if one["probability"] >= threshold}:
            if tag_id in counts:
                counts[tag_id] += 1
    return counts


def _live(session: Session, project: Project, image_ids: Sequence[str]) -> dict[str, Image]:
    found = session.scalars(
        select(Image).where(Image.id.in_(image_ids), Image.project_id == project.id, Image.until.is_(None))
    )
    return {image.id: image for image in found}


def _asked(session: Session, project: Project, image_ids: Sequence[str]) -> list[Image]:
    there = _live(session, project, image_ids)
    unknown = next((image_id for image_id in image_ids if image_id not in there), None)
    if unknown is not None:
        raise OwnVisionError("BadRequestInvalidIds", f"There is no image {unknown} in the workspace of {project.id}.")
    # Restricted images are kept, but nothing is suggested for them.
    return [there[image_id] for image_id in dict.fromkeys(image_ids) if there[image_id].restricted is None]


def _stored(session: Session, iteration: Iteration, seqs: Sequence[int]) -> list[Suggestion]:
    return list(
        session.scalars(
            select(Suggestion).where(Suggestion.iteration_id == iteration.id, Suggestion.image_seq.in_(seqs))
        )
    )


def _predict(
    components: Components, iteration: Iteration, learned: Sequence[IterationTag], wanted: Sequence[Image]
) -> list[list[Predicted]]:
    from ownvision.learning import graph  # 30 MB that a service which suggests nothing need not hold

    prefixes = [ledger.image_prefix(iteration.project_id, image.id) for image in wanted]
    if DOMAINS[iteration.domain_id].type != CLASSIFICATION:
        found = (predict(components, iteration, learned, _original(components, prefix)) for prefix in prefixes)
        return [[one for one in boxes if one["probability"] >= _LEAST_BOX] for boxes, _ in found]
    try:
        head = graph.head(models.read(components, iteration))
    except ValueError:  # what advanced training found looks at pictures in its own ways, not at stored embeddings
        return [predict(components, iteration, learned, _original(components, prefix))[0] for prefix in prefixes]
    except (BlobMissing, BlobDamaged, KeyMissing):
        raise OwnVisionError(
            "ErrorPredictionModelNotFound", f"The model of {iteration.name} can't be read; `ownvision doctor` says why."
        ) from None
    try:
        features = embedding.gather(components, DOMAINS[iteration.domain_id].backbone, prefixes, lambda _: None)
    except embedding.Unreadable as error:
        raise _gone(error.image_id) from None
    return [labelled(row, learned) for row in head.probabilities(features)]


def _original(components: Components, prefix: str) -> bytes:
    try:
        return components.blobs.read(prefix + "original")
    except (BlobMissing, BlobDamaged, KeyMissing):
        raise _gone(prefix.rstrip("./").rpartition("/")[2]) from None


def _gone(image_id: str) -> OwnVisionError:
    return OwnVisionError("BadRequestInvalidIds", f"Image {image_id} can't be read; it was deleted, or is damaged.")


def _keep(
    components: Components,
    account_id: str,
    project_id: str,
    iteration: Iteration,
    wanted: Sequence[Image],
    made: Sequence[list[Predicted]],
) -> dict[int, Suggestion]:
    """Store what was suggested for images that are still there."""
    exclusive = iteration.classification_type == "Multiclass"
    moment = now()
    with components.database.write() as session:
        project = projects.get(session, account_id, project_id)
        iterations.with_model(session, project, iteration.id)  # it may have been deleted meanwhile
        there = _live(session, project, [image.id for image in wanted])
        session.execute(
            sql_delete(Suggestion).where(
                Suggestion.iteration_id == iteration.id, Suggestion.image_seq.in_([image.seq for image in wanted])
            )
        )
        rows = [
            Suggestion(
                image_seq=image.seq,
                iteration_id=iteration.id,
                project_id=project_id,
                created=moment,
                uncertainty=doubt(found, exclusive=exclusive),
                predictions=kept(found),
            )
            for image, found in zip(wanted, made, strict=True)
            if image.id in there and there[image.id].restricted is None
        ]
        session.add_all(rows)
    return {row.image_seq: row for row in rows}


def _checked_tags(session: Session, project: Project, iteration: Iteration, tag_ids: Sequence[str]) -> list[str]:
    known = {*tags.names(session, project), *tags.names(session, project, iteration.id)}
    unknown = next((tag_id for tag_id in tag_ids if tag_id not in known), None)
    if unknown is not None:
        raise OwnVisionError("BadRequestInvalidIds", f"There is no tag {unknown} in project {project.id}.")
    return list(dict.fromkeys(tag_ids))


def _matching(
    session: Session,
    iteration: Iteration,
    wanted: Sequence[str],
    threshold: float,
    begun: datetime,
    after: Position | None,
    order: Order,
) -> Iterator[tuple[Image, Suggestion]]:
    """Untagged images with so probable a suggestion of one of these tags, of any where none is named; page by page."""
    while True:
        found = session.execute(
            select(Image, Suggestion)
            .join(Suggestion, Suggestion.image_seq == Image.seq)
            .where(
                Suggestion.iteration_id == iteration.id,
                Suggestion.created <= begun,
                Image.until.is_(None),
                Image.tagged.is_(False),
                Image.restricted.is_(None),
                *order.beyond(after),
            )
            .order_by(*order.by())
            .limit(_PAGE)
        ).all()
        for image, row in found:
            fits = (one for one in row.predictions if not wanted or one["tagId"] in wanted)
            if (not wanted and threshold <= 0) or any(one["probability"] >= threshold for one in fits):
                yield image, row
        if len(found) < _PAGE:
            return
        after = order.at(found[-1].Suggestion)
