"""What the prediction API and quick test share: which iteration, the prediction, its storing, its shape."""

import threading

from sqlalchemy import select
from sqlalchemy.orm import Session

from ownvision.api import fetch
from ownvision.api.routes import Call
from ownvision.api.uploads import check_room
from ownvision.api.wire import Json
from ownvision.domains import DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.learning import device
from ownvision.services import iterations, predictions, projects
from ownvision.store import audit
from ownvision.store.tables import Iteration, IterationTag, Project
from ownvision.store.tables.base import now
from ownvision.wire import shapes

# More at once than there are cores would only wait for each other in the middle of their work.
_TURNS = threading.BoundedSemaphore(device.threads())


async def fetched(call: Call, url: str, cap: int) -> bytes:
    """The image behind a URL.

    Raises:
        OwnVisionError: BadRequestImageUrl, BadRequestImageSizeBytes.
    """
    try:
        return await fetch.fetch(call, url, cap)
    except fetch.FetchFailed as error:
        code = "BadRequestImageSizeBytes" if error.too_large else "BadRequestImageUrl"
        raise OwnVisionError(code, f"The image can't be had from this URL. {error}") from None


def published(
    call: Call, project_id: str, name: str, kind: str, data: bytes, *, store: bool, application: str | None
) -> Json:
    """Predict with a published iteration of a project of that kind.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundIteration, BadRequestOperationNotSupported, BadRequestImage….
    """
    project, iteration, tags = call.memo.get(
        ("published", call.account_id, project_id, name), lambda: _published(call, project_id, name)
    )
    if DOMAINS[iteration.domain_id].type != kind:
        raise OwnVisionError("BadRequestOperationNotSupported", "Invalid project type for operation.")
    call.meter.count(call.account_id, call.tier.predictions_per_month)
    return _predict(call, project, iteration, tags, data, store=store, application=application)


def _published(call: Call, project_id: str, name: str) -> tuple[Project, Iteration, list[IterationTag]]:
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        iteration = iterations.published(session, project, name)
        return project, iteration, _tags(session, iteration)


def by_id(
    call: Call, project_id: str, iteration_id: str | None, data: bytes, *, store: bool, application: str | None
) -> Json:
    """Predict with an iteration of a project, its default one when none is given.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundIteration, NotFoundProjectDefaultIteration,
            BadRequestIterationIsNotTrained, BadRequestImage….
    """
    project, iteration, tags = call.memo.get(
        ("by id", call.account_id, project_id, iteration_id), lambda: _by_id(call, project_id, iteration_id)
    )
    call.meter.count(call.account_id, call.tier.predictions_per_month)
    return _predict(call, project, iteration, tags, data, store=store, application=application)


def _by_id(call: Call, project_id: str, iteration_id: str | None) -> tuple[Project, Iteration, list[IterationTag]]:
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        if iteration_id is None:
            iteration = iterations.default(session, project)
        else:
            iteration = iterations.with_model(session, project, iteration_id)
        return project, iteration, _tags(session, iteration)


def quick_test(call: Call, project_id: str, iteration_id: str | None, data: bytes, *, store: bool) -> Json:
    """Predict with an iteration of a project; without one with the default, or the newest that is trained.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundIteration, NotFoundProjectDefaultIteration,
            BadRequestIterationIsNotTrained, BadRequestImage….
    """
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        if iteration_id is None:
            trained = [
                row
                for row in iterations.all(session, project)
                if row.status == iterations.COMPLETED and row.origin is None
            ]
            iteration = min(trained, key=lambda row: not row.is_default, default=None)
            if iteration is None:
                raise OwnVisionError("NotFoundProjectDefaultIteration", "The project has no trained iteration yet.")
        else:
            iteration = iterations.with_model(session, project, iteration_id)
        tags = _tags(session, iteration)
    return _predict(call, project, iteration, tags, data, store=store, application=None)


def _tags(session: Session, iteration: Iteration) -> list[IterationTag]:
    return list(session.scalars(select(IterationTag).where(IterationTag.iteration_id == iteration.id)))


def _predict(
    call: Call,
    project: Project,
    iteration: Iteration,
    tags: list[IterationTag],
    data: bytes,
    *,
    store: bool,
    application: str | None,
) -> Json:
    audit.concerns(target=iteration.id)
    with _TURNS:
        found, info = predictions.predict(call.components, iteration, tags, data)
    created = now()
    if store:
        check_room(call)
        row = predictions.store(
            call.components, call.account_id, project, iteration, data, info, found, call.request_id, application
        )
        created = row.created
    return call.json(
        {
            "id": call.request_id,
            "project": project.id,
            "iteration": iteration.id,
            "created": call.version.prediction_date(created),
            "predictions": [shapes.prediction(item, call.version) for item in found],
        }
    )
