"""Region proposals without training: where in a picture something could be, whatever it is.

A picture is cut into regions several times over, because no single cut is right (Russell et al. 2006; Malisiewicz and
Efros 2007; Uijlings et al. 2013, selective search). Here it is a grid of a pre-trained backbone's features and of
colours that is cut: by k-means with several k, and by thresholds on how unlike the picture's border each cell is (the
border is mostly background: Wei et al. 2012). Every connected region is a candidate, and so is all that lies above a
threshold. What makes one an object (Alexe et al. 2010): it differs from what surrounds it (Itti et al. 1998), little
of its outline is the picture's border (Zhu et al. 2014), several cuts agree on it (Matas et al. 2002), it is large.
"""

import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ownvision.learning import device, pixels
from ownvision.learning.backbones.efficientnet_lite import network, stages
from ownvision.learning.evaluate import iou
from ownvision.learning.graph import Graph, metadata

if TYPE_CHECKING:
    import onnxruntime

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

COUNT = 25
BACKBONE = "efficientnet_lite0"
INPUT = 320  # pixels, side of the network's input
SIDE = 40  # cells, side of the grid
# Stages of the backbone and their strides: parts and patterns, and what belongs together.
_TAPS = ((2, 8), (4, 16))
# Few enough that a product with the centres is one that OpenBLAS leaves to one thread (below 2^18 multiplications):
# its threads spin while they wait for each other, which on busy cores has made a picture take a second.
_DIMENSIONS = 16
_CLUSTERS = (2, 3, 4, 5, 6, 8)
_ROUNDS = 10
_LEVELS = 8
_CUTS = len(_CLUSTERS) + _LEVELS
# How many cells of the border a cell may resemble to count as background: an eighth of them.
_NEAREST = (4 * SIDE - 4) // 8
_SMALLEST, _LARGEST = 5, 0.9 * SIDE * SIDE  # cells of a candidate
# Overlap from which two cuts agree on a region, and from which a better box suppresses another.
_AGREE, _SUPPRESS = 0.75, 0.5
# Confidence is the weighted geometric mean of contrast, share of the outline within the picture, size and agreement.
_WEIGHTS = np.array([4, 8, 2, 1]) / 15
# Distance of CIELAB colours that is just noticeable (Mahy et al. 1994).
_NOTICEABLE = 2.3


@dataclass(frozen=True)
class Proposals:
    """Regions of one picture, best first.

    Attributes:
        boxes: float32 [25, 4] left, top, width, height, relative to the upright picture and within it.
        confidences: float32 [25], 0 to 1, descending; 0 where a box of the fixed `grid` fills up the number.
    """

    boxes: Floats
    confidences: Floats


class Proposer:
    """The backbone in onnxruntime and what is done with its features; safe to use from several threads.

    Args:
        threads: Of one run of the network, as of `device.threads`.
    """

    def __init__(self, threads: int = 0) -> None:
        self._session = _session(threads)

    def __call__(self, data: bytes) -> Proposals:
        """Regions of one encoded picture; the same picture gives the same regions.

        Raises:
            pixels.BadImage: It can't be decoded.
        """
        rgb = pixels.load(data, INPUT, INPUT)
        colours = _colours(rgb)
        if np.linalg.norm(colours - colours.mean(0), axis=1).max() < _NOTICEABLE:
            return Proposals(grid(), np.zeros(COUNT, np.float32))
        return _rank(_principal(np.concatenate([_scaled(part) for part in (colours, *self._maps(rgb))], axis=1)))

    def _maps(self, rgb: NDArray[np.uint8]) -> list[Floats]:
        planes = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32)
        maps = self._session.run(None, {"image": planes})
        return [_cells(one[0]) for one in maps]


_LOCK = threading.Lock()
_proposer = functools.lru_cache(maxsize=1)(Proposer)


def propose(data: bytes, threads: int = 0) -> Proposals:
    """Regions of one encoded picture, with a `Proposer` that is made once; safe to use from several threads.

    Args:
        data: A file.
        threads: As of `Proposer`.

    Raises:
        pixels.BadImage: It can't be decoded.
    """
    with _LOCK:
        proposer = _proposer(threads)
    return proposer(data)


def grid() -> Floats:
    """25 boxes that cover any picture, float32 [25, 4]: 9 of different sides in its middle, 4 × 4 of half its sides."""
    sides, starts = (0.85, 0.6, 0.4), np.linspace(0, 0.5, 4)
    middle = [((1 - width) / 2, (1 - height) / 2, width, height) for width in sides for height in sides]
    return np.array(middle + [(left, top, 0.5, 0.5) for top in starts for left in starts], np.float32)


