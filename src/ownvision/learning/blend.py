"""Several classifiers as one ONNX file, and what a finished one teaches the next: graphs put together, node by node.

Classifiers that look at the same picture are pooled by the weighted mean of their log probabilities (Genest and Zidek
1986), scaled once more for calibration. Parts stay what they were measured as: nothing is resized inside the graph, so
all parts take the same input.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ownvision.learning.graph import Graph, Head, answer, metadata

Floats = NDArray[np.float32]

# Probabilities are kept this far from 0 and 1, where logarithms end.
LEAST = 1e-6
# Names, in a file's metadata, the embeddings whose network was changed by training.
_TUNED = "ownvision.tuned"


def logits(probabilities: Floats, kind: str) -> Floats:
    """What is pooled: logarithms of probabilities [N, T] that sum to one, else log odds."""
    p = np.clip(probabilities, LEAST, 1 - LEAST)
    found: Floats = (np.log(p) if kind == "softmax" else np.log(p) - np.log(1 - p)).astype(np.float32)
    return found


def probabilities(pooled: Floats, kind: str) -> Floats:
    """Probabilities [N, T] of pooled logits, as `blend`'s file computes them."""
    if kind == "sigmoid":
        likely: Floats = (1 / (1 + np.exp(-np.clip(pooled, -80, 80)))).astype(np.float32)
        return likely
    raised = np.exp(pooled - pooled.max(1, keepdims=True))
    shares: Floats = (raised / raised.sum(1, keepdims=True)).astype(np.float32)
    return shares


def blend(parts: Sequence[tuple[bytes, float]], kind: str, tag_ids: Sequence[str]) -> bytes:
    """One classifier of several.

    Args:
        parts: Classifiers' files of the same input size and tags, and each one's weight.
        kind: ``softmax`` or ``sigmoid``, of all.
        tag_ids: One per column.

    Raises:
        ValueError: The parts take pictures of different sizes.
    """
    if len({input_side(model) for model, _ in parts}) != 1:
        raise ValueError("Classifiers that are blended must take pictures of one size.")
    graph, kept = Graph(), dict[bytes, str]()
    pooled, tuned, backbones = None, [], []
    for number, (model, weight) in enumerate(parts):
        own = _metadata(model)
        prefix = f"m{number}."
        output = _graft(graph, onnx.load_from_string(model), prefix, "probabilities", kept)
        tuned += [prefix + name for name in json.loads(own.get(_TUNED, "[]"))]
        backbones.append(own["ownvision.backbone"])
        scaled = graph.mul(_logits(graph, output, kind), graph.constant(np.array(weight, np.float32)))
        pooled = scaled if pooled is None else graph.add(pooled, scaled)
    assert pooled is not None
    if kind == "softmax":
        graph.node("Softmax", [pooled], "probabilities", axis=1)
    else:
        graph.node("Sigmoid", [pooled], "probabilities")
    return _classifier(graph, "+".join(dict.fromkeys(backbones)), input_side(parts[0][0]), tag_ids, tuned)


def tuned_classifier(
    graph: Graph, embedding: str, head: Head, backbone: str, side: int, tag_ids: Sequence[str]
) -> bytes:
    """The file of a classifier whose network was changed by training; `embedding` names its features in the graph."""
    answer(graph, embedding, head)
    return _classifier(graph, backbone, side, tag_ids, [embedding])


def known_features(model: bytes) -> bytes:
    """What a finished classifier can tell of any picture: the embeddings of its changed networks and its own answer.

    Returns:
        A file with the output `embedding` [N, D].

    Raises:
        ValueError: The file is no classifier's.
    """
    own = _metadata(model)
    if own.get("ownvision.task") != "classification":
        raise ValueError("Only a classifier's features can be gone on from.")
    loaded = onnx.load_from_string(model)
    graph, prefix = Graph(), "base."
    names = [*json.loads(own.get(_TUNED, "[]")), "probabilities"]
    output = _graft(graph, loaded, prefix, names[-1], {})
    operators = [node.op_type for node in loaded.graph.node]
    # What follows the last head is its function, and how far it is believed.
    after = operators[len(operators) - 1 - operators[::-1].index("Gemm") :]
    kind = "softmax" if "Softmax" in after else "sigmoid"
    graph.concat([*(prefix + name for name in names[:-1]), _logits(graph, output, kind)], 1, "embedding")
    side = input_side(model)
    return graph.model(
        input_size=(side, side),
        outputs=[("embedding", ["N", "D"])],
        metadata=metadata("embedding", [], own["ownvision.backbone"], (side, side)),
    )


def with_head(embedder: bytes, head: Head, tag_ids: Sequence[str], *, tuned: bool) -> bytes:
    """A classifier of a file with the output `embedding` and a head on it."""
    own = _metadata(embedder)
    graph = Graph()
    embedding = _graft(graph, onnx.load_from_string(embedder), "", "embedding", {})
    answer(graph, embedding, head)
    return _classifier(graph, own["ownvision.backbone"], input_side(embedder), tag_ids, [embedding] if tuned else [])


def input_side(model: bytes) -> int:
    """Side in pixels of the square picture that a model takes."""
    return int(json.loads(_metadata(model)["ownvision.input"])[0])


def _logits(graph: Graph, probabilities: str, kind: str) -> str:
    low, high = (graph.constant(np.array(value, np.float32)) for value in (LEAST, 1 - LEAST))
    kept = graph.node("Clip", [probabilities, low, high])
    log = graph.node("Log", [kept])
    if kind == "softmax":
        return log
    rest = graph.sub(graph.constant(np.array(1, np.float32)), kept)
    return graph.sub(log, graph.node("Log", [rest]))


def _graft(graph: Graph, model: onnx.ModelProto, prefix: str, output: str, kept: dict[bytes, str]) -> str:
    """Add another model's nodes, under a prefix, with all that its output needs.

    Args:
        graph: Where to.
        model: What is added; its input stays `image`.
        prefix: Of its names.
        output: What of it is wanted.
        kept: Constants that are there already, by their digest, which two copies of one backbone share; grows.

    Returns:
        The output's new name.
    """
    other, needed, nodes = model.graph, {output}, []
    # A backbone from elsewhere may be written in a later one.
    graph.opset = max([graph.opset, *(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))])
    graph.ir_version = max(graph.ir_version, model.ir_version)
    for node in reversed(other.node):
        if needed & set(node.output):
            needed |= set(node.input)
            nodes.append(node)
    names = {"": "", "image": "image"}
    for constant in other.initializer:
        if constant.name in needed:
            array = numpy_helper.to_array(constant)
            digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).digest()
            if digest not in kept:
                kept[digest] = graph.constant(array)
            names[constant.name] = kept[digest]
    for node in reversed(nodes):
        for name in node.output:
            names[name] = prefix + name
        copy = helper.make_node(node.op_type, [names[name] for name in node.input], [names[one] for one in node.output])
        copy.attribute.extend(node.attribute)
        graph.nodes.append(copy)
    return names[output]


def _classifier(graph: Graph, backbone: str, side: int, tag_ids: Sequence[str], tuned: Sequence[str]) -> bytes:
    said = metadata("classification", tag_ids, backbone, (side, side))
    return graph.model(
        input_size=(side, side),
        outputs=[("probabilities", ["N", len(tag_ids)])],
        metadata={**said, _TUNED: json.dumps(list(tuned))},
    )


def _metadata(model: bytes) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props}
