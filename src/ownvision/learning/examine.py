"""What is wrong with a training set: copies, doubtful labels, thin tags, absurd boxes. Arrays in, ranked doubts out."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ownvision.learning.evaluate import iou

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

# Cosine of the finest maps' means, centred. Photographs and digits saved again with quality 50, at half the size or
# without their outer 2 % keep 0.96 and more of their originals; the nearest different pictures of the same kind reach
# 0.91 to 0.96 (trial of 24 to 400 pictures each; the later layers tell copies from neighbours far worse).
ALIKE = 0.96
# A copy is also nearer than others are around there: a third as far as the fifth nearest, or the nearest twentieth.
_NEARER, _AROUND, _SHARE = 0.33, 5, 20
_SAMPLE = 1_000
_PRINCIPAL = 64
# EfficientNet-Lite's first two stages have 16 and 24 channels, on a grid of 4 × 4 (`graph._features`).
_FINEST = (16 + 24) * 16
_BLOCK = 1_024
_UNBALANCED = 10.0
_FEW = 15
_SMALL_SIDE, _LARGE_AREA, _THIN = 0.01, 0.95, 15.0
_SAME_BOX, _SAME_OBJECT = 0.9, 0.8


@dataclass(frozen=True)
class Pair:
    """Two images that are one picture.

    Attributes:
        first: Position of one.
        second: Position of the other, greater.
        similarity: 0 to 1; 1 of identical bytes.
    """

    first: int
    second: int
    similarity: float


@dataclass(frozen=True)
class Doubt:
    """A label that the other images speak against.

    Attributes:
        row: Position of the image.
        given: Position of the tag it carries; None where one seems to be missing.
        likely: Position of the tag that it seems to be; None where the given one only seems wrong.
        score: How sure, 0 to 1.
    """

    row: int
    given: int | None
    likely: int | None
    score: float


@dataclass(frozen=True)
class Thin:
    """A tag with few images.

    Attributes:
        tag: Its position.
        images: How many carry it.
        kind: ``tiny``: too few to learn from well; ``unbalanced``: far fewer than others have.
        most: How many the largest tag has.
    """

    tag: int
    images: int
    kind: str
    most: int


@dataclass(frozen=True)
class OddBox:
    """A box that can hardly be meant.

    Attributes:
        row: Position of the image.
        kind: ``outside``, ``small``, ``large``, ``thin``, ``twice`` (the same box and tag again) or ``two tags``.
        boxes: Positions within the image's boxes: the box, and the other of two.
    """

    row: int
    kind: str
    boxes: tuple[int, ...]


def exact_copies(keys: Sequence[bytes]) -> list[Pair]:
    """Images of identical bytes, each paired with the first of them.

    Args:
        keys: The images' SHA-256.
    """
    seen: dict[bytes, int] = {}
    pairs = []
    for row, key in enumerate(keys):
        first = seen.setdefault(key, row)
        if first != row:
            pairs.append(Pair(first, row, 1.0))
    return pairs


def finest(embeddings: NDArray[np.floating], blocks: Sequence[int]) -> NDArray[np.floating]:
    """The features that tell copies best: of the two finest maps, where the early layers' are apart (`Backbone`)."""
    return embeddings[:, : min(_FINEST, blocks[0])] if len(blocks) == 2 else embeddings


