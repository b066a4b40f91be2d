"""A backbone of the weights folder through the services: its domain, training, predictions, exports, its going."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ownvision import domains
from ownvision.domains import DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.learning.backbones import BACKBONES, Backbone
from ownvision.services import exports, iterations, predictions, projects
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.tables import Iteration, Project
from ownvision.wire import shapes
from ownvision.wire.versions import LATEST
from tests.learning.test_backbones import TINY, add
from tests.services import trained as t

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Home:
    """A classifier trained on the tiny backbone."""

    house: Components
    backbone: Backbone
    project: Project
    iteration: Iteration

    def predict(self, picture: bytes) -> dict[str, float]:
        with self.house.database.read() as session:
            tags = iterations.learned_tags(session, self.iteration.id)
        found, _ = predictions.predict(self.house, self.iteration, tags, picture)
        return {one["tagName"]: one["probability"] for one in found}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("backbones") / "data"
    backbone = add(folder / "weights")
    house = t.open_house(folder)
    project = t.make_project(house, "Colours", domain_id=domains.own_id(backbone))
    t.fill(house, project, {"red": 8, "blue": 8})
    yield Home(house, backbone, project, t.train(house, project))
    house.database.close()
    domains.open_weights(folder / "nothing")


@pytest.fixture
def home(trained: Home) -> Iterator[Home]:
    domains.open_weights(trained.house.settings.weights_folder)
    yield trained
    domains.open_weights(trained.house.settings.weights_folder)


def test_a_backbone_has_a_domain_that_a_project_learns_by(home: Home) -> None:
    domain = DOMAINS[home.project.domain_id]
    assert (domain.name, domain.backbone, domain.type, domain.exportable) == (TINY, TINY, "Classification", True)
    assert home.iteration.status == "Completed"
    for colour, name in enumerate(("red", "blue")):
        said = home.predict(t.coloured(colour, 60))
        assert max(said, key=said.__getitem__) == name
        assert sum(said.values()) == pytest.approx(1.0, abs=1e-5)
    kept = {key.partition(".")[2] for key, _ in home.house.blobs.list() if ".embedding-" in key}
    assert kept == {f"embedding-{home.backbone.version}"}
    assert home.backbone.version in home.iteration.pipeline


def test_an_export_gives_the_api_s_numbers_and_names_the_licence(home: Home, tmp_path: Path) -> None:
    with home.house.database.write() as session:
        locked = projects.get(session, home.project.account_id, home.project.id, lock=True)
        export = exports.start(session, locked, home.iteration.id, "ONNX", None)
    t.work(home.house)
    data = home.house.blobs.read(ledger.export_prefix(home.project.id, export.id) + exports.ARCHIVE)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path)
    assert "tiny, whose licence is: CC0-1.0" in (tmp_path / "LICENSE").read_text()
    picture = t.coloured(0, 61)
    (tmp_path / "picture.png").write_bytes(picture)
    command = [sys.executable, "-I", str(tmp_path / "python" / "predict.py"), str(tmp_path / "picture.png")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()[1:]
    said = {name: float(number) for number, name in (line.split() for line in printed)}
    assert said == pytest.approx(home.predict(picture), abs=1e-5)


def test_without_its_backbone_a_model_goes_on_serving_and_only_learning_stops(home: Home, tmp_path: Path) -> None:
    before = home.predict(t.coloured(1, 62))
    domains.open_weights(tmp_path)
    home.house.models.evict(home.iteration.id)
    assert home.predict(t.coloured(1, 62)) == before
    assert shapes.iteration(home.iteration, LATEST)["exportable"] is True
    with pytest.raises(OwnVisionError, match="OWNVISION_WEIGHTS") as refusal:
        t.start(home.house, home.project, force=True)
    assert refusal.value.code == "ErrorFeaturizationServiceUnavailable"
    with pytest.raises(OwnVisionError, match="no domain"):
        t.make_project(home.house, "Another", domain_id=home.project.domain_id)


def test_damaged_weights_fail_a_training_with_a_sentence_and_keep_what_was_there(home: Home) -> None:
    path = home.backbone.weights()
    original = path.read_bytes()
    path.write_bytes(original + b"\0")
    try:
        t.upload(home.house, home.project, [t.coloured(0, 90)], list(red(home)))
        failed = t.train(home.house, home.project, force=True)
    finally:
        path.write_bytes(original)
    assert failed.status == "Failed"
    assert "SHA-256" in (failed.error or "")
    assert t.train(home.house, home.project, force=True).status == "Completed"


def red(home: Home) -> list[str]:
    with home.house.database.read() as session:
        return [tag.tag_id for tag in iterations.learned_tags(session, home.iteration.id) if tag.name == "red"]


def test_another_installation_with_the_same_weights_knows_the_same_domain(home: Home, tmp_path: Path) -> None:
    for source in home.house.settings.weights_folder.iterdir():
        (tmp_path / source.name.replace(TINY, "other-name")).write_bytes(source.read_bytes())
    entry = tmp_path / "other-name.json"
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "name": "other-name"}))
    assert domains.open_weights(tmp_path) == []
    assert DOMAINS[home.project.domain_id].backbone == "other-name"
    assert TINY not in BACKBONES