def _session(threads: int) -> "onnxruntime.InferenceSession":
    graph = Graph()
    maps, _ = stages(graph, BACKBONE, network(BACKBONE), "image", INPUT)
    outputs: list[tuple[str, list[int | str]]] = [
        (graph.node("Identity", [maps[stage]], f"stage_{stage}"), ["N", "C", INPUT // stride, INPUT // stride])
        for stage, stride in _TAPS
    ]
    about = metadata("features", [], BACKBONE, (INPUT, INPUT))
    file = graph.model(input_size=(INPUT, INPUT), outputs=outputs, metadata=about)
    return device.session(file, threads)


def _cells(features: Floats) -> Floats:
    """A map [C, H, H] interpolated to the grid: [S·S, C]."""
    weights = _interpolation(features.shape[1])
    across = features @ weights.T
    return np.ascontiguousarray((weights @ across).reshape(len(features), -1).T)


@functools.cache
def _interpolation(size: int) -> Floats:
    """Bilinear weights [S, size]."""
    places = ((np.arange(SIDE) + 0.5) * size / SIDE - 0.5).clip(0, size - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size))), np.float32)


def _colours(rgb: NDArray[np.uint8]) -> Floats:
    """Mean colours of the cells in CIELAB (D65), in which distances are as people see them: [S·S, 3]."""
    size = INPUT // SIDE
    means = rgb.reshape(SIDE, size, SIDE, size, 3).mean((1, 3), dtype=np.float32).reshape(-1, 3) / 255
    linear = np.where(means <= 0.04045, means / 12.92, ((means + 0.055) / 1.055) ** 2.4)
    # CIE XYZ from linear sRGB (IEC 61966-2-1), each relative to white.
    xyz = linear @ np.array([[0.4339, 0.2126, 0.0178], [0.3762, 0.7152, 0.1095], [0.1899, 0.0722, 0.8727]], np.float32)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1).astype(np.float32)


def _deviation(x: Floats) -> float:
    return float(np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean()))


def _scaled(x: Floats) -> Floats:
    """Centred, of unit deviation over all columns: so each kind of feature has the same say."""
    return np.asarray((x - x.mean(0)) / (_deviation(x) + 1e-6), np.float32)


def _principal(x: Floats) -> Floats:
    """The directions in which centred features [S·S, D] differ most: [S·S, _DIMENSIONS]."""
    _, directions = np.linalg.eigh(x.T @ x)
    return np.ascontiguousarray(x @ directions[:, -_DIMENSIONS:])


def _rank(x: Floats) -> Proposals:
    """From features [S·S, D] to the best boxes."""
    masks, found = _candidates(x)
    boxes = _boxes(masks)
    overlaps = iou(boxes, boxes)
    agreement = ((overlaps >= _AGREE) @ found).clip(max=_CUTS) / _CUTS
    cues = [_contrast(x, masks, boxes), 1 - _border_share(masks), masks.mean((1, 2)), agreement]
    scores = np.prod(np.stack(cues, axis=1) ** _WEIGHTS, axis=1)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if len(kept) < COUNT and not (overlaps[index, kept] >= _SUPPRESS).any():
            kept.append(int(index))
    confidences = np.zeros(COUNT, np.float32)
    confidences[: len(kept)] = scores[kept]
    return Proposals(np.concatenate([boxes[kept], grid()])[:COUNT].astype(np.float32), confidences)


def _candidates(x: Floats) -> tuple[Bools, Ints]:
    """Regions as masks [K, S, S], and how many cuts found exactly this one [K]."""
    regions: dict[bytes, int] = {}
    for mask in _regions(x):
        if _SMALLEST <= np.count_nonzero(mask) <= _LARGEST:
            key = mask.tobytes()
            regions[key] = regions.get(key, 0) + 1
    masks = np.frombuffer(b"".join(regions), np.bool_).reshape(-1, SIDE, SIDE)
    return masks, np.array(list(regions.values()), np.int64)


def _regions(x: Floats) -> Iterator[Bools]:
    seeds = _seeds(x)
    for k in _CLUSTERS:
        yield from _connected(_clusters(x, seeds[:k]).reshape(SIDE, SIDE))
    distance = _border_distance(x)
    for level in np.linspace(distance.min(), distance.max(), _LEVELS + 2)[1:-1]:
        above = (distance > level).reshape(SIDE, SIDE)
        yield above
        yield from (region for region in _connected(above) if (region & above).any())


