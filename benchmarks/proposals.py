"""Region proposals on two public sets: how many marked boxes are found (IoU 0.5) among the first; beside a fixed grid.

Writes benchmarks/results/proposals.csv; needs two idle cores. Run, where the images lie elsewhere with their folder:
.venv/bin/python -m benchmarks.proposals [FOLDER]
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Result, keep
from ownvision.learning.evaluate import iou
from ownvision.learning.propose import Proposer, grid

DATA = Path("/work/shared/data")
RECALL, MILLISECONDS = 0.95, 150.0

Marked = list[tuple[bytes, NDArray[np.float32]]]


def sets(folder: Path) -> dict[str, Marked]:
    """Images and their marked boxes [R, 4], per set."""
    quickstart, fruit = folder / "quickstart" / "detection", folder / "fruit" / "detection"
    regions = json.loads((quickstart / "regions.json").read_text())
    files = json.loads((fruit / "tagged-images.json").read_text())["files"]
    return {
        "fork/scissors": [((quickstart / name).read_bytes(), _boxes(found)) for name, found in regions.items()],
        "fruit": [((fruit / "images" / one["filename"]).read_bytes(), _boxes(one["tags"])) for one in files],
    }


def _boxes(regions: list[dict[str, float]]) -> NDArray[np.float32]:
    return np.array([[one[side] for side in ("left", "top", "width", "height")] for one in regions], np.float32)


def _recall(marked: Marked, proposed: list[NDArray[np.float32]], first: int) -> float:
    best = [iou(truth, boxes[:first]).max(1) for (_, truth), boxes in zip(marked, proposed, strict=True)]
    return float((np.concatenate(best) >= 0.5).mean())


def run(folder: Path = DATA) -> bool:
    """Measure both sets; whether recall of the first five and time reach their limits."""
    propose = Proposer()
    results: list[Result] = []
    for name, marked in sets(folder).items():
        propose(marked[0][0])
        proposed, times = [], []
        for data, _ in marked:
            begun = time.perf_counter()
            proposed.append(propose(data).boxes)
            times.append(1e3 * (time.perf_counter() - begun))
        fixed = [grid()] * len(marked)
        results += [
            Result(f"{name}: recall of the first 5", _recall(marked, proposed, 5), "", RECALL, most=False),
            Result(f"{name}: recall of the first 5 of a fixed grid", _recall(marked, fixed, 5), ""),
            Result(f"{name}: recall of 25", _recall(marked, proposed, 25), ""),
            Result(f"{name}: recall of 25 of a fixed grid", _recall(marked, fixed, 25), ""),
            Result(f"{name}: decoding and proposing, median", float(np.median(times)), "ms/image", MILLISECONDS),
            Result(f"{name}: decoding and proposing, p95", float(np.percentile(times, 95)), "ms/image"),
        ]
    return keep("proposals", results)


if __name__ == "__main__":
    sys.exit(0 if run(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA) else 1)
