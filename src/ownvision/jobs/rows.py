"""Jobs as rows: enqueue with the data, claim with a lease and a fencing token, finish with the result.

A worker that holds an older token than the row's can't write: its job was taken up again, cancelled or deleted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from ownvision.store import audit
from ownvision.store.database import Database
from ownvision.store.tables import Job
from ownvision.store.tables.base import new_id, now

TRAINING, QUICK = "training", "quick"
LANES = (TRAINING, QUICK)
QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
MAX_ATTEMPTS = 3
_CALLED = {
    "train": "training",
    "embed": "embedding",
    "export": "export",
    "import": "import",
    "restore": "import",
    "takeout": "takeout",
    "erase": "erasure",
    "refit": "training",
    "examine": "preflight",
}


class Stale(Exception):
    """The job is no longer this worker's: whatever it was about to write must not be written."""


class Cancelled(Exception):
    """Somebody asked for the job to stop."""


@dataclass(frozen=True)
class Claim:
    """A job as its worker holds it."""

    job_id: str
    token: int
    kind: str
    lane: str
    account_id: str
    project_id: str  # "": of the whole account
    subject: str
    payload: dict[str, Any] = field(default_factory=dict)
    asked_by: str | None = None  # who asked for it, as `audit.Act.actor`


def enqueue(
    session: Session,
    *,
    kind: str,
    account_id: str,
    project_id: str | None,
    subject: str,
    lane: str,
    priority: int = 0,
    payload: dict[str, Any] | None = None,
) -> Job:
    """Add a job to the caller's transaction, or return the open one of this kind for this subject."""
    open_job = session.scalar(
        select(Job).where(Job.kind == kind, Job.subject == subject, Job.state.in_((QUEUED, RUNNING)))
    )
    if open_job is not None:
        open_job.cancel_requested = False  # it is wanted again
        return open_job
    job = Job(
        id=new_id(),
        kind=kind,
        account_id=account_id,
        project_id=project_id,
        subject=subject,
        lane=lane,
        priority=priority,
        payload=payload or {},
        asked_by=act.actor if (act := audit.current()) is not None else None,
    )
    session.add(job)
    session.flush()
    return job


def waiting(database: Database) -> set[str]:
    """The lanes in which a job waits: one quick look, for a worker that has nothing to do."""
    with database.read() as session:
        return set(session.scalars(select(Job.lane).where(Job.state == QUEUED).distinct()))


def take(database: Database, job_id: str, lease_seconds: float) -> Claim | None:
    """Take one queued job, for a caller who does it himself; None: it is not, or no longer, to be had."""
    with database.write() as session:
        job = session.scalar(select(Job).where(Job.id == job_id, Job.state == QUEUED).with_for_update())
        return None if job is None else _claimed(job, lease_seconds)


def again(session: Session, kind: str, subject: str) -> bool:
    """Begin a job anew whose result would hold what has just been erased; returns whether there was an open one."""
    job = session.scalar(
        select(Job).where(Job.kind == kind, Job.subject == subject, Job.state.in_((QUEUED, RUNNING))).with_for_update()
    )
    if job is None:
        return False
    if job.state == RUNNING:
        # Its worker finds that the job is no longer its own.
        job.state, job.token, job.attempts, job.lease_until = QUEUED, job.token + 1, job.attempts - 1, None
    return True


def claim(database: Database, lane: str, lease_seconds: float) -> Claim | None:
    """Take the next job of a lane: of the account with the least running, then of the one served longest ago.

    Among an account's own jobs priority decides, then age.
    """
    with database.write() as session:
        busy = (
            select(Job.account_id, func.count().label("running"))
            .where(Job.state == RUNNING)
            .group_by(Job.account_id)
            .subquery()
        )
        served = (
            select(Job.account_id, func.max(Job.started).label("last"))
            .where(Job.lane == lane)
            .group_by(Job.account_id)
            .subquery()
        )
        job = session.scalar(
            select(Job)
            .outerjoin(busy, busy.c.account_id == Job.account_id)
            .outerjoin(served, served.c.account_id == Job.account_id)
            .where(Job.state == QUEUED, Job.lane == lane)
            .order_by(
                func.coalesce(busy.c.running, 0), served.c.last.asc().nulls_first(), Job.priority, Job.created, Job.id
            )
            .limit(1)
            .with_for_update(of=Job, skip_locked=True)
        )
        if job is None:
            return None
        return _claimed(job, lease_seconds)


def _claimed(job: Job, lease_seconds: float) -> Claim:
    job.state = RUNNING
    job.token += 1
    job.attempts += 1
    job.started = now()
    job.lease_until = now() + timedelta(seconds=lease_seconds)
    return Claim(
        job.id,
        job.token,
        job.kind,
        job.lane,
        job.account_id,
        job.project_id or "",
        job.subject,
        dict(job.payload),
        job.asked_by,
    )


def heartbeat(
    database: Database,
    claim: Claim,
    progress: float | None,
    lease_seconds: float,
    curve: Sequence[Sequence[float | None]] | None = None,
) -> None:
    """Renew the lease and note progress (0 to 1; None: unchanged), and of a training its curve (None: unchanged).

    Raises:
        Stale: The job is no longer this worker's.
        Cancelled: It was asked to stop.
    """
    values: dict[str, Any] = {"lease_until": now() + timedelta(seconds=lease_seconds)}
    if progress is not None:
        values["progress"] = progress
    if curve is not None:
        values["curve"] = [list(point) for point in curve]
    with database.write() as session:
        changed = session.execute(
            update(Job).where(Job.id == claim.job_id, Job.token == claim.token, Job.state == RUNNING).values(**values)
        )
        if changed.rowcount != 1:  # type: ignore[attr-defined]
            raise Stale(claim.job_id)
        if session.scalar(select(Job.cancel_requested).where(Job.id == claim.job_id)):
            raise Cancelled(claim.job_id)


