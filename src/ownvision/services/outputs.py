"""What a job makes: bytes under a prefix that an earlier attempt of the same job may have begun to write."""

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from ownvision.jobs import rows
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.blobs import BlobExists
from ownvision.store.tables import Blob, Job
from ownvision.store.tables.base import now

_TRIES = 3
# What jobs make anew beside what is there, under the job's id, until a transaction puts it in its place.
_REPLACED = {"refit": ledger.iteration_prefix, "export": ledger.export_prefix}


def hold(session: Session, claim: rows.Claim) -> None:
    """Make sure, and for the rest of this write transaction, that the job is still this worker's and still wanted.

    Raises:
        Stale: It is another's; the transaction must be undone.
        Cancelled: It was asked to stop; the transaction must be undone.
    """
    stop = session.scalar(select(Job.cancel_requested).where(rows.held_by(claim)).with_for_update())
    if stop is None:
        raise rows.Stale(claim.job_id)
    if stop:
        raise rows.Cancelled(claim.job_id)


def write(components: Components, claim: rows.Claim, prefix: str, kind: str, name: str, data: bytes) -> None:
    """Reserve a prefix and write one durable file under it; the caller's last transaction makes it live.

    Raises:
        Stale: The job is no longer this worker's.
    """
    write_parts(components, claim, prefix, kind, name, lambda: (data,))


def write_parts(
    components: Components,
    claim: rows.Claim,
    prefix: str,
    kind: str,
    name: str,
    parts: Callable[[], Iterable[bytes]],
) -> None:
    """`write` of what comes in parts; what takes longer than a lease renews it (`ledger.renew`).

    Raises:
        Stale: The job is no longer this worker's.
    """
    for _ in range(_TRIES):
        _reserve(components, claim, prefix, kind)
        try:
            components.blobs.put_parts(prefix + name, parts())
            return
        except BlobExists:
            continue  # an earlier attempt, not quite dead, wrote between the two steps
    raise rows.Stale(claim.job_id)


def release(session: Session, project_id: str, subjects: Sequence[str]) -> None:
    """Doom what jobs that replace a model or an archive had begun to write under their own id."""
    prefixes = [
        _REPLACED[kind](project_id, job_id)
        for job_id, kind in session.execute(
            select(Job.id, Job.kind).where(Job.kind.in_(_REPLACED), Job.subject.in_(subjects))
        )
    ]
    ledger.release(session, prefixes)


def _reserve(components: Components, claim: rows.Claim, prefix: str, kind: str) -> None:
    """Pending, and empty: what an attempt that was killed had left there goes, while nobody else can hold the job."""
    with components.database.write() as session:
        hold(session, claim)
        session.execute(delete(Blob).where(Blob.prefix == prefix))
        components.blobs.delete_prefix(prefix)
        session.add(
            Blob(
                prefix=prefix,
                kind=kind,
                account_id=claim.account_id,
                project_id=claim.project_id,
                state=ledger.PENDING,
                due=now() + ledger.LEASE,
            )
        )
