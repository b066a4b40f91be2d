"""How unsure a prediction is: the entropy of its probabilities, in bits (Shannon 1948; Settles 2009 on its use)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LEAST = 1e-12


def of_classes(probabilities: ArrayLike, *, exclusive: bool) -> float:
    """Entropy of one image's classification.

    Args:
        probabilities: [T], 0 to 1.
        exclusive: Whether they sum to one; otherwise each tag is a question of its own, and their entropies add up.

    Returns:
        Bits, 0 and more.
    """
    return float(of_each(np.asarray(probabilities)[None], exclusive=exclusive)[0])


def of_each(probabilities: ArrayLike, *, exclusive: bool) -> NDArray[np.float64]:
    """`of_classes` of many images: [N, T] → [N]."""
    p = _inside(probabilities)
    entropy: NDArray[np.float64] = -(p * np.log2(p)).sum(1) if exclusive else _binary(p).sum(1)
    return entropy


def of_boxes(probabilities: ArrayLike) -> float:
    """Entropy of one image's boxes: of the most doubtful one, 0 to 1 bit; 0 where there is none.

    Args:
        probabilities: [K], 0 to 1.
    """
    return float(_binary(_inside(probabilities)).max(initial=0.0))


def _inside(probabilities: ArrayLike) -> NDArray[np.float64]:
    return np.clip(np.asarray(probabilities, np.float64), _LEAST, 1 - _LEAST)


def _binary(p: NDArray[np.float64]) -> NDArray[np.float64]:
    entropy: NDArray[np.float64] = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return entropy
