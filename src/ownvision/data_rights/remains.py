"""What an erasure may have left: looked for in every file of the data folder, without knowing what was erased.

Every file belongs to a live row of the ledger or to what is known to be there; no page of the database holds anything
that is no row's; and no id that a receipt names as erased occurs anywhere, as text or as bytes, but where ids are kept.
"""

import os
import re
import sqlite3
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from fnmatch import fnmatchcase, translate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sqlalchemy import Select, func, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session

from ownvision.data_rights.doctor import FILES, Finding, owners
from ownvision.data_rights.inventory import KINDS, Files, Objects
from ownvision.services.components import Components
from ownvision.store import ledger, pages
from ownvision.store.files import is_hidden
from ownvision.store.keys import INSTALLATION, JOURNAL, NEXT, RETIRED, SIGNING
from ownvision.store.tables import (
    Account,
    Blob,
    Export,
    Image,
    ImageTag,
    Iteration,
    IterationTag,
    Prediction,
    Project,
    Receipt,
    Region,
    Tag,
    Takeout,
)
from ownvision.store.tables.base import now

_PLACES = [place for kind in KINDS for place in kind.places]
_NAMED = [place.pattern for place in _PLACES if isinstance(place, Files) and not place.nameless]
# What the data map knows to be there for a while only: of something that did not come to its end.
_UNFINISHED = ("restoring", "restoring.receipts", "ballast.new", "keys/installation.next")
_SCRATCH = ("etilqs_*", "*/.*")
_KNOWN = [name for name in _NAMED if name not in (*_UNFINISHED, *_SCRATCH) and not name.startswith("keys/")]
# Names of the files below a prefix, by the ledger's kind.
_OBJECTS = {
    kind: re.compile(
        "|".join(translate(place.name) for place in _PLACES if isinstance(place, Objects) and place.kind == kind)
    )
    for kind in {place.kind for place in _PLACES if isinstance(place, Objects)}
}
_NONE = re.compile(r"(?!)")
# Tables that are to keep ids of what was erased: the proof itself, and what is known of models that learned from it.
_KEEPING = ("receipts", "lineage", "audit_events", "blobs")
# Of what a receipt or the journal names, by kind: its rows, of which none may be there; images and regions may be, for
# the iterations that cover them, and a stored prediction may have become an image.
_GONE: dict[str, InstrumentedAttribute[str]] = {
    "tags": Tag.id,
    "iterations": Iteration.id,
    "models": Iteration.model_id,
    "exports": Export.id,
    "archives": Export.archive_id,
    "takeouts": Takeout.id,
    "projects": Project.id,
    "accounts": Account.id,
}
_COVERED: dict[str, InstrumentedAttribute[str]] = {
    "images": Image.id,
    "regions": Region.id,
    "predictions": Prediction.id,
}
# Where a deleted tag is still named, rightly: iterations keep the tags they learned.
_NAMING = (Image.id, IterationTag.tag_id, ImageTag.tag_id, Region.tag_id)
# Operations whose subjects stay: only what ties them together goes.
_SUBJECTS_STAY = ("DeleteImageTags",)
_PART = 500
_TRIES, _WAIT_SECONDS = 50, 0.05  # each waits twice as long: five seconds in all


def remains(components: Components) -> Iterator[Finding]:
    """What is left of anything that was erased; nothing is, when an erasure's receipt is signed.

    Serving or not: what is under way is looked at again before it is called left.
    """
    yield from _unfinished(components)
    yield from _rows(components)
    erased = _erased(components)
    yield from _files(components, erased)
    if components.database.is_sqlite:
        yield from _database(components, erased)


def _unfinished(components: Components) -> Iterator[Finding]:
    """Erasures that are not at their end: what is found of them is no surprise."""
    with components.database.read() as session:
        for receipt in session.scalars(select(Receipt).where(Receipt.state != "signed")):
            yield Finding(
                "unfinished", receipt.id, "This erasure's receipt is not signed yet: the worker is still at it."
            )
        for state in (ledger.DOOMED, ledger.COUNTED):
            for prefix in session.scalars(select(Blob.prefix).where(Blob.state == state).limit(_PART)):
                yield Finding("unfinished", prefix, "This is erased; a running worker removes its bytes.")
        lapsed = (Blob.state == ledger.PENDING, Blob.due <= now())
        for prefix in session.scalars(select(Blob.prefix).where(*lapsed).limit(_PART)):
            yield Finding("unfinished", prefix, "An upload was given up; a running worker removes what is left of it.")
        for table in (Project, Account):
            for id in session.scalars(select(table.id).where(table.closed.is_not(None))):
                yield Finding("unfinished", id, "This is closed; a running worker removes what it holds.")


