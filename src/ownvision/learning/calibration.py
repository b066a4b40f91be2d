"""Scores into probabilities: a temperature (Guo et al. 2017), or a slope and an offset per tag (Platt 1999)."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def probabilities(scores: Floats, multilabel: bool) -> Floats:
    """float32 [N, T] of scores [N, T]: each by itself with `multilabel`, else rows that sum to one."""
    if multilabel:
        odds: Floats = np.exp(-np.clip(scores, -50, 50)).astype(np.float32)
        likely: Floats = 1.0 / (1.0 + odds)
        return likely
    shifted: Floats = np.exp(scores - scores.max(1, keepdims=True)).astype(np.float32)
    shares: Floats = shifted / shifted.sum(1, keepdims=True)
    return shares


def log_loss(likely: Floats, y: Bools, known: Bools, multilabel: bool) -> float:
    """Mean negative logarithm of what was given to the truth, over what is known of it."""
    p = np.clip(likely.astype(np.float64), 1e-7, 1 - 1e-7)
    if multilabel:
        return float(-np.where(y, np.log(p), np.log1p(-p))[known].mean())
    return float(-np.log(p[y]).mean())


def calibrate(scores: Floats, y: Bools, known: Bools, multilabel: bool) -> tuple[float, Floats]:
    """Slope, and per tag an offset [T], for the least log loss; the offsets are drawn to 0 where data is thin."""
    if not multilabel:
        return _temperature(scores, y), np.zeros(y.shape[1], np.float32)
    slope, offset = 1.0, np.zeros(y.shape[1])
    s, target, weight = scores.astype(np.float64), y.astype(np.float64), known.astype(np.float64)
    scale = np.abs(s).mean() + 1e-9
    s = s / scale
    slope = min(scale, 1.0)
    for _ in range(50):  # Newton, tags share the slope
        p = 1 / (1 + np.exp(-np.clip(s * slope + offset, -50, 50)))
        error, curve = weight * (p - target), weight * p * (1 - p) + 1e-9
        gradient = np.append((error * s).sum() + 0.01 * slope, error.sum(0) + offset)
        hessian = np.diag(np.append((curve * s * s).sum() + 0.01, curve.sum(0) + 1.0))
        hessian[0, 1:] = hessian[1:, 0] = (curve * s).sum(0)
        step = np.linalg.solve(hessian, gradient)
        step /= max(1.0, np.abs(step).max() / 2.0)
        slope, offset = slope - step[0], offset - step[1:]
        if np.abs(step).max() < 1e-6:
            break
    return float(max(slope, 1e-6) / scale), offset.astype(np.float32)


def cross_calibrated(scores: Floats, y: Bools, known: Bools, folds: NDArray[np.int64], multilabel: bool) -> Floats:
    """Probabilities [N, T] of each fold, calibrated on the other folds."""
    likely = np.zeros_like(scores)
    for number in range(int(folds.max()) + 1):
        held_out = folds == number
        slope, offset = calibrate(scores[~held_out], y[~held_out], known[~held_out], multilabel)
        likely[held_out] = probabilities(scores[held_out] * slope + offset, multilabel)
    return likely


def _temperature(scores: Floats, y: Bools) -> float:
    """The slope of least log loss: Newton's method, kept in a bracket."""
    z = scores.astype(np.float64)
    z -= z.max(1, keepdims=True)
    wanted, size = float(z[y].mean()), float(np.abs(scores).mean())
    low, high, slope = 1e-3, 30.0, 1.0
    for _ in range(40):
        odds = np.exp(z * slope)
        odds /= odds.sum(1, keepdims=True)
        mean = (odds * z).sum(1)
        # One image's worth of doubt: on a set told apart perfectly the best slope would be infinite.
        doubt = size / (1 + slope * size) / (4 * len(y))
        gradient = float(mean.mean()) - wanted + doubt
        curve = float(((odds * z * z).sum(1) - mean * mean).mean()) - 4 * len(y) * doubt * doubt
        low, high = (low, slope) if gradient > 0 else (slope, high)
        step = slope - gradient / curve if curve > 0 else 0.0
        following = step if low < step < high else float(np.sqrt(low * high))
        if abs(following - slope) <= 1e-5 * slope:
            break
        slope = following
    return slope
