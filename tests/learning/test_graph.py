import json

import numpy as np
import onnx
import onnxruntime
import pytest

from ownvision.learning.backbones import BACKBONES
from ownvision.learning.graph import IR_VERSION, OPSET, Head, classifier, embedder

NAME = "efficientnet_lite0"


def _head(kind: str, tags: int = 3) -> Head:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.02, (BACKBONES[NAME].feature_dim, tags)).astype(np.float32)
    return Head(weights, rng.normal(size=tags).astype(np.float32), kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_classifier_is_its_head_on_the_embedding(kind: str) -> None:
    head, size = _head(kind), BACKBONES[NAME].input_size
    image = np.random.default_rng(1).integers(0, 256, (2, 3, size, size)).astype(np.float32)
    (vectors,) = onnxruntime.InferenceSession(embedder(NAME)).run(None, {"image": image})
    (said,) = onnxruntime.InferenceSession(classifier(NAME, head, ["a", "b", "c"])).run(None, {"image": image})
    scores = (vectors @ head.weights + head.bias).astype(np.float64)
    odds = np.exp(scores)
    wanted = odds / odds.sum(1, keepdims=True) if kind == "softmax" else odds / (1 + odds)
    assert np.abs(said - wanted).max() < 1e-4


def test_a_model_says_what_it_is_and_runs_on_old_readers() -> None:
    model = onnx.load_from_string(classifier(NAME, _head("softmax"), ["a", "b", "c"]))
    own = {one.key: one.value for one in model.metadata_props}
    assert json.loads(own["ownvision.tags"]) == ["a", "b", "c"]
    assert own["ownvision.task"] == "classification"
    assert own["ownvision.pixels"].startswith("stretch-")
    assert json.loads(own["ownvision.input"]) == [224, 224]
    assert (OPSET <= 17, IR_VERSION <= 10) == (True, True)
    assert [one.version for one in model.opset_import] == [OPSET]


def test_the_same_head_gives_the_same_bytes() -> None:
    assert classifier(NAME, _head("softmax"), ["a", "b", "c"]) == classifier(NAME, _head("softmax"), ["a", "b", "c"])
