import json

import numpy as np
import onnx
import onnxruntime
import pytest

from ownvision.learning import detector_graph

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # the maps are tiny
pytestmark = pytest.mark.train

TAG_IDS = ["a", "b", "c"]


def trained_a_little(backbone: str, size: int) -> tuple[object, np.ndarray, np.ndarray]:
    """A network whose batch norms have seen something, pictures, and their features."""
    from ownvision.learning.detect_network import Detector

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Detector(backbone, len(TAG_IDS))
        torch.nn.init.normal_(network.score.weight, std=0.3)
        torch.nn.init.normal_(network.edge.weight, std=0.3)
        torch.nn.init.zeros_(network.score.bias)
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, size, size)).astype(np.float32)
    session = onnxruntime.InferenceSession(detector_graph.front(backbone, size))
    features = session.run(None, {"image": images})[0]
    network.train()
    with torch.no_grad():
        for _ in range(4):
            network(torch.from_numpy(features))
    return network.eval(), images, features


@pytest.mark.parametrize(
    ("backbone", "size"), [("efficientnet_lite0", 64), ("efficientnet_lite0", 96), ("efficientnet_lite2", 64)]
)
def test_the_graph_says_what_torch_says(backbone: str, size: int) -> None:
    network, images, features = trained_a_little(backbone, size)
    file = detector_graph.detector(network.numbers(), backbone=backbone, input_size=size, tag_ids=TAG_IDS)  # type: ignore[attr-defined]
    boxes, scores = onnxruntime.InferenceSession(file).run(["boxes", "scores"], {"image": images})
    with torch.no_grad():
        logits, distances = network(torch.from_numpy(features))  # type: ignore[operator]
    points, strides = detector_graph.centres(size)
    pixels = distances.numpy() * strides[:, None]
    start = np.clip((points - pixels[..., :2]) / size, 0, 1)
    end = np.clip((points + pixels[..., 2:]) / size, 0, 1)
    assert boxes.shape == (2, sum((size // stride) ** 2 for stride in (8, 16, 32)), 4)
    assert np.abs(boxes - np.concatenate([start, end - start], -1)).max() <= 1e-4
    assert np.abs(scores - torch.sigmoid(logits).numpy()).max() <= 1e-4
    assert scores.std() > 0.01


def test_boxes_lie_within_the_picture_however_wild_the_numbers() -> None:
    network, images, _ = trained_a_little("efficientnet_lite0", 64)
    numbers = network.numbers()  # type: ignore[attr-defined]
    for level in range(3):
        numbers[f"head.edge.{level}.weight"] *= 1_000
    file = detector_graph.detector(numbers, backbone="efficientnet_lite0", input_size=64, tag_ids=TAG_IDS)
    boxes, _ = onnxruntime.InferenceSession(file).run(None, {"image": images})
    assert boxes.min() >= 0
    assert (boxes[..., :2] + boxes[..., 2:]).max() <= 1 + 1e-6


def test_the_file_says_what_it_is_and_is_always_the_same() -> None:
    network, _, _ = trained_a_little("efficientnet_lite0", 64)
    first, second = (
        detector_graph.detector(
            dict(sorted(network.numbers().items(), reverse=turn)),  # type: ignore[attr-defined]
            backbone="efficientnet_lite0",
            input_size=64,
            tag_ids=TAG_IDS,
        )
        for turn in (False, True)
    )
    assert first == second
    model = onnx.load_from_string(first)
    said = {prop.key: prop.value for prop in model.metadata_props}
    assert said["ownvision.task"] == "detection"
    assert json.loads(said["ownvision.tags"]) == TAG_IDS
    assert said["ownvision.backbone"] == "efficientnet_lite0"
    assert json.loads(said["ownvision.input"]) == [64, 64]
    assert [output.name for output in model.graph.output] == ["boxes", "scores"]


@pytest.mark.parametrize("size", [0, 16, 100])
def test_other_sizes_than_multiples_of_32_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        detector_graph.front("efficientnet_lite0", size)
