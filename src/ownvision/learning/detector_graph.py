"""A detector as an ONNX graph, from trained numbers: torch only trains them.

Backbone, a feature pyramid on strides 8, 16 and 32 (Lin et al. 2017, arXiv:1612.03144) and an anchor-free head that
gives every cell a score per tag and its distances to a box's four edges (Tian et al. 2019, FCOS, arXiv:1904.01355).
The first stages of the backbone keep their packaged numbers; they are a graph of their own, too: while training,
onnxruntime runs them, nearly twice as fast as torch does.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ownvision.learning.backbones import BACKBONES
from ownvision.learning.backbones.efficientnet_lite import Convolution, Network, network
from ownvision.learning.graph import Graph, metadata
from ownvision.learning.tiling import KEY, Tiling

Floats = NDArray[np.float32]

STRIDES = (8, 16, 32)
# Last stages of the backbone at these strides, and the first stage that is trained.
TAPS, FIRST_TRAINED_STAGE = (2, 4, 6), 3
TOWERS, DEPTH = ("score", "edge"), 2
# exp(5) strides is beyond any input: what lies above comes from a broken fit and would overflow.
LARGEST_LOG_DISTANCE = 5.0


def detector(
    weights: Mapping[str, Floats],
    *,
    backbone: str,
    input_size: int,
    tag_ids: Sequence[str],
    tiling: Tiling | None = None,
) -> bytes:
    """The whole detector before suppression.

    Args:
        weights: Folded convolutions, each ``<name>.weight`` [out, in / groups, k, k] and ``<name>.bias`` [out]:
            ``backbone.<block>.<place>`` for the trained stages, ``lateral.<level>``, ``smooth.<level>.<part>``,
            ``tower.<tower>.<level>.<depth>.<part>``, ``head.score.<level>`` and ``head.edge.<level>``, where part is
            ``depthwise`` or ``pointwise``.
        backbone: A name of `BACKBONES`.
        input_size: Side of the square input in pixels, a multiple of 32.
        tag_ids: One per column of the scores.
        tiling: How pictures are to be looked at; None for once, whole.

    Returns:
        The file. Input `image` [N, 3, S, S] float32, RGB 0 to 255; outputs `boxes` [N, K, 4] left, top, width,
        height relative to the picture and within it, and `scores` [N, K, T], each 0 to 1.

    Raises:
        ValueError: The input size is not a multiple of 32.
        KeyError: A convolution is missing.
    """
    _check(input_size)
    graph, net = Graph(), network(backbone)
    maps = _backbone(graph, backbone, net, weights)
    levels = _pyramid(graph, maps, weights)
    scores, edges = [], []
    for level, x in enumerate(levels):
        ends = {}
        for tower in TOWERS:
            y = x
            for depth in range(DEPTH):
                y = _separable(graph, y, weights, f"tower.{tower}.{level}.{depth}")
            ends[tower] = _convolve(graph, y, weights, f"head.{tower}.{level}")
        scores.append(_flat(graph, ends["score"]))
        edges.append(_flat(graph, ends["edge"]))
    _boxes(graph, graph.concat(edges, 2), input_size)
    probabilities = graph.node("Sigmoid", [graph.concat(scores, 2)])
    graph.node("Transpose", [probabilities], "scores", perm=[0, 2, 1])
    cells = len(centres(input_size)[1])
    return graph.model(
        input_size=(input_size, input_size),
        outputs=[("boxes", ["N", cells, 4]), ("scores", ["N", cells, len(tag_ids)])],
        metadata=metadata("detection", tag_ids, backbone, (input_size, input_size))
        | ({KEY: tiling.text()} if tiling else {}),
    )


def numbers(model: bytes, tag_ids: Sequence[str]) -> dict[str, Floats]:
    """The convolutions of a file that `detector` wrote, as it takes them.

    Args:
        model: The file.
        tag_ids: What is to be detected: scores of the file's tags of the same id come in this order, those of others
            are NaN.

    Raises:
        ValueError: It is no detector's.
    """
    loaded = onnx.load_from_string(model)
    own = {entry.key: entry.value for entry in loaded.metadata_props}
    if own.get("ownvision.task") != "detection":
        raise ValueError("The model to start from is no detector.")
    constants = {constant.name: constant for constant in loaded.graph.initializer}
    found = [node.input[1:] for node in loaded.graph.node if node.op_type == "Conv"]
    asked = _Asked()
    detector(asked, backbone=own["ownvision.backbone"], input_size=STRIDES[-1], tag_ids=[""])
    names = asked.names()
    if len(names) > len(found):
        raise ValueError("The model to start from has other layers than detectors have now.")
    known = {}
    # The packaged stages come first.
    for name, pair in zip(names, found[len(found) - len(names) :], strict=True):
        for part, constant in zip(("weight", "bias"), pair, strict=True):
            known[f"{name}.{part}"] = numpy_helper.to_array(constants[constant])
    ids: list[str] = json.loads(own["ownvision.tags"])
    rows = [ids.index(tag) if tag in ids else len(ids) for tag in tag_ids]
    for name in [name for name in known if name.startswith("head.score.")]:
        blank = np.full((1, *known[name].shape[1:]), np.nan, np.float32)
        known[name] = np.concatenate([known[name], blank])[rows]
    return known


class _Asked(Mapping[str, Floats]):
    """Notes which convolutions a graph is made of, in its order."""

    def __init__(self) -> None:
        self._asked: dict[str, None] = {}

    def __getitem__(self, name: str) -> Floats:
        self._asked[name.rpartition(".")[0]] = None
        return np.zeros((1, 1, 1, 1) if name.endswith("weight") else (1,), np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._asked)

    def __len__(self) -> int:
        return len(self._asked)

    def names(self) -> list[str]:
        return list(self._asked)


def front(backbone: str, input_size: int) -> bytes:
    """The stages that are never trained: output `features` [N, C, S / 8, S / 8] float32.

    Raises:
        ValueError: The input size is not a multiple of 32.
    """
    _check(input_size)
    graph, net = Graph(), network(backbone)
    last = _stages(graph, backbone, net, {}, FIRST_TRAINED_STAGE)[TAPS[0]]
    graph.node("Identity", [last], "features")
    side = input_size // STRIDES[0]
    return graph.model(
        input_size=(input_size, input_size),
        outputs=[("features", ["N", "C", side, side])],
        metadata=metadata("features", [], backbone, (input_size, input_size)),
    )


def centres(input_size: int) -> tuple[Floats, Floats]:
    """Centres and strides of all cells, stride by stride, row by row: float32 [K, 2] x, y and [K], in pixels."""
    points, strides = [], []
    for stride in STRIDES:
        axis = (np.arange(input_size // stride, dtype=np.float32) + 0.5) * stride
        x, y = np.meshgrid(axis, axis)
        points.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full(x.size, stride, np.float32))
    return np.concatenate(points), np.concatenate(strides)


def _check(input_size: int) -> None:
    if input_size < STRIDES[-1] or input_size % STRIDES[-1]:
        raise ValueError(f"A detector's input size is a multiple of {STRIDES[-1]}, not {input_size}.")


def _backbone(graph: Graph, name: str, net: Network, weights: Mapping[str, Floats]) -> list[str]:
    maps = _stages(graph, name, net, weights, len(BACKBONES[name].repeats))
    return [maps[stage] for stage in TAPS]


def _stages(graph: Graph, name: str, net: Network, weights: Mapping[str, Floats], end: int) -> dict[int, str]:
    """Add the stages before `end`, without the head that detectors don't use; trained numbers replace packaged ones."""
    x = graph.normalised("image", BACKBONES[name].mean, BACKBONES[name].std)
    x = _packaged(graph, x, net.stem, net.stem.weight, net.stem.bias)
    maps: dict[int, str] = {}
    for index, block in enumerate(net.blocks):
        if block.stage >= end:
            break
        before = x
        for place, convolution in enumerate(block.convolutions):
            weight, bias = convolution.weight, convolution.bias
            if block.stage >= FIRST_TRAINED_STAGE:
                weight, bias = _numbers(weights, f"backbone.{index}.{place}")
            x = _packaged(graph, x, convolution, weight, bias)
        x = graph.add(before, x) if block.adds else x
        maps[block.stage] = x
    return maps


