"""Receipts: one row per erasure, opened in the transaction that erases, settled when nothing of it is left.

`signing` makes the statement of it that proves it to others.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import String, func, select
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.store import ledger, tally
from ownvision.store.database import Database
from ownvision.store.tables import Blob, Receipt
from ownvision.store.tables.base import new_id, now

OPEN, SIGNED = "open", "signed"


def begin(
    session: Session, account_id: str, operation: str, key_id: str | None, subjects: Mapping[str, Sequence[str]]
) -> Receipt:
    """Open a receipt; what this transaction dooms from here on belongs to it.

    Args:
        session: The write transaction that erases.
        account_id: In whose chain it stands.
        operation: What was asked, by the API's name for it.
        key_id: By which key; None: by the operator or a rule.
        subjects: Ids of what was asked to go, by data kind.
    """
    last = session.scalar(select(func.max(Receipt.number)).where(Receipt.account_id == account_id)) or 0
    receipt = Receipt(
        id=new_id(),
        account_id=account_id,
        number=last + 1,
        operation=operation,
        key_id=key_id,
        subjects={kind: list(ids) for kind, ids in subjects.items()},
        erased={},
        kept=[],
    )
    session.add(receipt)
    session.flush()
    ledger.attribute(session, receipt.id)
    return receipt


def record(session: Session, receipt: Receipt) -> Receipt:
    """Put down what this transaction has deleted; the receipt can then be read without it."""
    counted = tally.counted(session)
    for kind, rows in counted.items():
        count(receipt, kind, rows)
    session.flush()
    session.refresh(receipt)
    return receipt


def count(receipt: Receipt, kind: str, rows: int, size: int = 0) -> None:
    """Add to what a receipt says was erased of a data kind: how many, and how many bytes."""
    receipt.erased = tally.add(receipt.erased, kind, rows, size)


def keep(receipt: Receipt, kind: str, rows: int, why: str) -> None:
    """Say what an erasure left, and why."""
    receipt.kept = [*receipt.kept, {"kind": kind, "count": rows, "why": why}]


def get(session: Session, receipt_id: str) -> Receipt:
    """One receipt, whoever's it is: its id is the address.

    Raises:
        OwnVisionError: NotFound.
    """
    receipt = session.get(Receipt, receipt_id)
    if receipt is None:
        raise OwnVisionError("NotFound", f"There is no receipt {receipt_id}.")
    return receipt


def all(session: Session, account_id: str, *, take: int | None = None, skip: int = 0) -> list[Receipt]:
    """An account's receipts, newest first."""
    mine = select(Receipt).where(Receipt.account_id == account_id).order_by(Receipt.number.desc())
    return list(session.scalars(mine.offset(skip).limit(take)))


def left(session: Session, receipt: Receipt) -> int:
    """Of how many places bytes, or rows, are still to be removed."""
    there = select(func.count()).where(Blob.receipt == receipt.id, Blob.state != ledger.GONE)
    return session.scalar(there) or 0


def settle(database: Database) -> int:
    """Note of which receipts nothing is left but freed pages of the database; returns of how many."""
    there = select(Blob.prefix).where(Blob.receipt == Receipt.id, Blob.state != ledger.GONE).exists()
    done = select(Receipt).where(Receipt.state == OPEN, Receipt.settled.is_(None), ~there)
    with database.read() as session:
        if session.scalar(done.limit(1)) is None:
            return 0
    with database.write() as session:
        settled = list(session.scalars(done))
        for receipt in settled:
            receipt.settled = now()
    return len(settled)


def waiting(session: Session, since: float) -> tuple[datetime, datetime] | None:
    """When the first and the last receipt settled for which the database is still to be rewritten.

    Args:
        session: Of a transaction.
        since: When it was last rewritten, seconds since 1970.
    """
    moment = datetime.fromtimestamp(since, UTC)
    settled = session.scalars(
        select(Receipt.settled).where(Receipt.state == OPEN, Receipt.settled > moment, *_SOMETHING)
    )
    found = [one for one in settled if one is not None]
    return (min(found), max(found)) if found else None


# A receipt of nothing leaves nothing in the database's pages.
_SOMETHING = (func.length(Receipt.erased.cast(String)) > len("{}"),)
