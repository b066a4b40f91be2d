"""Advanced training beside quick training, on unseen images of each set: accuracy, or mAP@50 of detectors.

Writes benchmarks/results/learning_advanced.csv, a row per set as it ends. Run, with the seconds of each search and the
names of sets (all, where none is named): .venv/bin/python -m benchmarks.learning.advanced [SECONDS [SET…]]
"""

import csv
import hashlib
import io
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import learning_detection, learning_digits
from benchmarks.results import FOLDER
from ownvision import inference
from ownvision.inference import Classification
from ownvision.learning import classify, detect, graph, search_classifier, search_detector
from ownvision.learning.backbones import BACKBONES
from ownvision.learning.search import Trial

SECONDS = 300.0
BACKBONE = "efficientnet_lite0"
DATA = Path("/work/shared/data")


@dataclass(frozen=True)
class Pictures:
    """A classification set: files and tags to train on, and unseen ones."""

    train: list[bytes]
    train_tags: NDArray[np.int64]
    test: list[bytes]
    test_tags: NDArray[np.int64]


@dataclass(frozen=True)
class Compared:
    """Both trainings on one set: on what was held out, and on unseen images."""

    quick: float
    advanced: float
    quick_held_out: float
    advanced_held_out: float
    seconds: float
    trials: list[Trial]


def digits(shots: int) -> Pictures:
    """So many digits per tag, and 500 unseen ones."""
    files, tags = learning_digits.pictures()
    shuffled = np.random.default_rng(0).permutation(len(files))
    train = np.concatenate([shuffled[tags[shuffled] == tag][:shots] for tag in range(10)])
    test = np.setdiff1d(shuffled, train, assume_unique=True)[:500]
    return Pictures([files[row] for row in train], tags[train], [files[row] for row in test], tags[test])


def folders(root: Path, tags: Sequence[str], shots: int) -> Pictures:
    """The first pictures of each tag's folder to train on, the others unseen."""
    files = [[path.read_bytes() for path in sorted((root / tag).iterdir())] for tag in tags]
    return _joined([one[:shots] for one in files], [one[shots:] for one in files])


def textures(shots: int = 10, tags: int = 8, unseen: int = 30) -> Pictures:
    """Generated surfaces: waves of a tag's own direction, length and roughness, in any colour, light and place."""

    def picture(tag: int, number: int) -> bytes:
        rng = np.random.default_rng([tag, number])
        y, x = np.mgrid[0:160, 0:160] / 160
        angle = np.pi * tag / tags + rng.normal(0, 0.12)
        length = (6, 11)[tag % 2] * np.exp(rng.normal(0, 0.15))
        wave = np.sin(2 * np.pi * length * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6))
        wave = np.where(tag % 4 < 2, wave, np.sign(wave))
        low, high = np.sort(rng.uniform(40, 220, (2, 3)), axis=0)
        pixels = low + (high - low) * (0.5 + 0.5 * wave[..., None]) + rng.normal(0, 35, (160, 160, 3))
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    made = [[picture(tag, number) for number in range(shots + unseen)] for tag in range(tags)]
    return _joined([files[:shots] for files in made], [files[shots:] for files in made])


def _joined(train: Sequence[Sequence[bytes]], test: Sequence[Sequence[bytes]]) -> Pictures:
    tags = [np.repeat(np.arange(len(part)), [len(files) for files in part]) for part in (train, test)]
    flat = [[data for files in part for data in files] for part in (train, test)]
    return Pictures(flat[0], tags[0], flat[1], tags[1])


