"""Exports of an iteration."""

from typing import Annotated

from fastapi import Query

from ownvision.api import models
from ownvision.api.parameters import IterationId, ProjectId
from ownvision.api.routes import TheCall, operation, training
from ownvision.api.wire import Json
from ownvision.services import exports, projects
from ownvision.wire import shapes

router = training("exports")
_PATH = "/projects/{projectId}/iterations/{iterationId}/export"


@operation(router, "GET", _PATH, list[models.Export])
def get_exports(call: TheCall, project_id: ProjectId, iteration_id: IterationId) -> Json:
    """Get the list of exports for a specific iteration."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        return call.json([shapes.export(call, row, project.id) for row in exports.all(session, project, iteration_id)])


@operation(router, "POST", _PATH, models.Export)
def export_iteration(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: IterationId,
    platform: str,
    flavor: Annotated[str | None, Query()] = None,
) -> Json:
    """Export a trained iteration."""
    with call.database.write() as session:
        project = projects.get(session, call.account_id, project_id, lock=True)
        row = exports.start(session, project, iteration_id, platform, flavor or None, call.base_url)
        shape = shapes.export(call, row, project.id)
    return call.json(shape)
