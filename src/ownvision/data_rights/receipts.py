"""Receipts: one row per erasure, opened in the transaction that erases."""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ownvision.store import ledger
from ownvision.store.tables import Receipt
from ownvision.store.tables.base import new_id


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


def count(receipt: Receipt, kind: str, rows: int, size: int = 0) -> None:
    """Add to what a receipt says was erased of a data kind: how many, and how many bytes."""
    before = receipt.erased.get(kind, {"count": 0, "bytes": 0})
    after = {"count": before["count"] + rows, "bytes": before["bytes"] + size}
    receipt.erased = {**receipt.erased, kind: after}


def keep(receipt: Receipt, kind: str, rows: int, why: str) -> None:
    """Say what an erasure left, and why."""
    receipt.kept = [*receipt.kept, {"kind": kind, "count": rows, "why": why}]