def finish(session: Session, claim: Claim) -> None:
    """Done; part of the transaction that records the result.

    Raises:
        Stale: The job is no longer this worker's; the transaction must be undone.
    """
    _end(session, claim, DONE, None)


def fail(session: Session, claim: Claim, error: str, state: str = FAILED) -> None:
    """Failed or cancelled, with a sentence a person understands.

    Raises:
        Stale: The job is no longer this worker's; the transaction must be undone.
    """
    _end(session, claim, state, error)


def _end(session: Session, claim: Claim, state: str, error: str | None) -> None:
    job = _held(session, claim.job_id, claim.token)
    job.state, job.error, job.finished, job.lease_until = state, error, now(), None
    if state == DONE:
        job.progress = 1.0
    session.flush()


def _held(session: Session, job_id: str, token: int) -> Job:
    job = session.scalar(
        select(Job).where(Job.id == job_id, Job.token == token, Job.state == RUNNING).with_for_update()
    )
    if job is None:
        raise Stale(job_id)
    return job


def cancel_job(session: Session, job_id: str) -> Job | None:
    """Cancel one job if it is queued, and return it then; ask it to stop if it runs; leave it alone if it has ended."""
    job = session.get(Job, job_id, with_for_update=True)
    if job is not None and job.state == QUEUED:
        job.state, job.finished, job.error = CANCELLED, now(), "Cancelled before it started."
        return job
    if job is not None and job.state == RUNNING:
        job.cancel_requested = True
    return None


def cancel(session: Session, subjects: Sequence[str]) -> list[Job]:
    """Cancel queued jobs about these subjects and ask the running ones to stop; returns what was still queued."""
    return [job for job in stop(session, subjects) if job.state == CANCELLED]


def stop(session: Session, subjects: Sequence[str]) -> list[Job]:
    """Cancel queued jobs about these subjects and ask the running ones to stop; returns all of them."""
    return _stop(session, Job.subject.in_(subjects))


def stop_project(session: Session, project_id: str) -> list[Job]:
    """Cancel a project's queued jobs and ask the running ones to stop; returns all of them."""
    return _stop(session, Job.project_id == project_id)


def _stop(session: Session, chosen: ColumnElement[bool]) -> list[Job]:
    stopped = list(session.scalars(select(Job).where(chosen, Job.state.in_((QUEUED, RUNNING)))))
    for job in stopped:
        if job.state == QUEUED:
            job.state, job.finished, job.error = CANCELLED, now(), "Cancelled before it started."
        else:
            job.cancel_requested = True
    session.flush()
    return stopped


def lapsed() -> ColumnElement[bool]:
    """Running jobs whose worker has been silent for longer than its lease."""
    return (Job.state == RUNNING) & (Job.lease_until < now())


def any_running() -> ColumnElement[bool]:
    """Every running job: for a caller that knows that no worker is alive."""
    return Job.state == RUNNING


def held_by(claim: Claim) -> ColumnElement[bool]:
    """The job of a claim whose process has ended, if it did not end its row."""
    return (Job.id == claim.job_id) & (Job.token == claim.token) & (Job.state == RUNNING)


def give_back(database: Database, claim: Claim) -> bool:
    """Put a job back that its engine stopped of its own accord: the try does not count; returns whether it was held."""
    with database.write() as session:
        job = session.scalar(select(Job).where(held_by(claim)).with_for_update())
        if job is None:
            return False
        job.state, job.lease_until, job.token, job.attempts = QUEUED, None, job.token + 1, job.attempts - 1
        return True


def still_held(database: Database, claims: Sequence[Claim]) -> set[str]:
    """Ids of those jobs that still belong to their claim; the others' processes work in vain."""
    with database.read() as session:
        return {one.job_id for one in claims if session.scalar(select(Job.id).where(held_by(one))) is not None}


def recover(database: Database, on_failed: Callable[[Session, Job, str], None], abandoned: ColumnElement[bool]) -> int:
    """Put abandoned jobs back into the queue; after three tries they have failed.

    Args:
        database: Where the jobs are.
        on_failed: Called in the same transaction for a job that has failed, with a sentence for the person.
        abandoned: Which jobs: `lapsed`, `any_running` or `held_by`.

    Returns:
        How many jobs were put back or given up.
    """
    with database.read() as session:
        if session.scalar(select(Job.id).where(abandoned).limit(1)) is None:
            return 0
    with database.write() as session:
        jobs = list(session.scalars(select(Job).where(abandoned).with_for_update()))
        for job in jobs:
            # The token grows, so that a worker that is not quite dead can't write any more.
            job.token += 1
            job.lease_until = None
            if job.cancel_requested:
                job.state, job.finished, job.error = CANCELLED, now(), "Cancelled."
                on_failed(session, job, "Cancelled.")
            elif job.attempts >= MAX_ATTEMPTS:
                reason = (
                    f"The worker was stopped {job.attempts} times while it was at this {_CALLED.get(job.kind, 'job')}, "
                    "most likely for lack of memory. Free some memory, or use fewer images, and try again."
                )
                job.state, job.finished, job.error = FAILED, now(), reason
                on_failed(session, job, reason)
            else:
                job.state = QUEUED
        return len(jobs)
