import hashlib
import io
import json
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from ownvision.domains import DOMAINS, S1_DETECTION, Domain
from ownvision.exporters import PLATFORMS
from ownvision.exporters.onnx import Label, archive, check_parity
from ownvision.exporters.suppression import with_suppression
from ownvision.inference import Classification, load
from ownvision.learning import pixels
from ownvision.learning.backbones import BACKBONES
from ownvision.learning.evaluate import Detections
from ownvision.learning.graph import Graph, Head, classifier, metadata

MOMENT = datetime(2026, 11, 24, 12, 30, 5, 123456, tzinfo=UTC)
COMPACT = DOMAINS["0732100f-1a38-4e49-a514-c9b44c697ab5"]
COMPACT_DETECTION = DOMAINS["a27d5ca5-bb19-49d8-a70a-fec086c47f5b"]
LABELS = [Label("id-b", "Banana\nsplit", "Regular"), Label("id-a", "Äpfel", "Regular")]
KEYS = ["DomainType", "Platform", "Flavor", "ExporterVersion", "ExportedDate", "IterationId", "ModelFileName"]
KEYS += ["LabelFileName", "MetadataPropsFileName", "ModelFileSHA1", "SchemaVersion"]


def _picture(seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3)).astype(np.uint8))
    noise.resize((800, 600), Image.Resampling.BICUBIC).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def _classifier() -> bytes:
    weights = np.random.default_rng(0).normal(0, 0.02, (BACKBONES["efficientnet_lite0"].feature_dim, 2))
    head = Head(weights.astype(np.float32), np.zeros(2, np.float32), "softmax")
    return classifier("efficientnet_lite0", head, ["id-a", "id-b"])


def _detector(candidates: int = 600, size: int = 32, bias: float = -2) -> bytes:
    """Boxes that crowd around eight places; scores that hang on the picture."""
    rng = np.random.default_rng(1)
    places = rng.uniform(0.1, 0.6, (8, 4))[rng.integers(0, 8, candidates)]
    boxes = (places + rng.normal(0, 0.02, (candidates, 4))).clip(0.01, 0.9).astype(np.float32)
    graph = Graph()
    mean = graph.mul(graph.flat_mean("image"), graph.constant(np.float32(1 / 255)))
    weights = rng.normal(0, 2, (3, candidates * 2)).astype(np.float32)
    flat = graph.node(
        "Gemm", [mean, graph.constant(weights), graph.constant(np.full(candidates * 2, bias, np.float32))]
    )
    shape = graph.constant(np.array([-1, candidates, 2], np.int64))
    graph.node("Sigmoid", [graph.node("Reshape", [flat, shape])], "scores")
    zeros = graph.mul(graph.node("ReduceMean", ["scores"], axes=[1, 2], keepdims=1), graph.constant(np.float32(0)))
    graph.node("Add", [zeros, graph.constant(boxes[None])], "boxes")
    return graph.model(
        input_size=(size, size),
        outputs=[("boxes", ["N", candidates, 4]), ("scores", ["N", candidates, 2])],
        metadata=metadata("detection", ["id-a", "id-b"], "none", (size, size)),
    )


def _archived(model: bytes, domain: Domain, flavor: str | None = None) -> dict[str, bytes]:
    data = archive(
        model, labels=LABELS, domain=domain, multilabel=False, iteration_id="it", flavor=flavor, exported=MOMENT
    )
    with zipfile.ZipFile(io.BytesIO(data)) as files:
        return {name: files.read(name) for name in files.namelist()}


@pytest.mark.parametrize("flavor", PLATFORMS["ONNX"])
def test_the_manifest_is_true_and_in_the_originals_order(flavor: str | None) -> None:
    files = _archived(_detector(), COMPACT_DETECTION, flavor)
    manifest = json.loads(files["cvexport.manifest"])
    assert list(manifest) == KEYS
    assert manifest["ModelFileSHA1"] == hashlib.sha1(files["model.onnx"]).hexdigest()
    assert (manifest["Flavor"], manifest["IterationId"]) == (flavor, "it")
    assert manifest["ExportedDate"] == "2026-11-24T12:30:05.1234560Z"
    assert {manifest["ModelFileName"], manifest["LabelFileName"], manifest["MetadataPropsFileName"]} < set(files)
    assert "LICENSE" in files


