"""Tiny networks as ONNX files: backbones from elsewhere, and what must not become one."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE, LENGTH = 32, 8
MEAN, STD = (10.0, 20.0, 30.0), (50.0, 60.0, 70.0)


def kernels() -> NDArray[np.float32]:
    """Of the network's convolution: [LENGTH, 3, 4, 4], stride 4."""
    return np.random.default_rng(3).normal(0, 0.3, (LENGTH, 3, 4, 4)).astype(np.float32)


def network(
    *,
    side: int = SIDE,
    opset: int = 17,
    batch: int | str = "batch",
    extra: Sequence[onnx.NodeProto] = (),
    last: str = "pooled",
    outputs: Sequence[str] = ("pooled",),
    scale: float = 1.0,
) -> onnx.ModelProto:
    """A convolution, ReLU and the mean over the map, under names of its own; `extra` nodes come behind."""
    nodes = [
        helper.make_node("Conv", ["x", "weight"], ["map"], strides=[4, 4], kernel_shape=[4, 4]),
        helper.make_node("Relu", ["map"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        *extra,
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(kernels() * np.float32(scale), "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def said_of(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the network says of pictures [N, SIDE, SIDE, 3], in numpy: [N, LENGTH]."""
    x = (rgb.astype(np.float64) - MEAN) / STD
    patches = x.reshape(len(x), SIDE // 4, 4, SIDE // 4, 4, 3)
    maps = np.einsum("nhiwjc,ocij->nohw", patches, kernels().astype(np.float64))
    return np.asarray(np.maximum(maps, 0).mean((2, 3)))
