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
# No logarithm of nothing.
_NEAR = 1e-9


Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Familiar:
    """How like the images learned from an embedding is, and what one is given that is like none of them.

    The distance is the sum of squared differences from `center`, each times its `precision`; the share of what the head
    says is the logistic function of (`limit` - log distance) · `steepness`, the rest is `fallback`.

    Attributes:
        center: float32 [D].
        precision: float32 [D].
        limit: The logarithm of the distance at which half is left.
        steepness: How fast it falls there.
        fallback: float32 [T].
    """

    center: Floats
    precision: Floats
    limit: np.float32
    steepness: np.float32
    fallback: Floats

    def shares(self, embeddings: Floats) -> Floats:
        """float32 [N, 1] of embeddings [N, D]: how much of what the head says counts."""
        apart = embeddings - self.center
        far = np.log((apart * apart) @ self.precision[:, None] + np.float32(_NEAR))
        share = 1 / (1 + np.exp(-np.clip((self.limit - far) * self.steepness, -80, 80)))
        return np.asarray(share, np.float32)


@dataclass(frozen=True)
class Head:
    """A linear head on an embedding, calibration folded in: ``softmax`` or ``sigmoid`` of x @ weights + bias.

    Attributes:
        weights: float32 [D, T].
        bias: float32 [T].
        kind: Which function turns scores into probabilities.
        familiar: How far it is to be believed; None: everywhere.
    """

    weights: Floats
    bias: Floats
    kind: Literal["softmax", "sigmoid"]
    familiar: Familiar | None = None

    def probabilities(self, embeddings: NDArray[np.floating]) -> Floats:
        """float32 [N, T] of embeddings [N, D], as the stored graph computes them."""
        x = embeddings.astype(np.float32)
        likely = self._likely(x @ self.weights + self.bias)
        if self.familiar is None:
            return likely
        share = self.familiar.shares(x)
        blended: Floats = share * likely + (1 - share) * self.familiar.fallback
        return blended

    def _likely(self, scores: Floats) -> Floats:
        if self.kind == "sigmoid":
            return np.asarray(1 / (1 + np.exp(-np.clip(scores, -80, 80))), np.float32)
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        normed: Floats = raised / raised.sum(axis=1, keepdims=True)
        return normed


class Graph:
    """Collects nodes and constants; each method adds a node and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        # A backbone from elsewhere may be written in a later one.
        self.opset, self.ir_version = OPSET, IR_VERSION

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

    def normalised(self, image: str, mean: Sequence[float], std: Sequence[float]) -> str:
        """(image - mean) / std per channel: what a network was trained on, of RGB 0 to 255."""
        center, scale = (np.array(three, np.float32).reshape(1, 3, 1, 1) for three in (mean, std))
        return self.mul(self.sub(image, self.constant(center)), self.constant(1 / scale))

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
            graph,
            producer_name="ownvision",
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=self.ir_version,
        )
        helper.set_model_props(model, dict(sorted(metadata.items())))
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def metadata(task: str, tag_ids: Sequence[str], backbone: str, input_size: tuple[int, int]) -> dict[str, str]:
    """What every stored model says of itself: task, tags by id, backbone and its licence, preprocessing, input size."""
    from ownvision.learning.backbones import BACKBONES

    known = BACKBONES.get(backbone)
    return {
        "ownvision.licence": known.licence if known else "",
        "ownvision.task": task,
        "ownvision.tags": json.dumps(list(tag_ids)),
        "ownvision.backbone": backbone,
        "ownvision.pixels": f"stretch-{PIXELS_VERSION}",
        "ownvision.input": json.dumps(list(input_size)),
    }


def _features(graph: Graph, backbone: str, image: str, size: int, name: str | None) -> str:
    from ownvision.learning.backbones.features import features

    return features(graph, backbone, image, size, name)


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


_FUNCTIONS: dict[str, tuple[str, dict[str, Any]]] = {"softmax": ("Softmax", {"axis": 1}), "sigmoid": ("Sigmoid", {})}


def answer(graph: Graph, embedding: str, head: Head) -> None:
    """Add a head to a graph: from an embedding to the output `probabilities`."""
    scores = graph.node("Gemm", [embedding, graph.constant(head.weights), graph.constant(head.bias)])
    function, attributes = _FUNCTIONS[head.kind]
    if head.familiar is None:
        graph.node(function, [scores], "probabilities", **attributes)
        return
    likely = graph.node(function, [scores], **attributes)
    known = head.familiar
    apart = graph.sub(embedding, graph.constant(known.center))
    distance = graph.node("MatMul", [graph.mul(apart, apart), graph.constant(known.precision[:, None])])
    far = graph.node("Log", [graph.add(distance, graph.constant(np.array([_NEAR], np.float32)))])
    near = graph.sub(graph.constant(np.array([known.limit], np.float32)), far)
    share = graph.node("Sigmoid", [graph.mul(near, graph.constant(np.array([known.steepness], np.float32)))])
    rest = graph.sub(graph.constant(np.ones(1, np.float32)), share)
    given = graph.mul(rest, graph.constant(known.fallback[None]))
    graph.node("Add", [graph.mul(share, likely), given], "probabilities")


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
    after = list(graph.node)[list(graph.node).index(gemm) + 1 :]
    kind = next(kind for kind, (operator, _) in _FUNCTIONS.items() if operator == after[0].op_type)
    # Its constants, in the order in which `answer` adds them.
    numbers = [
        numpy_helper.to_array(constants[name]) for node in [gemm, *after] for name in node.input if name in constants
    ]
    if len(numbers) == 2:
        return Head(numbers[0], numbers[1], kind)  # type: ignore[arg-type]
    weights, bias, center, precision, _, limit, steepness, _, given = numbers
    familiar = Familiar(center, precision[:, 0], limit[0], steepness[0], given[0])
    return Head(weights, bias, kind, familiar)  # type: ignore[arg-type]
