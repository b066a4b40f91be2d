"""Learning curves of classifiers on sets of few images, beside what a competent person would write in an afternoon.

Of every set so many images per tag are drawn to learn from, ten times or as often as is said; the rest, at most 500,
are unseen. Peers:
scikit-learn's logistic regression and nearest neighbours on the same embeddings, a random forest on raw pixels (both
standardised), and full fine-tuning of the same backbone in plain PyTorch: 20 epochs of batches of 16, AdamW, mirrored
pictures, batch norms folded (their statistics frozen). Fine-tuning takes minutes a cell, so it is run on `TUNED` draws
of the smaller cells, and compared with ours on these draws alone.

Writes benchmarks/results/learning_classification.csv and learning_classification_cells.csv (a row for each cell).
Run: .venv/bin/python -m benchmarks.learning.classification [--draws DRAWS] [--tuned DRAWS]
"""

import argparse
import csv
import hashlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.learning.pictures import SETS, Pictures
from benchmarks.results import FOLDER, Result, keep
from ownvision.domains import DOMAINS, GENERAL
from ownvision.learning import classify
from ownvision.learning.backbones import BACKBONES

SHOTS = (2, 5, 10, 20, 50)
DRAWS, TUNED, UNSEEN = 10, 1, 500
TUNED_IMAGES = 100  # a cell of more is not fine-tuned: it would take many minutes a draw
COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"
KINDS = {"compact": DOMAINS[COMPACT].backbone, "larger": DOMAINS[GENERAL].backbone}
OURS, FINE = "OwnVision", "fine-tuning"

Floats = NDArray[np.float32]
Peer = Callable[[Floats, NDArray[np.int64], Floats], Floats]


@dataclass(frozen=True)
class Said:
    """What one learner said of one draw's unseen images."""

    accuracy: float
    log_loss: float
    calibration: float
    seconds: float


@dataclass(frozen=True)
class Draw:
    """Rows to learn from and unseen ones of a set."""

    learned: NDArray[np.int64]
    unseen: NDArray[np.int64]


def draws(tags: NDArray[np.int64], shots: int, count: int) -> Iterator[Draw]:
    """Draws of so many images per tag, of a set that has three more of each."""
    for number in range(count if np.bincount(tags).min() >= shots + 3 else 0):
        order = np.random.default_rng([number, shots]).permutation(len(tags))
        learned = np.concatenate([order[tags[order] == tag][:shots] for tag in range(tags.max() + 1)])
        yield Draw(learned, order[~np.isin(order, learned)][:UNSEEN])


def regression(x: Floats, tags: NDArray[np.int64], unseen: Floats) -> Floats:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x, tags)
    return np.asarray(model.predict_proba(unseen), np.float32)


def neighbours(x: Floats, tags: NDArray[np.int64], unseen: Floats) -> Floats:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), KNeighborsClassifier(3)).fit(x, tags)
    return np.asarray(model.predict_proba(unseen), np.float32)


def forest(x: Floats, tags: NDArray[np.int64], unseen: Floats) -> Floats:
    from sklearn.ensemble import RandomForestClassifier

    return np.asarray(RandomForestClassifier(300, random_state=0).fit(x, tags).predict_proba(unseen), np.float32)


def measured(likely: Floats, tags: NDArray[np.int64], seconds: float) -> Said:
    """Accuracy, log loss, and expected calibration error in ten bins of equal width (Guo et al. 2017)."""
    sure, right = likely.max(1), likely.argmax(1) == tags
    bins = np.minimum((sure * 10).astype(int), 9)
    apart = sum(abs(sure[bins == one].mean() - right[bins == one].mean()) * (bins == one).mean() for one in set(bins))
    lost = -np.log(np.clip(likely[np.arange(len(tags)), tags], 1e-7, 1)).mean()
    return Said(float(right.mean()), float(lost), float(apart), seconds)


