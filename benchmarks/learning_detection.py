"""Detection on the original's quickstart set: mAP and seconds of training, three seeds.

Files 1 to 15 of each tag train, 16 to 20 test; the bar is mAP@50 ≥ 0.95 within 90 s (median). Run on two idle cores:

    python benchmarks/learning_detection.py [folder of the quickstart set's detection images]
"""

import csv
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ownvision import inference
from ownvision.learning import detect
from ownvision.learning.evaluate import Detections, detection

DATA = Path("/work/shared/data/quickstart/detection")
RESULTS = Path(__file__).parent / "results" / "learning_detection.csv"
TAGS = ["fork", "scissors"]
SEEDS = (0, 1, 2)
BAR_MAP50, BAR_SECONDS = 0.95, 90.0


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
            found.append(detect.Example(data, np.array(boxes, np.float32), np.array(tags), key))
    return found


def predict(onnx: bytes, images: Sequence[bytes]) -> list[Detections]:
    """As the service predicts."""
    model = inference.load(onnx)
    found = [model.predict(image) for image in images]
    return [one for one in found if isinstance(one, Detections)]


def precision(predictions: list[Detections], truth: list[detect.Example], overlap: float) -> float:
    """Mean average precision."""
    real = [Detections(one.boxes, np.ones(len(one.tags), np.float32), one.tags) for one in truth]
    return detection(predictions, real, len(TAGS), 0.5, overlap).average_precision


def main() -> None:
    """Train, test, print and write."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    train, test = examples(folder, range(1, 16)), examples(folder, range(16, 21))
    rows = []
    for seed in SEEDS:
        begun = time.perf_counter()
        fit = detect.fit(train, TAGS, predict=predict, seed=seed)
        seconds = time.perf_counter() - begun
        found = predict(fit.model, [one.image for one in test])
        held = [train[index] for index in fit.held_out]
        values = [precision(found, test, 0.5), precision(found, test, 0.75), precision(fit.predictions, held, 0.5)]
        rows.append([seed, len(fit.log), *(round(value, 4) for value in values), round(seconds, 1)])
        print(dict(zip(("seed", "steps", "map50", "map75", "held_out_map50", "seconds"), rows[-1], strict=True)))
    medians = [float(np.median([row[column] for row in rows])) for column in range(2, 6)]
    rows.append(["median", "", *medians])
    rows.append(["limit", "", BAR_MAP50, "", "", BAR_SECONDS])
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seed", "steps", "map50", "map75", "held_out_map50", "seconds"])
        writer.writerows(rows)
    print("median", medians, "reached" if medians[0] >= BAR_MAP50 and medians[3] <= BAR_SECONDS else "MISSED")


if __name__ == "__main__":
    main()
