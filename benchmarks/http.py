"""Prediction over HTTP beside the same decoding and model in process."""

import io
import statistics
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.request import urlopen

from benchmarks.pictures import jpegs
from benchmarks.results import Result, keep
from benchmarks.wire import Connection, request
from ownvision.client import Service
from ownvision.client.local import Running, running_service
from ownvision.inference import Model

CALLS, TURNS = 10, 60
SECONDS, ROUNDS = 1.0, 8
CLIENTS = 4
COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"
T = TypeVar("T")


def run() -> bool:
    """Latency with one client, throughput with several."""
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder) / "data") as service:
        path, model = _published(service)
        picture = jpegs(1, seed=9)[0]
        call = request("POST", path, {"Prediction-Key": service.prediction_key}, picture)
        connection = Connection(service.endpoint)

        def over_http() -> None:
            status, body = connection.call(call)
            assert status == 200, body

        # Alternating in short turns, and compared turn by turn, so that a busy neighbour slows both.
        own, http = [], []
        for _ in range(TURNS):
            own.append(_p50(lambda: model.predict(picture)))
            http.append(_p50(over_http))
        connection.close()
        inside, outside = statistics.median(own), statistics.median(http)
        beyond = statistics.median(over - alone for over, alone in zip(http, own, strict=True))
        connections = [Connection(service.endpoint) for _ in range(CLIENTS)]
        alone, saturated = 0.0, 0.0
        for _ in range(ROUNDS):
            alone += _throughput([lambda: model.predict(picture)] * 2) / ROUNDS
            saturated += _throughput([lambda c=c: c.call(call) for c in connections]) / ROUNDS  # type: ignore[misc]
        for each in connections:
            each.close()
    return keep(
        "http",
        [
            Result(f"decode and model in process, {len(picture) / 1000:.0f} kB JPEG, p50", inside, "ms"),
            Result("prediction without store over HTTP, one client, p50", outside, "ms", inside + 3),
            Result("p50 over HTTP beyond that in process", beyond, "ms", 3),
            Result("in process, two threads", alone, "predictions/s"),
            Result(f"over HTTP, {CLIENTS} clients", saturated, "predictions/s", 0.75 * alone, most=False),
        ],
    )


def _published(service: Running) -> tuple[str, Model]:
    """The path that predicts with a small classifier, and its model from the export."""
    with Service(service.endpoint, service.training_key) as client:
        project = client.create_project("Benchmark", COMPACT, "Multiclass")
        pictures = jpegs(32)
        for place, name in enumerate(("astronaut", "chelsea", "coffee", "rocket")):
            tag = client.create_tag(project["id"], name)
            client.upload(project["id"], [(f"{n}.jpg", data) for n, data in enumerate(pictures[place::4])], [tag["id"]])
        iteration = client.train(project["id"], force=False)
        iteration = wait(
            lambda: client.iteration(project["id"], iteration["id"]), lambda row: bool(row["status"] != "Training")
        )
        assert iteration["status"] == "Completed", iteration
        client.publish(project["id"], iteration["id"], "bench", service.resource_id)
        client.start_export(project["id"], iteration["id"], "ONNX", None)
        (export,) = wait(
            lambda: client.exports(project["id"], iteration["id"]), lambda rows: bool(rows[0]["status"] == "Done")
        )
    with urlopen(export["downloadUri"]) as download, zipfile.ZipFile(io.BytesIO(download.read())) as archive:
        model = Model(archive.read("model.onnx"))
    return f"/customvision/v3.1/prediction/{project['id']}/classify/iterations/bench/image/nostore", model


def wait(ask: Callable[[], T], arrived: Callable[[T], bool], seconds: float = 120.0) -> T:
    """Ask until the answer has arrived."""
    deadline = time.monotonic() + seconds
    while not arrived(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)
    return answer


def _p50(action: Callable[[], object]) -> float:
    """Median of one turn's calls, in milliseconds."""
    for _ in range(3):
        action()
    taken = []
    for _ in range(CALLS):
        started = time.perf_counter()
        action()
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def _throughput(actions: list[Callable[[], object]]) -> float:
    """Calls a second of all actions together, each in a thread of its own."""
    counts = [0] * len(actions)
    end = time.monotonic() + SECONDS

    def loop(place: int) -> None:
        while time.monotonic() < end:
            actions[place]()
            counts[place] += 1

    threads = [threading.Thread(target=loop, args=(place,)) for place in range(len(actions))]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - started)
