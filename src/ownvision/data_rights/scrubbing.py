"""What an erasure still needs after its commit: bytes swept, keys destroyed, freed pages of the database rewritten.

The ledger names the work, so it survives any crash; the worker does it a little at a time between jobs.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ownvision.data_rights import orphans, receipts
from ownvision.store import ledger
from ownvision.store.database import Database
from ownvision.store.keys import KeyStore
from ownvision.store.tables import Account, Blob, Project

log = logging.getLogger("ownvision.erasure")

# Rewriting the database takes a second per 100 MB and holds up writers: many erasures share one.
_QUIET_SECONDS = 60.0
_BETWEEN_SECONDS = 600.0
# ... but where something is erased all the time, it is done all the same.
_PATIENCE_SECONDS = 3_600.0
# For a receipt that somebody waits for it is done sooner, though never for more than a thirtieth of the time.
_RECEIPT_SECONDS = 60.0
_SHORT_SECONDS = 2.0
# On PostgreSQL a young key may belong to a request whose commit is still to come.
_YOUNG_SECONDS = 60.0


def destroy_stray_keys(database: Database, keys: KeyStore) -> list[str]:
    """Destroy the keys of projects and accounts that are no more or closed, or whose creation was undone.

    A key is written inside the write transaction that creates its owner. So nobody who holds the write lock, as the
    second look here does, can see a key whose row is still to come (SQLite).

    Returns:
        The ids of what the keys belonged to.
    """
    with database.read() as session:
        if not _strays(session, keys):
            return []
    with database.write() as session:
        strays = _strays(session, keys)
        if not database.is_sqlite:
            strays = [stray for stray in strays if stray.was or keys.age(stray.folder, stray.id) > _YOUNG_SECONDS]
    destroy(keys, [(stray.kind, stray.id) for stray in strays if stray.was])
    for stray in strays:
        # One without a row was never used, or its row is in a newer backup than the one restored: it is not dead.
        if not stray.was:
            (keys.destroy_project if stray.kind == ledger.PROJECT else keys.destroy_account)(stray.id)
    return [stray.id for stray in strays]


def destroy(keys: KeyStore, owners: Sequence[tuple[str, str]]) -> None:
    """Destroy the keys of projects and accounts, (kind, id) each, and note in the journal that they are dead."""
    for kind in (ledger.ACCOUNT, ledger.PROJECT):  # an account's first: with it go all that it wraps
        ids = [id for one, id in owners if one == kind]
        keys.journal(kind, [f"{id}/" for id in ids])
        for id in ids:
            (keys.destroy_project if kind == ledger.PROJECT else keys.destroy_account)(id)


@dataclass(frozen=True)
class _Stray:
    """A key that nobody may use any more; `was`: whether there is a row that says so."""

    kind: str
    id: str
    was: bool

    @property
    def folder(self) -> str:
        return f"{self.kind}s"


def _strays(session: Session, keys: KeyStore) -> list[_Stray]:
    # Keys are listed before rows: one made in between is not missed by the rows.
    there = {ledger.PROJECT: keys.projects(), ledger.ACCOUNT: keys.accounts()}
    known = {
        ledger.PROJECT: _closed(session, Project),
        ledger.ACCOUNT: _closed(session, Account),
    }
    return [
        _Stray(kind, id, known[kind].get(id, False))
        for kind, ids in there.items()
        for id in ids
        if known[kind].get(id, True)
    ]


def _closed(session: Session, table: type[Project] | type[Account]) -> dict[str, bool]:
    """Whether each is closed."""
    return {id: closed is not None for id, closed in session.execute(select(table.id, table.closed))}


def scrub_due(database: Database, data: Path, between: float = _RECEIPT_SECONDS) -> bool:
    """Whether something was erased since the database was last rewritten, and it is quiet or has waited long.

    Args:
        database: Which.
        data: The data folder, where it is noted.
        between: Seconds between two rewritings at least, where receipts wait for them.
    """
    scrubbed, took = _last(data)
    now = time.time()
    with database.read() as session:
        receipts_wait = receipts.waiting(session, scrubbed)
        since = datetime.fromtimestamp(scrubbed, UTC) + ledger.AFTERSWEEP
        first, last = session.execute(
            select(func.min(Blob.due), func.max(Blob.due)).where(Blob.state == ledger.GONE, Blob.due > since)
        ).one()
    if receipts_wait is not None:
        first_settled, last_settled = (moment.timestamp() for moment in receipts_wait)
        rested = now - scrubbed > between * max(1.0, took / _SHORT_SECONDS)
        if rested and (now - last_settled >= between / 4 or now - first_settled > 5 * between):
            return True
    if first is None or last is None:
        return False
    waiting = now - (first - ledger.AFTERSWEEP).timestamp()
    quiet = now - (last - ledger.AFTERSWEEP).timestamp()
    return now - scrubbed > _BETWEEN_SECONDS and (quiet > _QUIET_SECONDS or waiting > _PATIENCE_SECONDS)


def scrub(database: Database, data: Path) -> bool:
    """Rewrite the database so that no page keeps a copy of an erased row; returns whether it was done."""
    begun = time.time()
    try:
        orphans.forget(database)
        done = database.scrub()
    except OperationalError as error:  # a full disk, or a reader that takes long
        log.warning("the database could not be rewritten after an erasure: %s; it is tried again", error.orig)
        done = False
    if done:
        _mark(data).write_text(f"{begun}\n{time.time() - begun}\n")
    return done


def _mark(data: Path) -> Path:
    return data / "scrubbed"


def scrubbed(data: Path) -> float:
    """When the database was last rewritten, seconds since 1970: what was gone before is in none of its pages."""
    return _last(data)[0]


def _last(data: Path) -> tuple[float, float]:
    """When it was, and how many seconds it took."""
    try:
        begun, _, took = _mark(data).read_text().strip().partition("\n")
        return float(begun), float(took or 0.0)
    except (OSError, ValueError):
        return 0.0, 0.0
