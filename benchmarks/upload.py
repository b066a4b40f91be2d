"""Uploading 1,000 images of 20 kB by batches of 64, beside decoding, hashing, encrypting and syncing them alone."""

import io
import os
import statistics
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks import bare
from benchmarks.pictures import jpegs
from benchmarks.results import Result, keep
from benchmarks.wire import Connection, multipart, request
from ownvision.client import Service
from ownvision.client.local import running_service

IMAGES, BATCH, ROUNDS = 1000, 64, 5
COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"


def run() -> bool:
    """Both rates, in images a second, medians of five turns each: a disk is not as fast at every moment."""
    pictures = jpegs(ROUNDS * IMAGES, seed=3)
    # On the disk that a service's data would be on (/tmp may be memory), in a folder that git ignores.
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path("build").absolute()) as folder:
        alone, over_http = [], []
        with (
            running_service(Path(folder) / "data") as service,
            Service(service.endpoint, service.training_key) as client,
        ):
            for start in range(0, len(pictures), IMAGES):
                part = pictures[start : start + IMAGES]
                alone.append(IMAGES / bare.seconds(part, _decoded, Path(folder) / f"alone-{len(alone)}", BATCH))
                # Uploading starts the job that embeds: it runs while the rest is uploaded.
                project = client.create_project("Upload", COMPACT, None)
                over_http.append(IMAGES / _upload(part, service.endpoint, service.training_key, project["id"]))
    size = sum(map(len, pictures)) / len(pictures) / 1000
    peer, value = statistics.median(alone), statistics.median(over_http)
    return keep(
        "upload",
        [
            Result(f"decode, SHA-256, AES-GCM, one syncfs per 64 files, {os.cpu_count()} threads", peer, "images/s"),
            Result(f"upload of {IMAGES} images of {size:.0f} kB", value, "images/s", 0.6 * peer, most=False),
        ],
    )


def _upload(pictures: list[bytes], endpoint: str, key: str, project_id: str) -> float:
    path = f"/customvision/v3.3/training/projects/{project_id}/images"
    calls = []
    for start in range(0, len(pictures), BATCH):
        kind, body = multipart([(f"{start + n}.jpg", data) for n, data in enumerate(pictures[start : start + BATCH])])
        calls.append(request("POST", path, {"Training-Key": key, "Content-Type": kind}, body))
    connection = Connection(endpoint)
    started = time.perf_counter()
    for call in calls:
        status, body = connection.call(call)
        assert status == 200, body[:300]
    taken = time.perf_counter() - started
    connection.close()
    return taken


def _decoded(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
    return data
