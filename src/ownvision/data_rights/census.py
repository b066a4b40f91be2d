"""The census: how much of each kind of data there is now, of an account or of one project."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import ColumnElement, Table, func, select
from sqlalchemy.orm import Session

from ownvision.data_rights import holds, retention
from ownvision.data_rights.inventory import KINDS, Files, Kind, Objects, Rows
from ownvision.data_rights.retention import Kept
from ownvision.services.components import Components
from ownvision.store.blobs import BlobMissing, BlobStore
from ownvision.store.blobs.sealed import sealed_size
from ownvision.store.tables import Base, Iteration, LegalHold, Project

_MOMENTS = ("created", "asked", "at")  # by which column a row says since when it is there
_ID = 36
UNNAMED = "files not yet whole"


@dataclass(frozen=True)
class Held:
    """What there is of a kind.

    Attributes:
        kind: Which.
        count: Rows, or files where it has no rows; None: it is not counted.
        files: Files, None where it has none.
        bytes: Of the files as they lie on the disk: of sealed ones a little more than what is in them.
        sealed: Whether all these files are sealed; None where there are none.
        oldest: Since when the oldest row is there; None where rows do not say.
        kept: The days that hold, where a retention rule can say so.
    """

    kind: Kind
    count: int | None
    files: int | None
    bytes: int | None
    sealed: bool | None
    oldest: datetime | None
    kept: Kept | None

    def until(self) -> str:
        """For how long it is kept, in words."""
        return self.kind.kept if self.kept is None else f"{self.kept.days} days {self.kind.kept}"

    def shape(self) -> dict[str, Any]:
        """As JSON shows it, but for `oldest`, which is a moment."""
        kind, kept = self.kind, self.kept
        return {
            "name": kind.name,
            "what": kind.what,
            "where": [str(place) for place in kind.places],
            "why": kind.why,
            "kept": self.until(),
            "days": None if kept is None else kept.days,
            "rule": None if kept is None else kept.by,
            "oldest": self.oldest,
            "count": self.count,
            "files": self.files,
            "bytes": self.bytes,
            "sealed": self.sealed,
            "view": list(kind.view),
            "export": kind.export or None,
            "delete": list(kind.delete),
            "note": kind.without or None,
            "inOriginal": kind.original,
        }


@dataclass(frozen=True)
class Census:
    """All that is held, and the holds that keep it from being erased."""

    account_id: str
    project_id: str | None
    holds: list[LegalHold]
    kinds: list[Held]


@dataclass(frozen=True)
class _Scope:
    account_id: str
    project_ids: list[str]
    project_id: str | None

    def owners(self) -> list[str]:
        return self.project_ids if self.project_id else [*self.project_ids, self.account_id]


def take(session: Session, components: Components, account_id: str, project_id: str | None) -> Census:
    """Count what is held of an account or, with `project_id`, of one project of it; a project shows no account's data.

    Args:
        session: Of a transaction that reads; the caller has seen that account and project are there.
        components: For settings, files and keys.
        account_id: Whose.
        project_id: Of which project, None: of all and of the account itself.
    """
    projects = session.scalars(select(Project.id).where(Project.account_id == account_id)).all()
    scope = _Scope(account_id, [id for id in projects if project_id in (None, id)], project_id)
    counted = _rows(session, scope)
    files = _files(session, components, scope)
    days = {one.kind: one for one in retention.effective(session, components.settings, account_id, project_id)}
    found = (_held(kind, counted, files, days.get(kind.retention or "")) for kind in KINDS)
    return Census(
        account_id,
        project_id,
        holds.all(session, account_id, project_id),
        [one for one in found if project_id is None or one.count is not None],
    )


Counts = dict[tuple[str, str], tuple[int, datetime | None]]  # by table and counted column
Sizes = dict[str, tuple[int, int]]  # files and bytes, by the kind's name


def _held(kind: Kind, counted: Counts, sizes: Sizes, kept: Kept | None) -> Held:
    rows = [
        counted[place.table, place.counted]
        for place in kind.places
        if isinstance(place, Rows) and (place.table, place.counted) in counted
    ]
    files, size = sizes.get(kind.name, (None, None))
    return Held(
        kind,
        sum(count for count, _ in rows) if rows else files,
        files,
        size,
        None if not files else not [one for one in kind.places if isinstance(one, Files) and not one.sealed],
        min((oldest for _, oldest in rows if oldest is not None), default=None),
        kept,
    )


def _rows(session: Session, scope: _Scope) -> Counts:
    """One query a table."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for of, counted in _rows_wanted():
        wanted[of].add(counted)
    counts: Counts = {}
    for name, columns in wanted.items():
        table = Base.metadata.tables[name]
        mine = _mine(table, scope)
        if mine is not None:
            answer: Sequence[Any] = session.execute(select(*_aggregates(table, sorted(columns))).where(mine)).one()
            for number, column in enumerate(sorted(columns)):
                counts[name, column] = (answer[2 * number], answer[2 * number + 1])
    return counts


