"""The ONNX archive: the stored model with true metadata, labels, licence and a program that runs it."""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from ownvision.domains import S1_DETECTION, Domain
from ownvision.exporters.suppression import with_suppression
from ownvision.inference import nms

EXPORTER_VERSION = "2.2"
_TOLERANCE = 1e-4
_PROPERTIES = "CustomVision.Preprocess."


@dataclass(frozen=True)
class Label:
    """A tag as the iteration knew it."""

    id: str
    name: str
    type: str


def archive(
    model: bytes,
    *,
    labels: Sequence[Label],
    domain: Domain,
    multilabel: bool,
    iteration_id: str,
    flavor: str | None,
    exported: datetime,
) -> bytes:
    """The archive of a stored model.

    Args:
        model: The iteration's ONNX file.
        labels: Its tags; `labels.txt` gets them in the order of the model's output, which the model knows by id.
        domain: What it was trained on; readers of General (compact) [S1] expect suppression inside the graph.
        multilabel: Whether its probabilities are independent.
        iteration_id: Named in the manifest.
        flavor: None, ``ONNX10`` or ``ONNX12``; the file is the same.
        exported: When.

    Returns:
        A zip of `model.onnx`, `labels.txt`, `cvexport.manifest`, `metadata_properties.json`, `LICENSE`, `README.md`,
        `requirements.txt` and `python/predict.py`.

    Raises:
        ValueError: The exported file does not give the stored one's numbers, or the model knows a tag without a label.
    """
    names = _in_order(model, labels)
    suppressed = domain.id == S1_DETECTION
    properties = metadata_properties(model, multilabel=multilabel, suppressed=suppressed)
    exported_model = _with_metadata(model, properties)
    if suppressed:
        exported_model = with_suppression(exported_model)
    check_parity(model, exported_model)
    manifest = {
        "DomainType": domain.type,
        "Platform": "ONNX",
        "Flavor": flavor,
        "ExporterVersion": EXPORTER_VERSION,
        "ExportedDate": exported.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z"),
        "IterationId": iteration_id,
        "ModelFileName": "model.onnx",
        "LabelFileName": "labels.txt",
        "MetadataPropsFileName": "metadata_properties.json",
        "ModelFileSHA1": hashlib.sha1(exported_model, usedforsecurity=False).hexdigest(),
        "SchemaVersion": "1.0",
    }
    resources = files("ownvision.exporters") / "onnx_files"
    entries = {
        "model.onnx": exported_model,
        "labels.txt": "\n".join(names).encode(),
        "cvexport.manifest": json.dumps(manifest, indent=1).encode(),
        "metadata_properties.json": json.dumps(properties, indent=1).encode(),
        "LICENSE": _licence((resources / "LICENSE").read_text(encoding="utf-8"), model),
        "README.md": (resources / "README.md").read_bytes(),
        "requirements.txt": (resources / "requirements.txt").read_bytes(),
        "python/predict.py": (resources / "predict.py").read_bytes(),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            entry = zipfile.ZipInfo(name, exported.astimezone(UTC).timetuple()[:6])
            entry.compress_type = zipfile.ZIP_STORED if name == "model.onnx" else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            file.writestr(entry, data)
    return buffer.getvalue()


def metadata_properties(model: bytes, *, multilabel: bool, suppressed: bool = False) -> dict[str, str]:
    """The original's twenty properties, with what is true of this model (`suppressed`: nothing is left to do)."""
    own = _own_metadata(model)
    height, width = json.loads(own["ownvision.input"])
    classification = own["ownvision.task"] == "classification"
    if classification:
        method = "ClassificationMultiLabel" if multilabel else "ClassificationMultiClass"
    else:
        method = "None" if suppressed else "NonMaxSuppression"
    return {
        "CustomVision.Metadata.AdditionalModelInfo": "",
        "CustomVision.Metadata.Version": "1.2",
        "CustomVision.Postprocess.Method": method,
        "CustomVision.Postprocess.Yolo.Biases": "[]",
        "CustomVision.Postprocess.Yolo.NmsThreshold": "0.45" if method == "NonMaxSuppression" else "0.0",
        f"{_PROPERTIES}CropHeight": "0",
        f"{_PROPERTIES}CropMethod": "NoCrop",
        f"{_PROPERTIES}CropWidth": "0",
        f"{_PROPERTIES}MaxDimension": "0",
        f"{_PROPERTIES}MaxScale": "0.0",
        f"{_PROPERTIES}MinDimension": "0",
        f"{_PROPERTIES}MinScale": "0.0",
        f"{_PROPERTIES}NormalizeMean": "[0.0, 0.0, 0.0]",
        f"{_PROPERTIES}NormalizeStd": "[1.0, 1.0, 1.0]",
        f"{_PROPERTIES}ResizeMethod": "Stretch",
        f"{_PROPERTIES}TargetHeight": str(height),
        f"{_PROPERTIES}TargetWidth": str(width),
        "Image.BitmapPixelFormat": "Rgb8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
    }


def check_parity(stored: bytes, exported: bytes) -> None:
    """See that both files give the same numbers on a picture of noise; of suppressed ones, the same best score.

    Raises:
        ValueError: They differ by more than 1e-4.
    """
    height, width = json.loads(_own_metadata(stored)["ownvision.input"])
    image = np.random.default_rng(0).integers(0, 256, (1, 3, height, width)).astype(np.float32)
    wanted, given = (_answers(file, image) for file in (stored, exported))
    if wanted.keys() != given.keys():
        best = wanted["scores"].max(initial=0.0)
        wanted = {"best": np.asarray(best if best >= nms.SCORE else 0.0)}
        given = {"best": given["detected_scores"].max(initial=0.0)}
    worst = max(float(np.abs(wanted[name] - given[name]).max()) for name in wanted)
    if worst > _TOLERANCE:
        raise ValueError(f"The exported model's numbers are up to {worst:.2g} away from the stored model's.")


def _answers(file: bytes, image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: image}), strict=True))


def _in_order(model: bytes, labels: Sequence[Label]) -> list[str]:
    names = {label.id: label.name for label in labels}
    ids: list[str] = json.loads(_own_metadata(model)["ownvision.tags"])
    missing = [tag for tag in ids if tag not in names]
    if missing:
        raise ValueError(f"The model knows tags that have no name: {', '.join(missing)}.")
    # One line a tag: a name with a line break in it would shift all that follow.
    return [" ".join(names[tag].splitlines()) for tag in ids]


def _own_metadata(model: bytes) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props}


def _licence(text: str, model: bytes) -> bytes:
    own = _own_metadata(model)
    licence = own.get("ownvision.licence") or "unknown"
    return text.format(backbone=own["ownvision.backbone"], licence=licence).encode()


def _with_metadata(model: bytes, properties: dict[str, str]) -> bytes:
    loaded = onnx.load_from_string(model)
    own = {entry.key: entry.value for entry in loaded.metadata_props}
    helper.set_model_props(loaded, dict(sorted({**own, **properties}.items())))
    return bytes(loaded.SerializeToString(deterministic=True))
