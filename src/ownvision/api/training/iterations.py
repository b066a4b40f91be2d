"""Iterations: listed, renamed, measured, published, deleted."""

from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from ownvision.api import models
from ownvision.api.parameters import (
    Flag,
    IterationId,
    OrderBy,
    ProjectId,
    Skip,
    TagIds,
    Take,
    at_most,
    page,
)
from ownvision.api.receipted import receipted
from ownvision.api.routes import TheCall, operation, training
from ownvision.api.wire import Json, empty
from ownvision.data_rights import erasure
from ownvision.services import iterations, performance, projects
from ownvision.wire import shapes

router = training("iterations")
_BASE = "/projects/{projectId}/iterations"
_ONE = _BASE + "/{iterationId}"
_NONE: list[Any] = []


@operation(router, "GET", _BASE, list[models.Iteration])
def get_iterations(call: TheCall, project_id: ProjectId) -> Json:
    """Get iterations for the project."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        shown = [shapes.iteration(row, call.version) for row in iterations.all(session, project)]
        return call.json([*shown, shapes.workspace(project, call.version)] if call.version.workspace else shown)


@operation(router, "GET", _ONE, models.Iteration)
def get_iteration(call: TheCall, project_id: ProjectId, iteration_id: IterationId) -> Json:
    """Get a specific iteration."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        if call.version.workspace and iteration_id == projects.workspace_id(project.id):
            return call.json(shapes.workspace(project, call.version))
        return call.json(shapes.iteration(iterations.get(session, project, iteration_id), call.version))


@operation(router, "PATCH", _ONE, models.Iteration)
def update_iteration(
    call: TheCall, project_id: ProjectId, iteration_id: IterationId, updated_iteration: models.IterationChange
) -> Json:
    """Update a specific iteration."""
    with call.database.write() as session:
        project = projects.get(session, call.account_id, project_id, lock=True)
        default = updated_iteration.is_default if call.version.default_iteration else None
        row = iterations.update(
            session, project, iteration_id, name=updated_iteration.name, default=default, limits=call.limits
        )
        shape = shapes.iteration(row, call.version)
    return call.json(shape)


@operation(router, "DELETE", _ONE, None, status=(204,))
def delete_iteration(call: TheCall, project_id: ProjectId, iteration_id: IterationId) -> Response:
    """Delete a specific iteration of a project."""
    with call.database.write() as session:
        receipt = erasure.erase_iteration(session, call.who, project_id, iteration_id)
    return receipted(call, receipt, empty())


@operation(router, "GET", _ONE + "/performance", models.IterationPerformance)
def get_iteration_performance(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: IterationId,
    threshold: Annotated[float | None, Query(ge=0, le=1)] = None,
    overlap_threshold: Annotated[float | None, Query(alias="overlapThreshold", ge=0, le=1)] = None,
) -> Json:
    """Get detailed performance information about an iteration."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        measured = performance.of_iteration(
            session,
            project,
            iteration_id,
            threshold=performance.THRESHOLD if threshold is None else threshold,
            overlap=performance.OVERLAP if overlap_threshold is None else overlap_threshold,
        )
        return call.json(shapes.performance(measured, call.version))


@operation(router, "GET", _ONE + "/performance/images", list[models.ImagePerformance])
def get_image_performances(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: IterationId,
    tag_ids: TagIds = _NONE,
    order_by: OrderBy = "Newest",
    take: Take = 50,
    skip: Skip = 0,
) -> Json:
    """Get image with its prediction for a given project iteration."""
    at_most(tag_ids, call.limits.batch_tags, "tags")
    page(take, call.limits.page)
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        found = performance.images(
            session, project, iteration_id, tag_ids=tag_ids, newest=order_by == "Newest", take=take, skip=skip
        )
        return call.json([shapes.image_performance(call, view, predictions) for view, predictions in found])


@operation(router, "GET", _ONE + "/performance/images/count", int)
def get_image_performance_count(
    call: TheCall, project_id: ProjectId, iteration_id: IterationId, tag_ids: TagIds = _NONE
) -> Json:
    """Gets the number of images tagged with the provided {tagIds} that have prediction results from training."""
    at_most(tag_ids, call.limits.batch_tags, "tags")
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        return call.json(performance.image_count(session, project, iteration_id, tag_ids=tag_ids))


@operation(router, "POST", _ONE + "/publish", bool)
def publish_iteration(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: IterationId,
    publish_name: Annotated[str, Query(alias="publishName")],
    prediction_id: Annotated[str, Query(alias="predictionId")],
    overwrite: Annotated[Flag, Query()] = False,
) -> Json:
    """Publish a specific iteration."""
    with call.database.write() as session:
        project = projects.get(session, call.account_id, project_id, lock=True)
        iterations.publish(session, project, iteration_id, publish_name, prediction_id, overwrite, call.limits)
    return call.json(True)


@operation(router, "DELETE", _ONE + "/publish", None, status=(204,))
def unpublish_iteration(call: TheCall, project_id: ProjectId, iteration_id: IterationId) -> Response:
    """Unpublish a specific iteration."""
    with call.database.write() as session:
        iterations.unpublish(session, projects.get(session, call.account_id, project_id, lock=True), iteration_id)
    return empty()
