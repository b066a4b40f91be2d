"""Retention: for how many days each kind of data is kept, by one table and by the rules of accounts and projects.

A row's time is over when its moment and its days lie behind it. Nothing notes the end at the row: a new rule or another
setting holds for what is there already, whether it is shorter or longer. A project's rule wins over its account's, and
that one over the setting.
"""

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, Select, Table, delete, func, select, tuple_
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import InstrumentedAttribute

from ownvision.data_rights import audit, holds, receipts
from ownvision.data_rights.who import RULE, Who
from ownvision.errors import OwnVisionError
from ownvision.jobs import rows as jobs
from ownvision.services import predictions
from ownvision.settings import Settings
from ownvision.store import ledger, tally
from ownvision.store.database import Database
from ownvision.store.tables import (
    Account,
    AuditEvent,
    Draft,
    Job,
    LegalHold,
    Prediction,
    Project,
    ProjectExport,
    RetentionRule,
    Suggestion,
    Takeout,
)
from ownvision.store.tables.base import now

log = logging.getLogger("ownvision.retention")

LONGEST = 36_500  # days
OPERATION = "Retention"
# Of one transaction: about 50 ms of the write lock.
_PART = 1_000

Moment = InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None]


@dataclass(frozen=True)
class Term:
    """How long a kind of data is kept, unless a rule says otherwise.

    Attributes:
        setting: The setting that says so.
        since: The moment from which the days count; its table is what holds the rows.
        beyond: Days beyond the setting's.
        only: Which rows may go at all.
        tally: What receipts call it (`store.tally.KINDS`).
    """

    setting: str
    since: Moment
    tally: str
    beyond: int = 0
    only: tuple[ColumnElement[bool], ...] = ()

    @property
    def table(self) -> Table:
        """What holds the rows."""
        return cast(Table, self.since.class_.__table__)

    def default(self, settings: Settings) -> int:
        """Days without a rule."""
        return int(getattr(settings, self.setting)) + self.beyond


TERMS: dict[str, Term] = {
    "predictions": Term("prediction_days", Prediction.created, "predictions"),
    "suggestions": Term("suggestion_days", Suggestion.created, "suggestions"),
    # Live learning of a project that nobody has touched for so long is switched off.
    "drafts": Term("suggestion_days", Draft.learned, "drafts"),
    "takeouts": Term("takeout_days", Takeout.created, "takeouts"),
    # A week after it expired, so that the list still explains a token that was refused.
    "tokens": Term("project_token_days", ProjectExport.created, "projectTokens", beyond=7),
    "audit": Term("audit_days", AuditEvent.at, "auditEvents"),
    "jobs": Term("job_days", Job.finished, "jobs", only=(Job.state.in_((jobs.DONE, jobs.FAILED, jobs.CANCELLED)),)),
}


@dataclass(frozen=True)
class Kept:
    """For how many days a kind is kept in a scope, and what says so."""

    kind: str
    days: int
    by: str  # project | account | setting
    default: int
    setting: str


def effective(session: Session, settings: Settings, account_id: str, project_id: str | None) -> list[Kept]:
    """What holds in a project, or (None) in an account where a project has no rule of its own; in the table's order."""
    said = [("account", _rules(session, account_id, None))]
    if project_id is not None:
        said.insert(0, ("project", _rules(session, account_id, project_id)))
    found = []
    for kind, term in TERMS.items():
        default = term.default(settings)
        days, by = next(((rules[kind], name) for name, rules in said if kind in rules), (default, "setting"))
        found.append(Kept(kind, days, by, default, term.setting))
    return found


def _rules(session: Session, account_id: str, project_id: str | None) -> dict[str, int]:
    found = session.execute(select(RetentionRule.kind, RetentionRule.days).where(*_of(account_id, project_id)))
    return {row.kind: row.days for row in found}


def _of(account_id: str, project_id: str | None) -> tuple[ColumnElement[bool], ...]:
    return RetentionRule.account_id == account_id, RetentionRule.project_id == project_id


def ends(
    session: Session, settings: Settings, kind: str, account_id: str, project_id: str | None, since: datetime
) -> datetime:
    """Until when something of a kind is kept, if no rule or setting changes before."""
    kept = effective(session, settings, account_id, project_id)
    return since + timedelta(days=next(one.days for one in kept if one.kind == kind))


def put(session: Session, account_id: str, project_id: str | None, kind: str, days: int) -> None:
    """Set the rule of a kind for a project, or (None) for an account; it replaces the one there is.

    Raises:
        OwnVisionError: BadRequestInvalid, for an unknown kind or a number of days that can't be.
    """
    if not 1 <= days <= LONGEST:
        raise OwnVisionError("BadRequestInvalid", f"Days are 1 to {LONGEST:,}, not {days:,}.")
    remove(session, account_id, project_id, kind)
    session.add(RetentionRule(account_id=account_id, project_id=project_id, kind=kind, days=days))
    session.flush()


