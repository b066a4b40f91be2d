"""On whose behalf code runs, and the audit event that a write transaction adds when it changes something for them.

A request, a job or a command says once what it does (`acting`); from there every transaction that changes data carries
its own event: neither can be there without the other. What the rules know of it is in `data_rights.audit`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import Table, bindparam, event, insert, select
from sqlalchemy.engine import Connection, CursorResult, Dialect, Engine
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import Insert, UpdateBase

from ownvision.store.tables.account import Account
from ownvision.store.tables.base import now
from ownvision.store.tables.rights import AuditEvent, Receipt

# Rows that are kept about what is done, not for anybody: reserving a prefix, counting a prediction.
UPKEEP = frozenset({"blobs", "usage", "audit_events"})
RECEIPT = "receipt"  # in a session's info: what it erases belongs to a receipt
_CHANGES = "ownvision.changes"


@dataclass
class Act:
    """What is being done, by whom: an audit event in the making.

    Attributes:
        account_id: In which account; None until that is known.
        actor: A key's random id, or a word of `data_rights.who`.
        action: view | export | change | delete.
        operation: The operation's, job's or command's name.
        project_id: Of which project.
        target: The random id of the one thing it is about.
        request_id: Of the request.
        noun: The table whose rows are counted as touched.
        count: How many it touched, where that is known; 0: count them.
        upkeep: Tables whose rows alone are no event.
        recorded: Whether a transaction carries an event of it.
    """

    account_id: str | None
    actor: str
    action: str
    operation: str
    project_id: str | None = None
    target: str | None = None
    request_id: str | None = None
    noun: str = ""
    count: int = 0
    upkeep: frozenset[str] = UPKEEP
    recorded: bool = False


class _Changes(dict[str, dict[str, int]]):
    """Rows inserted, updated and deleted by table; and the id of each table's only inserted row."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[str, str] = {}

    def count(self, noun: str) -> int:
        """How many rows of a table were touched: one that was changed and then deleted is one."""
        return max(1, *self.get(noun, {"": 1}).values())


_ACT: ContextVar[Act | None] = ContextVar("act", default=None)


@contextmanager
def acting(act: Act | None) -> Iterator[None]:
    """What runs inside, in threads it hands work to as well, does this; None: nothing that is anybody's."""
    token = _ACT.set(act)
    try:
        yield
    finally:
        _ACT.reset(token)


def current() -> Act | None:
    """What is being done here."""
    return _ACT.get()


def concerns(*, account_id: str | None = None, target: str | None = None) -> None:
    """Say of what is being done here whose it is, or what it is about, once that is found out."""
    act = _ACT.get()
    if act is not None:
        act.account_id = account_id or act.account_id
        act.target = target or act.target


def watch(engine: Engine) -> None:
    """Notice which tables the statements of an engine change."""
    event.listen(engine, "after_execute", _notice)


def begin(connection: Connection) -> None:
    """A write transaction begins: it has changed nothing yet."""
    connection.info[_CHANGES] = _Changes()


def _notice(
    connection: Connection, statement: Any, many: Any, one: Any, options: Any, result: CursorResult[Any]
) -> None:
    changes: _Changes | None = connection.info.get(_CHANGES)
    if changes is None or not isinstance(statement, UpdateBase):
        return
    table = cast(Table, statement.table).name
    several = len(many) if isinstance(many, list | tuple) else 0
    verbs = changes.setdefault(table, {})
    verb = type(statement).__name__
    if several:
        verbs[verb] = verbs.get(verb, 0) + several
    else:
        verbs[verb] = verbs.get(verb, 0) + max(0, result.rowcount)
        if isinstance(statement, Insert):
            with suppress(InvalidRequestError):  # of several rows at once
                key = result.inserted_primary_key
                if key and isinstance(key[0], str):
                    changes.made[table] = key[0]


_COLUMNS = ("account_id", "at", "actor", "action", "operation", "project_id", "target", "count", "request_id")
_EVENTS = cast(Table, AuditEvent.__table__)
# Selected from the account, so that what deletes an account needs no event: its events go with it.
_ADD = insert(_EVENTS).from_select(
    _COLUMNS,
    select(*(bindparam(name, type_=_EVENTS.c[name].type) for name in _COLUMNS)).where(
        Account.id == bindparam("account_id", type_=_EVENTS.c.account_id.type)
    ),
)


_MOMENT = _EVENTS.c.at.type


@lru_cache
def _for_driver(dialect: Dialect) -> tuple[str, Sequence[str] | None, Callable[[datetime], Any]]:
    """The statement as a driver takes it, its parameters' order (None: by name), and how it takes a moment."""
    compiled = _ADD.compile(dialect=dialect)
    process = _MOMENT.dialect_impl(dialect).bind_processor(dialect)
    return str(compiled), compiled.positiontup, process or (lambda moment: moment)


def _add(connection: Connection, values: dict[str, Any]) -> None:
    # A third of what `execute` costs, and it is paid by every change.
    sql, order, moment = _for_driver(connection.dialect)
    values["at"] = moment(values["at"])
    connection.exec_driver_sql(sql, values if order is None else tuple(values[name] for name in order))


def record(session: Session) -> None:
    """Add the event of what is being done to a write transaction, if it changed anything; called before its commit."""
    session.flush()
    connection = session.connection()
    changes: _Changes = connection.info.get(_CHANGES) or _Changes()
    begin(connection)
    act = _ACT.get() or _of_rule(session)
    if act is None or act.account_id is None or not _touched(changes) - act.upkeep:
        return
    made = changes.made.get(act.noun) if changes.count(act.noun) == 1 else None
    project_id, target = act.project_id, act.target
    if act.noun == "projects" and project_id is None:
        project_id = made
    elif act.noun != "projects" and target is None:
        target = made
    _add(
        connection,
        {
            "account_id": act.account_id,
            "at": now(),
            "actor": act.actor,
            "action": act.action,
            "operation": act.operation,
            "project_id": project_id,
            "target": target,
            "count": act.count or changes.count(act.noun),
            "request_id": act.request_id,
        },
    )
    begin(connection)
    act.recorded = True


def _of_rule(session: Session) -> Act | None:
    """What nobody asked for and erases all the same, a rule does: the receipt that it opened says what."""
    receipt = session.get(Receipt, session.info[RECEIPT]) if RECEIPT in session.info else None
    if receipt is None:
        return None
    erased = sum(one["count"] for one in receipt.erased.values())
    return Act(receipt.account_id, "rule", "delete", receipt.operation, target=receipt.id, count=erased)


def _touched(changes: _Changes) -> set[str]:
    return {table for table, verbs in changes.items() if any(verbs.values())}
