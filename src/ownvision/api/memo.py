"""Look-ups of the hot path, remembered exactly as long as they are true.

SQLite counts the commits of all other connections, of every process: ``PRAGMA data_version``. While the number stays,
nothing was written since, so what was read then is what would be read now: a key that was rotated on the command line,
or an iteration unpublished, is known with the very next request. Asking costs a hundredth of a query.
"""

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from ownvision.store.database import Database

_ENTRIES = 10_000
T = TypeVar("T")


class Memo:
    """Results of reading, forgotten with the next commit of anyone; on other databases it remembers nothing.

    Args:
        database: What is read.
    """

    def __init__(self, database: Database) -> None:
        self._lock = threading.Lock()
        self._known: dict[Hashable, Any] = {}
        self._version: int | None = None
        self._watcher: Any = None
        if database.is_sqlite:
            # A connection that never writes: its own commits would not count.
            fairy = database.engine.raw_connection()
            self._watcher = fairy.driver_connection
            fairy.detach()

    def peek(self, key: Hashable) -> Any:
        """What is known under a key now, else None."""
        if self._watcher is None:
            return None
        with self._lock:
            self._forget_old()
            return self._known.get(key)

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """What is known under a key, or what `read` gives; None and errors are not remembered."""
        known = self.peek(key)
        if known is not None:
            return cast(T, known)
        version = self._version
        value = read()
        if self._watcher is not None:
            with self._lock:
                # Only if nothing was committed since before it was read.
                if self._forget_old() == version and len(self._known) < _ENTRIES:
                    self._known[key] = value
        return value

    def _forget_old(self) -> int:
        (version,) = self._watcher.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._known.clear()
            self._version = version
        return int(version)
