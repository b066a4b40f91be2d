"""Detection: photographs, drawn scenes and learning curves, beside time and memory.

Writes benchmarks/results/learning_detection_PART.csv; times need two idle cores. Run one part or several:
.venv/bin/python -m benchmarks.learning.detection [folds | fruit | dense | levels | curve | speed | memory …]
"""

import hashlib
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning.scenes import KINDS, LEVELS, scene
from benchmarks.results import Result, keep
from ownvision import inference
from ownvision.learning import detect
from ownvision.learning.evaluate import Detections, detection

DATA = Path("/work/shared/data")
SIDES = ("left", "top", "width", "height")
Set = tuple[list[detect.Example], list[detect.Example], Sequence[str]]
"""What to learn from, what to test on, and the tags."""


def example(data: bytes, regions: Sequence[dict[str, Any]], tags: Sequence[str]) -> detect.Example:
    """A photograph with its regions."""
    boxes = np.array([[region[side] for side in SIDES] for region in regions], np.float32).reshape(-1, 4)
    named = np.array([tags.index(region["tag"]) for region in regions], np.int64)
    return detect.Example(partial(bytes, data), boxes, named, hashlib.sha256(data).digest())


def fold(number: int) -> Set:
    """Fork/scissors: five files of each tag test, fifteen train."""
    folder, tags = DATA / "quickstart/detection", ("fork", "scissors")
    regions = json.loads((folder / "regions.json").read_text())
    parts: tuple[list[detect.Example], list[detect.Example]] = ([], [])
    for tag in tags:
        for file in range(1, 21):
            name = f"{tag}/{tag}_{file}.jpg"
            tested = 5 * number < file <= 5 * number + 5
            parts[tested].append(example((folder / name).read_bytes(), regions[name], tags))
    return (*parts, tags)


def fruit(split: int) -> Set:
    """Fruit scenes: a random 70/30 split."""
    folder, tags = DATA / "fruit/detection", ("apple", "banana", "orange")
    files = json.loads((folder / "tagged-images.json").read_text())["files"]
    all_of_them = [example((folder / "images" / one["filename"]).read_bytes(), one["tags"], tags) for one in files]
    order = np.random.default_rng(split).permutation(len(all_of_them))
    edge = round(0.7 * len(order))
    return [all_of_them[i] for i in order[:edge]], [all_of_them[i] for i in order[edge:]], tags


def drawn(level: str, train: int, test: int = 20, seed: int = 0) -> Set:
    """Scenes of a level; those to test on are the same for every number to learn from."""
    made = partial(scene, LEVELS[level])
    first = 1_000_000 * (seed + 1)
    return [made(first + i) for i in range(train)], [made(first + 500_000 + i) for i in range(test)], KINDS


def predict(model: bytes, images: Iterable[bytes]) -> list[Detections]:
    """As the service predicts."""
    loaded = inference.load(model)
    return [found for image in images if isinstance(found := loaded.predict(image), Detections)]


def precision(predictions: Sequence[Detections], real: Sequence[detect.Example], tags: int, overlap: float) -> float:
    """Mean average precision at an overlap."""
    truth = [Detections(one.boxes, np.ones(len(one.tags), np.float32), one.tags) for one in real]
    return detection(predictions, truth, tags, 0.5, overlap).average_precision


def trained(data: Set, **options: Any) -> tuple[list[Detections], float, detect.DetectorFit]:
    """What the test images are predicted as, how long the training took, and what it gave."""
    train, test, tags = data
    begun = time.perf_counter()
    fit = detect.fit(train, tags, predict=predict, **options)
    seconds = time.perf_counter() - begun
    return predict(fit.model, [one.read() for one in test]), seconds, fit


def folds() -> list[Result]:
    """Fork/scissors, four folds scored together."""
    found: list[Detections] = []
    real: list[detect.Example] = []
    times, results = [], []
    for number in range(4):
        data = fold(number)
        said, seconds, _ = trained(data)
        for overlap in (0.5, 0.75):
            value = precision(said, data[1], 2, overlap)
            results.append(Result(f"fork/scissors, fold {number}: mAP@{overlap * 100:.0f}", value, ""))
        results.append(Result(f"fork/scissors, fold {number}: training", seconds, "s"))
        found, real, times = found + said, real + data[1], [*times, seconds]
    return [
        *results,
        Result("fork/scissors, together: mAP@50", precision(found, real, 2, 0.5), "", 0.97, most=False),
        Result("fork/scissors, together: mAP@75", precision(found, real, 2, 0.75), "", 0.80, most=False),
        Result("fork/scissors: longest training", max(times), "s", 90.0),
    ]


