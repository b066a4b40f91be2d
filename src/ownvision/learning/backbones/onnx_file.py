"""A backbone that is an ONNX file with pooled features: examined, then copied node by node into the models made of it.

The file's input is `image` [N, 3, S, S], normalised by the entry's mean and std, its output `embedding` [N, D]:
`folder.add` brings any file into this shape. It may come from anywhere, so the rules of `adopted` hold for it.
"""

from collections.abc import Iterable

import onnx

from ownvision.errors import OwnVisionError
from ownvision.learning.adopted import Unusable, check_graph, check_sizes
from ownvision.learning.backbones import Backbone
from ownvision.learning.graph import Graph

# Operators changed their attributes before 13, which is what the rest of a stored model is written in.
FIRST_OPSET, LAST_OPSET = 13, 22
_PREFIX = "backbone."


def features(graph: Graph, backbone: Backbone, image: str, size: int, output: str | None) -> str:
    """Add it to a graph, once; arguments as of `features.features`, the output is always ``embedding``.

    Raises:
        ValueError: It is asked for at another size, or by another name.
        OwnVisionError: ErrorFeaturizationServiceUnavailable: the weights are not there, or are none.
    """
    if size != backbone.input_size or output != "embedding":
        raise ValueError(f"{backbone.name} looks at pictures of {backbone.input_size} px, once.")
    data = backbone.read()
    try:
        model = onnx.load_from_string(data)
        check(model, backbone.input_size, backbone.feature_dim)
    except Unusable as error:
        raise OwnVisionError(
            "ErrorFeaturizationServiceUnavailable", f"The weights of {backbone.name} can't be used: {error}"
        ) from None
    normalised = graph.normalised(image, backbone.mean, backbone.std)
    return copy(graph, model, normalised)


def check(model: onnx.ModelProto, input_size: int, feature_dim: int | None = None) -> None:
    """See that a file can be a backbone.

    Args:
        model: As `folder.add` writes it.
        input_size: Side of its square input, pixels.
        feature_dim: Length of its output, where that is known.

    Raises:
        Unusable: It can't; says why.
    """
    check_graph(model, "embedding")
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if not FIRST_OPSET <= opset <= LAST_OPSET:
        raise Unusable(f"it is written in opset {opset}; export it anew in {FIRST_OPSET} to {LAST_OPSET}.")
    put_in = _dimensions(model.graph.input[0])
    if put_in is None or put_in[1:] != [3, input_size, input_size]:
        raise Unusable(f"its input is not [N, 3, {input_size}, {input_size}] of float32, but {put_in}.")
    comes_out = _dimensions(model.graph.output[0])
    if comes_out is None or len(comes_out) != 2 or comes_out[1] != (feature_dim or comes_out[1]):
        raise Unusable(f"its output is not [N, {feature_dim or 'D'}] of float32, but {comes_out}.")
    check_sizes(model)


def copy(graph: Graph, model: onnx.ModelProto, put_in: str) -> str:
    """Copy a file's nodes and numbers into a graph, their names prefixed so that they meet no other.

    Args:
        graph: Where to.
        model: Checked.
        put_in: What stands for its `image`.

    Returns:
        ``embedding``.
    """
    names = {"": "", "image": put_in, "embedding": "embedding"}

    def renamed(given: Iterable[str]) -> list[str]:
        return [names.get(one, _PREFIX + one) for one in given]

    for tensor in model.graph.initializer:
        own = onnx.TensorProto()
        own.CopyFrom(tensor)
        own.name = renamed([tensor.name])[0]
        graph.constants.append(own)
    for node in model.graph.node:
        copied = onnx.NodeProto(op_type=node.op_type, input=renamed(node.input), output=renamed(node.output))
        copied.attribute.extend(node.attribute)
        graph.nodes.append(copied)
    graph.opset = max(graph.opset, *(one.version for one in model.opset_import if one.domain in ("", "ai.onnx")))
    graph.ir_version = max(graph.ir_version, model.ir_version)
    return "embedding"


def _dimensions(value: onnx.ValueInfoProto) -> list[int] | None:
    """The sides of an input or output, 0 for one that is a name; None where it is no float32."""
    kind = value.type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT or not kind.HasField("shape"):
        return None
    return [one.dim_value for one in kind.shape.dim]