class Ids:
    """Ids to look for, in every form they could have been written in.

    Args:
        ids: UUIDs as text.
    """

    _DASHED = re.compile(rb"(?=([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}))")
    _PLAIN = re.compile(rb"(?=([0-9a-f]{32}))")

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = {uuid.UUID(id).bytes for id in ids}
        # By their first three bytes: nearly all that is looked at is ruled out by one look into a table.
        self._begins: NDArray[np.bool_] = np.zeros(1 << 24 if self._ids else 0, dtype=np.bool_)
        for id in self._ids:
            self._begins[int.from_bytes(id[:3], "big")] = True
            self._begins[int.from_bytes(_swapped(id)[:3], "big")] = True

    def within(self, data: bytes) -> set[str]:
        """Those that occur: as text with dashes or without, of either case, in UTF-8 or UTF-16; as 16 bytes."""
        if not self._ids:
            return set()
        found = set(self._as_bytes(data))
        lower = data.lower()
        for form in (lower, lower.replace(b"\0", b"")):
            for pattern in (self._DASHED, self._PLAIN):
                found.update(bytes.fromhex(match[1].replace(b"-", b"").decode()) for match in pattern.finditer(form))
        return {str(uuid.UUID(bytes=id)) for id in found & self._ids}

    def _as_bytes(self, data: bytes) -> Iterator[bytes]:
        if len(data) < 16:
            return
        each = np.frombuffer(data, np.uint8).astype(np.uint32)
        begins = each[:-15] << 16 | each[1:-14] << 8 | each[2:-13]
        for at in np.flatnonzero(self._begins[begins]):
            yield data[at : at + 16]
            yield _swapped(data[at : at + 16])


def _swapped(id: bytes) -> bytes:
    return uuid.UUID(bytes=id).bytes_le


def _named(components: Components, session: Session) -> dict[str, set[str]]:
    """Ids that receipts and the journal name as erased, by kind."""
    named: dict[str, set[str]] = defaultdict(set)
    for receipt in session.scalars(select(Receipt).where(Receipt.operation.not_in(_SUBJECTS_STAY))):
        for kind in receipt.subjects.keys() & (_GONE.keys() | _COVERED.keys()):
            named[kind].update(receipt.subjects[kind])
    for kind, name in components.keys.erased():
        if f"{kind}s" in _GONE or f"{kind}s" in _COVERED:
            named[f"{kind}s"].add(name.rstrip("./").rpartition("/")[2])
    return named


def _rows(components: Components) -> Iterator[Finding]:
    """Rows of what is erased, and rows that nothing needs any more."""
    with components.database.read() as session:
        yield from owners(session)
        for kind, ids in _named(components, session).items():
            if kind in _GONE:
                for id in _there(session, _GONE[kind], ids):
                    yield Finding("row", id, f"A receipt or the journal names it as erased, but its row is in {kind}.")
        for table in (Image, ImageTag, Region):
            for project_id, count in session.execute(_uncovered(table)):
                message = f"{count} closed rows of {table.__tablename__} are covered by no iteration."
                yield Finding("row", project_id, message)
        if components.database.is_sqlite:
            for name, *_ in session.execute(text("PRAGMA foreign_key_check")):
                yield Finding("row", str(name), "A row points to one that is not there.")


def _uncovered(table: Any) -> Any:
    covering = (
        select(Iteration.id)
        .where(
            Iteration.project_id == table.project_id,
            Iteration.revision >= table.since,
            Iteration.revision < table.until,
        )
        .exists()
    )
    return select(table.project_id, func.count()).where(table.until.is_not(None), ~covering).group_by(table.project_id)


def _there(session: Session, column: InstrumentedAttribute[str], ids: Iterable[str]) -> set[str]:
    listed, found = sorted(ids), set[str]()
    for start in range(0, len(listed), _PART):
        found.update(session.scalars(select(column).where(column.in_(listed[start : start + _PART]))))
    return found


def _erased(components: Components) -> Ids:
    """Ids that may occur nowhere; those of rows that are there are looked at as rows."""
    with components.database.read() as session:
        ids = {id for some in _named(components, session).values() for id in some if _is_id(id)}
        for column in (*_GONE.values(), *_COVERED.values(), *_NAMING):
            ids -= _there(session, column, ids)
        # What is still being removed is named by the ledger as such.
        return Ids(ids)


def _is_id(id: str) -> bool:
    try:
        return str(uuid.UUID(id)) == id
    except ValueError:
        return False