def raw(files: list[bytes]) -> Floats:
    """Pixels at 32 × 32."""
    small = [Image.open(io.BytesIO(one)).convert("RGB").resize((32, 32)) for one in files]
    return np.stack([np.asarray(one, np.float32).ravel() for one in small])


class Bench:
    """One set, embedded once."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures, self.tags = pictures, pictures.tags
        self.keys = [hashlib.sha256(one).digest() for one in pictures.files]
        self.x = {kind: classify.embed(pictures.files, name).astype(np.float16) for kind, name in KINDS.items()}
        self.raw = raw(pictures.files)

    def ours(self, kind: str, draw: Draw) -> tuple[Said, Floats]:
        """What the service's quick training gives, and how it sees this set's unseen pictures."""
        begun = time.perf_counter()
        labels = np.eye(self.tags.max() + 1, dtype=bool)[self.tags[draw.learned]]
        keys = [self.keys[row] for row in draw.learned]
        blocks = BACKBONES[KINDS[kind]].blocks
        fit = classify.fit(self.x[kind][draw.learned], labels, multilabel=False, keys=keys, blocks=blocks)
        seconds = time.perf_counter() - begun
        self.head = fit.head
        likely = fit.head.probabilities(self.x[kind][draw.unseen])
        return measured(likely, self.tags[draw.unseen], seconds), likely

    def peer(self, peer: Peer, x: NDArray[np.floating], draw: Draw) -> Said:
        begun = time.perf_counter()
        x = x.astype(np.float32)
        likely = peer(x[draw.learned], self.tags[draw.learned], x[draw.unseen])
        return measured(likely, self.tags[draw.unseen], time.perf_counter() - begun)

    def tuned(self, draw: Draw) -> Said:
        from benchmarks.learning.tuning import fine_tuned

        begun = time.perf_counter()
        files = [self.pictures.files[row] for row in draw.learned]
        predict = fine_tuned("efficientnet_lite0", files, self.tags[draw.learned])
        seconds = time.perf_counter() - begun
        return measured(predict([self.pictures.files[row] for row in draw.unseen]), self.tags[draw.unseen], seconds)


def strangeness(own: Floats, others: Floats) -> float:
    """AUROC of the top probability between a set's unseen pictures and another set's."""
    tops = np.concatenate([others.max(1), own.max(1)])
    order = np.unique(tops, return_inverse=True)[1]
    below = np.cumsum(np.bincount(order[: len(others)], minlength=order.max() + 1))
    equal = np.bincount(order[: len(others)], minlength=order.max() + 1)
    mine = order[len(others) :]
    return float((below[mine] - 0.5 * equal[mine]).mean() / len(others))


def run(tuned: int = TUNED, count: int = DRAWS) -> bool:
    """Measure every cell; whether ours is above all peers, nowhere far below, calibrated, and knows strangers."""
    benches = {name: Bench(make()) for name, make in SETS.items()}
    cells: dict[tuple[str, str, int], dict[str, list[Said]]] = {}
    strange: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for name, bench in benches.items():
        for shots in SHOTS:
            for number, draw in enumerate(draws(bench.tags, shots, count)):
                for kind in KINDS:
                    cell = cells.setdefault((kind, name, shots), {})
                    said, likely = bench.ours(kind, draw)
                    cell.setdefault(OURS, []).append(said)
                    for peer in (regression, neighbours):
                        cell.setdefault(peer.__name__, []).append(bench.peer(peer, bench.x[kind], draw))
                    if shots >= 5 and number < 3:
                        for other in benches.values():
                            if other is not bench:
                                theirs = bench.head.probabilities(other.x[kind][:: max(len(other.tags) // 50, 1)])
                                strange[kind].append(strangeness(likely, theirs))
                cell = cells["compact", name, shots]
                cell.setdefault("forest", []).append(bench.peer(forest, bench.raw, draw))
                if number < tuned and len(draw.learned) <= TUNED_IMAGES:
                    cell.setdefault(FINE, []).append(bench.tuned(draw))
            for kind in KINDS:
                if (kind, name, shots) in cells:
                    _show(kind, name, shots, cells[kind, name, shots])
    _keep_cells(cells)
    return keep("learning_classification", [one for kind in KINDS for one in _results(kind, cells, strange[kind])])


def _results(
    kind: str, cells: dict[tuple[str, str, int], dict[str, list[Said]]], strange: list[float]
) -> Iterator[Result]:
    mine = {key[1:]: cell for key, cell in cells.items() if key[0] == kind}
    ours = {key: _mean(cell[OURS]) for key, cell in mine.items()}
    count = len(next(iter(mine.values()))[OURS])
    yield Result(
        f"{kind}: accuracy, mean of {len(mine)} cells of {count} draws",
        _over([one.accuracy for one in ours.values()]),
        "",
    )
    for peer in dict.fromkeys(name for cell in mine.values() for name in cell if name != OURS):
        met = {key: cell for key, cell in mine.items() if peer in cell}
        # On the same draws.
        pairs = [(_mean(cell[OURS][: len(cell[peer])]), _mean(cell[peer])) for cell in met.values()]
        above = _over([a.accuracy - b.accuracy for a, b in pairs])
        least = min(a.accuracy - b.accuracy for a, b in pairs)
        yield Result(f"{kind}: points above {peer}, mean of {len(met)} cells", 100 * above, "points", 0.0, most=False)
        yield Result(f"{kind}: points above {peer}, worst cell", 100 * least, "points", -3.0, most=False)
        small = [(a, b) for (_, shots), (a, b) in zip(met, pairs, strict=True) if shots <= 20]
        lost = _over([a.log_loss - b.log_loss for a, b in small])
        yield Result(f"{kind}: log loss less {peer}'s, mean of {len(small)} cells up to 20", lost, "", 0.0)
        if peer == FINE:
            share = max(a.seconds / b.seconds for a, b in pairs)
            yield Result(f"{kind}: time of the fit beside {peer}'s, worst cell", share, "", 0.05)
    calibration = [one.calibration for (_, shots), one in ours.items() if shots >= 20]
    yield Result(f"{kind}: expected calibration error, 20 and more per tag", _over(calibration), "", 0.05)
    yield Result(f"{kind}: AUROC between unseen and another set's pictures", _over(strange), "", 0.95, most=False)
    yield Result(f"{kind}: the same, worst pair of sets and draw", min(strange), "")
    yield Result(f"{kind}: fit, worst cell", max(one.seconds for one in ours.values()), "s")


def _mean(said: list[Said]) -> Said:
    return Said(*np.mean([[one.accuracy, one.log_loss, one.calibration, one.seconds] for one in said], axis=0).tolist())


def _over(numbers: list[float]) -> float:
    return float(np.mean(numbers))


def _show(kind: str, name: str, shots: int, cell: dict[str, list[Said]]) -> None:
    means = {learner: _mean(said) for learner, said in cell.items()}
    shown = "  ".join(f"{learner} {100 * one.accuracy:5.1f} ({one.log_loss:.2f})" for learner, one in means.items())
    print(f"{kind:8} {name:18} {shots:3}  {shown}", flush=True)


def _keep_cells(cells: dict[tuple[str, str, int], dict[str, list[Said]]]) -> None:
    with (FOLDER / "learning_classification_cells.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["domain", "set", "per tag", "learner", "draws", "accuracy", "log loss", "ece", "seconds"])
        for (kind, name, shots), cell in cells.items():
            for learner, said in cell.items():
                one = _mean(said)
                numbers = [f"{value:.4f}" for value in (one.accuracy, one.log_loss, one.calibration, one.seconds)]
                writer.writerow([kind, name, shots, learner, len(said), *numbers])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tuned", type=int, default=TUNED)
    parser.add_argument("--draws", type=int, default=DRAWS)
    given = parser.parse_args()
    sys.exit(not run(given.tuned, given.draws))
