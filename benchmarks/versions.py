"""What an older version of the API costs beside the newest: the same calls, in turn, over one service."""

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.pictures import jpegs
from benchmarks.results import Result, keep
from benchmarks.wire import Connection, request
from ownvision.client import Service
from ownvision.client.local import running_service
from ownvision.wire.versions import LATEST, TRAINING, names

IMAGES, REPEATS = 256, 40
ALLOWED = 1.2


def run() -> bool:
    """Each older version's worst ratio of medians over the calls that all versions have; it must be 1.2 at most."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_service(Path(folder) / "data") as service,
        Service(service.endpoint, service.training_key) as client,
    ):
        project = client.create_project("Versions", None, None)["id"]
        pictures = [(f"{number}.jpg", data) for number, data in enumerate(jpegs(IMAGES))]
        for start in range(0, IMAGES, 64):
            tags = [client.create_tag(project, f"tag {start + number}")["id"] for number in range(4)]
            client.upload(project, pictures[start : start + 64], tags)
        calls = (
            f"/projects/{project}/images/tagged?take={IMAGES}",
            f"/projects/{project}/tags",
            "/projects",
            "/domains",
        )
        connection = Connection(service.endpoint)
        results = []
        newest = dict.fromkeys(calls, 0.0)
        worst = dict.fromkeys(names(TRAINING), 0.0)
        for call in calls:
            taken: dict[str, list[float]] = {name: [] for name in worst}
            for _ in range(REPEATS):
                for name in worst:
                    data = request(
                        "GET", f"/customvision/{name}/training{call}", {"Training-Key": service.training_key}
                    )
                    started = time.perf_counter()
                    status, body = connection.call(data)
                    taken[name].append((time.perf_counter() - started) * 1000)
                    assert status == 200, body[:200]
            newest[call] = statistics.median(taken[LATEST.name])
            for name, times in taken.items():
                worst[name] = max(worst[name], statistics.median(times) / newest[call])
        connection.close()
        labels = ("256 images", "16 tags", "one project", "domains")
        results = [Result(f"newest, {label}", newest[call], "ms") for label, call in zip(labels, calls, strict=True)]
        results += [
            Result(f"{name} beside the newest, worst of {len(calls)} calls", ratio, "times", ALLOWED)
            for name, ratio in worst.items()
            if name != LATEST.name
        ]
    return keep("versions", results)
