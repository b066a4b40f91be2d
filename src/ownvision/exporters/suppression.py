"""The tail of General (compact) [S1]: suppression and box voting inside the graph, as `inference.nms` does them."""

import json
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ownvision.inference import nms


def with_suppression(stored: bytes) -> bytes:
    """A detector whose outputs are what readers of [S1] expect.

    Args:
        stored: A detector's file: `boxes` [N, K, 4] left, top, width, height and `scores` [N, K, T].

    Returns:
        It takes one picture at a time, as `image_tensor` [1, 3, H, W], and gives `detected_boxes` [1, M, 4] (left, top,
        right, bottom), `detected_classes` [1, M] int64 and `detected_scores` [1, M], best first, at most
        `nms.MAX_BOXES`.
    """
    tail = _Tail()
    corners = tail.corners("boxes")
    # One row of candidates per tag, [T, k]: suppression then treats each tag as a picture of its own.
    by_tag = tail.add("Transpose", ["scores"], perm=[0, 2, 1])
    by_tag = tail.add("Squeeze", [by_tag, tail.ints([0])])
    most = tail.add(
        "Min", [tail.add("Gather", [tail.add("Shape", [by_tag]), tail.ints([1])]), tail.ints([nms.CANDIDATES])]
    )
    scores, places = tail.add2("TopK", [by_tag, most], axis=1)
    candidates = tail.add("Gather", [tail.add("Squeeze", [corners, tail.ints([0])]), places])  # [T, k, 4]
    chosen = tail.add(
        "NonMaxSuppression",
        [
            candidates,
            tail.add("Unsqueeze", [scores, tail.ints([1])]),
            tail.ints(nms.CANDIDATES),
            tail.floats(nms.OVERLAP),
            tail.floats(nms.SCORE),
        ],
    )  # [M, 3]: tag, 0, candidate
    tags = tail.add("Gather", [chosen, tail.ints(0)], axis=1)
    found = tail.add("GatherND", [scores, tail.add("Gather", [chosen, tail.ints([0, 2])], axis=1)])
    count = tail.add("Min", [tail.add("Shape", [found]), tail.ints([nms.MAX_BOXES])])
    best, ranks = tail.add2("TopK", [found, count])
    chosen = tail.add("Gather", [chosen, ranks])
    tags = tail.add("Gather", [tags, ranks])
    boxes = tail.voted(candidates, scores, tags, tail.add("Gather", [chosen, tail.ints([0, 2])], axis=1))
    for name, value in (("detected_boxes", boxes), ("detected_classes", tags), ("detected_scores", best)):
        tail.nodes.append(helper.make_node("Unsqueeze", [value, tail.ints([0])], [name]))
    return _joined(onnx.load_from_string(stored), tail)


class _Tail:
    """Nodes and constants that follow a stored graph, named so that they can't meet its own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"tail_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def add2(self, operator: str, inputs: list[str], **attributes: Any) -> tuple[str, str]:
        first, second = f"tail_{len(self.nodes)}", f"tail_{len(self.nodes)}_places"
        self.nodes.append(helper.make_node(operator, inputs, [first, second], **attributes))
        return first, second

    def ints(self, value: int | list[int]) -> str:
        return self._constant(np.array(value, np.int64))

    def floats(self, value: float | list[list[float]]) -> str:
        return self._constant(np.array(value, np.float32))

    def _constant(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        name = f"tail_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def corners(self, boxes: str) -> str:
        """Left, top, width, height → left, top, right, bottom, as one product with a matrix."""
        return self.add("MatMul", [boxes, self.floats([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]])])

    def voted(self, candidates: str, scores: str, tags: str, chosen: str) -> str:
        """Each chosen box [M, 4] as the mean of its tag's candidates that overlap it most, weighted by score."""
        box = self.add("Unsqueeze", [self.add("GatherND", [candidates, chosen]), self.ints([1])])  # [M, 1, 4]
        others, weights = (
            self.add("Gather", [candidates, tags]),
            self.add("Gather", [scores, tags]),
        )  # [M, k, 4], [M, k]
        start = self.add("Max", [self._sides(box, 0), self._sides(others, 0)])
        end = self.add("Min", [self._sides(box, 2), self._sides(others, 2)])
        common = self._area(self.add("Relu", [self.add("Sub", [end, start])]))
        union = self.add("Sub", [self.add("Add", [self._extent(box), self._extent(others)]), common])
        # As a product, so that empty boxes divide nothing by nothing.
        near = self.add("GreaterOrEqual", [common, self.add("Mul", [union, self.floats(nms.VOTE)])])
        above = self.add("GreaterOrEqual", [weights, self.floats(nms.SCORE)])
        mask = self.add("Cast", [self.add("And", [near, above])], to=TensorProto.FLOAT)
        weights = self.add("Unsqueeze", [self.add("Mul", [weights, mask]), self.ints([1])])  # [M, 1, k]
        total = self.add("ReduceSum", [weights, self.ints([2])], keepdims=0)
        sum_ = self.add("Squeeze", [self.add("MatMul", [weights, others]), self.ints([1])])
        return self.add("Div", [sum_, total])

    def _sides(self, boxes: str, first: int) -> str:
        return self.add("Slice", [boxes, self.ints([first]), self.ints([first + 2]), self.ints([2])])

    def _extent(self, boxes: str) -> str:
        return self._area(self.add("Sub", [self._sides(boxes, 2), self._sides(boxes, 0)]))

    def _area(self, sides: str) -> str:
        return self.add("ReduceProd", [sides], axes=[2], keepdims=0)


def _joined(model: onnx.ModelProto, tail: _Tail) -> bytes:
    metadata = {one.key: one.value for one in model.metadata_props}
    height, width = json.loads(metadata["ownvision.input"])
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    for node in nodes:
        for place, name in enumerate(node.input):
            if name == "image":
                node.input[place] = "image_tensor"
    outputs: tuple[tuple[str, int, list[str | int | None]], ...] = (
        ("detected_boxes", TensorProto.FLOAT, [1, "M", 4]),
        ("detected_classes", TensorProto.INT64, [1, "M"]),
        ("detected_scores", TensorProto.FLOAT, [1, "M"]),
    )
    graph = helper.make_graph(
        [*nodes, *tail.nodes],
        model.graph.name,
        [helper.make_tensor_value_info("image_tensor", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        [*model.graph.initializer, *tail.constants],
    )
    joined = helper.make_model(
        graph,
        producer_name=model.producer_name,
        opset_imports=list(model.opset_import),
        ir_version=model.ir_version,
    )
    joined.metadata_props.extend(model.metadata_props)
    onnx.checker.check_model(joined)
    data: bytes = joined.SerializeToString(deterministic=True)
    return data
