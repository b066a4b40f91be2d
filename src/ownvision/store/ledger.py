"""The ledger of bytes: pending → live → doomed (→ counted) → gone.

A row is committed alone before the first byte under its prefix is written; the request's transaction makes it live.
Deleting dooms it in the same transaction; the sweeper removes what is doomed, and what is pending with a lapsed lease.
A gone row is swept again for a day, since a late write may still land. So a crash between any two steps loses nothing
and leaves nothing. What is doomed for a receipt is counted there before it is removed, once, whatever crashes.
"""

import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.store import tally
from ownvision.store.audit import RECEIPT
from ownvision.store.blobs import BlobStore
from ownvision.store.database import Database, insert_all
from ownvision.store.tables import Blob, Receipt
from ownvision.store.tables.base import new_id, now

log = logging.getLogger("ownvision.store")

PENDING, LIVE, DOOMED, COUNTED, GONE = "pending", "live", "doomed", "counted", "gone"
ROWS = "rows"  # a kind without bytes
MODEL, ARCHIVE = "model", "archive"  # kinds of what was replaced, of an iteration and an export that live on
TAG, PROJECT, ACCOUNT = "tag", "project", "account"  # kinds of what is noted as erased as a whole
LEASE = timedelta(minutes=15)
AFTERSWEEP = timedelta(days=1)
_PART = 500


def image_prefix(project_id: str, image_id: str) -> str:
    """What the keys of an image's original and all that is derived from it begin with.

    Images of one shard lie in one folder: making a folder costs a file system a millisecond, a file a tenth of that.
    """
    return f"{project_id}/images/{image_id[:_SHARD]}/{image_id}."


def prediction_prefix(project_id: str, prediction_id: str) -> str:
    """What the keys of a stored prediction's pictures begin with."""
    return f"{project_id}/predictions/{prediction_id[:2]}/{prediction_id}."


class _ImageIds:
    """Random ids, of which up to `_PER_SHARD` of one project in a row begin alike."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shards: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def draw(self, project_id: str) -> str:
        id = new_id()
        with self._lock:
            shard, left = self._shards.pop(project_id, ("", 0))
            if not left:
                shard, left = id[:_SHARD], _PER_SHARD
            self._shards[project_id] = shard, left - 1
            while len(self._shards) > _PROJECTS:
                self._shards.popitem(last=False)
        return shard + id[_SHARD:]


_SHARD, _PER_SHARD, _PROJECTS = 8, 256, 1_000
new_image_id = _ImageIds().draw


def prefix_of(key: str) -> str:
    """The prefix that owns an object."""
    folder, _, name = key.rpartition("/")
    id, dot, _ = name.partition(".")
    return f"{folder}/{id}." if dot and len(id) == _ID else f"{folder}/"


_ID = 36


def iteration_prefix(project_id: str, model_id: str) -> str:
    """Where an iteration's model lies: by `Iteration.model_id`, which is the iteration's own until it is refitted."""
    return f"{project_id}/iterations/{model_id}/"


def export_prefix(project_id: str, archive_id: str) -> str:
    """Where an export's archive lies: by `Export.archive_id`, which is the export's own until it is made anew."""
    return f"{project_id}/exports/{archive_id}/"


def takeout_prefix(owner_id: str, takeout_id: str) -> str:
    """Where a takeout's archive lies; the owner is the project, or the account where it is of all of it."""
    return f"{owner_id}/takeouts/{takeout_id}/"


def reserve(database: Database, entries: Sequence[tuple[str, str, str, str]]) -> None:
    """Commit pending rows for (prefix, kind, account id, project id) before anything is written under them.

    Raises:
        OwnVisionError: Conflict, when a prefix is in use, or what lay under it is still being removed.
    """
    due = now() + LEASE
    values = [
        {"prefix": prefix, "kind": kind, "account_id": account_id, "project_id": project_id, "due": due}
        for prefix, kind, account_id, project_id in entries
    ]
    try:
        with database.write() as session:
            insert_all(session, Blob, values)
    except IntegrityError:
        _reserve_again(database, values)


