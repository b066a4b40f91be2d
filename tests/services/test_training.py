import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from sqlalchemy import func, select, update

from ownvision.errors import OwnVisionError
from ownvision.jobs import handlers, rows, runner
from ownvision.learning import evaluate
from ownvision.limits import Tier
from ownvision.services import fitting, images, iterations, outputs, performance, predictions, projects, tags
from ownvision.services.components import Components
from ownvision.services.regions import Box
from ownvision.store import ledger
from ownvision.store.blobs.sealed import SealedBlobs
from ownvision.store.tables import Blob, Iteration, IterationTag, Job, Lineage, Project, ScoredImage
from tests.services import trained as t

# Real trainings, one after the other: left to `make test`.
pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Components]:
    house = t.open_house(tmp_path / "data")
    yield house
    house.database.close()


@pytest.fixture
def project(home: Components) -> Project:
    return t.make_project(home, "Colours")


def model_of(house: Components, iteration: Iteration) -> bytes:
    return house.blobs.read(ledger.iteration_prefix(iteration.project_id, iteration.id) + fitting.MODEL)


@pytest.mark.parametrize("kind", ["Multiclass", "Multilabel"])
def test_a_classifier_learns_and_tells_its_tags_apart(home: Components, kind: str) -> None:
    project = t.make_project(home, kind, kind)
    made = t.fill(home, project, {"red": 6, "blue": 6})
    iteration = t.train(home, project)
    assert (iteration.status, iteration.error, iteration.name) == ("Completed", None, "Iteration 1")
    assert iteration.trained_at is not None
    assert iteration.training_seconds > 0
    with home.database.read() as session:
        learned = iterations.learned_tags(session, iteration.id)
        assert [tag.name for tag in learned] == ["blue", "red"]  # by name
        assert session.scalar(select(func.count()).select_from(ScoredImage)) == 12
        job = session.scalars(select(Job).where(Job.kind == "train")).one()
        assert (job.state, job.progress) == ("done", 1.0)
        blob = session.get_one(Blob, ledger.iteration_prefix(project.id, iteration.id))
        assert blob.state == ledger.LIVE
    for colour, name in enumerate(["red", "blue"]):
        found, info = predictions.predict(home, iteration, learned, t.coloured(colour, 99))
        assert (found[0]["tagName"], found[0]["tagId"], found[0]["tagType"]) == (name, made[name], "Regular")
        assert found[0]["probability"] > 0.5 > found[1]["probability"]
        assert (info.width, info.height, info.format) == (48, 48, "PNG")


