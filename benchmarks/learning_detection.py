"""Detection on the original's quickstart set: files 1 to 15 of each tag train, 16 to 20 test, three seeds.

Writes benchmarks/results/learning_detection.csv; needs two idle cores. Run, where the images lie elsewhere with their
folder: .venv/bin/python -m benchmarks.learning_detection [FOLDER]
"""

import hashlib
import json
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.results import Result, keep
from ownvision import inference
from ownvision.learning import detect
from ownvision.learning.evaluate import Detections, detection

DATA = Path("/work/shared/data/quickstart/detection")
TAGS = ["fork", "scissors"]
SEEDS = (0, 1, 2)
PRECISION, SECONDS = 0.95, 90.0


def examples(folder: Path, numbers: range) -> list[detect.Example]:
    """The images of both tags with these numbers."""
    regions = json.loads((folder / "regions.json").read_text())
    found = []
    for tag in TAGS:
        for number in numbers:
            name = f"{tag}/{tag}_{number}.jpg"
            data = (folder / name).read_bytes()
            boxes = [[region[side] for side in ("left", "top", "width", "height")] for region in regions[name]]
            tags = [TAGS.index(region["tag"]) for region in regions[name]]
            key = hashlib.sha256(data).digest()
            found.append(detect.Example(partial(bytes, data), np.array(boxes, np.float32), np.array(tags), key))
    return found


def predict(model: bytes, images: Iterable[bytes]) -> list[Detections]:
    """As the service predicts."""
    loaded = inference.load(model)
    return [found for image in images if isinstance(found := loaded.predict(image), Detections)]


def precision(predictions: Sequence[Detections], real: Sequence[detect.Example], overlap: float) -> float:
    """Mean average precision at an overlap."""
    truth = [Detections(one.boxes, np.ones(len(one.tags), np.float32), one.tags) for one in real]
    return detection(predictions, truth, len(TAGS), 0.5, overlap).average_precision


def run(folder: Path = DATA) -> bool:
    """Train with each seed and test; whether the medians reach their limits."""
    train, test = examples(folder, range(1, 16)), examples(folder, range(16, 21))
    names = ("mAP@50", "mAP@75", "mAP@50 on the hold-out", "training")
    units = ("", "", "", "s")
    measured: list[list[float]] = []
    for seed in SEEDS:
        begun = time.perf_counter()
        fit = detect.fit(train, TAGS, predict=predict, seed=seed)
        seconds = time.perf_counter() - begun
        found = predict(fit.model, [one.read() for one in test])
        held = [train[index] for index in fit.held_out]
        measured.append(
            [precision(found, test, 0.5), precision(found, test, 0.75), precision(fit.predictions, held, 0.5), seconds]
        )
    results = [
        Result(f"{name}, seed {seed}", value, unit)
        for seed, row in zip(SEEDS, measured, strict=True)
        for name, value, unit in zip(names, row, units, strict=True)
    ]
    medians = [float(one) for one in np.median(np.array(measured), axis=0)]
    results += [
        Result("mAP@50, median of three seeds", medians[0], "", PRECISION, most=False),
        Result("mAP@75, median", medians[1], ""),
        Result("mAP@50 on the hold-out, median", medians[2], ""),
        Result("training, median", medians[3], "s", SECONDS),
    ]
    return keep("learning_detection", results)


if __name__ == "__main__":
    sys.exit(0 if run(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA) else 1)
