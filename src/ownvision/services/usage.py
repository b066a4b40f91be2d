"""Counting predictions, stored or not: exactly where a tier has a quota, else in batches, which costs nothing.

A process that is killed forgets the counts of its last seconds; an account with a quota is counted before it is served.
"""

import threading
import time
from collections import Counter

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.store.database import Database
from ownvision.store.tables import Account, Usage
from ownvision.store.tables.base import now

_FLUSH_SECONDS = 10.0


def this_month() -> str:
    """The month that is counted now, UTC."""
    return now().strftime("%Y-%m")


def predictions(session: Session, account_id: str) -> int:
    """Predictions of an account this month."""
    row = session.get(Usage, (account_id, this_month()))
    return 0 if row is None else row.predictions


class Meter:
    """Counts the predictions of this process.

    Args:
        database: Where the counts are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._pending: Counter[str] = Counter()
        self._flushed = time.monotonic()

    def count(self, account_id: str, quota: int | None) -> None:
        """Count one prediction.

        Raises:
            OwnVisionError: BadRequestExceededQuota, when the month's quota is used up.
        """
        if quota is not None:
            with self._database.write() as session:
                if predictions(session, account_id) >= quota:
                    raise OwnVisionError(
                        "BadRequestExceededQuota", f"This tier allows {quota} predictions per month; all are used."
                    )
                _add(session, account_id, 1)
            return
        with self._lock:
            self._pending[account_id] += 1
            due = time.monotonic() - self._flushed > _FLUSH_SECONDS
        if due:
            self.flush()

    def flush(self) -> None:
        """Keep what was counted since the last time."""
        with self._lock:
            pending, self._pending = self._pending, Counter()
            self._flushed = time.monotonic()
        if pending:
            with self._database.write() as session:
                for account_id, count in pending.items():
                    _add(session, account_id, count)


def _add(session: Session, account_id: str, count: int) -> None:
    month = this_month()
    changed = session.execute(
        update(Usage)
        .where(Usage.account_id == account_id, Usage.month == month)
        .values(predictions=Usage.predictions + count)
    )
    there = changed.rowcount or session.scalar(select(Account.id).where(Account.id == account_id)) is None  # type: ignore[attr-defined]
    if not there:
        session.add(Usage(account_id=account_id, month=month, predictions=count))
        session.flush()