def _reserve_again(database: Database, values: Sequence[Mapping[str, Any]]) -> None:
    """A name comes back when a stored prediction is made an image at the second try.

    One that is due to be swept again is left alone: the sweeper may be at it.
    """
    try:
        with database.write() as session:
            for part in _parts([row["prefix"] for row in values]):
                session.execute(delete(Blob).where(Blob.prefix.in_(part), Blob.state == GONE, Blob.due > now()))
            insert_all(session, Blob, values)
    except IntegrityError:
        raise OwnVisionError(
            "Conflict", "Another request is storing this, or it is still being removed; try again in a moment."
        ) from None


def renew(session: Session, prefix: str) -> None:
    """Lengthen the lease of a pending prefix, for bytes that take longer to write than a lease lasts."""
    session.execute(update(Blob).where(Blob.prefix == prefix, Blob.state == PENDING).values(due=now() + LEASE))


def make_live(session: Session, prefixes: Sequence[str]) -> None:
    """Pending becomes live, with the transaction that needs the bytes.

    Raises:
        OwnVisionError: Conflict, when one was swept meanwhile; the caller's transaction must not be committed.
    """
    for part in _parts(prefixes):
        changed = session.execute(
            update(Blob).where(Blob.prefix.in_(part), Blob.state == PENDING).values(state=LIVE, due=None)
        )
        if changed.rowcount != len(part):  # type: ignore[attr-defined]
            raise OwnVisionError("Conflict", "The upload took too long and its bytes were removed; send it again.")


def attribute(session: Session, receipt_id: str) -> None:
    """From here on this transaction dooms for a receipt: it is signed when all that it doomed is gone."""
    session.info[RECEIPT] = receipt_id


def receipt_of(session: Session) -> str | None:
    """The receipt that this transaction erases for."""
    return session.info.get(RECEIPT)


def _doomed(session: Session) -> dict[str, Any]:
    values = {"state": DOOMED, "due": now()}
    return values | ({"receipt": session.info[RECEIPT]} if RECEIPT in session.info else {})


def doom(session: Session, prefixes: Sequence[str]) -> None:
    """Whatever lies under these prefixes is to go, once the transaction is committed; what is gone is swept again."""
    for part in _parts(prefixes):
        session.execute(update(Blob).where(Blob.prefix.in_(part), Blob.state != COUNTED).values(**_doomed(session)))


def doom_replaced(session: Session, kind: str, prefix: str) -> None:
    """Doom what something else took the place of: what owned it lives on, which a restored backup must respect."""
    session.execute(update(Blob).where(Blob.prefix == prefix).values(kind=kind))
    doom(session, [prefix])


def doom_owner(session: Session, kind: str, account_id: str, project_id: str, prefix: str) -> None:
    """Note, by the prefix that its own id names, that a thing is gone whose bytes had come to lie elsewhere.

    So that a restored backup, in which they lie there still, erases it again.
    """
    blob = session.get(Blob, prefix) or Blob(prefix=prefix, account_id=account_id, project_id=project_id)
    blob.kind = kind
    for name, value in _doomed(session).items():
        setattr(blob, name, value)
    session.add(blob)
    session.flush()


def release(session: Session, prefixes: Sequence[str]) -> None:
    """Doom what was reserved and never became live."""
    for part in _parts(prefixes):
        session.execute(
            update(Blob).where(Blob.prefix.in_(part), Blob.state == PENDING).values(state=DOOMED, due=now())
        )


def doom_rows(session: Session, account_id: str, project_id: str) -> None:
    """Note that rows were erased that own no bytes, so that the database's freed pages are rewritten for them too."""
    prefix = f"{project_id}/{ROWS}/{new_id()}/"
    session.add(Blob(prefix=prefix, kind=ROWS, account_id=account_id, project_id=project_id, **_doomed(session)))


