"""The audit trail: who viewed, exported, changed or deleted what and when; by random ids, without content or names.

A change is recorded by the transaction that makes it (`store.audit`). What only looks is noted here, kept by a thread
of its own, at most a second later, so that nobody waits for it. What is refused or fails is no event.
"""

import json
import logging
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from ownvision.data_rights.actions import CHANGE, COMMANDS, COUNTED, EXPORT, JOBS, OPERATIONS, VIEW, Action
from ownvision.data_rights.who import LINK, OPERATOR, Who
from ownvision.store.audit import UPKEEP, Act, acting
from ownvision.store.database import Database, insert_all
from ownvision.store.tables import Account, AuditEvent, Project
from ownvision.store.tables.base import now

log = logging.getLogger("ownvision.audit")

_FLUSH_SECONDS = 0.5
# More that can't be kept, on a full disk say, would only fill the memory.
_MOST = 100_000
_PAGE = 1_000
# A training writes its scores in parts before it is an iteration; heartbeats are nobody's business.
_OF_JOBS = UPKEEP | {"jobs", "scored_images"}
_UNKNOWN = Action(CHANGE)


def of_request(operation: str, who: Who, path: Mapping[str, str]) -> Act:
    """What an operation of the API does.

    Args:
        operation: Its id.
        who: The caller.
        path: The path's parameters.
    """
    action = OPERATIONS.get(operation, _UNKNOWN)
    act = Act(who.account_id, who.actor, action.action, operation, request_id=who.request_id, noun=action.noun)
    for name, value in path.items():
        if name == "projectId":
            act.project_id = value.lower()
        elif name.endswith("Id"):
            act.target = value.lower()
    return act


def of_job(kind: str, account_id: str, asked_by: str | None, project_id: str, subject: str) -> Act:
    """What a job does for whoever asked for it."""
    action = JOBS.get(kind, _UNKNOWN)
    actor = asked_by or OPERATOR
    name = f"{kind.capitalize()}Job"
    return Act(account_id, actor, action.action, name, project_id or None, subject, noun=action.noun, upkeep=_OF_JOBS)


def of_command(name: str) -> Act:
    """What a command does; whose account it concerns, the command finds out."""
    action = COMMANDS.get(name, _UNKNOWN)
    return Act(None, OPERATOR, action.action, name, noun=action.noun)


def of_rule(who: Who, operation: str, project_id: str | None, noun: str) -> AbstractContextManager[None]:
    """What runs inside is done by a rule: every transaction of it that deletes carries an event."""
    return acting(Act(who.account_id, who.actor, "delete", operation, project_id, noun=noun))


@dataclass(frozen=True)
class _Noted:
    """A view that waits to be kept. By a link no account is known, and `project_id` may be an account's."""

    account_id: str | None
    at: datetime
    actor: str
    action: str
    operation: str
    project_id: str | None
    target: str | None
    request_id: str | None

    def row(self, account_id: str, count: int) -> dict[str, Any]:
        return {**vars(self), "account_id": account_id, "count": count}


def keep(database: Database, act: Act) -> None:
    """Record what a command viewed or exported, unless a transaction of its carries the event."""
    if act.account_id is not None and act.action in (VIEW, EXPORT) and not act.recorded:
        with database.write() as session:
            insert_all(session, AuditEvent, _rows(session, [(_noted(act), 1)]))


def seen(database: Database, act: Act | None, account_ids: Collection[str]) -> None:
    """Record that a command showed what is of several accounts: an event for each that is there still."""
    if act is not None and account_ids:
        entries = [(_noted(replace(act, account_id=id)), 1) for id in sorted(account_ids)]
        with database.write() as session:
            insert_all(session, AuditEvent, _rows(session, entries))


def _noted(act: Act) -> _Noted:
    return _Noted(
        act.account_id, now(), act.actor, act.action, act.operation, act.project_id, act.target, act.request_id
    )


