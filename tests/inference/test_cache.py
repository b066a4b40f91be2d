import threading

import numpy as np
import pytest

from ownvision.inference import ModelCache
from ownvision.learning.graph import Graph, metadata


def _tiny() -> bytes:
    graph = Graph()
    graph.node("Softmax", [graph.flat_mean("image")], "probabilities", axis=1)
    props = metadata("classification", ["r", "g", "b"], "none", (8, 8))
    return graph.model(input_size=(8, 8), outputs=[("probabilities", ["N", 3])], metadata=props)


MODEL = _tiny()


def test_a_model_is_read_once_however_many_ask() -> None:
    cache, reads = ModelCache(2, threads=1), []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait(5)
        cache.get("one", lambda: reads.append(1) or MODEL)  # type: ignore[func-returns-value]

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(reads) == 1


def test_the_least_recently_used_is_let_go() -> None:
    cache = ModelCache(2, threads=1)
    reads: list[str] = []

    def get(key: str) -> None:
        cache.get(key, lambda: reads.append(key) or MODEL)  # type: ignore[func-returns-value]

    for key in ("a", "b", "a", "c", "a", "b"):
        get(key)
    assert reads == ["a", "b", "c", "b"]


def test_an_eviction_during_the_loading_holds() -> None:
    cache = ModelCache(2, threads=1)

    def read() -> bytes:
        cache.evict("one")
        return MODEL

    cache.get("one", read)
    with pytest.raises(RuntimeError, match="asked again"):
        cache.get("one", _fail)


def _fail() -> bytes:
    raise RuntimeError("asked again")


def test_a_failure_is_not_kept() -> None:
    cache = ModelCache(2, threads=1)
    with pytest.raises(RuntimeError):
        cache.get("one", _fail)
    assert np.array_equal(cache.get("one", lambda: MODEL).tag_ids, ["r", "g", "b"])


def test_a_model_that_was_replaced_is_read_anew_and_the_old_one_let_go() -> None:
    cache, reads = ModelCache(2, threads=1), []

    def get(key: str, version: str) -> None:
        cache.get(key, lambda: reads.append((key, version)) or MODEL, version)  # type: ignore[func-returns-value]

    for key, version in (("a", "1"), ("b", "1"), ("a", "2"), ("a", "2"), ("b", "1")):
        get(key, version)
    assert reads == [("a", "1"), ("b", "1"), ("a", "2")]
    assert cache.loaded() == {"a": "2", "b": "1"}
