"""Planted label errors and re-encoded copies, 5 % each: of as many as were planted, named first, how many are planted.

Digits (200 of them, and 1,000); photographs of fruit, trees, forks and scissors where they are there. A copy is its
original saved again as JPEG of quality 70 at 80 % of its size. Mean of several draws. Also how long 100,000 images take
to be compared, on random embeddings. Writes benchmarks/results/learning_examine.csv.
Run: .venv/bin/python -m benchmarks.learning.examine
"""

import hashlib
import io
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.learning_digits import pictures
from benchmarks.results import Result, keep
from ownvision.learning import classify, examine
from ownvision.learning.backbones import BACKBONES

BACKBONE = "efficientnet_lite0"
BLOCKS = BACKBONES[BACKBONE].blocks
SHARE, LEAST, DRAWS = 0.05, 0.8, 5
DATA = Path("/work/shared/data")
FOLDERS = {
    "fruit": DATA / "fruit" / "classification",
    "trees": DATA / "quickstart" / "classification",
    "fork and scissors": DATA / "quickstart" / "detection",
}

Set = tuple[list[bytes], NDArray[np.int64]]


def again(data: bytes) -> bytes:
    """The same picture, saved smaller and with loss."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    buffer = io.BytesIO()
    size = tuple(max(round(side * 0.8), 1) for side in picture.size)
    picture.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=70)  # type: ignore[arg-type]
    return buffer.getvalue()


def folder(path: Path) -> Set:
    """Pictures of a folder per tag."""
    files, tags = [], []
    names = sorted(one for one in path.iterdir() if one.is_dir() and one.name.lower() != "test")
    for tag, name in enumerate(names):
        for file in sorted(name.iterdir()):
            if file.suffix.lower() in (".jpg", ".jpeg", ".png"):
                files.append(file.read_bytes())
                tags.append(tag)
    return files, np.array(tags)


def sets() -> dict[str, Set]:
    """What is there to measure on."""
    files, tags = pictures()
    order = np.random.default_rng(0).permutation(len(files))
    found = {f"digits, {count}": ([files[i] for i in order[:count]], tags[order[:count]]) for count in (200, 1_000)}
    return found | {name: folder(path) for name, path in FOLDERS.items() if path.is_dir()}


def planted(one: Set, vectors: NDArray[np.float16], copies: NDArray[np.float16], draw: int) -> tuple[float, float]:
    """Recall of the planted errors, and of the planted copies, among as many named first."""
    files, tags = one
    rng = np.random.default_rng(draw)
    count, kinds = max(round(SHARE * len(tags)), 2), int(tags.max()) + 1
    wrong = rng.choice(len(tags), count, replace=False)
    twice = rng.choice(len(tags), count, replace=False)
    given = tags.copy()
    given[wrong] = (given[wrong] + rng.integers(1, kinds, count)) % kinds
    keys = [hashlib.sha256(data).digest() for data in files]
    labels = np.eye(kinds, dtype=bool)[given]
    fitted = classify.fit(vectors, labels, multilabel=False, keys=keys, blocks=BLOCKS)
    doubts = examine.mislabelled(fitted.out_of_fold, labels, multilabel=False)
    pairs = examine.near_copies(examine.finest(np.concatenate([vectors, copies[twice]]), BLOCKS))
    expected = {(int(row), len(tags) + place) for place, row in enumerate(twice)}
    named = {(pair.first, pair.second) for pair in pairs[:count]}
    errors = len({doubt.row for doubt in doubts[:count]} & set(wrong.tolist())) / count
    return errors, len(named & expected) / count


def run() -> bool:
    """Measure all sets; whether each reaches its limit."""
    results: list[Result] = []
    for name, one in sets().items():
        vectors, copies = (
            classify.embed(files, BACKBONE).astype(np.float16) for files in (one[0], [again(data) for data in one[0]])
        )
        recalls = [planted(one, vectors, copies, draw) for draw in range(DRAWS)]
        errors, same = np.mean(recalls, axis=0)
        results += [
            Result(f"{name}: label errors found, mean of {DRAWS}", float(errors), "", LEAST, most=False),
            Result(f"{name}: copies found, mean of {DRAWS}", float(same), "", LEAST, most=False),
            Result(
                f"{name}: pairs named without any planted",
                len(examine.near_copies(examine.finest(vectors, BLOCKS))),
                "pairs",
            ),
        ]
    for count in (10_000, 100_000):
        x = np.random.default_rng(0).standard_normal((count, 640), np.float32).astype(np.float16)
        x[1] = x[0]
        begun = time.perf_counter()
        found = examine.near_copies(x)
        results.append(Result(f"compare {count:,} images ({len(found)} copy)", time.perf_counter() - begun, "s"))
    return keep("learning_examine", results)


if __name__ == "__main__":
    sys.exit(not run())
