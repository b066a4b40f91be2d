"""Every backbone of the registry passes these: the built-in ones, and one that an ONNX file was made into."""

import dataclasses
import hashlib
import io
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from ownvision.errors import OwnVisionError
from ownvision.learning import pixels
from ownvision.learning.backbones import BACKBONES, BUILT_IN, Backbone, folder
from ownvision.learning.backbones.efficientnet_lite import network, stages
from ownvision.learning.backbones.weights import load_weights, read
from ownvision.learning.classify import Embedder
from ownvision.learning.graph import Graph, Head, classifier, embedder
from tests.learning import networks

EGYPTIAN_CAT, ESPRESSO = 285, 967
TINY = "tiny"
ALL = [*sorted(BUILT_IN), TINY]


def add(where: Path, model: onnx.ModelProto | None = None, name: str = TINY, **other: Any) -> Backbone:
    given: dict[str, Any] = {
        "input_size": networks.SIDE,
        "mean": networks.MEAN,
        "std": networks.STD,
        "licence": "CC0-1.0",
        "origin": "made by a test",
    }
    source = (model or networks.network()).SerializeToString()
    return folder.add(where, name, source, **given | other)


@pytest.fixture(scope="module", autouse=True)
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A weights folder with `TINY`, registered."""
    where = tmp_path_factory.mktemp("weights")
    add(where)
    assert folder.register(where) == []
    yield where
    BACKBONES.register([])


def pictures(count: int) -> list[bytes]:
    rng = np.random.default_rng(5)
    files = []
    for _ in range(count):
        buffer = io.BytesIO()
        coarse = Image.fromarray(rng.integers(0, 256, (6, 5, 3)).astype(np.uint8))
        coarse.resize((150, 180), Image.Resampling.BICUBIC).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def loaded(files: list[bytes], size: int) -> NDArray[np.float32]:
    return np.stack([pixels.load(one, size, size) for one in files]).transpose(0, 3, 1, 2).astype(np.float32)


def _photograph(name: str) -> bytes:
    from skimage import data

    buffer = io.BytesIO()
    Image.fromarray(getattr(data, name)()).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("name", [name for name in sorted(BUILT_IN) if not BACKBONES[name].parts])
def test_a_backbone_knows_what_imagenet_taught_it(name: str) -> None:
    """Wrong strides, padding or normalisation give features that look like features; only its own classes tell."""
    weights, size = load_weights(name), BACKBONES[name].input_size
    graph = Graph()
    _, head = stages(graph, name, network(name), "image", size)
    classes = [graph.constant(weights["_fc.weight"].T), graph.constant(weights["_fc.bias"])]
    graph.node("Softmax", [graph.node("Gemm", [graph.flat_mean(head), *classes])], "classes", axis=1)
    model = graph.model(input_size=(size, size), outputs=[("classes", ["N", 1000])], metadata={})
    session = onnxruntime.InferenceSession(model)
    (said,) = session.run(None, {"image": loaded([_photograph(one) for one in ("chelsea", "coffee")], size)})
    assert said.argmax(1).tolist() == [EGYPTIAN_CAT, ESPRESSO]
    assert said.max(1).min() > 0.6


def test_an_onnx_file_s_embedding_is_what_numpy_makes_of_its_own_preprocessing() -> None:
    files = pictures(3)
    rgb = np.stack([pixels.load(one, networks.SIDE, networks.SIDE) for one in files])
    assert np.abs(Embedder(TINY)(files) - networks.said_of(rgb)).max() < 1e-5


@pytest.mark.parametrize("name", ALL)
def test_embeddings_have_the_length_the_registry_says_and_fit_float16(name: str) -> None:
    backbone = BACKBONES[name]
    size = backbone.input_size
    session = onnxruntime.InferenceSession(embedder(name))
    extremes = np.stack([np.zeros((3, size, size)), np.full((3, size, size), 255)]).astype(np.float32)
    (vectors,) = session.run(None, {"image": extremes})
    assert vectors.shape == (2, backbone.feature_dim)
    assert np.isfinite(vectors.astype(np.float16)).all()


@pytest.mark.parametrize("name", ALL)
def test_the_entry_s_mean_and_deviation_are_what_the_graph_begins_with(name: str) -> None:
    graph = onnx.load_from_string(embedder(name)).graph
    numbers = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    readers = [node for node in graph.node if "image" in node.input]
    assert len(readers) == max(len(BACKBONES[name].parts), 1)
    for first in readers:
        (second,) = (node for node in graph.node if first.output[0] in node.input)
        assert (first.op_type, first.input[0], second.op_type) == ("Sub", "image", "Mul")
        assert np.array_equal(numbers[first.input[1]].ravel(), np.float32(BACKBONES[name].mean))
        assert np.array_equal(numbers[second.input[1]].ravel(), 1 / np.float32(BACKBONES[name].std))


@pytest.mark.parametrize("name", ALL)
def test_an_embedding_hangs_on_its_picture_alone_not_on_batch_or_threads(name: str) -> None:
    files = pictures(5)
    one_thread, two_threads = Embedder(name, threads=1), Embedder(name, threads=2)
    together = one_thread(files)
    assert np.array_equal(together, np.concatenate([one_thread([one]) for one in files]))
    assert np.array_equal(together, two_threads(files[::-1])[::-1])


@pytest.mark.parametrize("name", ALL)
def test_a_classifier_is_its_head_on_the_embedding(name: str) -> None:
    backbone = BACKBONES[name]
    weights = np.random.default_rng(0).normal(0, 0.1, (backbone.feature_dim, 3)).astype(np.float32)
    head = Head(weights, np.zeros(3, np.float32), "softmax")
    files = pictures(2)
    session = onnxruntime.InferenceSession(classifier(name, head, ["a", "b", "c"]))
    (said,) = session.run(None, {"image": loaded(files, backbone.input_size)})
    assert np.abs(said - head.probabilities(Embedder(name)(files))).max() < 1e-4
    assert session.get_modelmeta().custom_metadata_map["ownvision.licence"] == backbone.licence


@pytest.mark.parametrize("name", ALL)
def test_the_same_backbone_gives_the_same_bytes(name: str) -> None:
    assert embedder(name) == embedder(name)


@pytest.mark.parametrize("name", [name for name in ALL if name not in BUILT_IN or not BACKBONES[name].parts])
def test_other_weights_are_never_loaded(name: str, tmp_path: Path) -> None:
    backbone = BACKBONES[name]
    original = backbone.read()
    changed = tmp_path / "weights"
    changed.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(OwnVisionError, match="SHA-256"):
        dataclasses.replace(backbone, weights=lambda: changed).read()
    with pytest.raises(OwnVisionError, match="can't be read"):
        dataclasses.replace(backbone, weights=lambda: tmp_path / "gone").read()


def test_backbones_joined_are_the_files_of_their_parts() -> None:
    for backbone in (one for one in BACKBONES.values() if one.parts):
        assert hashlib.sha256(backbone.read()).hexdigest() == backbone.sha256
        assert backbone.blocks == tuple(map(sum, zip(*(BACKBONES[one].blocks for one in backbone.parts), strict=True)))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "other",
    [{"sha256": "0" * 64}, {"input_size": 99}, {"mean": (1.0, 2.0, 3.0)}, {"std": (4.0, 5.0, 6.0)}],
    ids=lambda other: next(iter(other)),
)
def test_what_was_computed_is_named_by_weights_and_preprocessing(name: str, other: dict[str, Any]) -> None:
    backbone = BACKBONES[name]
    changed = dataclasses.replace(backbone, **other)
    assert changed.version != backbone.version
    assert changed.fingerprint != backbone.fingerprint


def test_tensors_stored_transposed_are_read_as_torch_reads_them() -> None:
    torch = pytest.importorskip("torch")
    weights = load_weights("efficientnet_lite0")
    known = torch.load(BACKBONES["efficientnet_lite0"].weights(), weights_only=True, map_location="cpu")
    assert all(np.array_equal(array, known[name].numpy()) for name, array in weights.items())


class _Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        import os

        return os.system, ("false",)


@pytest.mark.parametrize("data", [pickle.dumps(_Evil()), pickle.dumps(7), b""], ids=["code", "no magic", "empty"])
def test_a_file_that_is_no_weights_runs_nothing(data: bytes) -> None:
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        read(data)


def test_the_entry_says_what_was_given_and_the_folder_can_be_carried_elsewhere(weights: Path, tmp_path: Path) -> None:
    told = json.loads((weights / f"{TINY}.json").read_text())
    assert told["sha256"] == hashlib.sha256((weights / f"{TINY}.onnx").read_bytes()).hexdigest()
    assert (told["feature_dim"], told["licence"]) == (networks.LENGTH, "CC0-1.0")
    for path in weights.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (found,) = folder.entries(tmp_path)
    assert isinstance(found, Backbone)
    assert found.fingerprint == BACKBONES[TINY].fingerprint
    assert found.read() == BACKBONES[TINY].read()


FLAT = helper.make_node("Flatten", ["pooled"], ["rows"], axis=1)
PARTS: list[tuple[str, onnx.ModelProto, dict[str, Any]]] = [
    ("pooled maps", networks.network(), {}),
    ("rows", networks.network(extra=[FLAT], outputs=["rows"]), {}),
    ("one of two outputs", networks.network(outputs=["positive", "pooled"]), {"output": "pooled"}),
    ("a part that is no output", networks.network(extra=[FLAT], outputs=["rows"]), {"output": "pooled"}),
    ("an old opset", networks.network(opset=11), {}),
    ("a newer opset", networks.network(opset=20), {}),
]


@pytest.mark.parametrize(("model", "given"), [one[1:] for one in PARTS], ids=[one[0] for one in PARTS])
def test_a_file_in_any_of_the_usual_shapes_becomes_a_backbone(
    model: onnx.ModelProto, given: dict[str, Any], tmp_path: Path
) -> None:
    backbone = add(tmp_path, model, **given)
    files = pictures(2)
    before = dict(BACKBONES)
    try:
        BACKBONES.register([backbone])
        vectors = Embedder(TINY)(files)
    finally:
        BACKBONES.register(before.values())
    assert np.allclose(vectors, Embedder(TINY)(files), atol=1e-6)


def _external() -> onnx.ModelProto:
    model = networks.network()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    return model


def _loop() -> onnx.ModelProto:
    body = helper.make_graph([], "body", [], [])
    return networks.network(
        extra=[helper.make_node("If", ["pooled"], ["rows"], then_branch=body, else_branch=body)], outputs=["rows"]
    )


def _own_operator() -> onnx.ModelProto:
    node = helper.make_node("Evil", ["pooled"], ["rows"], domain="com.example")
    model = networks.network(extra=[node], outputs=["rows"])
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model


def _huge() -> onnx.ModelProto:
    shape = helper.make_node("Constant", [], ["shape"], value_ints=[1, 1, 1 << 15, 1 << 15])
    large = helper.make_node("Expand", ["pooled", "shape"], ["large"])
    return networks.network(extra=[shape, large, helper.make_node("GlobalMaxPool", ["large"], ["p"])], outputs=["p"])


def _mixed() -> onnx.ModelProto:
    mean = helper.make_node("ReduceMean", ["pooled"], ["mean"], axes=[0], keepdims=1)
    return networks.network(extra=[mean, helper.make_node("Sub", ["pooled", "mean"], ["rows"])], outputs=["rows"])


REFUSED: list[tuple[str, onnx.ModelProto, dict[str, Any], str]] = [
    ("numbers elsewhere", _external(), {}, "other files"),
    ("control flow", _loop(), {}, "'If'"),
    ("an operator of its own", _own_operator(), {}, "'Evil'"),
    ("more than memory", _huge(), {}, "too large"),
    ("pictures that hang together", _mixed(), {}, "beside it"),
    ("one picture at a time", networks.network(
        batch=1, extra=[helper.make_node("Constant", [], ["one"], value_ints=[1, 8]),
                        helper.make_node("Reshape", ["pooled", "one"], ["rows"])], outputs=["rows"],
    ), {}, r"output is not \[N|first dimension"),
    ("another size than it takes", networks.network(
        extra=[helper.make_node("Constant", [], ["all"], value_ints=[-1, 512]),
               helper.make_node("Reshape", ["positive", "all"], ["rows"]),
               helper.make_node("Gemm", ["rows", "square"], ["p"])], outputs=["p"],
    ), {"input_size": 64}, "can't be used"),
    ("a map where rows should be", networks.network(outputs=["positive"]), {"input_size": 1 << 9}, "feature_dim"),
    ("too large for float16", networks.network(scale=1e6), {}, "65,504"),
    ("two outputs and none named", networks.network(outputs=["positive", "pooled"]), {}, "positive, pooled"),
    ("an output that is not there", networks.network(), {"output": "absent"}, "pooled"),
    ("no deviation", networks.network(), {"std": (1.0, 0.0, 1.0)}, "std.1"),
    ("a mean that is none", networks.network(), {"mean": (float("nan"), 0.0, 0.0)}, "mean.0"),
    ("a name that is a path", networks.network(), {"name": "../up"}, "name"),
    ("a built-in name", networks.network(), {"name": "efficientnet_lite0"}, "already"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "given", "says"), [one[1:] for one in REFUSED], ids=[one[0].replace(" ", "-") for one in REFUSED]
)
def test_what_can_not_be_a_backbone_is_refused_and_nothing_is_written(
    model: onnx.ModelProto, given: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(folder.Refused, match=says):
        add(tmp_path / "weights", model, **given)
    assert not list(tmp_path.rglob("*.*"))


def test_a_name_is_taken_once(weights: Path) -> None:
    with pytest.raises(folder.Refused, match="already"):
        add(weights)


def test_no_onnx_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(folder.Refused, match="no ONNX file"):
        folder.add(
            tmp_path, "x", b"\xff\xff", input_size=32, mean=(0, 0, 0), std=(1, 1, 1), licence="CC0-1.0", origin="a test"
        )


def _entry(**other: Any) -> bytes:
    return json.dumps({**json.loads(ENTRY), **other}).encode()


ENTRY = json.dumps(
    {
        "name": "odd", "sha256": "0" * 64, "licence": "CC0-1.0", "input_size": 32, "mean": [0, 0, 0], "std": [1, 1, 1],
        "feature_dim": 8, "source": "a test",
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "no JSON"),
        (b"[" * 50_000, "no JSON"),
        (b"[]", "can't be used"),
        (_entry(name="other"), "the file's name"),
        (_entry(input_size=10_000_000), "input_size"),
        (_entry(std=[1, -1, 1]), "std.1"),
        (_entry(sha256="x"), "sha256"),
        (_entry(run="something"), "run"),
    ],
    ids=["half", "deep", "a list", "another name", "huge", "negative", "no digest", "an unknown word"],
)
def test_a_wrong_entry_is_named_and_passed_over(data: bytes, says: str, tmp_path: Path, weights: Path) -> None:
    for path in weights.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "odd.json").write_bytes(data)
    found = list(folder.entries(tmp_path))
    (refused,) = [one for one in found if isinstance(one, folder.Refused)]
    assert says in str(refused)
    assert [one.name for one in found if isinstance(one, Backbone)] == [TINY]


def test_an_entry_written_by_hand_over_a_hostile_network_runs_nothing(tmp_path: Path) -> None:
    model = networks.network(outputs=["rows"], extra=[helper.make_node("NonZero", ["pooled"], ["rows"])])
    model.graph.input[0].name = "image"
    data = model.SerializeToString()
    (tmp_path / "odd.onnx").write_bytes(data)
    (tmp_path / "odd.json").write_bytes(_entry(sha256=hashlib.sha256(data).hexdigest()))
    (backbone,) = folder.entries(tmp_path)
    assert isinstance(backbone, Backbone)
    before = dict(BACKBONES)
    try:
        BACKBONES.register([backbone])
        with pytest.raises(OwnVisionError, match="NonZero"):
            embedder("odd")
    finally:
        BACKBONES.register(before.values())


def test_a_timm_model_is_put_in_as_its_own_configuration_says(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    from ownvision.learning.backbones.timm_model import exported

    network = timm.create_model("resnet18", pretrained=False).eval()
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    made = exported("resnet18", tmp_path / "resnet18.pth")
    told = timm.data.resolve_model_data_config(network)
    assert np.allclose(made.mean, 255 * np.array(told["mean"]))
    assert np.allclose(made.std, 255 * np.array(told["std"]))
    assert (made.input_size, made.licence) == (told["input_size"][1], network.pretrained_cfg["license"])
    backbone = folder.add(
        tmp_path / "weights", "r18", made.model, input_size=made.input_size, mean=made.mean, std=made.std,
        licence=made.licence, origin=made.source,
    )  # fmt: skip
    network.reset_classifier(0)
    files = pictures(2)
    planes = torch.from_numpy(loaded(files, made.input_size))
    center, scale = (torch.tensor(told[part]).reshape(1, 3, 1, 1) for part in ("mean", "std"))
    with torch.no_grad():
        wanted = network((planes / 255 - center) / scale).numpy()
    before = dict(BACKBONES)
    try:
        BACKBONES.register([backbone])
        assert np.abs(Embedder("r18")(files) - wanted).max() < 1e-4
    finally:
        BACKBONES.register(before.values())


def test_weights_of_another_timm_model_are_refused(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    from ownvision.learning.backbones.timm_model import exported

    torch.save(timm.create_model("resnet34", pretrained=False).state_dict(), tmp_path / "other.pth")
    with pytest.raises(folder.Refused, match="state_dict"):
        exported("resnet18", tmp_path / "other.pth")
