"""Takeouts that the service makes: asked for, made by a job, kept until they expire or something in them is erased."""

import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from ownvision.data_rights.takeout import writer
from ownvision.data_rights.takeout.own import Own
from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.services import outputs, projects
from ownvision.services.components import Components
from ownvision.services.travel.leaving import Withdrawn
from ownvision.store import ledger
from ownvision.store.tables import Image, Project, Takeout
from ownvision.store.tables.base import new_id, now

KIND = "takeout"
ARCHIVE = "archive.zip"
EXPORTING, DONE, FAILED = "Exporting", "Done", "Failed"
_ERASED = "Something that it held was erased, and so it was erased too; ask for a new one."
_BEAT_SECONDS, _RENEW_SECONDS = 0.5, 60.0


def prefix_of(row: Takeout) -> str:
    """Where its archive lies."""
    return ledger.takeout_prefix(row.project_id or row.account_id, row.id)


def start(
    session: Session,
    account_id: str,
    project_id: str | None,
    selection: Mapping[str, Sequence[str]] | None = None,
) -> Takeout:
    """Queue a takeout; one of the same that is being made is given again.

    Args:
        session: The caller's transaction.
        account_id: Whose.
        project_id: Of which project; None: of the whole account.
        selection: Ids of the ``images`` and ``predictions`` that it is to hold; None: everything.

    Raises:
        OwnVisionError: NotFoundProject; BadRequestOperationNotSupported, when the project is still being imported.
    """
    if project_id is not None:
        projects.get(session, account_id, project_id, lock=True)
    chosen = {kind: list(ids) for kind, ids in (selection or {}).items()}
    for row in session.scalars(
        select(Takeout).where(
            Takeout.account_id == account_id,
            Takeout.project_id.is_not_distinct_from(project_id),
            Takeout.status == EXPORTING,
        )
    ):
        if row.selection == chosen:
            return row
    row = Takeout(
        id=new_id(),
        account_id=account_id,
        project_id=project_id,
        selection=chosen,
        created=now(),
    )
    session.add(row)
    session.flush()
    rows.enqueue(session, kind=KIND, account_id=account_id, project_id=project_id, subject=row.id, lane=rows.QUICK)
    return row


def all(session: Session, account_id: str) -> list[Takeout]:
    """An account's takeouts, newest first."""
    return list(
        session.scalars(
            select(Takeout).where(Takeout.account_id == account_id).order_by(Takeout.created.desc(), Takeout.id)
        )
    )


def get(session: Session, account_id: str, takeout_id: str) -> Takeout:
    """One of an account's takeouts.

    Raises:
        OwnVisionError: NotFound.
    """
    row = session.scalar(select(Takeout).where(Takeout.id == takeout_id, Takeout.account_id == account_id))
    if row is None:
        raise OwnVisionError("NotFound", f"There is no takeout {takeout_id} in this account.")
    return row


def remove(session: Session, row: Takeout) -> None:
    """Remove a takeout and its archive; one that is being made is cancelled."""
    rows.cancel(session, [row.id])
    ledger.doom(session, [prefix_of(row)])
    session.delete(row)
    session.flush()


def doom_holding(session: Session, account_id: str, project_id: str | None) -> list[str]:
    """Something of a project is erased: takeouts that hold it go too, and one that is being made begins anew.

    Args:
        session: The write transaction that erases.
        account_id: Whose it is.
        project_id: Of which project; None: of any, or of the account itself.

    Returns:
        Ids of those whose archive goes; their rows stay until they expire, and say why.
    """
    holding = select(Takeout).where(Takeout.account_id == account_id, Takeout.status != FAILED)
    if project_id is not None:
        holding = holding.where(or_(Takeout.project_id.is_(None), Takeout.project_id == project_id))
    gone = []
    for row in session.scalars(holding):
        if row.status == EXPORTING and rows.again(session, KIND, row.id):
            continue
        ledger.doom(session, [prefix_of(row)])
        row.status, row.error, row.size, row.sha256, row.counts = FAILED, _ERASED, None, None, {}
        gone.append(row.id)
    session.flush()
    return gone


def run(components: Components, claim: rows.Claim) -> None:
    """Job: write the archive of the takeout that is the claim's subject.

    Raises:
        Stale: The job is no longer this worker's.
        Cancelled: The takeout is gone, or it was asked to stop.
        OwnVisionError: It can't be made; the message is for the person.
    """
    with components.database.read() as session:
        row = session.get(Takeout, claim.subject)
        if row is None:
            raise rows.Cancelled(claim.job_id)
        _check_room(components, session, row)
    prefix, told, digest, size = prefix_of(row), writer.Told(), hashlib.sha256(), 0

    def parts() -> Iterator[bytes]:
        nonlocal told, digest, size
        told, digest, size = writer.Told(), hashlib.sha256(), 0
        source = Own(components, row.account_id, row.project_id, now(), row.selection)
        beat = _Beat(components, claim, prefix)
        for part in writer.stream(source, components.settings.data, told):
            digest.update(part)
            size += len(part)
            beat.tell(told.done / (source.total + 1))
            yield part

    try:
        outputs.write_parts(components, claim, prefix, KIND, ARCHIVE, parts)
    except Withdrawn:
        raise OwnVisionError("NotFoundProject", "What was to be taken out was deleted meanwhile; ask again.") from None
    with components.database.write() as session:
        outputs.hold(session, claim)
        made = session.get(Takeout, claim.subject)
        if made is None:
            raise rows.Cancelled(claim.job_id)
        ledger.make_live(session, [prefix])
        made.status, made.error, made.size, made.sha256 = DONE, None, size, digest.hexdigest()
        made.counts = told.counts
        rows.finish(session, claim)


class _Beat:
    """Says from time to time that the job lives, keeps what it writes, and sees that there is room for it."""

    def __init__(self, components: Components, claim: rows.Claim, prefix: str) -> None:
        self._components = components
        self._claim = claim
        self._prefix = prefix
        self._said = self._renewed = time.monotonic()

    def tell(self, share: float) -> None:
        moment = time.monotonic()
        if moment - self._said < _BEAT_SECONDS:
            return
        settings = self._components.settings
        rows.heartbeat(self._components.database, self._claim, min(share, 0.99), settings.job_lease)
        if shutil.disk_usage(settings.data).free < settings.min_free_bytes:
            raise _full()
        if moment - self._renewed > _RENEW_SECONDS:
            with self._components.database.write() as session:
                ledger.renew(session, self._prefix)
            self._renewed = moment
        self._said = time.monotonic()


def _full() -> OwnVisionError:
    return OwnVisionError(
        "ErrorStorage", "The server's disk has no room for the archive; ask its operator to make some."
    )


def _check_room(components: Components, session: Session, row: Takeout) -> None:
    """Refuse at once what can't end well."""
    settings = components.settings
    query = select(func.sum(Image.size)).join(Project, Project.id == Image.project_id)
    query = query.where(Project.account_id == row.account_id)
    if row.project_id is not None:
        query = query.where(Project.id == row.project_id)
    needed = 0 if row.selection else session.scalar(query) or 0
    if shutil.disk_usage(settings.data).free < settings.min_free_bytes + needed:
        raise _full()


def failed(session: Session, project_id: str, takeout_id: str, reason: str) -> None:
    """Record that a takeout has failed; nothing of it is kept."""
    row = session.get(Takeout, takeout_id)
    if row is not None and row.status == EXPORTING:
        row.status, row.error = FAILED, reason
        ledger.doom(session, [prefix_of(row)])
