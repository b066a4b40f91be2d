"""Classifiers whose network was fine-tuned, as graphs: the frozen front that feeds training, and the finished file."""

from collections.abc import Sequence

from ownvision.learning.backbones.efficientnet_lite import Network, early, network, stages
from ownvision.learning.blend import tuned_classifier
from ownvision.learning.graph import Graph, Head, metadata

# Where the network's padding is even, as torch needs it, every side is a multiple of this.
STEP = 32


def front(backbone: str, size: int, first: int) -> bytes:
    """The stages before `first`, which are not trained: output `features` float32 [N, C, h, w].

    Raises:
        ValueError: The size is no multiple of 32, or `first` leaves nothing frozen.
    """
    if size % STEP or first < 1:
        raise ValueError(f"Fine-tuning takes a size that is a multiple of {STEP}, and leaves the first stage as it is.")
    graph = Graph()
    maps, side = early(graph, backbone, network(backbone), "image", size, first)
    graph.node("Identity", [maps[first - 1]], "features")
    return graph.model(
        input_size=(size, size),
        outputs=[("features", ["N", "C", side, side])],
        metadata=metadata("features", [], backbone, (size, size)),
    )


def classifier(backbone: str, changed: Network, size: int, head: Head, tag_ids: Sequence[str]) -> bytes:
    """The file of a fine-tuned network: its features are the mean of its last map, [N, 1280] for EfficientNet-Lite."""
    graph = Graph()
    _, last = stages(graph, backbone, changed, "image", size)
    embedding = graph.node("Flatten", [graph.node("GlobalAveragePool", [last])], "embedding", axis=1)
    return tuned_classifier(graph, embedding, head, backbone, size, tag_ids)
