"""Digits: 20 per tag to train, 500 unseen to test, mean of 5 draws; beside logistic regression on the same embeddings.

Writes benchmarks/results/learning_digits.csv. Run: .venv/bin/python -m benchmarks.learning_digits
"""

import hashlib
import io
import sys
import time

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.results import Result, keep
from ownvision.learning import classify
from ownvision.learning.backbones import BACKBONES

PER_TAG, UNSEEN, DRAWS = 20, 500, 5
ACCURACY, FIT_SECONDS = 0.95, 5.0


def pictures() -> tuple[list[bytes], NDArray[np.int64]]:
    """The digits as PNG files, and their tags."""
    digits = load_digits()
    files = []
    for array in digits.images:
        buffer = io.BytesIO()
        grey = Image.fromarray((array * 255 / 16).astype(np.uint8))
        grey.resize((64, 64), Image.Resampling.BICUBIC).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files, digits.target


def run() -> bool:
    """Measure both backbones; whether accuracy and time of the fit reach their limits."""
    files, tags = pictures()
    keys = [hashlib.sha256(data).digest() for data in files]
    results: list[Result] = []
    for backbone in BACKBONES:
        begun = time.perf_counter()
        vectors = classify.embed(files, backbone).astype(np.float16)
        embedding = (time.perf_counter() - begun) / len(files)
        ours, peer, ours_seconds, peer_seconds, ece = [], [], [], [], []
        for draw in range(DRAWS):
            shuffled = np.random.default_rng(draw).permutation(len(files))
            train = np.concatenate([shuffled[tags[shuffled] == tag][:PER_TAG] for tag in range(10)])
            unseen = np.setdiff1d(shuffled, train, assume_unique=True)[:UNSEEN]
            begun = time.perf_counter()
            fit = classify.fit(
                vectors[train],
                np.eye(10, dtype=bool)[tags[train]],
                multilabel=False,
                keys=[keys[row] for row in train],
                blocks=BACKBONES[backbone].blocks,
            )
            ours_seconds.append(time.perf_counter() - begun)
            x = vectors.astype(np.float32)
            scores = (x[unseen] @ fit.head.weights + fit.head.bias).astype(np.float64)
            odds = np.exp(scores - scores.max(1, keepdims=True))
            ours.append(float((scores.argmax(1) == tags[unseen]).mean()))
            ece.append(_calibration_error(odds / odds.sum(1, keepdims=True), tags[unseen]))
            begun = time.perf_counter()
            regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            regression.fit(x[train], tags[train])
            peer_seconds.append(time.perf_counter() - begun)
            peer.append(float(regression.score(x[unseen], tags[unseen])))
        results += [
            Result(f"{backbone}: accuracy, mean of {DRAWS}", float(np.mean(ours)), "", ACCURACY, most=False),
            Result(f"{backbone}: accuracy, worst draw", min(ours), ""),
            Result(f"{backbone}: accuracy of scikit-learn LogisticRegression", float(np.mean(peer)), ""),
            Result(f"{backbone}: expected calibration error", float(np.mean(ece)), ""),
            Result(f"{backbone}: fit", float(np.mean(ours_seconds)), "s", FIT_SECONDS),
            Result(f"{backbone}: fit of scikit-learn LogisticRegression", float(np.mean(peer_seconds)), "s"),
            Result(f"{backbone}: embedding", 1e3 * embedding, "ms/image"),
        ]
    return keep("learning_digits", results)


def _calibration_error(probabilities: NDArray[np.float64], tags: NDArray[np.int64]) -> float:
    """Expected calibration error over ten bins of equal width (Guo et al. 2017)."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == tags
    bins = np.minimum((sure * 10).astype(int), 9)
    return float(
        sum(abs(sure[bins == one].mean() - right[bins == one].mean()) * (bins == one).mean() for one in set(bins))
    )


if __name__ == "__main__":
    sys.exit(not run())