def near_copies(features: NDArray[np.floating], least: float = ALIKE, most: int = 10_000) -> list[Pair]:
    """Pairs of images that look like one picture saved twice, most alike first.

    All pairs are compared in blocks, first in the 64 directions that differ most: a distance there is never greater
    than the whole one, so that nothing is missed. 100,000 images take 30 MB beside the features.

    Args:
        features: float16 or float32 [N, D], as of `finest`.
        least: Least cosine of the centred features.
        most: How many pairs at most.
    """
    count = len(features)
    if count < 2:
        return []
    center = _mean(features)
    directions = _directions(features, center)
    short = np.concatenate([unit @ directions for unit in _units(features, center)])
    half = 0.5 * (short**2).sum(1, keepdims=True)
    left = np.concatenate([short, half, np.ones_like(half)], axis=1)
    right = np.concatenate([short, -np.ones_like(half), -half], axis=1)
    bound = least - 1 - 1e-4  # products are minus half the squared distance
    pairs: list[tuple[float, int, int]] = []
    for start in range(0, count, _BLOCK):
        for other in range(start, count, _BLOCK):
            products = left[start : start + _BLOCK] @ right[other : other + _BLOCK].T
            rows, columns = np.nonzero(products >= bound)
            keep = rows + start < columns + other
            pairs += _compared(features, center, rows[keep] + start, columns[keep] + other, least)
            if len(pairs) > 4 * most:
                pairs = sorted(pairs, reverse=True)[:most]
    ranked = sorted((-similarity, i, j) for similarity, i, j in _nearer_than_others(features, center, pairs))[:most]
    return [Pair(i, j, min(-similarity, 1.0)) for similarity, i, j in ranked]


def _mean(features: NDArray[np.floating]) -> Floats:
    total = np.zeros(features.shape[1])
    for start in range(0, len(features), _BLOCK):
        total += features[start : start + _BLOCK].astype(np.float32).sum(0, dtype=np.float64)
    return (total / len(features)).astype(np.float32)


def _unit(x: NDArray[np.floating]) -> Floats:
    return np.asarray(x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-9), np.float32)


def _units(features: NDArray[np.floating], center: Floats) -> Iterator[Floats]:
    for start in range(0, len(features), _BLOCK):
        yield _unit(features[start : start + _BLOCK].astype(np.float32) - center)


def _directions(features: NDArray[np.floating], center: Floats) -> Floats:
    """The principal directions of the unit vectors: [D, 64] at most."""
    products = np.zeros((features.shape[1],) * 2, np.float32)
    for unit in _units(features, center):
        products += unit.T @ unit
    _, vectors = np.linalg.eigh(products)
    return np.ascontiguousarray(vectors[:, -_PRINCIPAL:], np.float32)


def _compared(
    features: NDArray[np.floating], center: Floats, rows: Ints, columns: Ints, least: float
) -> list[tuple[float, int, int]]:
    found = []
    for start in range(0, len(rows), _BLOCK):
        a, b = rows[start : start + _BLOCK], columns[start : start + _BLOCK]
        x, y = (_unit(features[index].astype(np.float32) - center) for index in (a, b))
        similarity = (x * y).sum(1)
        for index in np.flatnonzero(similarity >= least):
            found.append((float(similarity[index]), int(a[index]), int(b[index])))
    return found


