"""OwnVision's own API under ``/api``: what the original has no operation for. Opened by a training key."""

from typing import Annotated, Any

from fastapi import Path
from sqlalchemy import select
from starlette.responses import Response

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import ImageId, ProjectId
from ownvision.api.routes import TheCall, make_router, operation
from ownvision.api.versions import TRAINING
from ownvision.api.wire import Json, empty, seconds
from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.jobs.handlers import on_failed
from ownvision.services import projects
from ownvision.services.travel import tokens
from ownvision.store.tables import ApiKey, Image, Job

router = make_router(TRAINING, "/api", tag="own", versioned=False)
JobId = Annotated[Guid, Path(alias="jobId")]
TokenId = Annotated[Guid, Path(alias="tokenId")]


class JobState(Wire):
    """A job and how far it is."""

    id: Guid
    kind: str
    subject: Guid
    state: str
    progress: float
    error: str | None
    created: str
    started: str | None
    finished: str | None


class ImageRecord(Wire):
    """What is kept of an image beside what the original shows."""

    id: Guid
    file_name: str | None
    uploaded_by: str | None
    format: str
    size: int
    sha256: str


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


def _shape(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "subject": job.subject,
        "state": job.state,
        "progress": float(job.progress),
        "error": job.error,
        "created": seconds(job.created),
        "started": None if job.started is None else seconds(job.started),
        "finished": None if job.finished is None else seconds(job.finished),
    }


@operation(router, "GET", "/projects/{projectId}/jobs", list[JobState])
def get_jobs(call: TheCall, project_id: ProjectId) -> Json:
    """A project's hundred latest jobs, newest first, with their progress (0 to 1)."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        found = session.scalars(
            select(Job).where(Job.project_id == project.id).order_by(Job.created.desc(), Job.id).limit(100)
        )
        return Json([_shape(job) for job in found])


@operation(router, "POST", "/jobs/{jobId}/cancel", JobState)
def cancel_job(call: TheCall, job_id: JobId) -> Json:
    """Cancel a job: at once while it waits, soon when it runs; a job that has ended stays as it is."""
    with call.database.write() as session:
        job = session.scalar(select(Job).where(Job.id == job_id, Job.account_id == call.account_id))
        if job is None:
            raise OwnVisionError("NotFound", f"There is no job {job_id} in this account.")
        stopped = rows.cancel_job(session, job.id)
        if stopped is not None:
            on_failed(session, stopped, "Cancelled before it started.")
        shape = _shape(job)
    return Json(shape)


@operation(router, "GET", "/projects/{projectId}/images/{imageId}", ImageRecord)
def get_image_record(call: TheCall, project_id: ProjectId, image_id: ImageId) -> Json:
    """An image's original file name, which key uploaded it, and its hash."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        image = session.scalar(select(Image).where(Image.id == image_id, Image.project_id == project.id))
        if image is None:
            raise OwnVisionError("NotFoundImage", f"There is no image {image_id} in project {project.id}.")
        key = session.get(ApiKey, image.uploaded_by) if image.uploaded_by else None
        return Json(
            {
                "id": image.id,
                "fileName": image.file_name,
                "uploadedBy": None if key is None else f"{key.kind} {key.slot}",
                "format": image.format,
                "size": image.size,
                "sha256": image.sha256,
            }
        )


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