def _files(components: Components, erased: Ids) -> Iterator[Finding]:
    """Files that nothing explains, seen twice: one that is being written or removed is gone at the second look."""
    data = components.settings.data
    suspects = [*_objects(components), *_keys(components), *_others(data, erased)]
    for path, finding in suspects:
        if path.is_dir() if finding.kind == "stray folder" else path.exists():
            yield finding


def _objects(components: Components) -> Iterator[tuple[Path, Finding]]:
    root = components.settings.data / "objects"
    start = len(str(root)) + 1
    for place, folders, names in os.walk(root):
        if not names and not folders and len(place) > start:
            below = place[start:]
            yield Path(place), Finding("stray folder", below, "An empty folder, whose name says of what it was.")
        owned: dict[str, list[str]] = defaultdict(list)
        for name in names:
            key = f"{place}/{name}"[start:]
            owned[ledger.prefix_of(key)].append(key)
        for prefix, why in _wrong(components, owned) if owned else ():
            for key in owned[prefix]:
                yield root / key, Finding("stray object", key, why)


def _wrong(components: Components, owned: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Prefixes of one folder that may not be there, or not as they are, and why."""
    with components.database.read() as session:
        rows = select(Blob.prefix, Blob.state, Blob.kind)
        # Of a folder there are nearly all in one range; by the collation of PostgreSQL it may miss some.
        states = _states(session, rows.where(Blob.prefix.between(min(owned), max(owned))))
        missed = [prefix for prefix in owned if prefix not in states]
        for at in range(0, len(missed), _PART):
            states |= _states(session, rows.where(Blob.prefix.in_(missed[at : at + _PART])))
    for prefix, keys in owned.items():
        state, kind = states.get(prefix, ("", ""))
        if state == ledger.PENDING:
            continue  # an upload; `_unfinished` tells of those that were given up
        if state != ledger.LIVE:
            yield prefix, f"The ledger has it as {state}." if state else "No row of the ledger owns it."
            continue
        names = [key[len(prefix) :] for key in keys]
        main = FILES.get(kind)
        if main is not None and main not in names:
            yield prefix, f"It was made from {main}, which is gone."
        elif not all(map(_OBJECTS.get(kind, _NONE).match, names)):
            yield prefix, "It has a name that nothing of this kind has."


def _states(session: Session, query: Select[str, str, str]) -> dict[str, tuple[str, str]]:
    return {row[0]: (row[1], row[2]) for row in session.execute(query)}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _keys(components: Components) -> Iterator[tuple[Path, Finding]]:
    folder = components.keys.folder
    with components.database.read() as session:
        live = {
            "projects": set(session.scalars(select(Project.id).where(Project.closed.is_(None)))),
            "accounts": set(session.scalars(select(Account.id).where(Account.closed.is_(None)))),
        }
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_dir() or name.as_posix() in (INSTALLATION, JOURNAL, SIGNING):
            continue
        if name.as_posix() == NEXT:
            yield path, Finding("unfinished", f"keys/{NEXT}", "The installation's key is being replaced.")
            continue
        whole = name.suffix == ".key" and not is_hidden(name.name)
        kind = name.parent.as_posix()
        if not (whole and (kind == RETIRED or name.stem in live.get(kind, ()))):
            yield path, Finding("stray key", name.as_posix(), "It is the key of nothing that is there.")


def _others(data: Path, erased: Ids) -> Iterator[tuple[Path, Finding]]:
    for place, folders, names in os.walk(data):
        if place == str(data):
            folders[:] = [name for name in folders if name not in ("objects", "keys")]
        for name in names:
            path = Path(place) / name
            below = path.relative_to(data).as_posix()
            if below in _UNFINISHED:
                yield path, Finding("unfinished", below, "It is of something that did not come to its end yet.")
            elif not _matches(below, _KNOWN):
                yield path, Finding("stray file", below, "Nothing that OwnVision keeps has this name.")
            elif not below.startswith("ownvision.db"):
                for id in _ids_in(path, erased):
                    yield path, Finding("id", below, f"It names {id}, which is erased.")


def _ids_in(path: Path, erased: Ids) -> set[str]:
    found: set[str] = set()
    try:
        with path.open("rb") as file:
            before = b""
            while part := file.read(1 << 20):
                found |= erased.within(before + part)
                before = part[-128:]
    except FileNotFoundError:
        return set()
    return found


def _database(components: Components, erased: Ids) -> Iterator[Finding]:
    """Everything in the database file that SQL does not show, and ids where none may be."""
    path = Path(str(components.database.engine.url.database))
    with closing(sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)) as connection:
        if not _at_rest(connection, path):
            yield Finding(
                "log",
                f"{path.name}-wal",
                "The write-ahead log can't be emptied while others read and write; look again when it is quiet.",
            )
            for id in _ids_in(path.with_name(f"{path.name}-wal"), erased):
                yield Finding("id", f"{path.name}-wal", f"It names {id}, which is erased.")
            return
        # While this reads, nothing is written to the file itself.
        schema = connection.execute("SELECT name, tbl_name, rootpage FROM sqlite_schema WHERE rootpage > 0").fetchall()
        tables = {name: table for name, table, _ in schema}
        roots = {root: name for name, _, root in schema}
        slack: list[pages.Part] = []
        try:
            for part in pages.parts(path, roots):
                table = tables.get(part.owner, part.owner)
                if part.kind == pages.ROW and table in _KEEPING:
                    continue
                for id in erased.within(part.data):
                    where = f"{part.owner or part.kind}, from page {part.page} on"
                    yield Finding("id", where, f"It names {id}, which is erased.")
                if part.kind != pages.ROW:
                    slack.append(part)
            for part in _unexplained(slack, path, roots) if slack else ():
                what = "a page that is not used" if not part.owner else f"a page of {part.owner}, beside its rows,"
                yield Finding(
                    part.kind,
                    f"page {part.page}",
                    f"{len(part.data)} bytes are left in {what} that are in no row; after an erasure the worker "
                    "rewrites the database.",
                )
        except pages.NoPages as error:
            yield Finding("database damaged", path.name, str(error))


def _at_rest(connection: sqlite3.Connection, path: Path) -> bool:
    """Begin to read while the write-ahead log is empty: until the end nothing is written to the file itself."""
    log = path.with_name(f"{path.name}-wal")
    for _ in range(_TRIES):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not log.exists() or log.stat().st_size == 0:
            return True
        connection.execute("ROLLBACK")
        time.sleep(_WAIT_SECONDS)
    return False


_WINDOW = 8
# Of a row that was moved pieces may be left that are too short to be known, with the header of a free block between.
_REMNANT = _WINDOW + 4
# Of eight bytes those by which nearly all that were not asked for are ruled out.
_LIKELY = np.uint64((1 << 20) - 1)


def _unexplained(left: Sequence[pages.Part], path: Path, roots: Mapping[int, str]) -> Iterator[pages.Part]:
    """What is left beside rows and is no copy of rows that are there.

    SQLite moves rows between pages and leaves copies of them behind. A copy is known by its stretches of eight bytes
    being those of rows, or of where rows were.
    """
    slack = [part for part in left if part.kind == pages.SLACK]
    # What is not used must be zero, whatever it is a copy of.
    yield from (part for part in left if part.kind != pages.SLACK)
    if not slack:
        return
    wanted = np.unique(np.concatenate([_windows(part.data) for part in slack]))
    known, likely = _only_pointers(wanted), np.zeros(1 << 20, dtype=np.bool_)
    likely[wanted & _LIKELY] = True
    owners, before = {part.owner for part in slack}, ""
    # Rows are moved within their own table or index: nearly always the others need not be read.
    for part in pages.parts(path, dict(sorted(roots.items(), key=lambda root: root[1] not in owners))):
        if part.kind == pages.ROW:
            windows = _windows(part.data)
            known |= np.isin(wanted, windows[likely[windows & _LIKELY]])
        if part.owner != before:
            before = part.owner
            slack = [part for part in slack if _longest_new(part.data, wanted[known]) >= _REMNANT]
            if not slack:
                return
    yield from (part for part in slack if _longest_new(part.data, wanted[known]) >= _REMNANT)


def _longest_new(data: bytes, known: NDArray[np.uint64]) -> int:
    """How many bytes in a row are in no stretch that is known."""
    new = bytearray(b"\1" * len(data))
    for at in np.flatnonzero(np.isin(_windows(data), known)).tolist():
        new[at : at + _WINDOW] = bytes(_WINDOW)
    return max(map(len, bytes(new).split(b"\0")))


def _only_pointers(windows: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which eight bytes are numbers below 4,096: where cells were in a page, as `pages` passes over on its own."""
    masks = (np.uint64(0xF000F000F000F000), np.uint64(0x00F000F000F000F0))
    pointers: NDArray[np.bool_] = np.equal(windows & masks[0], 0) | np.equal(windows & masks[1], 0)
    return pointers


def _windows(data: bytes) -> NDArray[np.uint64]:
    """Every eight bytes in a row, as a number each."""
    if len(data) < _WINDOW:
        return np.zeros(0, dtype=np.uint64)
    each = sliding_window_view(np.frombuffer(data, np.uint8), _WINDOW)
    return each.view(">u8")[:, 0].astype(np.uint64)