def remove(session: Session, account_id: str, project_id: str | None, kind: str) -> None:
    """Take a rule away; does nothing where there is none.

    Raises:
        OwnVisionError: BadRequestInvalid, for an unknown kind.
    """
    if kind not in TERMS:
        raise OwnVisionError("BadRequestInvalid", f"No rule is kept for {kind!r}; there are {', '.join(TERMS)}.")
    # Of two that set the same rule at once the second waits here (PostgreSQL).
    session.scalar(select(Account.id).where(Account.id == account_id).with_for_update())
    session.execute(delete(RetentionRule).where(*_of(account_id, project_id), RetentionRule.kind == kind))


def asked(session: Session) -> Hashable:
    """What rules and holds say now: something else as soon as one is set, taken away or lifted."""
    rules = session.execute(
        select(RetentionRule.id, RetentionRule.days, RetentionRule.kind).order_by(RetentionRule.id)
    ).all()
    held = session.scalars(select(LegalHold.id).order_by(LegalHold.id)).all()
    return tuple(map(tuple, rules)), tuple(held)


def enforce(database: Database, settings: Settings, moment: datetime | None = None) -> Iterator[int]:
    """Remove what is kept no longer, in short transactions; what is under a legal hold stays.

    Each transaction that removes something has a receipt, of one kind in one project.

    Args:
        database: Where the rows are.
        settings: For the days without a rule.
        moment: What is over by then; default: now.

    Yields:
        After each transaction: how many rows went.
    """
    moment = moment or now()
    for kind in TERMS:
        for account_id, project_id in _due(database, settings, kind, moment):
            removed = _PART
            while removed == _PART:
                act = audit.of_rule(Who(account_id, RULE), OPERATION, project_id, TERMS[kind].table.name)
                with act, database.write() as session:
                    removed = _expire(session, settings, kind, account_id, project_id, moment)
                yield removed


def _due(database: Database, settings: Settings, kind: str, moment: datetime) -> list[tuple[str, str | None]]:
    """(account, project) in which something of a kind may be over."""
    term = TERMS[kind]
    with database.read() as session:
        shortest = session.scalar(select(func.min(RetentionRule.days)).where(RetentionRule.kind == kind))
        days = min(term.default(settings), shortest or LONGEST)
        found = (
            _scoped(term)
            .where(term.since <= moment - timedelta(days=days), *term.only)
            .distinct()
            .order_by("account", "project")
        )
        return [(row.account, row.project) for row in session.execute(found)]


def _scoped(term: Term) -> Select[Any]:
    columns = term.table.c
    project = columns["project_id"].label("project")
    if "account_id" in columns:
        return select(columns["account_id"].label("account"), project)
    # Of a project that is being deleted a job removes everything.
    there = select(Project.account_id.label("account"), project).join(Project, Project.id == columns["project_id"])
    return there.where(Project.closed.is_(None))


def _expire(
    session: Session, settings: Settings, kind: str, account_id: str, project_id: str | None, moment: datetime
) -> int:
    term = TERMS[kind]
    columns = term.table.c
    days = next(one.days for one in effective(session, settings, account_id, project_id) if one.kind == kind)
    over = select(*term.table.primary_key.columns).where(
        term.since <= moment - timedelta(days=days), columns["project_id"] == project_id, *term.only
    )
    if "account_id" in columns:
        over = over.where(columns["account_id"] == account_id)
    keys = [tuple(row) for row in session.execute(over.order_by(term.since).limit(_PART))]
    hold = holds.on(session, account_id, project_id) if keys else None
    if hold is not None:
        log.info("%s of %s are over but stay: legal hold %s", kind, project_id or account_id, hold.id)
        return 0
    if keys:
        ids = {term.tally: [str(key) for (key,) in keys]} if kind in _NAMED else {}
        receipt = receipts.begin(session, account_id, OPERATION, None, ids)
        _REMOVE.get(kind, _remove_rows)(session, term, account_id, project_id or account_id, keys)
        receipts.record(session, receipt)
    return len(keys)


Keys = Sequence[tuple[Any, ...]]


def _remove_rows(session: Session, term: Term, account_id: str, owner_id: str, keys: Keys) -> None:
    session.execute(delete(term.table).where(tuple_(*term.table.primary_key.columns).in_(keys)))
    tally.count(session, term.tally, len(keys))
    ledger.doom_rows(session, account_id, owner_id)


def _remove_predictions(session: Session, term: Term, account_id: str, owner_id: str, keys: Keys) -> None:
    predictions.remove(session, owner_id, [id for (id,) in keys])
    ledger.doom_rows(session, account_id, owner_id)


def _remove_takeouts(session: Session, term: Term, account_id: str, owner_id: str, keys: Keys) -> None:
    ids = [id for (id,) in keys]
    tally.count(session, "jobsCancelled", len(jobs.stop(session, ids)))
    ledger.doom(session, [ledger.takeout_prefix(owner_id, id) for id in ids])
    _remove_rows(session, term, account_id, owner_id, keys)


# What has an id of its own that a receipt names.
_NAMED = ("predictions", "takeouts", "tokens", "jobs")
_REMOVE: dict[str, Callable[[Session, Term, str, str, Keys], None]] = {
    "predictions": _remove_predictions,
    "takeouts": _remove_takeouts,
}
