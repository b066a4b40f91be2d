"""A model of timm (pytorch-image-models) as an ONNX file, made once, where the extra `timm` is installed.

How pictures are put in comes from the model's own pretrained configuration. Only `ownvision backbone add` imports torch
here: what it writes needs neither torch nor timm.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ownvision.learning.adopted import Unusable
from ownvision.learning.backbones.folder import Refused
from ownvision.learning.backbones.onnx_file import check
from ownvision.learning.backbones.reshape import reshaped

INSTALL = 'A timm model needs the extra "timm": pip install "ownvision[timm]".'
_UNKNOWN_LICENCE = "unknown"


@dataclass(frozen=True)
class Exported:
    """A model and what its configuration says of it.

    Attributes:
        model: ONNX: one picture's pooled features [N, D].
        input_size: Side of its square input, pixels.
        mean: Per channel RGB, of 0 to 255.
        std: Per channel RGB, of 0 to 255.
        licence: Of its weights.
        source: Model, weights, and what else its configuration asks for.
    """

    model: bytes
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str
    source: str


def exported(model_name: str, weights: Path | None = None) -> Exported:
    """Build a model with its pre-trained weights, and write it as ONNX.

    Args:
        model_name: As timm names it, such as ``vit_small_patch16_224.augreg_in21k_ft_in1k``.
        weights: Its checkpoint (``.safetensors``, ``.pth``, ``.pt``, ``.bin``); None: from the hub that timm knows.

    Raises:
        Refused: timm is not installed, knows no such model, or can't build or load it.
    """
    try:
        import timm
        import torch
    except ImportError as error:
        raise Refused(f"{INSTALL} ({error})") from None
    if not timm.is_model(model_name):
        raise Refused(f"timm {timm.__version__} knows no model {model_name}; `timm.list_models()` lists them.")
    network = _loaded(timm, model_name, weights)
    told = timm.data.resolve_model_data_config(network)
    channels, height, width = told["input_size"]
    if channels != 3 or height != width:
        raise Refused(f"{model_name} takes {channels} × {height} × {width}, not a square picture of three colours.")
    own = network.pretrained_cfg
    network.reset_classifier(0)
    network.eval()
    example = torch.zeros(2, 3, height, width)
    with torch.no_grad():
        shape = tuple(network(example).shape)
    if len(shape) != 2:
        raise Refused(f"{model_name} gives {shape} without its classifier, not one row of features per picture.")
    wanted = f"{told['interpolation']} and a crop of {told['crop_pct']:g}"
    return Exported(
        model=_onnx(torch, network, example),
        input_size=height,
        mean=_levels(told["mean"]),
        std=_levels(told["std"]),
        licence=own.get("license") or _UNKNOWN_LICENCE,
        source=f"timm {timm.__version__}: {model_name}, weights {weights.name if weights else _hub(own)}; trained with "
        f"{wanted}, where pictures here are stretched whole",
    )


def _loaded(timm: Any, model_name: str, weights: Path | None) -> Any:
    # Strictly, with its classifier, which goes afterwards: without one timm would pass over what does not fit, and a
    # wrong file would leave chance numbers that look like weights.
    overlay = {} if weights is None else {"pretrained_cfg_overlay": {"file": str(weights), "custom_load": False}}
    if weights is not None and not weights.is_file():
        raise Refused(f"There is no file {weights}.")
    for attempt in ({"exportable": True}, {}):  # an option that a few models don't take
        try:
            return timm.create_model(model_name, pretrained=True, **attempt, **overlay)
        except TypeError as error:
            reason: Exception = error
        except Exception as error:  # of timm, torch, safetensors and the hub
            reason = error
            break
    what = f"the weights {weights}" if weights else "its weights from the hub"
    sentence = " ".join(str(reason).split())[:300]
    raise Refused(f"{model_name} can't be built with {what}: {type(reason).__name__}: {sentence}") from None


def _onnx(torch: Any, network: Any, example: Any) -> bytes:
    """By torch's newer exporter, or by the older one where the newer one's file has sizes that can't be told."""
    writers = (_by_tracing_symbols, _by_tracing_calls)
    for write in writers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own future
            data = write(torch, network, example)
        try:
            check(reshaped(data, None, example.shape[-1]), example.shape[-1])
        except Unusable:
            continue
        return data
    return data  # whose fault `folder.add` will name


def _by_tracing_symbols(torch: Any, network: Any, example: Any) -> bytes:
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        opset_version=18,
        dynamic_shapes=({0: torch.export.Dim("N")},),
        verbose=False,
    )
    data: bytes = program.model_proto.SerializeToString()
    return data


def _by_tracing_calls(torch: Any, network: Any, example: Any) -> bytes:
    buffer = io.BytesIO()
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["embedding"]}
    axes = {"image": {0: "N"}, "embedding": {0: "N"}}
    torch.onnx.export(network, (example,), buffer, dynamo=False, opset_version=17, dynamic_axes=axes, **names)
    return buffer.getvalue()


def _levels(given: Any) -> tuple[float, float, float]:
    """timm's are of 0 to 1."""
    red, green, blue = (round(255 * float(value), 6) for value in given)
    return red, green, blue


def _hub(own: dict[str, Any]) -> str:
    return str(own.get("hf_hub_id") or own.get("url") or "of timm's hub")
