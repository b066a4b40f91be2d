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
        threads: Of one run of a model, as of `learning.device.threads`.
    """

    def __init__(self, capacity: int, threads: int = 0) -> None:
        self._capacity = capacity
        self._threads = threads
        self._models: OrderedDict[str, tuple[str, Future[Model]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, read: Callable[[], bytes], version: str = "") -> Model:
        """The model of a key; `read` gives its file when it is not loaded, once however many ask at the same time.

        Args:
            key: Whose model.
            read: Gives its file.
            version: Which of its models; one of another version is let go.

        Raises:
            Exception: What `read` or the loading raises; the next call tries again.
        """
        with self._lock:
            held, waiting = self._models.get(key, ("", None))
            if waiting is None or held != version:
                # A place held here and not after the loading: an eviction meanwhile takes it away for good.
                mine: Future[Model] = Future()
                self._models[key] = version, mine
                self._models.move_to_end(key)
                waiting = None
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
                if self._models.get(key, ("", None))[1] is mine:
                    del self._models[key]
            mine.set_exception(error)
        return mine.result()

    def loaded(self) -> dict[str, str]:
        """Whose models are loaded, or being loaded, and which version of each."""
        with self._lock:
            return {key: version for key, (version, _) in self._models.items()}

    def evict(self, key: str) -> None:
        """Forget a model: its iteration is gone."""
        with self._lock:
            self._models.pop(key, None)
