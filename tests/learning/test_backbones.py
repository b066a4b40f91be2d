import io
import pickle
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from ownvision.learning import pixels
from ownvision.learning.backbones import BACKBONES
from ownvision.learning.backbones.efficientnet_lite import network, stages
from ownvision.learning.backbones.weights import load_weights, read
from ownvision.learning.graph import Graph, embedder

EGYPTIAN_CAT, ESPRESSO = 285, 967


def _photograph(name: str) -> bytes:
    from skimage import data

    buffer = io.BytesIO()
    Image.fromarray(getattr(data, name)()).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_knows_what_imagenet_taught_it(name: str) -> None:
    """Wrong strides, padding or normalisation give features that look like features; only its own classes tell."""
    weights, size = load_weights(name), BACKBONES[name].input_size
    graph = Graph()
    _, head = stages(graph, name, network(name), "image", size)
    classes = [graph.constant(weights["_fc.weight"].T), graph.constant(weights["_fc.bias"])]
    graph.node("Softmax", [graph.node("Gemm", [graph.flat_mean(head), *classes])], "classes", axis=1)
    model = graph.model(input_size=(size, size), outputs=[("classes", ["N", 1000])], metadata={})
    session = onnxruntime.InferenceSession(model)
    pictures = [pixels.load(_photograph(one), size, size) for one in ("chelsea", "coffee")]
    (said,) = session.run(None, {"image": np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32)})
    assert said.argmax(1).tolist() == [EGYPTIAN_CAT, ESPRESSO]
    assert said.max(1).min() > 0.6


@pytest.mark.parametrize("name", BACKBONES)
def test_embeddings_have_the_length_the_registry_says_and_fit_float16(name: str) -> None:
    backbone = BACKBONES[name]
    size = backbone.input_size
    session = onnxruntime.InferenceSession(embedder(name))
    extremes = np.stack([np.zeros((3, size, size)), np.full((3, size, size), 255)]).astype(np.float32)
    (vectors,) = session.run(None, {"image": extremes})
    assert vectors.shape == (2, backbone.feature_dim)
    assert np.isfinite(vectors.astype(np.float16)).all()


def test_the_same_backbone_gives_the_same_bytes() -> None:
    assert embedder("efficientnet_lite0") == embedder("efficientnet_lite0")


def test_tensors_stored_transposed_are_read_as_torch_reads_them() -> None:
    torch = pytest.importorskip("torch")
    weights = load_weights("efficientnet_lite0")
    known = torch.load(BACKBONES["efficientnet_lite0"].weights(), weights_only=True, map_location="cpu")
    assert all(np.array_equal(array, known[name].numpy()) for name, array in weights.items())


class _Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        import os

        return os.system, ("false",)


@pytest.mark.parametrize("data", [pickle.dumps(_Evil()), pickle.dumps(7), b""], ids=["code", "no magic", "empty"])
def test_a_file_that_is_no_weights_runs_nothing(data: bytes) -> None:
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        read(data)
