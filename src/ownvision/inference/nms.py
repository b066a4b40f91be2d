"""From a detector's raw output to boxes: per-tag suppression, kept boxes refined by their neighbours' votes."""

import numpy as np
from numpy.typing import NDArray

from ownvision.learning.evaluate import Detections, iou

SCORE, OVERLAP, VOTE = 0.005, 0.45, 0.65
# As many as a picture may have regions; each is found by several cells.
MAX_BOXES = 300
CANDIDATES = 1_200


def suppress(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Detections:
    """Greedy non-maximum suppression per tag, with box voting (Gidaris and Komodakis 2015).

    Args:
        boxes: float32 [K, 4] left, top, width, height, relative.
        scores: float32 [K, T].

    Returns:
        At most `MAX_BOXES`, best first.
    """
    found: list[tuple[float, int, NDArray[np.float64]]] = []
    for tag in np.flatnonzero(scores.max(axis=0, initial=0.0) >= SCORE):
        column = scores[:, tag]
        order = np.argsort(-column, kind="stable")[:CANDIDATES]
        order = order[column[order] >= SCORE]
        candidates, weights = boxes[order].astype(np.float64), column[order].astype(np.float64)
        alive = np.ones(len(order), bool)
        # Best first: what comes after so many of one tag would be left out in the end.
        for _ in range(MAX_BOXES):
            if not alive.any():
                break
            index = int(np.argmax(alive))
            overlaps = iou(candidates[index : index + 1], candidates)[0]
            voters = overlaps >= VOTE
            voters[index] = True  # an empty box overlaps nothing, not even itself
            found.append(
                (float(weights[index]), int(tag), np.average(candidates[voters], axis=0, weights=weights[voters]))
            )
            alive &= overlaps < OVERLAP
            alive[index] = False
    found.sort(key=lambda one: (-one[0], one[1]))
    found = found[:MAX_BOXES]
    return Detections(
        np.array([box for _, _, box in found], np.float32).reshape(-1, 4),
        np.array([score for score, _, _ in found], np.float32),
        np.array([tag for _, tag, _ in found], np.int64),
    )
