"""EfficientNet-Lite as ONNX nodes, batch norm folded into the convolutions (Tan and Le 2019, the lite variant).

Padding is TensorFlow's SAME, in which the weights were trained.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ownvision.learning.backbones import BACKBONES, Backbone
from ownvision.learning.backbones.weights import load_weights
from ownvision.learning.graph import Graph

_STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)
_EPSILON = 1e-3

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Convolution:
    """A folded convolution: weight [out, in / groups, k, k], bias [out]."""

    weight: Array
    bias: Array
    stride: int
    groups: int
    relu: bool


@dataclass(frozen=True)
class Block:
    """An inverted residual block; `adds` when its input is added to its output."""

    stage: int
    convolutions: tuple[Convolution, ...]
    adds: bool


@dataclass(frozen=True)
class Network:
    """Stem, blocks and head with folded weights."""

    stem: Convolution
    blocks: tuple[Block, ...]
    head: Convolution


def network(name: str) -> Network:
    """A backbone of the registry with its pre-trained weights.

    Raises:
        ValueError: As `load_weights`.
    """
    weights = load_weights(name)

    def folded(convolution: str, norm: str, stride: int = 1, depthwise: bool = False, relu: bool = True) -> Convolution:
        weight = weights[f"{convolution}.weight"]
        scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + _EPSILON)
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        groups = weight.shape[0] if depthwise else 1
        return Convolution(weight * scale[:, None, None, None], bias, stride, groups, relu)

    blocks: list[Block] = []
    for stage, repeats in enumerate(BACKBONES[name].repeats):
        for repeat in range(repeats):
            at = f"_blocks.{len(blocks)}"
            stride = _STAGE_STRIDES[stage] if repeat == 0 else 1
            parts = []
            if f"{at}._expand_conv.weight" in weights:
                parts.append(folded(f"{at}._expand_conv", f"{at}._bn0"))
            parts.append(folded(f"{at}._depthwise_conv", f"{at}._bn1", stride, depthwise=True))
            parts.append(folded(f"{at}._project_conv", f"{at}._bn2", relu=False))
            blocks.append(Block(stage, tuple(parts), adds=repeat > 0))
    return Network(folded("_conv_stem", "_bn0", 2), tuple(blocks), folded("_conv_head", "_bn1"))


def stages(graph: Graph, name: str, net: Network, image: str, size: int) -> tuple[list[str], str]:
    """Add the backbone to a graph.

    Args:
        graph: Where to.
        name: The backbone's name, for its mean and std.
        net: Its weights.
        image: Name of the input [N, 3, size, size], RGB 0 to 255.
        size: Its side in pixels.

    Returns:
        Names of the last map of each of the seven stages, and of the head's map [N, 1280, size / 32, size / 32].
    """
    maps, size = early(graph, name, net, image, size)
    head, _ = _convolve(graph, maps[max(maps)], net.head, size)
    return [maps[stage] for stage in sorted(maps)], head


def early(
    graph: Graph, name: str, net: Network, image: str, size: int, end: int = len(_STAGE_STRIDES)
) -> tuple[dict[int, str], int]:
    """Add normalisation, stem and the stages before `end` to a graph; arguments as those of `stages`.

    Returns:
        Names of the last map of each stage, and the side of the very last.
    """
    x = graph.normalised(image, BACKBONES[name].mean, BACKBONES[name].std)
    x, size = _convolve(graph, x, net.stem, size)
    maps: dict[int, str] = {}
    for block in net.blocks:
        if block.stage >= end:
            break
        before = x
        for convolution in block.convolutions:
            x, size = _convolve(graph, x, convolution, size)
        if block.adds:
            x = graph.add(before, x)
        maps[block.stage] = x
    return maps, size


def features(graph: Graph, backbone: Backbone, image: str, size: int, output: str | None) -> str:
    """Add the backbone and what classifiers read of it to a graph; arguments as of `features.features`.

    Early layers: the maps of stages 1 to 3 on a grid of 4 × 4. Late layers: stages 4, 5 and 7 on 2 × 2, mean and
    maximum of stage 6, the mean of the head's map.
    """
    early_ones, late_ones = _groups(graph, backbone.name, image, size)
    return graph.concat([*early_ones, *late_ones], 1, output)


def joined(graph: Graph, backbone: Backbone, image: str, size: int, output: str | None) -> str:
    """The same of several networks, all at one size: the early layers of each, then the late ones of each."""
    groups = [_groups(graph, part, image, size) for part in backbone.parts]
    names = [name for layers in zip(*groups, strict=True) for one in layers for name in one]
    return graph.concat(names, 1, output)


def _groups(graph: Graph, name: str, image: str, size: int) -> tuple[list[str], list[str]]:
    maps, head = stages(graph, name, network(name), image, size)
    sides = [-(-size // stride) for stride in (2, 4, 8, 16, 16, 32, 32)]
    fine = [graph.flat_grid(maps[stage], sides[stage], 4) for stage in (0, 1, 2)]
    coarse = [graph.flat_grid(maps[stage], sides[stage], 2) for stage in (3, 4, 6)]
    return fine, [*coarse, graph.flat_mean(maps[5]), graph.flat_max(maps[5]), graph.flat_mean(head)]


def _convolve(graph: Graph, x: str, convolution: Convolution, size: int) -> tuple[str, int]:
    kernel, stride = convolution.weight.shape[-1], convolution.stride
    out = -(-size // stride)
    padding = max((out - 1) * stride + kernel - size, 0)
    before, after = padding // 2, padding - padding // 2
    x = graph.conv(
        x,
        convolution.weight,
        convolution.bias,
        strides=stride,
        pads=(before, before, after, after),
        groups=convolution.groups,
    )
    return (graph.relu6(x) if convolution.relu else x), out
