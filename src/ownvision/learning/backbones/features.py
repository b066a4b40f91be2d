"""A backbone's embedding as part of a graph, whatever kind of backbone it is."""

from collections.abc import Callable

from ownvision.learning.backbones import BACKBONES, Backbone, efficientnet_lite, onnx_file
from ownvision.learning.graph import Graph

BUILDERS: dict[str, Callable[[Graph, Backbone], str]] = {
    "efficientnet_lite": efficientnet_lite.features,
    "joined": efficientnet_lite.joined,
    "onnx": onnx_file.features,
}


def features(graph: Graph, name: str) -> str:
    """Add a backbone to a graph whose input is `image` [N, 3, S, S], RGB 0 to 255.

    Returns:
        The name of the embedding [N, D]: ``embedding``.

    Raises:
        OwnVisionError: ErrorFeaturizationServiceUnavailable: it or its weights are not there.
    """
    backbone = BACKBONES[name]
    return BUILDERS[backbone.kind](graph, backbone)
