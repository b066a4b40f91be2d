"""Live learning: from the last change of a tag to the draft that knows it, in a project of 1,000 images.

Each round tags images that were untagged, one request each, as a person does, and waits for score and suggestions. The
process that learns has its embeddings in memory by then; what it takes when it has to start first is measured after a
restart of the service.
"""

import statistics
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.pictures import jpegs
from benchmarks.results import Result, keep
from ownvision.client import Service
from ownvision.client.local import Running, running_service

GENERAL = "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
IMAGES, UNTAGGED, TAGS, ROUNDS, BURST = 1_000, 250, 10, 10, 20
SIDE = 160
ALLOWED_SECONDS = 2.0
_DEADLINE = 600.0


def run() -> bool:
    """Median and worst of the rounds, and what it takes after a restart."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        with running_service(data) as service, _client(service) as http:
            project, tags, loose = _filled(service, http)
            rounds = [_round(http, project, loose[BURST * turn :][:BURST], tags[turn % TAGS]) for turn in range(ROUNDS)]
        with running_service(data) as service, _client(service) as http:
            cold = _round(http, project, loose[BURST * ROUNDS :][:1], tags[0])
    seconds = [waited for waited, _ in rounds]
    answers = sorted(one for _, asked in rounds for one in asked)
    return keep(
        "learning_live",
        [
            Result(
                f"last of {BURST} changes to draft, {IMAGES} images, median of {ROUNDS}",
                statistics.median(seconds),
                "s",
            ),
            Result(f"the same, worst of {ROUNDS}", max(seconds), "s", ALLOWED_SECONDS),
            Result("the same, first change after a restart of the service", cold[0], "s"),
            Result("asking for the draft meanwhile, p95", 1000 * answers[int(0.95 * len(answers))], "ms"),
        ],
    )


def _client(service: Running) -> httpx.Client:
    return httpx.Client(base_url=service.endpoint, headers={"Training-Key": service.training_key}, timeout=60)


def _filled(service: Running, http: httpx.Client) -> tuple[str, list[str], list[str]]:
    """A project whose first draft is there: its id, its tags, ids of its untagged images."""
    pictures = [(f"{number}.jpg", data) for number, data in enumerate(jpegs(IMAGES, side=SIDE))]
    with Service(service.endpoint, service.training_key) as client:
        project = str(client.create_project("Live", GENERAL, "Multiclass")["id"])
        tags = [str(client.create_tag(project, f"tag {number}")["id"]) for number in range(TAGS)]
        tagged = IMAGES - UNTAGGED
        for number, tag in enumerate(tags):
            mine = pictures[number * tagged // TAGS : (number + 1) * tagged // TAGS]
            for start in range(0, len(mine), 50):
                client.upload(project, mine[start : start + 50], [tag])
        loose = []
        for start in range(tagged, IMAGES, 50):
            loose += [str(one["image"]["id"]) for one in client.upload(project, pictures[start : start + 50], [])]
    http.put(f"/api/projects/{project}/live-learning", json={"enabled": True}).raise_for_status()
    _wait(http, project)
    return project, tags, loose


def _round(http: httpx.Client, project: str, images: list[str], tag: str) -> tuple[float, list[float]]:
    """Seconds from the last change's answer to the draft, and those of each request meanwhile."""
    path = f"/customvision/v3.3/training/projects/{project}/images/tags"
    for image in images:
        http.post(path, json={"tags": [{"imageId": image, "tagId": tag}]}).raise_for_status()
    begun = time.perf_counter()
    asked = _wait(http, project)
    return time.perf_counter() - begun, asked


def _wait(http: httpx.Client, project: str) -> list[float]:
    asked = []
    deadline = time.perf_counter() + _DEADLINE
    while True:
        begun = time.perf_counter()
        draft = http.get(f"/api/projects/{project}/draft").raise_for_status().json()
        asked.append(time.perf_counter() - begun)
        if draft["state"] == "fresh" and draft["suggestionsComplete"]:
            return asked
        if time.perf_counter() > deadline:
            raise TimeoutError(f"No draft: {draft}")
        time.sleep(0.02)