def _rows_wanted() -> set[tuple[str, str]]:
    """(table, counted column)."""
    places = (place for kind in KINDS for place in kind.places if isinstance(place, Rows))
    return {(place.table, place.counted) for place in places if place.counted}


def _aggregates(table: Table, columns: Iterable[str]) -> Iterator[ColumnElement[Any]]:
    moment = next((table.c[name] for name in _MOMENTS if name in table.c), None)
    for column in columns:
        there = None if column == "*" else table.c[column]
        yield func.count() if there is None else func.count(there)
        if moment is None:
            yield func.min(None)
        else:
            yield func.min(moment) if there is None else func.min(moment).filter(there.is_not(None))


def _mine(table: Table, scope: _Scope) -> ColumnElement[bool] | None:
    """Which rows of a table are meant; None: what it holds is the account's, and only a project is asked for."""
    columns = table.c
    mine = select(Project.id).where(Project.account_id == scope.account_id)
    if scope.project_id is not None:
        mine = mine.where(Project.id == scope.project_id)
    if table is Project.__table__:
        return columns["id"].in_(mine)
    if "account_id" in columns and scope.project_id is None:
        return columns["account_id"] == scope.account_id
    if "project_id" in columns:
        return columns["project_id"].in_(mine)
    if "iteration_id" in columns:
        return columns["iteration_id"].in_(select(Iteration.id).where(Iteration.project_id.in_(mine)))
    return columns["id"] == scope.account_id if table.name == "accounts" and scope.project_id is None else None


def _files(session: Session, components: Components, scope: _Scope) -> Sizes:
    sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, count, size in (*_sized(session, scope), *_found(components, scope), *_keys(components, scope)):
        sizes[name][0] += count
        sizes[name][1] += size
    return {name: (count, size) for name, (count, size) in sizes.items()}


def _sized(session: Session, scope: _Scope) -> Iterator[tuple[str, int, int]]:
    """Files of which a row says how large they are: a hundred thousand need not be looked at."""
    for kind, place in _OBJECTS:
        if place.sized:
            table = Base.metadata.tables[place.sized]
            size: Any = table.c["size"]
            mine = _mine(table, scope)
            assert mine is not None
            count, total = session.execute(select(func.count(), func.sum(sealed_size(size))).where(mine)).one()
            yield kind.name, count, int(total or 0)


def _found(components: Components, scope: _Scope) -> Iterator[tuple[str, int, int]]:
    """The other files, by what lies under the prefixes of the scope's projects and account."""
    store = components.blobs.store
    there: dict[tuple[str, str], list[str]] = defaultdict(list)
    for owner in scope.owners():
        for key in store.names(f"{owner}/"):
            folder, _, name = key[len(owner) + 1 :].partition("/")
            name = name.rpartition("/")[2]
            # An image's files are told apart by what follows its id.
            there[folder.removesuffix("s"), name[_ID + 1 :] if name[_ID : _ID + 1] == "." else name].append(key)
    for (ledger_kind, name), keys in there.items():
        kind, place = next(
            ((kind, one) for kind, one in _OBJECTS if one.kind == ledger_kind and fnmatchcase(name, one.name)),
            (None, None),
        )
        if place is None or kind is None:
            # What is not yet whole has a name that is no key.
            folders = {f"{key.rpartition('/')[0]}/" for key in keys}
            unnamed = [size for folder in folders for key, size in store.list(folder) if key in set(keys)]
            yield UNNAMED, len(unnamed), sum(unnamed)
        elif place.alike:
            yield kind.name, len(keys), len(keys) * next(_sizes(store, keys), 0)
        elif not place.sized:
            yield kind.name, len(keys), sum(_sizes(store, keys))


def _sizes(store: BlobStore, keys: Iterable[str]) -> Iterator[int]:
    for key in keys:
        with suppress(BlobMissing):  # removed while we look
            yield store.size(key)


def _keys(components: Components, scope: _Scope) -> Iterator[tuple[str, int, int]]:
    owners = {"project": scope.project_ids, "account": [] if scope.project_id else [scope.account_id]}
    for kind, pattern in _OF_OWNER:
        for name, ids in owners.items():
            for path in (pattern.format(**{name: id}) for id in ids if f"{{{name}}}" in pattern):
                with suppress(FileNotFoundError):
                    yield kind.name, 1, (components.settings.data / path).stat().st_size


_OBJECTS = [(kind, place) for kind in KINDS for place in kind.places if isinstance(place, Objects)]
_OF_OWNER = [
    (kind, place.pattern)
    for kind in KINDS
    for place in kind.places
    if isinstance(place, Files) and "{" in place.pattern
]
