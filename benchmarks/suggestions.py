"""Smart labelling: 64 images by a classifier whose embeddings are there, and by a detector beside its bare inference.

The detector needs the quickstart's pictures in ../shared/data and the extra `train`; without them it is left out.
"""

import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.pictures import jpegs
from benchmarks.results import Result, keep
from ownvision.client import Service
from ownvision.client.local import Running, running_service
from ownvision.inference import load
from ownvision.services.components import open_components
from ownvision.services.fitting import MODEL
from ownvision.settings import Settings
from ownvision.store import ledger

SCISSORS = Path(__file__).parents[2] / "shared" / "data" / "quickstart" / "detection"
GENERAL = "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
DETECTION = "a27d5ca5-bb19-49d8-a70a-fec086c47f5b"
BATCH, ROUNDS = 64, 5
ALLOWED_SECONDS, ALLOWED_RATIO = 0.5, 1.2
SIDES = ("left", "top", "width", "height")


def run() -> bool:
    """Median seconds of a classifier's 64; ratio of a detector's time to that of its model alone."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_service(Path(folder) / "data") as service,
        Service(service.endpoint, service.training_key) as client,
        httpx.Client(headers={"Training-Key": service.training_key}, timeout=600) as http,
    ):
        seconds = _classifier(client, http, service)
        results = [Result(f"classifier, {BATCH} images, median of {ROUNDS}", seconds, "s", ALLOWED_SECONDS)]
        if SCISSORS.is_dir():
            bare, suggested = _detector(client, http, service)
            results += [
                Result("detector, bare inference", bare * 1000, "ms/image"),
                Result("detector, suggestions", suggested * 1000, "ms/image"),
                Result("detector, suggestions beside bare inference", suggested / bare, "times", ALLOWED_RATIO),
            ]
    return keep("suggestions", results)


def _classifier(client: Service, http: httpx.Client, service: Running) -> float:
    project = client.create_project("Colours", GENERAL, None)["id"]
    pictures = [(f"{number}.jpg", data) for number, data in enumerate(jpegs(40 + BATCH * ROUNDS))]
    for half in (0, 1):
        client.upload(project, pictures[20 * half : 20 * half + 20], [client.create_tag(project, f"tag {half}")["id"]])
    iteration = _trained(client, project)
    untagged = []
    for start in range(40, len(pictures), BATCH):
        made = client.upload(project, pictures[start : start + BATCH], [])
        untagged.append([one["image"]["id"] for one in made])
    _embedded(http, service, project)
    return statistics.median(_suggest(http, service, project, iteration, batch) for batch in untagged)


def _detector(client: Service, http: httpx.Client, service: Running) -> tuple[float, float]:
    """Seconds per image of the model alone and of suggestions."""
    project = client.create_project("Cutlery", DETECTION, None)["id"]
    regions = json.loads((SCISSORS / "regions.json").read_text())
    tags = {name: client.create_tag(project, name)["id"] for name in ("fork", "scissors")}
    for name, number in itertools.product(tags, range(1, 16)):
        file = f"{name}/{name}_{number}.jpg"
        made = client.upload(project, [(file, (SCISSORS / file).read_bytes())], [])
        boxes = [
            {"imageId": made[0]["image"]["id"], "tagId": tags[one["tag"]], **{side: one[side] for side in SIDES}}
            for one in regions[file]
        ]
        http.post(f"{_path(service, project)}/images/regions", json={"regions": boxes}).raise_for_status()
    iteration = _trained(client, project)
    pictures = jpegs(2 * BATCH, seed=7)
    batches = [pictures[:BATCH], pictures[BATCH:]]
    images = [
        [one["image"]["id"] for one in client.upload(project, [(f"{n}.jpg", one) for n, one in enumerate(batch)], [])]
        for batch in batches
    ]
    components = open_components(Settings.model_validate({"data": service.data}))
    model = load(components.blobs.read(ledger.iteration_prefix(project, iteration) + MODEL))
    components.database.close()
    _suggest(http, service, project, iteration, images[0])  # loads the model
    model.predict(pictures[0])
    begun = time.perf_counter()
    for one in batches[1]:
        model.predict(one)
    bare = time.perf_counter() - begun
    return bare / BATCH, _suggest(http, service, project, iteration, images[1]) / BATCH


def _path(service: Running, project: str) -> str:
    return f"{service.endpoint}/customvision/v3.4-preview/training/projects/{project}"


def _suggest(http: httpx.Client, service: Running, project: str, iteration: str, images: list[str]) -> float:
    begun = time.perf_counter()
    answer = http.post(
        f"{_path(service, project)}/tagsandregions/suggestions",
        params={"iterationId": iteration, "imageIds": ",".join(images)},
    )
    assert len(answer.json()) == len(images), answer.text[:300]
    return time.perf_counter() - begun


def _trained(client: Service, project: str) -> str:
    iteration: dict[str, Any] = client.train(project, force=False)
    while iteration["status"] == "Training":
        time.sleep(0.05)
        iteration = client.iteration(project, iteration["id"])
    return str(iteration["id"])


def _embedded(http: httpx.Client, service: Running, project: str) -> None:
    while True:
        jobs = http.get(f"{service.endpoint}/api/projects/{project}/jobs").json()
        if all(job["state"] == "done" for job in jobs if job["kind"] == "embed"):
            return
        time.sleep(0.1)
