"""Models that were used lately stay loaded."""

import threading
from collections import OrderedDict
from collections.abc import Callable

from ownvision.inference.model import Model


class ModelCache:
    """The most recently used models.

    Args:
        capacity: How many are kept.
        threads: Of one run of a model; 0: as many as there are cores.
    """

    def __init__(self, capacity: int, threads: int = 0) -> None:
        self._capacity = capacity
        self._threads = threads
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, read: Callable[[], bytes]) -> Model:
        """The model of a key; `read` gives its file when it is not loaded."""
        with self._lock:
            if key in self._models:
                self._models.move_to_end(key)
                return self._models[key]
        model = Model(read(), self._threads)
        with self._lock:
            self._models[key] = model
            while len(self._models) > self._capacity:
                self._models.popitem(last=False)
        return model

    def evict(self, key: str) -> None:
        """Forget a model: its iteration is gone."""
        with self._lock:
            self._models.pop(key, None)