def _packaged(graph: Graph, x: str, convolution: Convolution, weight: Floats, bias: Floats) -> str:
    before, after = same_pads(convolution)
    pads = (before, before, after, after)
    x = graph.conv(x, weight, bias, strides=convolution.stride, pads=pads, groups=convolution.groups)
    return graph.relu6(x) if convolution.relu else x


def same_pads(convolution: Convolution) -> tuple[int, int]:
    """TensorFlow's SAME before and after a side that the stride divides, as it does every side here."""
    total = convolution.weight.shape[-1] - convolution.stride
    return total // 2, total - total // 2


def _pyramid(graph: Graph, maps: Sequence[str], weights: Mapping[str, Floats]) -> list[str]:
    double = graph.constant(np.array([1, 1, 2, 2], np.float32))
    levels: list[str] = []
    for level in reversed(range(len(maps))):
        x = _convolve(graph, maps[level], weights, f"lateral.{level}")
        if levels:
            attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            x = graph.add(x, graph.node("Resize", [levels[0], "", double], **attributes))
        levels.insert(0, _separable(graph, x, weights, f"smooth.{level}"))
    return levels


def _separable(graph: Graph, x: str, weights: Mapping[str, Floats], name: str) -> str:
    for part in ("depthwise", "pointwise"):
        x = graph.node("Relu", [_convolve(graph, x, weights, f"{name}.{part}")])
    return x


def _convolve(graph: Graph, x: str, weights: Mapping[str, Floats], name: str) -> str:
    weight, bias = _numbers(weights, name)
    pad = weight.shape[-1] // 2
    groups = weight.shape[0] if name.endswith("depthwise") else 1
    return graph.conv(x, weight, bias, pads=(pad, pad, pad, pad), groups=groups)


def _numbers(weights: Mapping[str, Floats], name: str) -> tuple[Floats, Floats]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _flat(graph: Graph, x: str) -> str:
    return graph.node("Reshape", [x, graph.constant(_ints(0, 0, -1))])


def _boxes(graph: Graph, edges: str, input_size: int) -> None:
    """Log distances left, top, right, bottom [N, 4, K], in strides, to the output `boxes`."""
    points, strides = centres(input_size)
    middle = graph.constant((points.T / input_size)[None])
    scale = graph.constant((strides / np.float32(input_size))[None, None])
    largest = graph.constant(np.array(LARGEST_LOG_DISTANCE, np.float32))
    distances = graph.mul(graph.node("Exp", [graph.node("Min", [edges, largest])]), scale)
    near = graph.node("Slice", [distances, *(graph.constant(_ints(number)) for number in (0, 2, 1))])
    far = graph.node("Slice", [distances, *(graph.constant(_ints(number)) for number in (2, 4, 1))])
    nought, one = (graph.constant(np.array(number, np.float32)) for number in (0, 1))
    start = graph.node("Clip", [graph.sub(middle, near), nought, one])
    end = graph.node("Clip", [graph.add(middle, far), nought, one])
    both = graph.concat([start, graph.sub(end, start)], 1)
    graph.node("Transpose", [both], "boxes", perm=[0, 2, 1])


def _ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)