def wait_for(session: Session, account_id: str, project_id: str, subject: str, receipts: Iterable[str]) -> None:
    """Receipts are not finished before `arrived` says that a job has replaced what still holds what they erased.

    Args:
        session: The transaction that queues the job.
        account_id: Whose.
        project_id: Of which project.
        subject: The id of what is to be replaced.
        receipts: Ids of receipts.
    """
    for receipt_id in receipts:
        prefix = f"{_waiting(project_id, subject)}{receipt_id}/"
        blob = session.get(Blob, prefix) or Blob(
            prefix=prefix, kind=ROWS, account_id=account_id, project_id=project_id, receipt=receipt_id
        )
        blob.state, blob.due = PENDING, None  # no lease: it does not lapse
        session.add(blob)
    session.flush()


def arrived(session: Session, project_id: str, subject: str) -> list[str]:
    """What was waited for is replaced, or will never be; this transaction dooms for the first of the receipts.

    Returns:
        Ids of the receipts that waited.
    """
    receipts = awaiting(session, project_id, subject)
    session.execute(update(Blob).where(*_waits(project_id, subject)).values(state=DOOMED, due=now()))
    return receipts


def awaiting(session: Session, project_id: str, subject: str) -> list[str]:
    """A part of what is waited for is there: as `arrived`, but the receipts wait on."""
    named = select(Blob.receipt).where(*_waits(project_id, subject))
    receipts = list(session.scalars(select(Receipt.id).where(Receipt.id.in_(named)).order_by(Receipt.number)))
    if receipts:
        session.info.setdefault(RECEIPT, receipts[0])
    return receipts


def _waits(project_id: str, subject: str) -> tuple[ColumnElement[bool], ...]:
    begin = _waiting(project_id, subject)
    return Blob.prefix > begin, Blob.prefix < f"{begin[:-1]}0", Blob.state == PENDING  # "0" follows "/"


def _waiting(project_id: str, subject: str) -> str:
    return f"{project_id}/{ROWS}/{subject}/"


def doom_tag(session: Session, account_id: str, project_id: str, tag_id: str) -> None:
    """Note that a tag was erased: it owns no bytes, but a restored backup must erase it again."""
    prefix = f"{project_id}/tags/{tag_id}/"
    session.add(Blob(prefix=prefix, kind=TAG, account_id=account_id, project_id=project_id, **_doomed(session)))


def doom_project(session: Session, project_id: str) -> None:
    """Doom all that a project holds."""
    session.execute(
        update(Blob).where(Blob.project_id == project_id, Blob.state.not_in((COUNTED, GONE))).values(**_doomed(session))
    )


def close(session: Session, kind: str, account_id: str, id: str) -> None:
    """Note that a whole project or account is being emptied; what is left under its id goes after `closed`."""
    values = _doomed(session) | {"due": None}
    session.add(Blob(prefix=f"{id}/", kind=kind, account_id=account_id, project_id=id, **values))


def closed(session: Session, id: str) -> None:
    """It is empty: the sweeper looks once more, now and a day later, and its id is journaled."""
    session.execute(update(Blob).where(Blob.prefix == f"{id}/", Blob.state == DOOMED).values(due=now()))


