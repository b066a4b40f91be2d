"""A model file that came from elsewhere: examined before anything runs it, then given this installation's tag ids.

What a stranger sends may name files outside, loop, or ask for all the memory there is. So only the operators that
models are built from are let through, everything must be in the file, and every intermediate size must be known.
"""

import json
from collections.abc import Mapping, Sequence

import onnx
from onnx import helper, shape_inference

# No control flow, and nothing that makes much of little but by sizes that `check_sizes` sees.
_NAMES = (
    "Abs Add And ArgMax AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv "
    "ConvTranspose Cos DepthToSpace Div Elu Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool "
    "GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization "
    "LeakyRelu Less LessOrEqual Log MatMul Max MaxPool Min Mish Mod Mul Neg Not Or PRelu Pad Pow Range Reciprocal "
    "ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize Round Shape Sigmoid Sign Sin Slice Softmax "
    "Softplus SpaceToDepth Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze Where"
)
OPERATORS = frozenset(_NAMES.split())
OUTPUTS = {"classification": ("probabilities",), "detection": ("boxes", "scores"), "embedding": ("embedding",)}
_SIDE = 2_048  # of the input, pixels
_VALUES = 2**27  # of one intermediate result for one picture


class Unusable(ValueError):
    """The file is no model that may be used here; one sentence for the person."""


def adopted(data: bytes, *, task: str, tag_ids: Sequence[str], renamed: Mapping[str, str]) -> bytes:
    """The same model with other tag ids.

    Args:
        data: An ONNX file as `learning.graph` writes it, from a stranger.
        task: What it must be for, ``classification`` or ``detection``.
        tag_ids: The ids it must know, in the order of its output.
        renamed: The new id of each.

    Raises:
        Unusable: It is not such a file.
    """
    try:
        model = onnx.load_from_string(data)
    except Exception:  # a class of the library that onnx reads with
        raise Unusable("it is no ONNX file.") from None
    check_graph(model, task)
    own = {entry.key: entry.value for entry in model.metadata_props}
    try:
        height, width = json.loads(own["ownvision.input"])
        known = json.loads(own["ownvision.tags"])
    except (KeyError, ValueError, TypeError, RecursionError):
        raise Unusable("it does not say what it is.") from None
    if own.get("ownvision.task") != task or known != list(tag_ids):
        raise Unusable("it is for other tags than its iteration.")
    shape = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    if shape[1:] != [3, height, width] or not all(0 < side <= _SIDE for side in shape[2:]):
        raise Unusable("its input is not what it says.")
    check_sizes(model)
    helper.set_model_props(model, {**own, "ownvision.tags": json.dumps([renamed[id] for id in tag_ids])})
    return bytes(model.SerializeToString(deterministic=True))


def check_graph(model: onnx.ModelProto, task: str) -> None:
    """See that a file holds all it needs, and nothing but what models here are made of.

    Args:
        model: With one input `image`.
        task: A key of `OUTPUTS`.

    Raises:
        Unusable: It does not.
    """
    graph = model.graph
    if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
        raise Unusable("it has parts that models here do not have.")
    tensors = [*graph.initializer]
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            raise Unusable(f"it has an operator {node.op_type!r:.40}, which models here do not have.")
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs or attribute.HasField("sparse_tensor"):
                raise Unusable("it has parts that models here do not have.")
            tensors += [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])]
    if any(tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise Unusable("it keeps its numbers in other files.")
    if [one.name for one in graph.input] != ["image"] or tuple(one.name for one in graph.output) != OUTPUTS[task]:
        raise Unusable("its input or outputs are not those of a model for this project.")
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise Unusable(f"it is no valid ONNX model ({type(error).__name__}).") from None


def check_sizes(model: onnx.ModelProto) -> None:
    """See that no intermediate result for one picture is larger than any that a model here has.

    Raises:
        Unusable: One is, or its size can't be told.
    """
    single = onnx.ModelProto()
    single.CopyFrom(model)
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]
    for output in single.graph.output:  # what the file says of them is not believed
        output.type.tensor_type.ClearField("shape")
    try:
        graph = shape_inference.infer_shapes(single, strict_mode=True, data_prop=True).graph
    except (shape_inference.InferenceError, ValueError) as error:
        raise Unusable(f"its sizes do not fit together ({type(error).__name__}).") from None
    sizes = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output)}
    for node in graph.node:
        for name in filter(None, node.output):
            values = 1
            for dimension in sizes[name].shape.dim if name in sizes and sizes[name].HasField("shape") else [None]:
                if dimension is None or not dimension.HasField("dim_value"):
                    raise Unusable(f"the size of its part {name!r:.60} can't be told.")
                values *= dimension.dim_value
            if not 0 <= values <= _VALUES:
                raise Unusable(f"its part {name!r:.60} is too large.")
