"""Projects, and the training of one."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ownvision.api import models
from ownvision.api.parameters import Flag, OptionalGuid, Platforms, ProjectId
from ownvision.api.receipted import receipted
from ownvision.api.routes import Call, TheCall, operation, training
from ownvision.api.wire import Json, empty
from ownvision.data_rights import erasure
from ownvision.services import accounts, notices, outbound, projects, storage
from ownvision.services import training as trainings
from ownvision.services.embedding import ensure_embedding
from ownvision.store.tables import Project
from ownvision.wire import shapes

router = training("projects")
_NONE: list[str] = []


def _shape(call: Call, session: Session, row: Project) -> shapes.Shape:
    return shapes.project(call, row, projects.thumbnail_image(session, row))


@operation(router, "GET", "/projects", list[models.Project])
def get_projects(call: TheCall) -> Json:
    """Get your projects."""
    with call.database.read() as session:
        return call.json([_shape(call, session, row) for row in projects.all(session, call.account_id)])


@operation(router, "POST", "/projects", models.Project)
async def create_project(
    call: TheCall,
    name: str,
    description: str | None = None,
    domain_id: Annotated[OptionalGuid, Query(alias="domainId")] = None,
    classification_type: Annotated[str | None, Query(alias="classificationType")] = None,
    target_export_platforms: Platforms = _NONE,
    export_model_container_uri: Annotated[str | None, Query(alias="exportModelContainerUri")] = None,
    notification_queue_uri: Annotated[str | None, Query(alias="notificationQueueUri")] = None,
    options: models.CreateProjectOptions | None = None,
) -> Json:
    """Create a project."""
    wishes: projects.Wishes = {
        "name": name,
        "description": description,
        "domain_id": domain_id,
        "classification_type": classification_type or None,
        "target_export_platforms": target_export_platforms,
        "limits": call.limits,
    }
    body = options or models.CreateProjectOptions()
    given = {
        storage.CONTAINER: export_model_container_uri or body.export_model_container_uri or "",
        storage.QUEUE: notification_queue_uri or body.notification_queue_uri or "",
    }
    addresses = {setting: address for setting, address in given.items() if address}
    id = None
    if addresses:
        id = (await run_in_threadpool(_draft, call, wishes)).id
        await storage.test(_door(call), id, addresses)
    return call.json(await run_in_threadpool(_create, call, wishes, id, addresses))


def _draft(call: Call, wishes: projects.Wishes) -> Project:
    with call.database.read() as session:
        return projects.draft(session, accounts.get(session, call.account_id), **wishes)


def _create(call: Call, wishes: projects.Wishes, id: str | None, addresses: Mapping[str, str]) -> shapes.Shape:
    with call.database.write() as session:
        row = projects.draft(session, accounts.get(session, call.account_id), **wishes)
        row.id = id or row.id  # the one that the queue was told
        projects.add(session, call.components.keys, row)
        storage.keep(session, call.components.keys, row, addresses)
        session.flush()
        return _shape(call, session, row)


def _door(call: Call) -> outbound.Door:
    return outbound.door(call.components.settings.url_allow, call.components.settings.url_timeout)


@operation(router, "GET", "/projects/{projectId}", models.Project)
def get_project(call: TheCall, project_id: ProjectId) -> Json:
    """Get a specific project."""
    with call.database.read() as session:
        return call.json(_shape(call, session, projects.get(session, call.account_id, project_id)))


@operation(router, "PATCH", "/projects/{projectId}", models.Project)
async def update_project(call: TheCall, project_id: ProjectId, updated_project: models.ProjectChange) -> Json:
    """Update a specific project."""
    changes = updated_project.model_dump(by_alias=True, exclude_unset=True)
    addresses = await run_in_threadpool(_new_addresses, call, project_id, changes.get("settings") or {})
    await storage.test(_door(call), project_id, addresses)
    return call.json(await run_in_threadpool(_update, call, project_id, changes, addresses))


def _new_addresses(call: Call, project_id: str, settings: Mapping[str, Any]) -> dict[str, str]:
    if not {storage.CONTAINER, storage.QUEUE} & settings.keys():
        return {}
    with call.database.read() as session:
        return storage.changed(call.components.keys, projects.get(session, call.account_id, project_id), settings)


def _update(call: Call, project_id: str, changes: Mapping[str, Any], addresses: Mapping[str, str]) -> shapes.Shape:
    with call.database.write() as session:
        row = projects.get(session, call.account_id, project_id, lock=True)
        before = row.domain_id
        projects.update(session, row, changes, call.limits)
        storage.keep(session, call.components.keys, row, addresses)
        if row.domain_id != before:
            ensure_embedding(session, row)  # the new domain's backbone sees other features
        return _shape(call, session, row)


@operation(router, "DELETE", "/projects/{projectId}", None, status=(204,))
def delete_project(call: TheCall, project_id: ProjectId) -> Response:
    """Delete a specific project."""
    with call.database.write() as session:
        receipt = erasure.erase_project(session, call.who, project_id)
    return receipted(call, receipt, empty())


@operation(router, "POST", "/projects/{projectId}/train", models.Iteration)
def train_project(
    call: TheCall,
    project_id: ProjectId,
    training_type: Annotated[str | None, Query(alias="trainingType")] = None,
    reserved_budget_in_hours: Annotated[int, Query(alias="reservedBudgetInHours", ge=0, le=models.INT32)] = 0,
    force_train: Annotated[Flag, Query(alias="forceTrain")] = False,
    notification_email_address: Annotated[str | None, Query(alias="notificationEmailAddress")] = None,
    training_parameters: models.TrainingParameters | None = None,
) -> Json:
    """Queues project for training."""
    given = training_parameters or models.TrainingParameters()
    # A version whose iterations do not show a base model does not take one either.
    known = not call.version.lacks("Iteration", "customBaseModelInfo")
    base = given.custom_base_model_info if known else None
    email = notification_email_address or None
    with call.database.write() as session:
        iteration = trainings.start(
            session,
            projects.get(session, call.account_id, project_id, lock=True),
            training_type=training_type or None,
            budget_hours=reserved_budget_in_hours,
            force=force_train,
            selected_tags=given.selected_tags or [],
            custom_base=None if base is None else base.model_dump(by_alias=True),
            limits=call.limits,
            tier=call.tier,
            email=email,
        )
        if email is not None:
            notices.remember_email(call.components, iteration, email)
        shape = shapes.iteration(iteration, call.version)
    return call.json(shape)