def test_the_same_data_gives_the_same_model_in_any_order(home: Components) -> None:
    models = []
    for name, counts in {"one": ["red", "blue"], "two": ["blue", "red"]}.items():
        project = t.make_project(home, name)
        for tag in counts:
            tag_id = t.make_tag(home, project, tag)
            pictures = [t.coloured(["red", "blue"].index(tag), seed) for seed in range(6)]
            t.upload(home, project, pictures if name == "one" else pictures[::-1], [tag_id])
        loaded = onnx.load_from_string(model_of(home, t.train(home, project)))
        models.append([numpy_helper.to_array(constant) for constant in loaded.graph.initializer])
    for one, two in zip(*models, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_same_revision_gives_the_same_bytes(home: Components, project: Project) -> None:
    """Without any exception: nothing in the file says when it was made. Features are made anew in between."""
    t.fill(home, project, {"red": 6, "blue": 7})
    first = model_of(home, t.train(home, project))
    for key, _ in list(home.blobs.list(f"{project.id}/images/")):
        if ".embedding-" in key:
            (home.settings.data / "objects" / key).unlink()
    assert model_of(home, t.train(home, project, force=True)) == first


def test_only_selected_tags_are_learned_and_images_without_them_left_out(home: Components, project: Project) -> None:
    made = t.fill(home, project, {"red": 5, "blue": 5, "green": 2})
    iteration = t.train(home, project, selected_tags=[made["blue"], made["red"], made["red"]])
    with home.database.read() as session:
        frozen = tags.all(session, project, iteration.id)
        positions = dict(session.execute(select(IterationTag.name, IterationTag.position)).all())  # type: ignore[arg-type]
        assert session.scalar(select(func.count()).select_from(ScoredImage)) == 10
    assert positions == {"blue": 0, "red": 1, "green": None}
    assert {tag.name: tag.image_count for tag in frozen} == {"red": 5, "blue": 5, "green": 2}


NOT_ENOUGH = "Not enough images for training"


@pytest.mark.parametrize(
    ("kind", "counts", "wishes", "code", "says"),
    [
        ("Multiclass", {"red": 5}, {}, "BadRequestMultiClassClassificationTrainingValidationFailed", "two tags"),
        ("Multilabel", {}, {}, "BadRequestMultiLabelClassificationTrainingValidationFailed", "one tag"),
        ("Multiclass", {"red": 5, "blue": 4}, {}, "BadRequestMultiClassClassificationTrainingValidationFailed", "blue"),
        ("Multilabel", {"red": 4}, {}, "BadRequestMultiLabelClassificationTrainingValidationFailed", NOT_ENOUGH),
        ("Multilabel", {"red": 5}, {"selected_tags": ["nobody"]}, "BadRequestInvalidIds", "nobody"),
        ("Multilabel", {"red": 5}, {"email": "no address"}, "BadRequestInvalidEmailAddress", "e-mail"),
        ("Multilabel", {"red": 5}, {"training_type": "Slow"}, "BadRequest", "Slow"),
        (
            "Multilabel",
            {"red": 5},
            {"training_type": "Advanced"},
            "BadRequestReservedBudgetInHoursNotEnoughForAdvancedTraining",
            "at least 1",
        ),
        (
            "Multilabel",
            {"red": 5},
            {"tier": Tier(iterations_per_project=0)},
            "BadRequestExceedIterationPerProjectLimit",
            "allows 0",
        ),
    ],
)
def test_what_can_not_be_trained_is_refused_and_changes_nothing(
    home: Components, kind: str, counts: dict[str, int], wishes: dict[str, Any], code: str, says: str
) -> None:
    project = t.make_project(home, "refused", kind)
    t.fill(home, project, counts)
    with pytest.raises(OwnVisionError) as refusal:
        t.start(home, project, **wishes)
    assert refusal.value.code == code
    assert says in refusal.value.message
    with home.database.read() as session:
        assert not iterations.all(session, project)
        assert session.scalar(select(Job.id).where(Job.kind == "train")) is None


def test_a_multiclass_image_with_two_tags_is_refused_by_name(home: Components, project: Project) -> None:
    made = t.fill(home, project, {"red": 5, "blue": 5})
    (image_id,) = t.upload(home, project, [t.coloured(2, 0)], list(made.values()))
    with pytest.raises(OwnVisionError, match=image_id) as refusal:
        t.start(home, project)
    assert refusal.value.code == "BadRequestMultiClassClassificationTrainingValidationFailed"


def test_one_tag_and_negative_are_enough_and_negative_is_answered(home: Components, project: Project) -> None:
    red, none = t.make_tag(home, project, "red"), t.make_tag(home, project, "none of them", "Negative")
    t.upload(home, project, [t.coloured(0, seed) for seed in range(5)], [red])
    t.upload(home, project, [t.coloured(1, seed) for seed in range(5)], [none])
    iteration = t.train(home, project)
    with home.database.read() as session:
        learned = iterations.learned_tags(session, iteration.id)
    found, _ = predictions.predict(home, iteration, learned, t.coloured(1, 77))
    assert (found[0]["tagId"], found[0]["tagType"]) == (none, "Negative")


def test_a_base_model_must_be_completed_of_the_account_and_of_the_domain(home: Components, project: Project) -> None:
    t.fill(home, project, {"red": 5, "blue": 5})
    other = t.make_project(home, "base", domain_id=t.GENERAL)
    t.fill(home, other, {"red": 5, "blue": 5})
    queued = t.start(home, other)
    base = {"projectId": other.id, "iterationId": queued.id}

    def refused() -> str:
        with pytest.raises(OwnVisionError) as refusal:
            t.start(home, project, custom_base=base)
        return refusal.value.code

    assert refused() == "BadRequestCustomBaseModelIterationStatusNotCompleted"
    with home.database.write() as session:
        session.execute(update(Iteration).values(status="Completed"))
    assert refused() == "BadRequestCustomBaseModelDomainNotCompatible"
    with home.database.write() as session:
        session.execute(update(Iteration).values(domain_id=t.COMPACT))
    assert t.start(home, project, custom_base=base).custom_base_model == base


def test_a_detector_needs_fifteen_images_per_tag_and_torch(home: Components, monkeypatch: pytest.MonkeyPatch) -> None:
    project = t.make_project(home, "boxes", domain_id=t.DETECTION)
    tag_id = t.make_tag(home, project, "dot")
    box = Box(tag_id, 0.2, 0.2, 0.5, 0.5)
    t.upload(home, project, [t.coloured(0, seed) for seed in range(14)], [], [box])
    with pytest.raises(OwnVisionError, match=NOT_ENOUGH) as refusal:
        t.start(home, project)
    assert refusal.value.code == "BadRequestDetectionTrainingValidationFailed"
    t.upload(home, project, [t.coloured(0, 14)], [], [box])
    monkeypatch.setitem(sys.modules, "torch", None)  # as where the extra is not installed
    with pytest.raises(OwnVisionError, match=r'pip install "ownvision\[train\]"') as refusal:
        t.start(home, project)
    assert refusal.value.code == "BadRequestNotSupported"


def test_a_busy_project_is_refused(home: Components, project: Project) -> None:
    t.fill(home, project, {"red": 5, "blue": 5})
    t.start(home, project)
    with pytest.raises(OwnVisionError) as refusal:
        t.start(home, project, force=True)
    assert refusal.value.code == "BadRequestTrainingAlreadyInProgress"


def test_nothing_changed_since_last_training(home: Components, project: Project) -> None:
    made = t.fill(home, project, {"red": 6, "blue": 5})
    first = t.train(home, project)

    def code(**wishes: Any) -> str | None:
        with home.database.read() as session:  # never committed
            try:
                t.start_in(session, home, projects.get(session, project.account_id, project.id), **wishes)
            except OwnVisionError as error:
                return error.code
            return None

    def change(**values: Any) -> None:
        with home.database.write() as session:
            session.execute(update(Project).values(**values))

    assert code() == "BadRequestTrainingNotNeeded"
    assert code(force=True) is None
    assert code(selected_tags=list(made.values())) == "BadRequestTrainingNotNeeded"
    assert code(training_type="Advanced", budget_hours=1) is None
    t.upload(home, project, [t.coloured(0, 0)], [made["red"]])  # the same image again
    assert code() == "BadRequestTrainingNotNeeded"
    for values in (
        {"domain_id": t.GENERAL},
        {"classification_type": "Multilabel"},
        {"augmentation": {"scaling": False}},
    ):
        before = {name: getattr(project, name) for name in values}
        change(**values)
        assert code() is None
        change(**before)
    assert code() == "BadRequestTrainingNotNeeded"
    with home.database.write() as session:
        session.execute(update(Iteration).values(pipeline="0/older|" + first.pipeline.partition("|")[2]))
    assert code() == "BadRequestTrainingNotNeededButTrainingPipelineUpdated"
    with home.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        (image,) = images.find(session, locked, tag_ids=[made["red"]], take=1)
        images.delete_images(session, locked, [image.image.id], all_iterations=False)
    assert code() is None


def test_a_renamed_tag_is_a_change_and_rewrites_no_history(home: Components, project: Project) -> None:
    made = t.fill(home, project, {"red": 5, "blue": 5})
    first = t.train(home, project)
    with home.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        tags.update_tag(session, locked, made["red"], {"name": "crimson"}, home.settings.limits)
    second = t.train(home, project)
    with home.database.read() as session:
        assert [tag.name for tag in iterations.learned_tags(session, first.id)] == ["blue", "red"]
        assert [tag.name for tag in iterations.learned_tags(session, second.id)] == ["blue", "crimson"]


class _Interfering:
    """The real store, where something else happens just before the model is written."""

    def __init__(self, blobs: SealedBlobs, happens: Any) -> None:
        self._blobs = blobs
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    def put_parts(self, key: str, parts: Iterable[bytes]) -> None:
        if key.endswith(fitting.MODEL) and self._happens is not None:
            happens, self._happens = self._happens, None
            happens()
        self._blobs.put_parts(key, parts)


def test_images_erased_while_training_are_not_in_the_model(home: Components, project: Project) -> None:
    made = t.fill(home, project, {"red": 6, "blue": 6})
    (extra,) = t.upload(home, project, [t.coloured(2, 0)], [made["red"]])
    iteration = t.start(home, project)

    def erase() -> None:
        with home.database.write() as session:
            locked = projects.lock(session, project.account_id, project.id)
            images.delete_images(session, locked, [extra], all_iterations=True)

    runner.run(replace(home, blobs=_Interfering(home.blobs, erase)), t.claim(home))  # type: ignore[arg-type]
    with home.database.read() as session:
        assert iterations.get(session, project, iteration.id).status == "Completed"
        assert session.scalar(select(Lineage.image_id)) == extra
        scored = set(session.scalars(select(ScoredImage.image_id)))
    assert len(scored) == 12
    assert extra not in scored
    other = t.make_project(home, "never had it")
    t.fill(home, other, {"red": 6, "blue": 6})
    models = [onnx.load_from_string(model_of(home, one)) for one in (iteration, t.train(home, other))]
    for one, two in zip(*(model.graph.initializer for model in models), strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(two))


def test_a_killed_training_is_taken_up_again(home: Components, project: Project) -> None:
    t.fill(home, project, {"red": 5, "blue": 5})
    iteration = t.start(home, project)
    killed = t.claim(home)
    prefix = ledger.iteration_prefix(project.id, iteration.id)
    outputs.write(home, killed, prefix, "iteration", fitting.MODEL, b"half of a model")
    rows.recover(home.database, handlers.on_failed, rows.any_running())
    with pytest.raises(rows.Stale):
        outputs.write(home, killed, prefix, "iteration", fitting.MODEL, b"from the grave")
    runner.run(home, killed)  # not quite dead: it must not change anything
    with home.database.read() as session:
        assert iterations.get(session, project, iteration.id).status == "Training"
    t.work(home)
    with home.database.read() as session:
        assert iterations.get(session, project, iteration.id).status == "Completed"
    assert onnx.load_from_string(model_of(home, iteration)).graph.node


def test_after_three_kills_it_has_failed_and_nothing_is_left(home: Components, project: Project) -> None:
    t.fill(home, project, {"red": 5, "blue": 5})
    iteration = t.start(home, project)
    for _ in range(rows.MAX_ATTEMPTS):
        killed = t.claim(home)
        outputs.write(
            home, killed, ledger.iteration_prefix(project.id, iteration.id), "iteration", fitting.MODEL, b"half"
        )
        rows.recover(home.database, handlers.on_failed, rows.any_running())
    with home.database.read() as session:
        row = iterations.get(session, project, iteration.id)
    assert row.status == "Failed"
    assert row.error is not None
    assert "memory" in row.error
    assert not [key for key in t.files(home) if "/iterations/" in key]
    assert t.train(home, project).name == "Iteration 2"  # a failed training does not count as the last


def test_a_picture_that_can_not_be_read_fails_the_training_by_name(home: Components, project: Project) -> None:
    made = t.fill(home, project, {"red": 5, "blue": 5})
    (lost,) = t.upload(home, project, [t.coloured(2, 0)], [made["red"]])
    home.blobs.delete_prefix(ledger.image_prefix(project.id, lost))
    iteration = t.train(home, project)
    assert iteration.status == "Failed"
    assert iteration.error is not None
    assert lost in iteration.error


@pytest.mark.parametrize("running", [False, True])
def test_deleting_an_iteration_cancels_its_training(home: Components, project: Project, running: bool) -> None:
    t.fill(home, project, {"red": 5, "blue": 5})
    iteration = t.start(home, project)
    held = t.claim(home) if running else None
    with home.database.write() as session:
        iterations.delete(session, projects.get(session, project.account_id, project.id, lock=True), iteration.id)
    if held is not None:
        runner.run(home, held)
    with home.database.read() as session:
        assert session.scalar(select(Job.state).where(Job.kind == "train")) == "cancelled"
    assert not [key for key in t.files(home) if "/iterations/" in key]


@pytest.mark.train
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_detector_learns_to_find_its_tag(home: Components) -> None:
    project = t.make_project(home, "squares", domain_id=t.DETECTION)
    red, blue = t.make_tag(home, project, "red"), t.make_tag(home, project, "blue")
    for seed in range(16):
        boxes = [Box(red, *t.place(seed, 0)), Box(blue, *t.place(seed, 1))]
        t.upload(home, project, [t.squares(seed)], [], boxes)
    t.upload(home, project, [t.squares(50)], [])  # not tagged yet: no background
    iteration = t.train(home, project)
    assert (iteration.status, iteration.error) == ("Completed", None)
    with home.database.read() as session:
        learned = iterations.learned_tags(session, iteration.id)
        measured = performance.of_iteration(session, project, iteration.id)
        assert 2 <= performance.image_count(session, project, iteration.id) <= 6
    assert measured["averagePrecision"] > 0.5
    found, info = predictions.predict(home, iteration, learned, t.squares(60))
    assert (info.width, info.height) == (160, 160)
    assert [one["tagName"] for one in found] == sorted(one["tagName"] for one in found)
    best = {one["tagName"]: one["boundingBox"] for one in reversed(found)}
    for colour, name in enumerate(("red", "blue")):
        truth = np.array([t.place(60, colour)])
        assert evaluate.iou(np.array([list(best[name].values())]), truth)[0, 0] > 0.5


def test_a_model_finished_after_its_iteration_was_deleted_is_removed(home: Components, project: Project) -> None:
    t.fill(home, project, {"red": 5, "blue": 5})
    iteration = t.start(home, project)
    claim = t.claim(home)
    prefix = ledger.iteration_prefix(project.id, iteration.id)
    outputs.write(home, claim, prefix, "iteration", "model.onnx", b"learned from what is erased")
    with home.database.write() as session:
        locked = projects.get(session, project.account_id, project.id, lock=True)
        iterations.delete(session, locked, iteration.id)
    ledger.sweep(home.database, home.blobs)
    home.blobs.put_new(prefix + "model.onnx", b"a late write")
    runner.run(home, claim)
    while ledger.sweep(home.database, home.blobs):
        pass
    assert not home.blobs.exists(prefix + "model.onnx")
