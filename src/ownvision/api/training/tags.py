"""Tags."""

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from ownvision.api import models, shapes
from ownvision.api.parameters import ForIteration, ProjectId, TagId
from ownvision.api.routes import TheCall, operation, training
from ownvision.api.wire import Json, empty
from ownvision.services import projects, tags

router = training("tags")


@operation(router, "GET", "/projects/{projectId}/tags", list[models.Tag])
def get_tags(call: TheCall, project_id: ProjectId, iteration_id: ForIteration = None) -> Json:
    """Get the tags for a given project and iteration."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        return Json([shapes.tag(view) for view in tags.all(session, project, iteration_id)])


@operation(router, "POST", "/projects/{projectId}/tags", models.Tag)
def create_tag(
    call: TheCall,
    project_id: ProjectId,
    name: str,
    description: str | None = None,
    type: Annotated[str | None, Query()] = None,
) -> Json:
    """Create a tag for the project."""
    with call.database.write() as session:
        project = projects.lock(session, call.account_id, project_id)
        view = tags.create(session, project, name, description, type or None, call.limits, call.tier)
    return Json(shapes.tag(view))


@operation(router, "GET", "/projects/{projectId}/tags/{tagId}", models.Tag)
def get_tag(call: TheCall, project_id: ProjectId, tag_id: TagId, iteration_id: ForIteration = None) -> Json:
    """Get information about a specific tag."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        return Json(shapes.tag(tags.get(session, project, tag_id, iteration_id)))


@operation(router, "PATCH", "/projects/{projectId}/tags/{tagId}", models.Tag)
def update_tag(call: TheCall, project_id: ProjectId, tag_id: TagId, updated_tag: models.TagChange) -> Json:
    """Update a tag."""
    changes = updated_tag.model_dump(by_alias=True, exclude_unset=True)
    with call.database.write() as session:
        project = projects.lock(session, call.account_id, project_id)
        view = tags.update_tag(session, project, tag_id, changes, call.limits)
    return Json(shapes.tag(view))


@operation(router, "DELETE", "/projects/{projectId}/tags/{tagId}", None, status=(204,))
def delete_tag(call: TheCall, project_id: ProjectId, tag_id: TagId) -> Response:
    """Delete a tag from the project."""
    with call.database.write() as session:
        tags.delete(session, projects.lock(session, call.account_id, project_id), tag_id)
    return empty()
