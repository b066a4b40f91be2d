"""The quickstart's 20 pictures through the service: upload, `train_project` to Completed, the test picture's tag.

Needs the quickstart's pictures in ../shared/data; without them there is nothing to measure.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.results import Result, keep
from ownvision.client import Service
from ownvision.client.local import running_service

PICTURES = Path(__file__).parents[2] / "shared" / "data" / "quickstart" / "classification"
COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"
ROUNDS = 3


def run() -> bool:
    """Median seconds of three projects; in each the test picture must be Hemlock."""
    if not PICTURES.is_dir():
        print(f"quickstart: there is no {PICTURES}")
        return True
    seconds, hemlock = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        running_service(Path(folder) / "data") as service,
        Service(service.endpoint, service.training_key) as client,
    ):
        for number in range(ROUNDS):
            project = client.create_project(f"Trees {number}", COMPACT, None)["id"]
            for name in ("Hemlock", "Japanese_Cherry"):
                files = [(path.name, path.read_bytes()) for path in sorted((PICTURES / name).glob("*.jpg"))]
                client.upload(project, files, [client.create_tag(project, name)["id"]])
            begun = time.perf_counter()
            iteration = client.train(project, force=False)
            while iteration["status"] == "Training":
                time.sleep(0.05)
                iteration = client.iteration(project, iteration["id"])
            seconds.append(time.perf_counter() - begun)
            answer = client.quick_test(project, iteration["id"], (PICTURES / "Test" / "test_image.jpg").read_bytes())
            best = answer["predictions"][0]
            hemlock.append(best["probability"] if best["tagName"] == "Hemlock" else 0.0)
    return keep(
        "quickstart",
        [
            Result("train_project to Completed, median of 3", float(np.median(seconds)), "s", 3.0),
            Result("probability of Hemlock for the test picture, least of 3", min(hemlock), "", 0.5, most=False),
        ],
    )