def _seeds(x: Floats) -> Floats:
    """The most typical cell, then always the one farthest from all before (Gonzalez 1985): [max(k), D]."""
    chosen = [int((x**2).sum(1).argmin())]
    nearest = np.full(len(x), np.inf, np.float32)
    while len(chosen) < max(_CLUSTERS):
        nearest = np.minimum(nearest, ((x - x[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(nearest.argmax()))
    return x[chosen]


def _clusters(x: Floats, centres: Floats) -> Ints:
    """k-means (Lloyd 1982) from centres [k, D]: labels [S·S]."""
    for _ in range(_ROUNDS):
        members = np.eye(len(centres), dtype=np.float32)[_nearest(x, centres)]
        counts = members.sum(0)[:, None]
        centres = np.where(counts > 0, (members.T @ x) / np.maximum(counts, 1), centres)
    return _nearest(x, centres)


def _nearest(x: Floats, centres: Floats) -> Ints:
    return np.asarray((x @ centres.T - (centres**2).sum(1) / 2).argmax(1))


def _border_distance(x: Floats) -> Floats:
    """How far each cell is from the cells of the border that it resembles most: [S·S]."""
    frame = np.ones((SIDE, SIDE), np.bool_)
    frame[1:-1, 1:-1] = False
    border = x[frame.ravel()]
    distances = (x**2).sum(1)[:, None] + (border**2).sum(1) - 2 * x @ border.T
    nearest = np.partition(distances, _NEAREST, axis=1)[:, :_NEAREST]
    return np.asarray(np.sqrt(np.maximum(nearest, 0).mean(1)), np.float32)


def _connected(labels: NDArray[np.int64] | Bools) -> Iterator[Bools]:
    """Connected regions of equal label of a grid [S, S], but for tiny ones: each cell takes the least index around."""
    down, right = labels[1:] == labels[:-1], labels[:, 1:] == labels[:, :-1]
    roots = np.arange(labels.size).reshape(labels.shape)
    while True:
        lower = roots.copy()
        lower[1:][down] = np.minimum(lower[1:], roots[:-1])[down]
        lower[:-1][down] = np.minimum(lower[:-1], roots[1:])[down]
        lower[:, 1:][right] = np.minimum(lower[:, 1:], roots[:, :-1])[right]
        lower[:, :-1][right] = np.minimum(lower[:, :-1], roots[:, 1:])[right]
        lower = lower.ravel()[lower]
        if (lower == roots).all():
            break
        roots = lower
    for root in np.flatnonzero(np.bincount(roots.ravel()) >= _SMALLEST):
        yield roots == root


def _boxes(masks: Bools) -> Floats:
    """Bounding boxes [K, 4] of masks [K, S, S], left, top, width, height, relative."""
    sides = []
    for axis in (1, 2):
        some = np.asarray(masks.any(axis))
        start, end = some.argmax(1), SIDE - some[:, ::-1].argmax(1)
        sides.append((start, end - start))
    (left, width), (top, height) = sides
    return np.asarray(np.stack([left, top, width, height], axis=1) / SIDE, np.float32)


def _border_share(masks: Bools) -> Floats:
    """How much of each region's outline is the picture's border: [K], 0 to 1."""
    inner = np.diff(masks, axis=1).sum((1, 2)) + np.diff(masks, axis=2).sum((1, 2))
    border = sum(edge.sum(1) for edge in (masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]))
    return np.asarray(border / (inner + border), np.float32)


def _contrast(x: Floats, masks: Bools, boxes: Floats) -> Floats:
    """How well each region is told from its surroundings: [K], 0 to 1.

    Of the features' variance within the region's box, widened by half of its sides, the part between region and
    surroundings (Fisher's correlation ratio, as Otsu 1979 maximises it).
    """
    start = np.floor((boxes[:, :2] - boxes[:, 2:] / 2) * SIDE)
    end = np.ceil((boxes[:, :2] + boxes[:, 2:] * 1.5) * SIDE)
    cell = np.arange(SIDE)
    across, down = ((start[:, axis, None] <= cell) & (cell < end[:, axis, None]) for axis in (0, 1))
    windows = (down[:, :, None] & across[:, None, :]).reshape(-1, SIDE * SIDE).astype(np.float32)
    inside = masks.reshape(-1, SIDE * SIDE).astype(np.float32)
    values = np.concatenate([np.ones((len(x), 1), np.float32), x, (x**2).sum(1, keepdims=True)], axis=1)
    region, window = inside @ values, windows @ values
    between = _concentrated(region) + _concentrated(window - region) - _concentrated(window)
    total = window[:, -1] - _concentrated(window)
    return np.asarray(np.clip(between / np.maximum(total, 1e-6), 0, 1), np.float32)


def _concentrated(sums: Floats) -> Floats:
    """Squared sum of the features over their count: of rows count, sums, sum of squares."""
    return np.asarray((sums[:, 1:-1] ** 2).sum(1) / np.maximum(sums[:, 0], 1), np.float32)