def classifier(make: Callable[[], Pictures], seconds: float) -> Compared:
    """Both trainings of a classifier of a compact domain."""
    pictures = make()
    labels = np.eye(int(pictures.train_tags.max()) + 1, dtype=bool)[pictures.train_tags]
    keys = [hashlib.sha256(data).digest() for data in pictures.train]
    begun = time.monotonic()
    vectors = classify.embed(pictures.train, BACKBONE).astype(np.float16)
    quick = classify.fit(vectors, labels, multilabel=False, keys=keys, blocks=BACKBONES[BACKBONE].blocks)
    tag_ids = [str(tag) for tag in range(labels.shape[1])]
    reads = [partial(bytes, data) for data in pictures.train]
    task = search_classifier.Task(reads, labels, keys, tag_ids, False, BACKBONE)
    found = search_classifier.improve(task, quick, seconds=seconds - (time.monotonic() - begun))
    taken = time.monotonic() - begun
    files = (graph.classifier(BACKBONE, quick.head, tag_ids), found.model)
    plain, better = (_accuracy(file, pictures) for file in files)
    return Compared(plain, better, found.trials[0].score or 0.0, _held_out(found.trials), taken, found.trials)


def _accuracy(model: bytes, pictures: Pictures) -> float:
    loaded = inference.load(model)
    said = [found for data in pictures.test if isinstance(found := loaded.predict(data), Classification)]
    return float((np.array([one.probabilities.argmax() for one in said]) == pictures.test_tags).mean())


def _held_out(trials: Sequence[Trial]) -> float:
    return next(trial.score or 0.0 for trial in trials if trial.chosen)


def forks(seconds: float) -> Compared:
    """Both trainings of a detector: fork and scissors, 1 to 15 of each train, 16 to 20 are unseen."""
    train = learning_detection.examples(learning_detection.DATA, range(1, 16))
    test = learning_detection.examples(learning_detection.DATA, range(16, 21))
    begun = time.monotonic()
    quick = detect.fit(train, learning_detection.TAGS, predict=learning_detection.predict)
    spent = time.monotonic() - begun
    task = search_detector.Task(train, learning_detection.TAGS, learning_detection.predict, BACKBONE)
    better, trials = search_detector.improve(task, quick, quick_seconds=spent, seconds=seconds - spent)
    taken = time.monotonic() - begun
    scores = [
        learning_detection.precision(learning_detection.predict(fit.model, [one.read() for one in test]), test, 0.5)
        for fit in (quick, better)
    ]
    return Compared(*scores, trials[0].score or 0.0, _held_out(trials), taken, trials)


SETS: dict[str, Callable[[float], Compared]] = {
    "textures10": partial(classifier, textures),
    "digits5": partial(classifier, partial(digits, 5)),
    "digits10": partial(classifier, partial(digits, 10)),
    "digits20": partial(classifier, partial(digits, 20)),
    "trees": partial(
        classifier, partial(folders, DATA / "quickstart/classification", ("Hemlock", "Japanese_Cherry"), 5)
    ),
    "fruit": partial(classifier, partial(folders, DATA / "fruit/classification", ("apple", "banana", "orange"), 5)),
    "forks": forks,
}


def run(seconds: float = SECONDS, names: Sequence[str] = ()) -> bool:
    """Compare on each set; whether advanced training was nowhere worse on what was held out."""
    day = datetime.now(UTC).date().isoformat()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    path, kept = FOLDER / "learning_advanced.csv", True
    head = ["set", "budget s", "used s", "quick unseen", "advanced unseen", "quick held out", "advanced held out"]
    rows = list(csv.reader(path.open()))[1:] if path.is_file() else []
    for name in names or SETS:
        found = SETS[name](seconds)
        scores = (found.quick, found.advanced, found.quick_held_out, found.advanced_held_out)
        chosen = next(trial.what for trial in found.trials if trial.chosen)
        row = [name, f"{seconds:.0f}", f"{found.seconds:.0f}", *(f"{score:.4f}" for score in scores)]
        rows = [one for one in rows if one[:2] != row[:2]] + [[*row, chosen, day, machine]]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([[*head, "chosen", "day", "machine"], *rows])
        print(", ".join(f"{key} {value}" for key, value in zip(head, row, strict=True)), f"chosen: {chosen}")
        for trial in found.trials:
            print("   ", trial.shape(), flush=True)
        kept = kept and found.advanced_held_out >= found.quick_held_out
    return kept


if __name__ == "__main__":
    sys.exit(not run(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS, sys.argv[2:]))
