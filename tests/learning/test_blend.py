"""Files that are put together give the numbers that were measured apart."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from ownvision import inference
from ownvision.learning import blend, graph
from ownvision.learning.adopted import OPERATORS, adopted
from ownvision.learning.backbones import BACKBONES
from ownvision.learning.graph import Head

BACKBONE, SIZE = "efficientnet_lite0", 64
TAGS = ["a", "b", "c"]
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 3, SIZE, SIZE)).astype(np.float32)


def run(model: bytes, output: str) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run([output], {"image": IMAGES})[0]
    return found


def member(kind: str, seed: int, size: int = SIZE, *, mirrored: bool = False) -> bytes:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.02, (BACKBONES[BACKBONE].feature_dim, len(TAGS))).astype(np.float32)
    head = Head(weights, np.zeros(len(TAGS), np.float32), kind)  # type: ignore[arg-type]
    return graph.classifier(BACKBONE, head, TAGS, size, mirrored=mirrored)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_blend_gives_the_pooled_numbers_and_holds_a_shared_network_once(kind: str) -> None:
    parts = [(member(kind, 0), 0.7), (member(kind, 1, mirrored=True), 0.4)]
    made = blend.blend(parts, kind, TAGS)
    pooled = sum(weight * blend.logits(run(model, "probabilities"), kind) for model, weight in parts)
    expected = blend.probabilities(pooled, kind)  # type: ignore[arg-type]
    np.testing.assert_allclose(run(made, "probabilities"), expected, atol=1e-5)
    assert len(made) < 1.2 * len(parts[0][0])
    assert inference.load(made).tag_ids == TAGS
    assert {node.op_type for node in onnx.load_from_string(made).graph.node} <= OPERATORS
    with pytest.raises(ValueError, match="no head"):  # nobody takes one part's head for the whole
        graph.head(made)


def test_a_blend_may_travel_to_another_installation() -> None:
    made = blend.blend([(member("softmax", 0, mirrored=True), 1.0)], "softmax", TAGS)
    taken = adopted(made, task="classification", tag_ids=TAGS, renamed={tag: tag.upper() for tag in TAGS})
    np.testing.assert_array_equal(run(taken, "probabilities"), run(made, "probabilities"))


def test_parts_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        blend.blend([(member("softmax", 0), 0.5), (member("softmax", 1, size=96), 0.5)], "softmax", TAGS)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_what_a_finished_classifier_says_is_a_feature_of_the_next(kind: str) -> None:
    base = member(kind, 0)
    known = blend.known_features(base)
    features = run(known, "embedding")
    np.testing.assert_allclose(features, blend.logits(run(base, "probabilities"), kind), atol=1e-5)
    head = Head(np.eye(3, 2, dtype=np.float32), np.zeros(2, np.float32), "softmax")
    made = blend.with_head(known, head, ["x", "y"], tuned=True)
    np.testing.assert_allclose(run(made, "probabilities"), head.probabilities(features), atol=1e-5)
    # The next of the next also sees what this one's head sees.
    assert run(blend.known_features(made), "embedding").shape == (2, 3 + 2)


def test_a_mirrored_embedding_is_the_same_of_a_picture_and_of_its_mirror_image() -> None:
    model = graph.embedder(BACKBONE, SIZE, mirrored=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    one, two = (session.run(None, {"image": image})[0] for image in (IMAGES, IMAGES[..., ::-1].copy()))
    np.testing.assert_allclose(one, two, atol=1e-4)
