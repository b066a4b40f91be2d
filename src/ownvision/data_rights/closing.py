"""Emptying what was closed, a project or a whole account: a job, in short transactions, from wherever a crash left it.

Files go first, so that a full disk gets its room back before rows are deleted. What goes is counted in the receipt in
the transaction before files are removed, and in the one that deletes rows: once, whatever crashes.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, inspect, or_, select, tuple_
from sqlalchemy.orm import Session

from ownvision.data_rights import receipts
from ownvision.jobs import rows
from ownvision.services.components import Components
from ownvision.store import ledger, tally
from ownvision.store.database import Database
from ownvision.store.tables import (
    Account,
    AuditEvent,
    Base,
    Blob,
    Draft,
    Export,
    Image,
    ImageMetadata,
    ImageTag,
    Iteration,
    IterationTag,
    Job,
    LegalHold,
    Lineage,
    Notification,
    Prediction,
    Project,
    ProjectExport,
    Receipt,
    Region,
    RetentionRule,
    ScoredImage,
    Suggestion,
    Tag,
    Takeout,
)

KIND = "erase"
_FILES = 4_096  # removed between two transactions
_ROWS = 1_000  # deleted in one
_BEAT_SECONDS = 1.0
# Others who write wait for the lock by looking again and again: a part of the time it must be free.
_FREE = 0.25

# What hangs on others goes before them. All of them name their project, or the iteration that does.
_OF_PROJECT: tuple[tuple[str | None, Any], ...] = (
    ("suggestions", Suggestion),
    ("metadata", ImageMetadata),
    ("regions", Region),
    ("imageTags", ImageTag),
    ("images", Image),
    ("predictions", Prediction),
    ("scores", ScoredImage),
    ("lineage", Lineage),
    ("exports", Export),
    ("iterationTags", IterationTag),
    ("iterations", Iteration),
    ("tags", Tag),
    ("drafts", Draft),
    ("projectTokens", ProjectExport),
    ("notifications", Notification),
    ("takeouts", Takeout),
    ("rules", RetentionRule),
    ("rules", LegalHold),
    ("jobs", Job),
    (None, Blob),
)
_OF_ACCOUNT: tuple[tuple[str | None, Any], ...] = (
    ("auditEvents", AuditEvent),
    ("takeouts", Takeout),
    ("rules", RetentionRule),
    ("rules", LegalHold),
    (None, Blob),
)


def enqueue(session: Session, account_id: str, subject: str) -> Job:
    """Queue the emptying of a project or account that this transaction closes."""
    return rows.enqueue(session, kind=KIND, account_id=account_id, project_id=None, subject=subject, lane=rows.QUICK)


def resume(database: Database) -> int:
    """Queue again what is closed and that no job is at, whatever became of the earlier one; returns how many."""
    at_work = select(Job.subject).where(Job.kind == KIND, Job.state.in_((rows.QUEUED, rows.RUNNING)))
    left = [
        select(Account.id, Account.id).where(Account.closed.is_not(None), Account.id.not_in(at_work)),
        select(Project.account_id, Project.id).where(
            Project.closed.is_not(None), Project.id.not_in(at_work), Project.account_id.not_in(at_work)
        ),
    ]
    with database.read() as session:
        if not any(session.execute(query.limit(1)).first() for query in left):
            return 0
    with database.write() as session:
        found = [row for query in left for row in session.execute(query)]
        for account_id, subject in found:
            enqueue(session, account_id, subject)
    return len(found)


def run(components: Components, claim: rows.Claim) -> None:
    """Job: empty the project or account that is the claim's subject.

    Raises:
        Stale: The job is no longer this worker's.
    """
    said = time.monotonic()

    def beat() -> None:
        nonlocal said
        if time.monotonic() - said >= _BEAT_SECONDS:
            rows.heartbeat(components.database, claim, None, components.settings.job_lease)
            said = time.monotonic()

    empty(components, claim.subject, beat)
    with components.database.write() as session:
        if session.get(Job, claim.job_id) is not None:  # it goes with its account
            rows.finish(session, claim)


def failed(session: Session, project_id: str, subject: str, reason: str) -> None:
    """An erasure that failed is queued again (`resume`): there is nothing to note."""


def empty(components: Components, subject: str, beat: Callable[[], None] = lambda: None) -> None:
    """Remove all that a closed project or account holds; does nothing where it is gone already.

    Args:
        components: Of the installation.
        subject: The project's or account's id.
        beat: Called between the short steps; what it raises ends the work, which another goes on with.
    """
    with components.database.read() as session:
        mine = or_(Project.id == subject, Project.account_id == subject)
        closed = list(session.scalars(select(Project.id).where(mine, Project.closed.is_not(None))))
        account = session.scalar(select(Account.id).where(Account.id == subject, Account.closed.is_not(None)))
    for project_id in closed:
        _Emptying(components, project_id, beat).project()
    if account is not None:
        _Emptying(components, account, beat).account()


@dataclass(frozen=True)
class _Emptying:
    """One project or account on its way out."""

    components: Components
    id: str
    beat: Callable[[], None]

    def project(self) -> None:
        self._files()
        for kind, table in _OF_PROJECT:
            self._rows(kind, table, _in_project(table, self.id))
        with self.components.database.write() as session:
            self._count(session, "projects", 1)
            session.execute(delete(Project).where(Project.id == self.id))
            self._done(session)

    def account(self) -> None:
        self._files()
        for kind, table in _OF_ACCOUNT:
            self._rows(kind, table, _below(self.id) if table is Blob else table.account_id == self.id)
        with self.components.database.write() as session:
            session.execute(delete(Account).where(Account.id == self.id))
            self._done(session)

    def _done(self, session: Session) -> None:
        """What came while it was emptied goes too; the sweeper looks at the folder once more."""
        session.execute(delete(Blob).where(_below(self.id)))
        ledger.closed(session, self.id)
        receipt = self._receipt(session)
        if receipt is not None:
            receipt.counted = {id: folder for id, folder in receipt.counted.items() if id != self.id}

    @property
    def _prefix(self) -> str:
        return f"{self.id}/"

    def _receipt(self, session: Session) -> Receipt | None:
        marker = session.get(Blob, self._prefix)
        if marker is None or marker.receipt is None:
            return None
        return session.get(Receipt, marker.receipt, with_for_update=True)

    def _count(self, session: Session, kind: str | None, number: int) -> None:
        receipt = self._receipt(session)
        if receipt is not None and kind is not None and number:
            receipts.count(receipt, kind, number)

    def _files(self) -> None:
        blobs = self.components.blobs
        for files in _chunks(blobs.list(self._prefix), self._prefix):
            self._note(files)
            for folder in files:
                blobs.delete_prefix(folder)
            self.beat()

    def _note(self, files: dict[str, list[tuple[str, int]]]) -> None:
        """Count files, by their folders, before they are removed; but not those that were counted before a crash."""
        with self.components.database.write() as session:
            receipt = self._receipt(session)
            if receipt is None:
                return
            before = receipt.counted.get(self.id, "").split("/")
            fresh = [
                (key, key.removeprefix(ledger.prefix_of(key)), size)
                for folder, found in files.items()
                if folder.split("/") > before
                for key, size in found
            ]
            receipt.erased = tally.merged(receipt.erased, tally.of_files(fresh))
            receipt.counted = {**receipt.counted, self.id: max(*files, "", key=lambda folder: folder.split("/"))}

    def _rows(self, kind: str | None, table: type[Base], mine: ColumnElement[bool]) -> None:
        key = list(inspect(table).primary_key)
        while True:
            chosen = select(*key).where(mine).limit(_ROWS)
            begun = time.monotonic()
            with self.components.database.write() as session:
                if table is Image:
                    named = select(func.count(Image.file_name)).where(Image.seq.in_(chosen))
                    self._count(session, "fileNames", session.scalar(named) or 0)
                gone = session.execute(
                    delete(table)
                    .where((key[0] if len(key) == 1 else tuple_(*key)).in_(chosen))
                    .execution_options(synchronize_session=False)
                ).rowcount  # type: ignore[attr-defined]
                self._count(session, kind, gone)
            if gone < _ROWS:
                return
            time.sleep(_FREE * (time.monotonic() - begun))
            self.beat()


def _below(id: str) -> ColumnElement[bool]:
    """The ledger's rows of what lies under a project's or account's folder, but for the one of the folder itself."""
    return (Blob.prefix > f"{id}/") & (Blob.prefix < f"{id}0")  # "0" follows "/"


def _in_project(table: Any, project_id: str) -> ColumnElement[bool]:
    if table is Blob:
        return _below(project_id)
    if hasattr(table, "iteration_id"):  # there is an index of it wherever it is
        mine = select(Iteration.id).where(Iteration.project_id == project_id)
        return table.iteration_id.in_(mine)  # type: ignore[no-any-return]
    return table.project_id == project_id  # type: ignore[no-any-return]


def _chunks(found: Iterable[tuple[str, int]], whole: str) -> Iterator[dict[str, list[tuple[str, int]]]]:
    """Files as (key, size) by whole folders, so many together as are removed between two transactions."""
    chunk: dict[str, list[tuple[str, int]]] = {}
    number = 0
    for key, size in found:
        folder = key.rpartition("/")[0] + "/"
        if folder == whole:
            continue  # nothing of ours lies there; the sweeper takes the folder in the end
        if number >= _FILES and folder not in chunk:
            yield chunk
            chunk, number = {}, 0
        chunk.setdefault(folder, []).append((key, size))
        number += 1
    if chunk:
        yield chunk
