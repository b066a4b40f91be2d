"""Models as ONNX graphs, built node by node: what is served, measured and exported is this one file.

Bytes are deterministic: names are numbered, nothing depends on time or on the order of a dict.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ownvision.learning.pixels import PIXELS_VERSION

# Old enough for every runtime that reads exports, new enough for all operators used.
OPSET, IR_VERSION = 13, 8


@dataclass(frozen=True)
class Head:
    """A linear head on an embedding, calibration folded in: ``softmax`` or ``sigmoid`` of x @ weights + bias.

    Attributes:
        weights: float32 [D, T].
        bias: float32 [T].
        kind: Which function turns scores into probabilities.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    kind: Literal["softmax", "sigmoid"]

    def probabilities(self, embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
        """float32 [N, T] of embeddings [N, D], as the stored graph computes them."""
        scores = embeddings.astype(np.float32) @ self.weights + self.bias
        if self.kind == "sigmoid":
            shown: NDArray[np.float32] = 1 / (1 + np.exp(-np.clip(scores, -80, 80)))
            return shown
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        normed: NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
        return normed


class Graph:
    """Collects nodes and constants; each method adds a node and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, operator: str, inputs: Sequence[str], name: str | None = None, **attributes: Any) -> str:
        """Add a node of one output."""
        output = name or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, array: NDArray[Any]) -> str:
        """Add a constant."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def conv(
        self,
        x: str,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
        *,
        strides: int = 1,
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        groups: int = 1,
    ) -> str:
        """A convolution: weight [out, in / groups, k, k], bias [out], pads top, left, bottom, right."""
        return self.node(
            "Conv",
            [x, self.constant(weight), self.constant(bias)],
            kernel_shape=list(weight.shape[2:]),
            strides=[strides, strides],
            pads=list(pads),
            group=groups,
        )

    def relu6(self, x: str) -> str:
        """max(0, min(6, x))."""
        return self.node("Clip", [x, self._scalar(0.0), self._scalar(6.0)])

    def add(self, x: str, y: str) -> str:
        """x + y."""
        return self.node("Add", [x, y])

    def sub(self, x: str, y: str) -> str:
        """x - y."""
        return self.node("Sub", [x, y])

    def mul(self, x: str, y: str) -> str:
        """x · y."""
        return self.node("Mul", [x, y])

    def flat_mean(self, x: str) -> str:
        """Mean over the map: [N, C, H, W] → [N, C]."""
        return self.node("Flatten", [self.node("GlobalAveragePool", [x])], axis=1)

    def flat_max(self, x: str) -> str:
        """Maximum over the map: [N, C, H, W] → [N, C]."""
        return self.node("Flatten", [self.node("GlobalMaxPool", [x])], axis=1)

    def flat_grid(self, x: str, size: int, cells: int) -> str:
        """Means over a grid of cells × cells of a size × size map, overlapping where need be: → [N, C·cells²]."""
        stride = size // cells
        kernel = size - stride * (cells - 1)
        pooled = self.node("AveragePool", [x], kernel_shape=[kernel, kernel], strides=[stride, stride])
        return self.node("Flatten", [pooled], axis=1)

    def concat(self, parts: Sequence[str], axis: int, name: str | None = None) -> str:
        """Join along an axis."""
        return self.node("Concat", parts, name, axis=axis)

    def _scalar(self, value: float) -> str:
        name = f"scalar_{value:g}"
        if not any(constant.name == name for constant in self.constants):
            self.constants.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def model(
        self,
        *,
        input_size: tuple[int, int],
        outputs: Sequence[tuple[str, Sequence[int | str]]],
        metadata: dict[str, str],
    ) -> bytes:
        """The finished file; its input is `image` [N, 3, height, width] float32, RGB 0 to 255."""
        height, width = input_size
        graph = helper.make_graph(
            self.nodes,
            "ownvision",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, height, width])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs],
            self.constants,
        )
        model = helper.make_model(
            graph, producer_name="ownvision", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        helper.set_model_props(model, dict(sorted(metadata.items())))
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def metadata(task: str, tag_ids: Sequence[str], backbone: str, input_size: tuple[int, int]) -> dict[str, str]:
    """What every stored model says of itself: task, tags by id, backbone, preprocessing, input size."""
    return {
        "ownvision.task": task,
        "ownvision.tags": json.dumps(list(tag_ids)),
        "ownvision.backbone": backbone,
        "ownvision.pixels": f"stretch-{PIXELS_VERSION}",
        "ownvision.input": json.dumps(list(input_size)),
    }


def _features(graph: Graph, backbone: str, image: str, size: int, name: str | None) -> str:
    """Early layers: the maps of stages 1 to 3 on a grid of 4 × 4. Late layers: stages 4, 5 and 7 on 2 × 2, mean and
    maximum of stage 6, the mean of the head's map."""
    from ownvision.learning.backbones.efficientnet_lite import network, stages

    maps, head = stages(graph, backbone, network(backbone), image, size)
    sides = [-(-size // stride) for stride in (2, 4, 8, 16, 16, 32, 32)]
    parts = [graph.flat_grid(maps[stage], sides[stage], 4) for stage in (0, 1, 2)]
    parts += [graph.flat_grid(maps[stage], sides[stage], 2) for stage in (3, 4, 6)]
    parts += [graph.flat_mean(maps[5]), graph.flat_max(maps[5]), graph.flat_mean(head)]
    return graph.concat(parts, 1, name)


def _embedding(graph: Graph, backbone: str, size: int | None, mirrored: bool) -> tuple[str, tuple[int, int]]:
    """Name of the embedding, and the input size it needs."""
    from ownvision.learning.backbones import BACKBONES

    side = size or BACKBONES[backbone].input_size
    if not mirrored:
        return _features(graph, backbone, "image", side, "embedding"), (side, side)
    ends = (graph.constant(np.array([number], np.int64)) for number in (-1, np.iinfo(np.int64).min, 3, -1))
    views = ("image", graph.node("Slice", ["image", *ends]))
    both = graph.add(*(_features(graph, backbone, view, side, None) for view in views))
    half = graph.constant(np.array(0.5, np.float32))
    return graph.node("Mul", [both, half], "embedding"), (side, side)


def embedder(backbone: str, size: int | None = None, *, mirrored: bool = False) -> bytes:
    """The backbone alone: output `embedding` [N, D] float32.

    Args:
        backbone: A name of `BACKBONES`.
        size: Side of the input in pixels; None: the backbone's own.
        mirrored: Whether it is the mean of the picture's and of its mirror image's.
    """
    graph = Graph()
    _, sides = _embedding(graph, backbone, size, mirrored)
    return graph.model(
        input_size=sides, outputs=[("embedding", ["N", "D"])], metadata=metadata("embedding", [], backbone, sides)
    )


def classifier(
    backbone: str, head: Head, tag_ids: Sequence[str], size: int | None = None, *, mirrored: bool = False
) -> bytes:
    """Backbone and head: output `probabilities` [N, T], one column per tag id; the rest as `embedder`."""
    graph = Graph()
    embedding, sides = _embedding(graph, backbone, size, mirrored)
    answer(graph, embedding, head)
    return graph.model(
        input_size=sides,
        outputs=[("probabilities", ["N", len(tag_ids)])],
        metadata=metadata("classification", tag_ids, backbone, sides),
    )


def answer(graph: Graph, embedding: str, head: Head) -> None:
    """Add a head to a graph: from an embedding to the output `probabilities`."""
    scores = graph.node("Gemm", [embedding, graph.constant(head.weights), graph.constant(head.bias)])
    if head.kind == "softmax":
        graph.node("Softmax", [scores], "probabilities", axis=1)
    else:
        graph.node("Sigmoid", [scores], "probabilities")


def head(model: bytes) -> Head:
    """The head of a file that `classifier` wrote.

    Raises:
        ValueError: It is no classifier's.
    """
    graph = onnx.load_from_string(model).graph
    constants = {constant.name: constant for constant in graph.initializer}
    gemm = next((node for node in graph.node if node.op_type == "Gemm" and node.input[0] == "embedding"), None)
    if gemm is None:
        raise ValueError("This model has no head on an embedding.")
    weights, bias = (numpy_helper.to_array(constants[name]) for name in gemm.input[1:])
    kinds = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
    last = next(node for node in graph.node if node.input[0] == gemm.output[0])
    return Head(weights, bias, kinds[last.op_type])  # type: ignore[arg-type]
