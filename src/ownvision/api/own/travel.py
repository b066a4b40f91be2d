"""Tokens of ExportProject, and how an import went."""

from typing import Annotated

from fastapi import Path
from sqlalchemy import select
from starlette.responses import Response

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import ProjectId
from ownvision.api.routes import TheCall, operation, own
from ownvision.api.wire import Json, empty, seconds
from ownvision.errors import OwnVisionError
from ownvision.services import projects
from ownvision.services.travel import tokens
from ownvision.store.tables import Job

router = own()
TokenId = Annotated[Guid, Path(alias="tokenId")]


class ProjectToken(Wire):
    """A token of ExportProject, without the address itself: whoever has that can read the project."""

    id: Guid
    created: str
    expires: str
    revision: int
    image_count: int
    tag_count: int
    region_count: int
    iteration_count: int


class ImportCounts(Wire):
    """How much of a project."""

    images: int
    tags: int
    regions: int
    iterations: int


class ImportRecord(Wire):
    """How a project's import went; `missing` is what was erased between export and import."""

    status: str
    progress: float
    error: str | None
    arrived: ImportCounts | None
    missing: ImportCounts | None


@operation(router, "GET", "/projects/{projectId}/tokens", list[ProjectToken])
def get_project_tokens(call: TheCall, project_id: ProjectId) -> Json:
    """A project's tokens, newest first; one that expired is listed for a week."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        return Json(
            [
                {
                    "id": row.id,
                    "created": seconds(row.created),
                    "expires": seconds(row.expires),
                    "revision": row.revision,
                    "imageCount": row.image_count,
                    "tagCount": row.tag_count,
                    "regionCount": row.region_count,
                    "iterationCount": row.iteration_count,
                }
                for row in tokens.all(session, project)
            ]
        )


@operation(router, "DELETE", "/projects/{projectId}/tokens/{tokenId}", None, status=(204,))
def revoke_project_token(call: TheCall, project_id: ProjectId, token_id: TokenId) -> Response:
    """Revoke a token: nobody can read the project by it any more, an import under way ends."""
    with call.database.write() as session:
        tokens.revoke(session, projects.get(session, call.account_id, project_id), token_id)
    return empty()


@operation(router, "GET", "/projects/{projectId}/import", ImportRecord)
def get_project_import(call: TheCall, project_id: ProjectId) -> Json:
    """How the import of a project went: how far it is, why it failed, what arrived and what was erased before."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        job = session.scalar(select(Job).where(Job.kind == "import", Job.subject == project.id))
        if job is None:
            raise OwnVisionError("NotFound", f"Project {project.id} was not imported.")
        return Json(
            {
                "status": project.status,
                "progress": float(job.progress),
                "error": job.error,
                "arrived": job.payload.get("arrived"),
                "missing": job.payload.get("missing"),
            }
        )