def splits() -> list[Result]:
    """Fruit scenes, five random splits."""
    rows, results = [], []
    for split in range(5):
        data = fruit(split)
        said, seconds, _ = trained(data)
        rows.append([precision(said, data[1], 3, 0.5), precision(said, data[1], 3, 0.75), seconds])
        for name, unit, value in zip(("mAP@50", "mAP@75", "training"), ("", "", "s"), rows[-1], strict=True):
            results.append(Result(f"fruit, split {split}: {name}", value, unit))
    means = np.mean(np.array(rows), axis=0)
    return [
        *results,
        Result("fruit, mean of five: mAP@50", float(means[0]), "", 0.80, most=False),
        Result("fruit, mean of five: mAP@75", float(means[1]), ""),
        Result("fruit: longest training", max(row[2] for row in rows), "s", 120.0),
    ]


def dense() -> list[Result]:
    """Fifty small objects and more in a picture."""
    data = drawn("dense", 30, 10)
    said, seconds, _ = trained(data)
    return [
        Result("dense scenes, 30 pictures: mAP@50", precision(said, data[1], 3, 0.5), "", 0.85, most=False),
        Result("dense scenes, 30 pictures: mAP@75", precision(said, data[1], 3, 0.75), ""),
        Result("dense scenes: objects in a picture, least", min(len(one.tags) for one in data[1]), ""),
        Result("dense scenes: training", seconds, "s"),
        Result("dense scenes, without tiles: mAP@50", _one_look(data), ""),
    ]


def _one_look(data: Set) -> float:
    said, _, _ = trained(data, tiles=False)
    return precision(said, data[1], 3, 0.5)


def levels() -> list[Result]:
    """Every level, learned from 30 pictures."""
    results = []
    for level in LEVELS:
        data = drawn(level, 30)
        said, seconds, _ = trained(data)
        results += [
            Result(f"{level}, 30 pictures: mAP@50", precision(said, data[1], 3, 0.5), ""),
            Result(f"{level}, 30 pictures: mAP@75", precision(said, data[1], 3, 0.75), ""),
            Result(f"{level}, 30 pictures: training", seconds, "s"),
        ]
    return results


def curve() -> list[Result]:
    """How precision rises with the number of pictures."""
    results = []
    for level in ("sizes", "look-alikes"):
        for shots in (2, 5, 10, 20, 50):
            data = drawn(level, shots)
            said, seconds, _ = trained(data)
            value = precision(said, data[1], 3, 0.5)
            results += [
                Result(f"{level}, {shots} pictures: mAP@50", value, ""),
                Result(f"{level}, {shots} pictures: training", seconds, "s"),
            ]
    return results


def speed() -> list[Result]:
    """One look at a picture on one core, of a detector as it comes out of training."""
    train, test, tags = drawn("plain", 8, 1)
    model = detect.fit(train, tags, predict=predict, steps=4).model
    loaded = inference.load(model, threads=1)
    image = np.zeros((1, 3, loaded.height, loaded.width), np.float32)
    data = test[0].read()

    def median(run: Callable[[], Any]) -> float:
        times = []
        for _ in range(60):
            begun = time.perf_counter()
            run()
            times.append(time.perf_counter() - begun)
        return float(np.median(times)) * 1_000

    return [
        Result("detector, 320 px, one core", median(lambda: loaded.session.run(None, {"image": image})), "ms", 16.0),
        Result("the same with decoding and suppression", median(lambda: loaded.predict(data)), "ms"),
    ]


def memory() -> list[Result]:
    """Of a training process with 1,000 pictures."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        peak, per_step = pool.apply(_train_many)
    return [
        Result("training on 1,000 pictures: peak memory", peak, "GB", 2.0),
        Result("training: one step", per_step, "s"),
    ]


def _train_many() -> tuple[float, float]:
    looks: list[tuple[int, float]] = []
    train = [scene(LEVELS["sizes"], number) for number in range(1_000)]
    detect.fit(
        train,
        KINDS,
        predict=predict,
        steps=60,
        watch=lambda point: looks.append((point.step, time.perf_counter())) if point.hold_out is None else None,
    )
    per_step = (looks[3][1] - looks[0][1]) / (looks[3][0] - looks[0][0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, per_step


PARTS: dict[str, Callable[[], list[Result]]] = {
    "folds": folds,
    "fruit": splits,
    "dense": dense,
    "levels": levels,
    "curve": curve,
    "speed": speed,
    "memory": memory,
}


def run(parts: Sequence[str] = ()) -> bool:
    """Run some parts, or all; whether every limit is kept."""
    kept = [keep(f"learning_detection_{part}", PARTS[part]()) for part in parts or PARTS]
    return all(kept)


if __name__ == "__main__":
    sys.exit(0 if run(sys.argv[1:]) else 1)
