"""Projects that travel, and the bytes of a project by their path."""

from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from ownvision.api import files, models
from ownvision.api.parameters import ProjectId
from ownvision.api.routes import TheCall, operation, training
from ownvision.api.wire import Json
from ownvision.errors import OwnVisionError
from ownvision.services import projects, uris
from ownvision.services.travel import arriving, tokens
from ownvision.wire import shapes

router = training("travel")


@operation(router, "GET", "/projects/{projectId}/export", models.ProjectExport)
def export_project(call: TheCall, project_id: ProjectId) -> Json:
    """Exports a project."""
    with call.database.write() as session:
        project = projects.get(session, call.account_id, project_id, lock=True)
        shape = shapes.project_export(call, tokens.make(session, project, call.components.settings.project_token_days))
    return Json(shape)


@operation(router, "POST", "/projects/import", models.Project)
def import_project(call: TheCall, token: str, name: Annotated[str | None, Query()] = None) -> Json:
    """Imports a project."""
    project = arriving.start(call.components, call.account_id, call.base_url, token, name or None)
    return Json(shapes.project(call, project, None))


@operation(router, "GET", "/projects/{projectId}/artifacts", bytes)
def get_artifact(call: TheCall, request: Request, project_id: ProjectId, path: str) -> Response:
    """Get artifact content from blob storage, based on artifact relative path in the blob."""
    with call.database.read() as session:
        projects.get(session, call.account_id, project_id)
    own = uris.own_path(call.components, call.base_url, path)
    resource = None if own is None else uris.parse(own)
    if resource is None or resource.project_id != project_id:
        raise OwnVisionError(
            "BadRequestInvalidArtifactUri",
            "path is no picture or export of this project; send one of the addresses that the API gave, or its path.",
        )
    return files.artifact(call.components, request, resource)
