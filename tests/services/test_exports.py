import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest
from sqlalchemy import update

from ownvision.errors import OwnVisionError
from ownvision.jobs import handlers, rows
from ownvision.learning import pixels
from ownvision.services import exports, iterations, predictions, projects
from ownvision.services.components import Components
from ownvision.services.fitting import MODEL
from ownvision.store import ledger
from ownvision.store.tables import Export, Iteration, Project
from tests.services import trained as t


@dataclass(frozen=True)
class Home:
    """A trained compact classifier."""

    house: Components
    project: Project
    iteration: Iteration

    def start(self, platform: str, flavor: str | None = None) -> Export:
        with self.house.database.write() as session:
            locked = projects.get(session, self.project.account_id, self.project.id, lock=True)
            return exports.start(session, locked, self.iteration.id, platform, flavor)

    def all(self) -> list[Export]:
        with self.house.database.read() as session:
            return exports.all(session, self.project, self.iteration.id)

    def archive(self, export: Export) -> zipfile.ZipFile:
        key = ledger.export_prefix(self.project.id, export.id) + exports.ARCHIVE
        return zipfile.ZipFile(io.BytesIO(self.house.blobs.read(key)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    house = t.open_house(tmp_path_factory.mktemp("exports") / "data")
    project = t.make_project(house, "Colours")
    t.fill(house, project, {"red": 5, "blue": 5})
    yield Home(house, project, t.train(house, project))
    house.database.close()


@pytest.fixture
def home(trained: Home) -> Iterator[Home]:
    """The same, without exports before and after."""
    yield trained
    with trained.house.database.write() as session:
        for export in exports.all(session, trained.project, trained.iteration.id):
            rows.cancel(session, [export.id])
            ledger.doom(session, [ledger.export_prefix(trained.project.id, export.id)])
            session.delete(export)


def test_the_archive_gives_the_prediction_api_s_numbers(home: Home) -> None:
    started = home.start("onnx", "onnx10")
    assert (started.platform, started.flavor, started.status) == ("ONNX", "ONNX10", "Exporting")
    t.work(home.house)
    (export,) = home.all()
    assert (export.status, export.error) == ("Done", None)
    with home.archive(export) as archive:
        labels = archive.read("labels.txt").decode().splitlines()
        manifest = json.loads(archive.read("cvexport.manifest"))
        session = onnxruntime.InferenceSession(archive.read("model.onnx"))
    assert labels == ["blue", "red"]
    assert manifest["IterationId"] == home.iteration.id
    picture = t.coloured(0, 70)
    image = session.get_inputs()[0]
    rgb = pixels.load(picture, *image.shape[2:])
    (said,) = session.run(None, {image.name: rgb.transpose(2, 0, 1)[None].astype(np.float32)})
    with home.house.database.read() as reading:
        learned = iterations.learned_tags(reading, home.iteration.id)
    served, _ = predictions.predict(home.house, home.iteration, learned, picture)
    by_name = {one["tagName"]: one["probability"] for one in served}
    assert np.abs(said[0] - [by_name[label] for label in labels]).max() <= 1e-4


@pytest.mark.parametrize(
    ("platform", "flavor"), [("CoreML", None), ("nothing", None), ("ONNX", "ONNX99"), ("ONNX", "Linux")]
)
def test_what_no_exporter_makes_is_refused(home: Home, platform: str, flavor: str | None) -> None:
    with pytest.raises(OwnVisionError) as refusal:
        home.start(platform, flavor)
    assert refusal.value.code == "BadRequestExportValidationFailed"
    assert not home.all()


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"status": "Training"}, "BadRequestIterationIsNotTrained"),
        ({"status": "Failed"}, "BadRequestIterationIsNotTrained"),
        ({"domain_id": t.GENERAL}, "BadRequestExportValidationFailed"),
    ],
)
def test_only_completed_compact_iterations_are_exported(home: Home, values: dict[str, str], code: str) -> None:
    def write(changes: dict[str, str]) -> None:
        with home.house.database.write() as session:
            session.execute(update(Iteration).values(**changes))

    write(values)
    try:
        with pytest.raises(OwnVisionError) as refusal:
            home.start("ONNX")
    finally:
        write({"status": "Completed", "domain_id": t.COMPACT})
    assert refusal.value.code == code


def test_the_same_export_is_refused_while_it_runs_and_when_it_is_done(home: Home) -> None:
    home.start("ONNX")
    home.start("ONNX", "ONNX12")  # another flavor is another export
    for _ in range(2):
        with pytest.raises(OwnVisionError) as refusal:
            home.start("ONNX")
        assert refusal.value.code == "BadRequestExportAlreadyInProgress"
        t.work(home.house)
    assert [(export.flavor, export.status) for export in home.all()] == [("", "Done"), ("ONNX12", "Done")]


def test_a_failed_export_leaves_nothing_and_can_be_begun_anew(home: Home) -> None:
    home.start("ONNX")
    for _ in range(rows.MAX_ATTEMPTS):
        t.claim(home.house, rows.QUICK)
        rows.recover(home.house.database, handlers.on_failed, rows.any_running())
    (failed,) = home.all()
    assert failed.status == "Failed"
    assert failed.error is not None
    assert "3 times" in failed.error
    again = home.start("ONNX")
    assert again.id != failed.id
    t.work(home.house)
    assert [(export.id, export.status) for export in home.all()] == [(again.id, "Done")]
    assert not [key for key in t.files(home.house) if failed.id in key]


def test_a_model_that_can_not_be_read_fails_the_export_in_words(home: Home) -> None:
    prefix = ledger.iteration_prefix(home.project.id, home.iteration.id)
    model = home.house.blobs.read(prefix + MODEL)
    home.house.blobs.delete_prefix(prefix)
    try:
        home.start("ONNX")
        t.work(home.house)
    finally:
        home.house.blobs.put_new(prefix + MODEL, model)
    (failed,) = home.all()
    assert failed.status == "Failed"
    assert failed.error == "The model of Iteration 1 can't be read; train again."