class Trail:
    """Notes what only looks; a thread of its own keeps it, so that no request waits for it.

    Args:
        database: Where the events are kept.
        seconds: How often.
    """

    def __init__(self, database: Database, seconds: float = _FLUSH_SECONDS) -> None:
        self._database, self._seconds = database, seconds
        self._lock = threading.Lock()
        self._pending: list[_Noted] = []
        # Predictions that store nothing come by the thousand: one event each half second and model says how many.
        self._counted: dict[tuple[Any, ...], tuple[_Noted, int]] = {}
        self._dropped = 0
        self._some, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def done(self, act: Act) -> None:
        """An operation succeeded: note it, unless a transaction carries its event or it changed nothing."""
        if act.recorded or act.action not in (VIEW, EXPORT):
            return
        noted = _noted(act)
        if act.operation in COUNTED:
            self._count(noted)
        else:
            self._note(noted)

    def opened(self, operation: str, action: str, owner: str, target: str, request_id: str | None) -> None:
        """Somebody opened a signed address of something of a project (or of a whole account, then `owner`)."""
        self._note(_Noted(None, now(), LINK, action, operation, owner, target, request_id))

    def flush(self) -> None:
        """Keep what was noted since the last time; what can't be kept stays noted for the next."""
        with self._lock:
            pending, self._pending = self._pending, []
            counted, self._counted = self._counted, {}
            dropped, self._dropped = self._dropped, 0
        if dropped:
            log.error("%d views could not be recorded for the audit trail: the database could not be written", dropped)
        entries = [*((noted, 1) for noted in pending), *counted.values()]
        if not entries:
            return
        try:
            with self._database.write() as session:
                insert_all(session, AuditEvent, _rows(session, entries))
        except BaseException:
            with self._lock:
                self._pending[:0] = pending
                for key, (noted, count) in counted.items():
                    self._counted[key] = noted, count + self._counted.get(key, (noted, 0))[1]
            raise

    def close(self) -> None:
        """Stop the thread and keep what was noted."""
        self._closing.set()
        self._some.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _note(self, noted: _Noted) -> None:
        with self._lock:
            if len(self._pending) < _MOST:
                self._pending.append(noted)
            else:
                self._dropped += 1
        self._wake()

    def _count(self, noted: _Noted) -> None:
        key = noted.account_id, noted.actor, noted.operation, noted.project_id, noted.target
        with self._lock:
            first, count = self._counted.get(key, (noted, 0))
            # Of several requests there is no one id to name.
            self._counted[key] = (first if not count else _without_request(first)), count + 1
        self._wake()

    def _wake(self) -> None:
        if not self._some.is_set():
            self._some.set()
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._keep, name="audit", daemon=True)
                    self._thread.start()

    def _keep(self) -> None:
        while not self._closing.is_set():
            self._some.wait()
            self._some.clear()
            if self._closing.wait(self._seconds):
                return
            try:
                self.flush()
            except Exception:
                log.exception("The audit trail could not be written; it is tried again.")
                self._some.set()


def _without_request(noted: _Noted) -> _Noted:
    return noted if noted.request_id is None else _Noted(**{**vars(noted), "request_id": None})


def _rows(session: Session, entries: Sequence[tuple[_Noted, int]]) -> list[dict[str, Any]]:
    """Events of accounts that are there still; whose project a link's is, is looked up here."""
    wanted = {noted.account_id or noted.project_id for noted, _ in entries}
    accounts = set(session.scalars(select(Account.id).where(Account.id.in_(wanted))))
    owners = session.execute(select(Project.id, Project.account_id).where(Project.id.in_(wanted - accounts)))
    projects = {row.id: row.account_id for row in owners}
    rows = []
    for noted, count in entries:
        owner = noted.account_id or noted.project_id or ""
        if owner in accounts:
            row = noted.row(owner, count)
            rows.append(row if noted.project_id != owner else {**row, "project_id": None})
        elif owner in projects:
            rows.append(noted.row(projects[owner], count))
    return rows


@dataclass(frozen=True)
class Wanted:
    """Which events: those that meet all that is given; `since` and later, before `until`."""

    since: datetime | None = None
    until: datetime | None = None
    action: str | None = None
    project_id: str | None = None
    actor: str | None = None
    operation: str | None = None
    target: str | None = None


def page(
    session: Session, account_id: str, wanted: Wanted, take: int, before: int | None = None
) -> tuple[list[AuditEvent], int | None]:
    """The newest events of an account, newest first.

    Args:
        session: Of a transaction.
        account_id: Whose.
        wanted: Which.
        take: How many at most.
        before: What the last page gave, to go on from there.

    Returns:
        The events, and what leads to the next page; None at the end.
    """
    conditions = _conditions(account_id, wanted)
    if before is not None:
        conditions.append(AuditEvent.seq < before)
    query = select(AuditEvent).where(*conditions).order_by(AuditEvent.seq.desc()).limit(take + 1)
    found = list(session.scalars(query))
    more = len(found) > take
    return found[:take], found[take - 1].seq if more and take else None


def lines(database: Database, account_id: str, wanted: Wanted = Wanted()) -> Iterator[str]:
    """All events of an account, oldest first, as JSON Lines; no transaction is open between two lines."""
    after = 0
    while True:
        with database.read() as session:
            query = select(AuditEvent).where(*_conditions(account_id, wanted), AuditEvent.seq > after)
            found = list(session.scalars(query.order_by(AuditEvent.seq).limit(_PAGE)))
        for row in found:
            yield json.dumps(shape(row), separators=(",", ":")) + "\n"
        if len(found) < _PAGE:
            return
        after = found[-1].seq


def shape(row: AuditEvent) -> dict[str, Any]:
    """An event as it is shown; without what does not apply."""
    shown = {
        "seq": row.seq,
        "at": row.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "actor": row.actor,
        "action": row.action,
        "operation": row.operation,
        "projectId": row.project_id,
        "target": row.target,
        "count": row.count,
        "requestId": row.request_id,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _conditions(account_id: str, wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [AuditEvent.account_id == account_id]
    for column, value in (
        (AuditEvent.action, wanted.action),
        (AuditEvent.project_id, wanted.project_id),
        (AuditEvent.actor, wanted.actor),
        (AuditEvent.operation, wanted.operation),
        (AuditEvent.target, wanted.target),
    ):
        if value is not None:
            conditions.append(column == value)
    if wanted.since is not None:
        conditions.append(AuditEvent.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(AuditEvent.at < wanted.until)
    return conditions
