"""How far a training is: from the row of its job."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ownvision.jobs import rows
from ownvision.services import iterations
from ownvision.store.tables import Job, Project
from ownvision.store.tables.base import now

_KINDS = ("train", "refit")
# Before so much is done, what is left can't be told from it.
_LEAST_SHARE = 0.02


def of_iteration(session: Session, project: Project, iteration_id: str) -> dict[str, Any]:
    """The state of an iteration's training, in the wire's names.

    Raises:
        OwnVisionError: NotFoundIteration.
    """
    iteration = iterations.get(session, project, iteration_id)
    job = session.scalar(
        select(Job)
        .where(Job.kind.in_(_KINDS), Job.subject == iteration.id, Job.project_id == project.id)
        .order_by(Job.created.desc(), Job.id)
        .limit(1)
    )
    found: dict[str, Any] = {
        "iterationId": iteration.id,
        "status": iteration.status,
        "jobId": None,
        "state": None,
        "progress": 0.0 if job is not None else float(iteration.status == iterations.COMPLETED),
        "started": None,
        "seconds": iteration.training_seconds,
        "secondsLeft": None,
        "queuedBefore": 0,
        "curve": [],
    }
    if job is None:
        return found
    seconds = 0.0
    if job.started is not None:
        seconds = max(0.0, ((job.finished or now()) - job.started).total_seconds())
    return found | {
        "jobId": job.id,
        "state": job.state,
        "progress": float(job.progress),
        "started": job.started,
        "seconds": seconds,
        "secondsLeft": seconds_left(job, seconds),
        "queuedBefore": _before(session, job) if job.state == rows.QUEUED else 0,
        "curve": [{"step": point[0], "steps": point[1], "loss": point[2], "holdOut": point[3]} for point in job.curve],
    }


def seconds_left(job: Job, seconds: float) -> float | None:
    """What a running job still takes if it goes on as so far; None where that is not known."""
    if job.state != rows.RUNNING or job.progress < _LEAST_SHARE:
        return None
    return seconds * (1 - job.progress) / job.progress


def cancel(session: Session, project: Project, iteration_id: str) -> list[Job]:
    """Stop an iteration's training; returns what was still queued. One that has ended stays as it is.

    Raises:
        OwnVisionError: NotFoundIteration.
    """
    iteration = iterations.get(session, project, iteration_id)
    found = session.scalars(
        select(Job.id).where(
            Job.kind.in_(_KINDS), Job.subject == iteration.id, Job.state.in_((rows.QUEUED, rows.RUNNING))
        )
    ).all()
    stopped = [rows.cancel_job(session, job_id) for job_id in found]
    return [job for job in stopped if job is not None]


def _before(session: Session, job: Job) -> int:
    """How many of the account's own jobs of this lane come first."""
    return (
        session.scalar(
            select(func.count())
            .select_from(Job)
            .where(
                Job.account_id == job.account_id,
                Job.lane == job.lane,
                Job.state.in_((rows.QUEUED, rows.RUNNING)),
                Job.created < job.created,
            )
        )
        or 0
    )
