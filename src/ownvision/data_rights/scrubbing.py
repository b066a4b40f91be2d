"""What an erasure still needs after its commit: bytes swept, keys destroyed, freed pages of the database rewritten.

The ledger names the work, so it survives any crash; the worker does it a little at a time between jobs.
"""

import logging
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

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
# On PostgreSQL a young key may belong to a request whose commit is still to come.
_YOUNG_SECONDS = 60.0


def destroy_stray_keys(database: Database, keys: KeyStore) -> list[str]:
    """Destroy the keys of projects and accounts that are no more, or whose creation was undone.

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
            strays = [(kind, id) for kind, id in strays if keys.age(kind, id) > _YOUNG_SECONDS]
        for kind, id in strays:
            (keys.destroy_project if kind == "projects" else keys.destroy_account)(id)
    return [id for _, id in strays]


def _strays(session: Session, keys: KeyStore) -> list[tuple[str, str]]:
    # Keys are listed before rows: one made in between is not missed by the rows.
    there = {"projects": keys.projects(), "accounts": keys.accounts()}
    known = {
        "projects": set(session.scalars(select(Project.id))),
        "accounts": set(session.scalars(select(Account.id))),
    }
    return [(kind, id) for kind, ids in there.items() for id in ids if id not in known[kind]]


def scrub_due(database: Database, data: Path) -> bool:
    """Whether something was erased since the database was last rewritten, and it is quiet or has waited an hour."""
    scrubbed = _scrubbed(data)
    since = datetime.fromtimestamp(scrubbed, UTC) + ledger.AFTERSWEEP
    with database.read() as session:
        first, last = session.execute(
            select(func.min(Blob.due), func.max(Blob.due)).where(Blob.state == ledger.GONE, Blob.due > since)
        ).one()
    if first is None or last is None:
        return False
    now = time.time()
    waiting = now - (first - ledger.AFTERSWEEP).timestamp()
    quiet = now - (last - ledger.AFTERSWEEP).timestamp()
    return now - scrubbed > _BETWEEN_SECONDS and (quiet > _QUIET_SECONDS or waiting > _PATIENCE_SECONDS)


def scrub(database: Database, data: Path) -> bool:
    """Rewrite the database so that no page keeps a copy of an erased row; returns whether it was done."""
    begun = time.time()
    try:
        done = database.scrub()
    except OperationalError as error:  # a full disk, or a reader that takes long
        log.warning("the database could not be rewritten after an erasure: %s; it is tried again", error.orig)
        done = False
    if done:
        mark = _mark(data)
        mark.write_text(f"{begun}\n")
    return done


def _mark(data: Path) -> Path:
    return data / "scrubbed"


def _scrubbed(data: Path) -> float:
    try:
        return float(_mark(data).read_text())
    except (OSError, ValueError):
        return 0.0
