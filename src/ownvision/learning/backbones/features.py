"""A backbone's embedding as part of a graph, whatever kind of backbone it is."""

from collections.abc import Callable

from ownvision.learning.backbones import BACKBONES, Backbone, efficientnet_lite, onnx_file
from ownvision.learning.graph import Graph

BUILDERS: dict[str, Callable[[Graph, Backbone, str, int, str | None], str]] = {
    "efficientnet_lite": efficientnet_lite.features,
    "joined": efficientnet_lite.joined,
    "onnx": onnx_file.features,
}


def features(graph: Graph, name: str, image: str, size: int, output: str | None) -> str:
    """Add a backbone to a graph.

    Args:
        graph: Where to.
        name: A name of `BACKBONES`.
        image: Name of the input [N, 3, size, size], RGB 0 to 255.
        size: Its side in pixels; a backbone that is an ONNX file takes its own only.
        output: What the embedding is to be called; None: anything.

    Returns:
        The name of the embedding [N, D].

    Raises:
        OwnVisionError: ErrorFeaturizationServiceUnavailable: it or its weights are not there.
    """
    backbone = BACKBONES[name]
    return BUILDERS[backbone.kind](graph, backbone, image, size, output)
