"""Slow work: how far it is, and stopping it."""

from typing import Annotated, Any

from fastapi import Path
from sqlalchemy import select

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import ProjectId
from ownvision.api.routes import TheCall, operation, own
from ownvision.api.wire import Json, seconds
from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.jobs.handlers import on_failed
from ownvision.services import projects
from ownvision.store.tables import Job

router = own()
JobId = Annotated[Guid, Path(alias="jobId")]


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
