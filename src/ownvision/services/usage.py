"""Counting predictions, stored or not: exactly where a tier has a quota, else in batches, which costs nothing.

A process that is killed forgets the counts of its last seconds; an account with a quota is counted before it is served.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.store.database import Database
from ownvision.store.tables import Account, Usage
from ownvision.store.tables.base import now

log = logging.getLogger("ownvision.usage")

_FLUSH_SECONDS = 10.0


def this_month() -> str:
    """The month that is counted now, UTC."""
    return now().strftime("%Y-%m")


def predictions(session: Session, account_id: str) -> int:
    """Predictions of an account this month."""
    row = session.get(Usage, (account_id, this_month()))
    return 0 if row is None else row.predictions


class Meter:
    """Counts the predictions of this process; a thread of its own keeps them, so that no prediction waits for it.

    Args:
        database: Where the counts are kept.
        seconds: How often.
        beside: What else is to be done as often, from the first prediction on.
    """

    def __init__(
        self, database: Database, seconds: float = _FLUSH_SECONDS, beside: Callable[[], None] = lambda: None
    ) -> None:
        self._database, self._seconds, self._beside = database, seconds, beside
        self._lock = threading.Lock()
        self._pending: Counter[tuple[str, str]] = Counter()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

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
                _add(session, account_id, this_month(), 1)
            return
        with self._lock:
            self._pending[account_id, this_month()] += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="usage", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Keep what was counted since the last time; what can't be kept stays counted for the next."""
        with self._lock:
            pending, self._pending = self._pending, Counter()
        if not pending:
            return
        try:
            with self._database.write() as session:
                for (account_id, month), count in pending.items():
                    _add(session, account_id, month, count)
        except BaseException:
            with self._lock:
                self._pending.update(pending)
            raise

    def close(self) -> None:
        """Stop the thread and keep what was counted; of what is counted later only `flush` knows."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _keep(self) -> None:
        while not self._closing.wait(self._seconds):
            try:
                self.flush()
                self._beside()
            except Exception:
                log.exception("The counts of predictions could not be kept; they will be tried again.")


def _add(session: Session, account_id: str, month: str, count: int) -> None:
    changed = session.execute(
        update(Usage)
        .where(Usage.account_id == account_id, Usage.month == month)
        .values(predictions=Usage.predictions + count)
    )
    there = changed.rowcount or session.scalar(select(Account.id).where(Account.id == account_id)) is None  # type: ignore[attr-defined]
    if not there:
        session.add(Usage(account_id=account_id, month=month, predictions=count))
        session.flush()