def sweep(
    database: Database,
    blobs: BlobStore,
    limit: int = 1_000,
    erased: Callable[[str, Sequence[str]], None] = lambda kind, prefixes: None,
) -> int:
    """Remove what is doomed, lapsed or due to be swept again; returns how many prefixes were handled.

    The bytes go first: a row that stays names work still to do, the reverse would be an orphan.

    Args:
        database: Where the ledger is.
        blobs: Where the bytes are.
        limit: How many prefixes at most.
        erased: Told kind and prefixes of what was removed, after its deletion was committed and before its row says
            gone: told again after a crash in between, never too early, never not at all.
    """
    moment = now()
    with database.read() as session:
        rows = session.execute(
            select(Blob.prefix, Blob.state, Blob.kind, Blob.receipt)
            .where(Blob.state.in_((PENDING, DOOMED, COUNTED, GONE)), Blob.due <= moment)
            .order_by(Blob.state, Blob.due)
            .limit(limit)
        ).all()
    pending = [row.prefix for row in rows if row.state == PENDING]
    if pending:
        with database.write() as session:
            doom_lapsed(session, pending)
        rows = [row for row in rows if row.state != PENDING]
    _count(database, blobs, {row.prefix: row.receipt for row in rows if row.state == DOOMED and row.receipt})
    rows = [row for row in rows if _removed(blobs, row.prefix)]
    if not rows:
        return len(pending)
    doomed = [row for row in rows if row.state in (DOOMED, COUNTED)]
    for kind in sorted({row.kind for row in doomed} - {ROWS}):
        erased(kind, [row.prefix for row in doomed if row.kind == kind])
    with database.write() as session:
        for part in _parts([row.prefix for row in rows if row.state == GONE]):
            session.execute(delete(Blob).where(Blob.prefix.in_(part), Blob.state == GONE))
        for part in _parts([row.prefix for row in doomed]):
            session.execute(
                update(Blob)
                .where(Blob.prefix.in_(part), Blob.state.in_((DOOMED, COUNTED)))
                .values(state=GONE, due=moment + AFTERSWEEP)
            )
    return len(rows) + len(pending)


def _count(database: Database, blobs: BlobStore, receipts: Mapping[str, str]) -> None:
    """Add the files that are about to be removed to their receipts, and remember that it was done.

    Args:
        database: Where the receipts are.
        blobs: Where the files are.
        receipts: Receipt by prefix.
    """
    if not receipts:
        return
    found: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for prefix, key, size in _files(blobs, list(receipts)):
        found[receipts[prefix]].append((key, key.removeprefix(prefix), size))
    with database.write() as session:
        for receipt_id, files in found.items():
            receipt = session.get(Receipt, receipt_id, with_for_update=True)
            if receipt is not None:
                receipt.erased = tally.merged(receipt.erased, tally.of_files(files))
        for part in _parts(list(receipts)):
            session.execute(update(Blob).where(Blob.prefix.in_(part), Blob.state == DOOMED).values(state=COUNTED))


def _files(blobs: BlobStore, prefixes: Sequence[str]) -> Iterable[tuple[str, str, int]]:
    """(prefix, key, size) of all files under these prefixes; a folder that several share is listed once."""
    by_folder: dict[str, set[str]] = defaultdict(set)
    for prefix in prefixes:
        by_folder[prefix.rpartition("/")[0] + "/"].add(prefix)
    for folder, mine in by_folder.items():
        for key, size in blobs.list(folder):
            owner = folder if folder in mine else prefix_of(key)
            if owner in mine:
                yield owner, key, size


def _removed(blobs: BlobStore, prefix: str) -> bool:
    try:
        blobs.delete_prefix(prefix)
        return True
    except OSError:
        # Its row stays, so it is tried again; the others must not wait for it.
        log.exception("what lies under %s can't be removed", prefix)
        return False


def doom_lapsed(session: Session, prefixes: Sequence[str]) -> None:
    """Doom pending prefixes whose lease has lapsed, unless they became live meanwhile."""
    for part in _parts(prefixes):
        session.execute(
            update(Blob)
            .where(Blob.prefix.in_(part), Blob.state == PENDING, or_(Blob.due.is_(None), Blob.due <= now()))
            .values(state=DOOMED, due=now())
        )


def _parts(items: Sequence[str]) -> Iterable[Sequence[str]]:
    return (items[start : start + _PART] for start in range(0, len(items), _PART))
