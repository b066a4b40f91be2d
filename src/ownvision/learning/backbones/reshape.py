"""Any ONNX file with pooled features, brought into the one shape that `onnx_file` reads."""

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper, shape_inference, version_converter

from ownvision.learning.adopted import Unusable, check_graph
from ownvision.learning.backbones.onnx_file import FIRST_OPSET


def reshaped(source: bytes, output: str | None, input_size: int) -> onnx.ModelProto:
    """The same network with input `image`, output `embedding` [N, D], and nothing that it does not need for that.

    Args:
        source: ONNX, with all its numbers.
        output: The output, or any part, to take; None where there is one output.
        input_size: Side of its square input, pixels.

    Raises:
        Unusable: It can't be; says why.
    """
    try:
        model = onnx.load_from_string(source)
    except Exception:  # a class of the library that onnx reads with
        raise Unusable("it is no ONNX file.") from None
    own = {tensor.name for tensor in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in own]
    if len(inputs) != 1:
        raise Unusable(f"it has {len(inputs)} inputs, where one picture is to go in.")
    model = _later(model)
    there = {name for node in model.graph.node for name in node.output}
    outputs = [one.name for one in model.graph.output]
    wanted = output or (outputs[0] if len(outputs) == 1 else None)
    if wanted is None or wanted not in there:
        raise Unusable(f"say which output is the pooled features: {', '.join(outputs)[:500]}.")
    return _cut(model, inputs[0].name, wanted, input_size)


def _later(model: onnx.ModelProto) -> onnx.ModelProto:
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset >= FIRST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, FIRST_OPSET)
    except Exception as error:  # of onnx's own, and others
        raise Unusable(
            f"it is written in opset {opset} and can't be brought to {FIRST_OPSET} ({type(error).__name__})."
        ) from None


def _cut(model: onnx.ModelProto, image: str, wanted: str, input_size: int) -> onnx.ModelProto:
    nodes = _needed(model.graph.node, wanted)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    prefix = "n."  # so that nothing inside is called what the ends are called
    pieces = []
    for node in nodes:
        piece = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
        piece.input.extend(_named(name, prefix, image) for name in node.input)
        piece.output.extend(_named(name, prefix, image) for name in node.output)
        piece.attribute.extend(node.attribute)
        pieces.append(piece)
    numbers = []
    for tensor in kept:
        number = onnx.TensorProto()
        number.CopyFrom(tensor)
        number.name = prefix + tensor.name
        number.ClearField("doc_string")
        numbers.append(number)
    # Pooled maps [N, D, 1, 1] become rows; rows stay what they are.
    pieces.append(helper.make_node("Flatten", [_named(wanted, prefix, image)], ["embedding"], axis=1))
    shape: list[str | int | None] = ["N", 3, input_size, input_size]
    graph = helper.make_graph(
        pieces,
        "backbone",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", None])],
        numbers,
    )
    made = helper.make_model(
        graph, producer_name="ownvision", opset_imports=list(model.opset_import), ir_version=model.ir_version
    )
    made.functions.extend(model.functions)  # refused, where there are any
    check_graph(made, "embedding")
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_value = _length(made)
    return made


def _needed(nodes: Sequence[onnx.NodeProto], wanted: str) -> list[onnx.NodeProto]:
    """Those that an output hangs on, in their order."""
    names, found = {wanted}, []
    for node in reversed(nodes):
        if names & set(node.output):
            names |= set(node.input)
            found.append(node)
    return found[::-1]


def _named(name: str, prefix: str, image: str) -> str:
    return "image" if name == image else prefix + name if name else ""


def _length(model: onnx.ModelProto) -> int:
    """D, of one picture."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    single.graph.output[0].type.tensor_type.ClearField("shape")
    try:
        found = shape_inference.infer_shapes(single, strict_mode=True, data_prop=True).graph.output[0]
    except (shape_inference.InferenceError, ValueError) as error:
        raise Unusable(f"its sizes do not fit together ({type(error).__name__}).") from None
    shape = [one.dim_value for one in found.type.tensor_type.shape.dim]
    if len(shape) != 2 or not shape[1]:
        raise Unusable("the length of its output can't be told.")
    return int(shape[1])
