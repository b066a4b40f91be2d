"""Models that were used lately stay loaded."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from ownvision.inference.model import Model


class ModelCache:
    """The most recently used models; safe to use from several threads.

    Args:
        capacity: How many are kept.
        threads: Of one run of a model; 0: as many as there are cores.
    """

    def __init__(self, capacity: int, threads: int = 0) -> None:
        self._capacity = capacity
        self._threads = threads
        self._models: OrderedDict[str, Future[Model]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, read: Callable[[], bytes]) -> Model:
        """The model of a key; `read` gives its file when it is not loaded, once however many ask at the same time.

        Raises:
            Exception: What `read` or the loading raises; the next call tries again.
        """
        with self._lock:
            waiting = self._models.get(key)
            if waiting is None:
                # A place held here and not after the loading: an eviction meanwhile takes it away for good.
                mine = self._models[key] = Future()
                while len(self._models) > self._capacity:
                    self._models.popitem(last=False)
            else:
                self._models.move_to_end(key)
        if waiting is not None:
            return waiting.result()
        try:
            mine.set_result(Model(read(), self._threads))
        except BaseException as error:
            with self._lock:
                if self._models.get(key) is mine:
                    del self._models[key]
            mine.set_exception(error)
        return mine.result()

    def keys(self) -> list[str]:
        """Of which models there is one loaded, or being loaded."""
        with self._lock:
            return list(self._models)

    def evict(self, key: str) -> None:
        """Forget a model: its iteration is gone."""
        with self._lock:
            self._models.pop(key, None)
