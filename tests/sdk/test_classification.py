"""A classifier's whole life through the official SDK, in the order a person lives it."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from azure.cognitiveservices.vision.customvision.training.models import (
    CustomVisionErrorException,
    ImageFileCreateBatch,
    ImageFileCreateEntry,
    ImageIdCreateBatch,
    ImageIdCreateEntry,
    PredictionQueryToken,
)

from ownvision.client.local import Running, run
from ownvision.demo.exported import probabilities
from tests.sdk.conftest import SHAPES, scene, trained, wait_for

pytestmark = [pytest.mark.service]
COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"
NAME = "shapes v1"  # a publish name with a blank, as people give them


@dataclass
class Life:
    """A project with one trained and published iteration."""

    project: Any
    tags: dict[str, Any]
    iteration: Any


def entries(tags: dict[str, Any], seeds: range) -> list[ImageFileCreateEntry]:
    return [
        ImageFileCreateEntry(name=f"{shape}-{seed}.png", contents=scene(seed, (shape,))[0], tag_ids=[tags[shape].id])
        for shape in SHAPES
        for seed in seeds
    ]


@pytest.fixture(scope="module")
def life(trainer: Any, service: Running) -> Life:
    project = trainer.create_project("A life", domain_id=COMPACT, classification_type="Multiclass")
    tags = {shape: trainer.create_tag(project.id, shape) for shape in SHAPES}
    summary = trainer.create_images_from_files(project.id, ImageFileCreateBatch(images=entries(tags, range(8))))
    assert summary.is_batch_successful
    iteration = trainer.train_project(project.id)
    assert (iteration.status, iteration.name) == ("Training", "Iteration 1")
    iteration = trained(trainer, project, iteration)
    assert trainer.publish_iteration(project.id, iteration.id, NAME, service.resource_id) is True
    return Life(project, tags, trainer.get_iteration(project.id, iteration.id))


def test_the_iteration_says_what_it_is(trainer: Any, service: Running, life: Life) -> None:
    assert life.iteration.publish_name == NAME
    assert life.iteration.original_publish_resource_id == service.resource_id
    assert life.iteration.exportable
    assert life.iteration.domain_id == COMPACT
    assert [row.id for row in trainer.get_iterations(life.project.id)] == [life.iteration.id]


def test_an_iteration_can_be_renamed(trainer: Any, life: Life) -> None:
    assert trainer.update_iteration(life.project.id, life.iteration.id, "The first").name == "The first"


def test_training_again_without_a_change_is_refused(trainer: Any, life: Life) -> None:
    with pytest.raises(CustomVisionErrorException, match="Nothing changed since last training"):
        trainer.train_project(life.project.id)


def test_too_few_images_are_refused(trainer: Any) -> None:
    project = trainer.create_project("Too few")
    trainer.create_tag(project.id, "circle")
    with pytest.raises(CustomVisionErrorException) as refusal:
        trainer.train_project(project.id)
    assert refusal.value.response.status_code == 400


def test_performance_is_there_at_any_threshold(trainer: Any, life: Life) -> None:
    for threshold in (0.1, 0.5, 0.9):
        performance = trainer.get_iteration_performance(life.project.id, life.iteration.id, threshold=threshold)
        assert {row.name for row in performance.per_tag_performance} == set(SHAPES)
        assert 0 <= performance.precision <= 1
    assert performance.average_precision > 0.9


def test_every_image_has_a_score_it_was_not_trained_for(trainer: Any, life: Life) -> None:
    assert trainer.get_image_performance_count(life.project.id, life.iteration.id) == 16
    rows = trainer.get_image_performances(life.project.id, life.iteration.id, take=3)
    assert len(rows) == 3
    assert all({score.tag_name for score in row.predictions} == set(SHAPES) for row in rows)


@pytest.mark.parametrize("shape", SHAPES)
def test_prediction_knows_a_new_picture(predictor: Any, life: Life, shape: str) -> None:
    answer = predictor.classify_image_with_no_store(life.project.id, NAME, scene(100, (shape,))[0])
    assert (answer.project, answer.iteration) == (life.project.id, life.iteration.id)
    best = answer.predictions[0]
    assert (best.tag_name, best.tag_id, best.tag_type) == (shape, life.tags[shape].id, "Regular")
    assert sum(row.probability for row in answer.predictions) == pytest.approx(1, abs=1e-4)


def test_prediction_by_url_answers_the_same(predictor: Any, life: Life, picture_server: Callable[[bytes], str]) -> None:
    picture = scene(101, ("circle",))[0]
    by_bytes = predictor.classify_image_with_no_store(life.project.id, NAME, picture)
    for call in (predictor.classify_image_url_with_no_store, predictor.classify_image_url):
        by_url = call(life.project.id, NAME, picture_server(picture))
        assert [row.probability for row in by_url.predictions] == [row.probability for row in by_bytes.predictions]


def test_quick_test_answers_with_the_training_key(
    trainer: Any, life: Life, picture_server: Callable[[bytes], str]
) -> None:
    picture = scene(102, ("square",))[0]
    answer = trainer.quick_test_image(life.project.id, picture, iteration_id=life.iteration.id, store=False)
    assert answer.predictions[0].tag_name == "square"
    answer = trainer.quick_test_image_url(life.project.id, picture_server(picture), store=False)
    assert answer.predictions[0].tag_name == "square"


def test_an_unknown_publish_name_and_the_wrong_kind_are_refused(predictor: Any, life: Life) -> None:
    picture = scene(103, ("circle",))[0]
    with pytest.raises(Exception, match="Invalid iteration"):
        predictor.classify_image(life.project.id, "never published", picture)
    with pytest.raises(Exception, match=r".") as refusal:
        predictor.detect_image(life.project.id, NAME, picture)
    assert refusal.value.response.status_code == 400  # type: ignore[attr-defined]


def test_a_stored_prediction_is_found_and_becomes_a_training_image(trainer: Any, predictor: Any, life: Life) -> None:
    picture = scene(104, ("circle",))[0]
    answer = predictor.classify_image(life.project.id, NAME, picture, application="test")
    query = PredictionQueryToken(order_by="Newest", application="test")
    found = trainer.query_predictions(life.project.id, query).results
    assert [row.id for row in found] == [answer.id]
    with urlopen(found[0].original_image_uri) as stored:
        assert stored.read() == picture
    batch = ImageIdCreateBatch(images=[ImageIdCreateEntry(id=answer.id, tag_ids=[life.tags["circle"].id])])
    made = trainer.create_images_from_predictions(life.project.id, batch)
    assert [(row.status, row.image.id) for row in made.images] == [("OK", answer.id)]
    assert trainer.query_predictions(life.project.id, query).results == []
    with urlopen(made.images[0].image.original_image_uri) as stored:
        assert stored.read() == picture


def test_a_stored_prediction_can_be_deleted(trainer: Any, predictor: Any, life: Life) -> None:
    answer = predictor.classify_image(life.project.id, NAME, scene(105, ("circle",))[0], application="gone")
    trainer.delete_prediction(life.project.id, [answer.id])
    query = PredictionQueryToken(order_by="Newest", application="gone")
    assert trainer.query_predictions(life.project.id, query).results == []


def test_the_exported_model_gives_the_service_s_numbers(
    trainer: Any, predictor: Any, life: Life, tmp_path: Path
) -> None:
    picture = scene(106, ("square",))[0]
    answer = predictor.classify_image_with_no_store(life.project.id, NAME, picture)
    export = trainer.export_iteration(life.project.id, life.iteration.id, "ONNX")
    assert (export.platform, export.status) == ("ONNX", "Exporting")
    (export,) = wait_for(
        lambda: trainer.get_exports(life.project.id, life.iteration.id), lambda rows: rows[0].status != "Exporting"
    )
    assert export.status == "Done"
    with urlopen(export.download_uri) as download:
        archive = zipfile.ZipFile(io.BytesIO(download.read()))
    assert {"model.onnx", "labels.txt", "cvexport.manifest", "metadata_properties.json"} <= set(archive.namelist())
    archive.extractall(tmp_path)
    exported = probabilities(tmp_path, picture)
    for row in answer.predictions:
        assert exported[row.tag_name] == pytest.approx(row.probability, abs=1e-4)


def test_an_iteration_keeps_what_it_was_trained_on(trainer: Any, service: Running, life: Life) -> None:
    before = {row.id for row in trainer.get_images(life.project.id, iteration_id=life.iteration.id)}
    new = trainer.create_images_from_files(
        life.project.id, ImageFileCreateBatch(images=entries(life.tags, range(20, 22)))
    )
    assert new.is_batch_successful
    victim = next(iter(before))
    trainer.delete_images(life.project.id, image_ids=[victim])
    assert {row.id for row in trainer.get_images(life.project.id, iteration_id=life.iteration.id)} == before
    second = trained(trainer, life.project, trainer.train_project(life.project.id))
    after = {row.id for row in trainer.get_images(life.project.id, iteration_id=second.id)}
    assert victim not in after
    assert {row.image.id for row in new.images} <= after
    trainer.publish_iteration(life.project.id, second.id, NAME, service.resource_id, overwrite=True)
    assert trainer.get_iteration(life.project.id, life.iteration.id).publish_name is None
    with pytest.raises(CustomVisionErrorException) as refusal:
        trainer.delete_iteration(life.project.id, second.id)
    assert refusal.value.response.status_code == 400
    trainer.unpublish_iteration(life.project.id, second.id)
    trainer.delete_iteration(life.project.id, second.id)


def test_at_the_end_nothing_is_left(
    trainer: Any, service: Running, life: Life, objects: Callable[[], set[Path]]
) -> None:
    trainer.publish_iteration(life.project.id, life.iteration.id, NAME, service.resource_id)
    with pytest.raises(CustomVisionErrorException) as refusal:
        trainer.delete_project(life.project.id)
    assert refusal.value.response.status_code == 400
    trainer.unpublish_iteration(life.project.id, life.iteration.id)
    trainer.delete_project(life.project.id)
    wait_for(lambda: [path for path in objects() if life.project.id in str(path)], lambda left: not left)
    assert "Nothing is wrong" in run("doctor", "--data", str(service.data))


@pytest.mark.parametrize("negative", [False, True])
def test_a_multilabel_project_answers_each_tag_for_itself(trainer: Any, negative: bool) -> None:
    project = trainer.create_project("Multilabel", domain_id=COMPACT, classification_type="Multilabel")
    tags = {shape: trainer.create_tag(project.id, shape) for shape in SHAPES}
    images = entries(tags, range(6))
    images += [
        ImageFileCreateEntry(
            name=f"both-{seed}.png", contents=scene(seed, SHAPES)[0], tag_ids=[tag.id for tag in tags.values()]
        )
        for seed in range(6)
    ]
    if negative:
        nothing = trainer.create_tag(project.id, "nothing", type="Negative")
        images += [
            ImageFileCreateEntry(name=f"none-{seed}.png", contents=scene(seed, ())[0], tag_ids=[nothing.id])
            for seed in range(6)
        ]
    assert trainer.create_images_from_files(project.id, ImageFileCreateBatch(images=images)).is_batch_successful
    iteration = trained(trainer, project, trainer.train_project(project.id))
    answer = trainer.quick_test_image(project.id, scene(300, SHAPES)[0], iteration_id=iteration.id, store=False)
    scores = {row.tag_name: row.probability for row in answer.predictions}
    assert min(scores[shape] for shape in SHAPES) > 0.5
    trainer.delete_project(project.id)