def test_labels_stand_in_the_models_order_one_a_line() -> None:
    assert _archived(_detector(), COMPACT_DETECTION)["labels.txt"].decode() == "Äpfel\nBanana split"


@pytest.mark.parametrize("domain", [COMPACT_DETECTION, DOMAINS[S1_DETECTION]], ids=["compact", "s1"])
def test_the_properties_are_inside_the_model_too(domain: Domain) -> None:
    files = _archived(_detector(), domain)
    properties = json.loads(files["metadata_properties.json"])
    inside = {one.key: one.value for one in onnx.load_from_string(files["model.onnx"]).metadata_props}
    assert len(properties) == 20
    assert properties.items() < inside.items()
    assert all(isinstance(value, str) for value in properties.values())
    assert properties["Image.NominalPixelRange"] == "NominalRange_0_255"


def test_a_tag_without_a_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="id-b"):
        archive(
            _detector(), labels=LABELS[1:], domain=COMPACT_DETECTION, multilabel=False, iteration_id="it", flavor=None,
            exported=MOMENT,
        )  # fmt: skip


def test_the_same_export_is_the_same_bytes() -> None:
    assert _archived(_detector(), DOMAINS[S1_DETECTION]) == _archived(_detector(), DOMAINS[S1_DETECTION])


def test_a_file_with_other_numbers_is_no_export() -> None:
    suppressed = _archived(_detector(), DOMAINS[S1_DETECTION])["model.onnx"]
    check_parity(_detector(), suppressed)
    for exported in (_detector(bias=-1), with_suppression(_detector(bias=-1))):
        with pytest.raises(ValueError, match="away from"):
            check_parity(_detector(), exported)


@pytest.mark.parametrize("seed", range(4))
def test_suppression_in_the_graph_is_the_services(seed: int) -> None:
    stored = load(_detector(), threads=1)
    wanted = stored.predict(_picture(seed))
    assert isinstance(wanted, Detections)
    session = onnxruntime.InferenceSession(_archived(_detector(), DOMAINS[S1_DETECTION])["model.onnx"])
    image = pixels.load(_picture(seed), 32, 32).transpose(2, 0, 1)[None].astype(np.float32)
    boxes, tags, scores = session.run(
        ["detected_boxes", "detected_classes", "detected_scores"], {"image_tensor": image}
    )
    assert tags.dtype == np.int64
    assert boxes.shape == (1, len(wanted.scores), 4)
    assert np.abs(scores[0] - wanted.scores).max() < 1e-5
    assert np.array_equal(tags[0], wanted.tags)
    corners = np.concatenate([wanted.boxes[:, :2], wanted.boxes[:, :2] + wanted.boxes[:, 2:]], 1)
    assert np.abs(boxes[0] - corners).max() < 1e-4


@pytest.mark.parametrize(
    ("model", "domain"),
    [(_classifier(), COMPACT), (_detector(), COMPACT_DETECTION), (_detector(), DOMAINS[S1_DETECTION])],
    ids=["classifier", "detector", "s1"],
)
def test_the_archives_own_program_prints_the_services_numbers(model: bytes, domain: Domain, tmp_path: Path) -> None:
    for name, data in _archived(model, domain).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "picture.jpg").write_bytes(_picture())
    command = [sys.executable, "-I", str(tmp_path / "python" / "predict.py"), str(tmp_path / "picture.jpg")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()[1:]
    names = ["Äpfel", "Banana split"]
    answer = load(model, threads=1).predict(_picture())
    if isinstance(answer, Classification):
        order = np.argsort(-answer.probabilities)
        wanted = [(float(answer.probabilities[tag]), names[tag]) for tag in order]
    else:
        wanted = [(float(score), names[tag]) for score, tag in zip(answer.scores, answer.tags, strict=True)]
    assert len(printed) == len(wanted)
    for line, (probability, name) in zip(printed, wanted, strict=True):
        assert float(line.split()[0]) == pytest.approx(probability, abs=1e-4)
        assert name in line
