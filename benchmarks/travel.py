"""Export and import of 5,000 images of 20 kB, beside copying, hashing, encrypting and syncing the same files alone."""

import base64
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks import bare
from benchmarks.pictures import jpegs
from benchmarks.results import Result, keep
from ownvision.client.local import Running, running_service

IMAGES, FEW, BATCH, TURNS = 5000, 500, 64, 5
DETECTION = "da2e3a8a-40a5-4171-82f4-58522f70fbc1"  # nothing else is computed when its images arrive
TRAINING = "/customvision/v3.3/training"


def run() -> bool:
    """Seconds of both, medians of five turns each; memory of the importing process for few images and for many."""
    pictures = jpegs(IMAGES, seed=9)
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path("build").absolute()) as name:
        folder = Path(name)
        originals = folder / "originals"
        originals.mkdir()
        for number, data in enumerate(pictures):
            (originals / f"{number}.jpg").write_bytes(data)
        with (
            running_service(folder / "data") as service,
            httpx.Client(
                base_url=service.endpoint, headers={"Training-Key": service.training_key}, timeout=120
            ) as client,
        ):
            many, few = (_project(client, pictures[:count]) for count in (IMAGES, FEW))
            _, small = _travel(service, client, few, FEW)
            alone, travelled, peaks = [], [], []
            for turn in range(TURNS):
                alone.append(
                    bare.seconds(sorted(originals.iterdir()), Path.read_bytes, folder / f"alone-{turn}", BATCH)
                )
                seconds, peak = _travel(service, client, many, IMAGES)
                travelled.append(seconds)
                peaks.append(peak)
    size = sum(map(len, pictures)) / len(pictures) / 1000
    least, value = statistics.median(alone), statistics.median(travelled)
    return keep(
        "travel",
        [
            Result(f"copy, SHA-256, AES-GCM, one syncfs per {BATCH} files, {os.cpu_count()} threads", least, "s"),
            Result(f"export and import of {IMAGES} images of {size:.0f} kB", value, "s", 2 * least),
            Result("the ratio", value / least, "", 2),
            Result(f"an image of it, for the estimate of ExportProject, {IMAGES} images", 1000 * value / IMAGES, "ms"),
            Result(f"memory of the importing process at its peak, {FEW} images", small, "MB"),
            Result(f"memory of the importing process at its peak, {IMAGES} images", max(peaks), "MB", small + 32),
        ],
    )


def _project(client: httpx.Client, pictures: list[bytes]) -> str:
    project = client.post(f"{TRAINING}/projects", params={"name": "Travel", "domainId": DETECTION}).json()["id"]
    tag = client.post(f"{TRAINING}/projects/{project}/tags", params={"name": "thing"}).json()["id"]
    box = {"tagId": tag, "left": 0.1, "top": 0.2, "width": 0.5, "height": 0.25}
    for start in range(0, len(pictures), BATCH):
        batch: dict[str, Any] = {
            "images": [
                {"name": f"{start + n}.jpg", "contents": base64.b64encode(data).decode(), "regions": [box]}
                for n, data in enumerate(pictures[start : start + BATCH])
            ]
        }
        answer = client.post(f"{TRAINING}/projects/{project}/images/files", json=batch)
        assert answer.status_code == 200, answer.text[:300]
    return str(project)


def _travel(service: Running, client: httpx.Client, project: str, images: int) -> tuple[float, float]:
    """Seconds, and the most megabytes that the job's own process held."""
    started, peak = time.perf_counter(), 0.0
    export = client.get(f"{TRAINING}/projects/{project}/export").json()
    copy = client.post(f"{TRAINING}/projects/import", params={"token": export["token"]}).json()
    while copy["status"] == "Importing":
        time.sleep(0.05)
        peak = max([peak, *map(_megabytes, _grandchildren(service.process.pid))])
        copy = client.get(f"{TRAINING}/projects/{copy['id']}").json()
    taken = time.perf_counter() - started
    assert copy["status"] == "Succeeded", client.get(f"/api/projects/{copy['id']}/import").text
    count = client.get(f"{TRAINING}/projects/{copy['id']}/images/count").json()
    assert count == export["imageCount"] == images
    # The copies stay until the end: removing them would be measured with the next turn.
    return taken, peak


def _children(pid: int) -> list[int]:
    try:
        files = list(Path(f"/proc/{pid}/task").glob("*/children"))
        return [int(child) for file in files for child in file.read_text().split()]
    except OSError:
        return []


def _grandchildren(pid: int) -> list[int]:
    return [job for worker in _children(pid) for job in _children(worker)]


def _megabytes(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), 0.0)
