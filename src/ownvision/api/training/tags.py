"""Tags."""

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from ownvision.api import models
from ownvision.api.parameters import ForIteration, ProjectId, TagId
from ownvision.api.receipted import receipted
from ownvision.api.routes import TheCall, operation, training
from ownvision.api.wire import Json, empty
from ownvision.data_rights import erasure
from ownvision.services import iterations, projects, tags
from ownvision.wire import shapes

router = training("tags")


@operation(router, "GET", "/projects/{projectId}/tags", list[models.Tag])
def get_tags(call: TheCall, project_id: ProjectId, iteration_id: ForIteration) -> Json:
    """Get the tags for a given project and iteration."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        shown = [shapes.tag(view, call.version) for view in tags.all(session, project, iteration_id)]
        if not call.version.tag_list:
            return call.json(shown)
        of = project if iteration_id is None else iterations.get(session, project, iteration_id)
        untagged = of.image_count - of.tagged_count
        return call.json({"tags": shown, "totalTaggedImages": of.tagged_count, "totalUntaggedImages": untagged})


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
    return call.json(shapes.tag(view, call.version))


@operation(router, "GET", "/projects/{projectId}/tags/{tagId}", models.Tag)
def get_tag(call: TheCall, project_id: ProjectId, tag_id: TagId, iteration_id: ForIteration) -> Json:
    """Get information about a specific tag."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        return call.json(shapes.tag(tags.get(session, project, tag_id, iteration_id), call.version))


@operation(router, "PATCH", "/projects/{projectId}/tags/{tagId}", models.Tag)
def update_tag(call: TheCall, project_id: ProjectId, tag_id: TagId, updated_tag: models.TagChange) -> Json:
    """Update a tag."""
    changes = updated_tag.model_dump(by_alias=True, exclude_unset=True)
    with call.database.write() as session:
        project = projects.lock(session, call.account_id, project_id)
        view = tags.update_tag(session, project, tag_id, changes, call.limits)
    return call.json(shapes.tag(view, call.version))


@operation(router, "DELETE", "/projects/{projectId}/tags/{tagId}", None, status=(204,))
def delete_tag(call: TheCall, project_id: ProjectId, tag_id: TagId) -> Response:
    """Delete a tag from the project."""
    with call.database.write() as session:
        receipt = erasure.erase_tag(session, call.who, project_id, tag_id)
    return receipted(call, receipt, empty())