def _nearer_than_others(
    features: NDArray[np.floating], center: Floats, pairs: list[tuple[float, int, int]]
) -> list[tuple[float, int, int]]:
    """Where all pictures are alike, only those that are far more so than their neighbours are copies."""
    sample = np.random.default_rng(1).permutation(len(features))[:_SAMPLE]
    place = max(_AROUND, len(sample) // _SHARE)
    if not pairs or len(sample) <= place + 1:
        return pairs
    others = _unit(features[sample].astype(np.float32) - center)
    around: dict[int, float] = {}
    involved = np.unique([row for pair in pairs for row in pair[1:]])
    for start in range(0, len(involved), _BLOCK):
        rows = involved[start : start + _BLOCK]
        products = _unit(features[rows].astype(np.float32) - center) @ others.T
        # Itself may be in the sample: one place further.
        around.update(zip(rows.tolist(), (-np.partition(-products, place, axis=1)[:, place]).tolist(), strict=True))
    return [pair for pair in pairs if 1 - pair[0] <= _NEARER * (1 - min(around[pair[1]], around[pair[2]]))]


def mislabelled(probabilities: NDArray[np.floating], labels: Bools, *, multilabel: bool) -> list[Doubt]:
    """Labels that out-of-fold probabilities speak against, surest first.

    One tag per image: confident learning's off-diagonal entries, ranked by normalised margin (Northcutt, Jiang and
    Chuang 2021, arXiv:1911.00068). Several: each pair of image and tag by itself, ranked by self-confidence.

    Args:
        probabilities: [N, T], of models that never saw the image.
        labels: bool [N, T].
        multilabel: Whether an image may carry several.
    """
    p = np.asarray(probabilities, np.float64)
    # How sure the models are of a tag where it is given: what counts as sure follows from that, tag by tag.
    given = np.where(labels, p, 0).sum(0) / np.maximum(labels.sum(0), 1)
    doubts = _pairs_in_doubt(p, labels, given) if multilabel else _images_in_doubt(p, labels, given)
    return sorted(doubts, key=lambda doubt: (-doubt.score, doubt.row))


def _images_in_doubt(p: NDArray[np.float64], labels: Bools, usual: NDArray[np.float64]) -> list[Doubt]:
    own = labels.argmax(1)
    others = np.where(labels, -1.0, p)
    likely = others.argmax(1)
    rows = np.arange(len(p))
    margin = others[rows, likely] - p[rows, own]
    sure = (margin > 0) & (p[rows, likely] >= np.minimum(usual[likely], 0.95))
    # Those that another tag merely outweighs come after those that it is sure of.
    score = np.where(sure, 0.5 + margin / 2, margin / 2)
    return [Doubt(int(row), int(own[row]), int(likely[row]), float(score[row])) for row in np.flatnonzero(margin > 0)]


def _pairs_in_doubt(p: NDArray[np.float64], labels: Bools, usual: NDArray[np.float64]) -> list[Doubt]:
    absent = np.where(labels, 0, p).sum(0) / np.maximum((~labels).sum(0), 1)
    wrong = labels & (p <= np.maximum(absent, 0.05)) & (p < 0.5)
    missing = ~labels & (p >= np.minimum(usual, 0.95)) & (p > 0.5)
    doubts = [Doubt(int(row), int(tag), None, float(1 - p[row, tag])) for row, tag in np.argwhere(wrong)]
    return doubts + [Doubt(int(row), None, int(tag), float(p[row, tag])) for row, tag in np.argwhere(missing)]


def thin_tags(labels: Bools, few: int = _FEW) -> list[Thin]:
    """Tags with fewer images than `few`, or than a tenth of the largest tag's, thinnest first.

    Args:
        labels: bool [N, T].
        few: How many a tag should have.
    """
    counts = labels.sum(0)
    most = int(counts.max(initial=0))
    found = []
    for tag in np.argsort(counts, kind="stable"):
        if counts[tag] < few:
            found.append(Thin(int(tag), int(counts[tag]), "tiny", most))
        elif counts[tag] * _UNBALANCED < most:
            found.append(Thin(int(tag), int(counts[tag]), "unbalanced", most))
    return found


def odd_boxes(images: Sequence[tuple[NDArray[np.floating], Ints]]) -> list[OddBox]:
    """Boxes that can hardly be meant, worst kind first.

    Args:
        images: Of each image boxes [K, 4] left, top, width, height, relative to the picture, and tags int [K].
    """
    found: dict[str, list[OddBox]] = defaultdict(list)
    for row, (given, tags) in enumerate(images):
        boxes = np.asarray(given, np.float64).reshape(-1, 4)
        for index, box in enumerate(boxes):
            kind = _oddity(box)
            if kind:
                found[kind].append(OddBox(row, kind, (index,)))
        overlaps = iou(boxes, boxes)
        for i, j in np.argwhere(np.triu(overlaps, 1) >= _SAME_OBJECT).tolist():
            if tags[i] != tags[j]:
                found["two tags"].append(OddBox(row, "two tags", (i, j)))
            elif overlaps[i, j] >= _SAME_BOX:
                found["twice"].append(OddBox(row, "twice", (i, j)))
    return [one for kind in ODDITIES for one in found[kind]]


ODDITIES = ("outside", "two tags", "twice", "small", "thin", "large")


def _oddity(box: NDArray[np.float64]) -> str:
    left, top, width, height = box
    if width <= 0 or height <= 0 or min(left, top) < -1e-3 or left + width > 1.001 or top + height > 1.001:
        return "outside"
    if min(width, height) < _SMALL_SIDE:
        return "thin" if max(width, height) > _THIN * min(width, height) else "small"
    if max(width, height) > _THIN * min(width, height):
        return "thin"
    return "large" if width * height > _LARGE_AREA else ""
