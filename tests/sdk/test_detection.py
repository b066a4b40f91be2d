"""A detector's whole life through the official SDK."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from azure.cognitiveservices.vision.customvision.training.models import (
    CustomVisionErrorException,
    ImageFileCreateBatch,
    ImageFileCreateEntry,
    ImageRegionCreateEntry,
    Region,
)

from ownvision.client.local import Running
from ownvision.demo.life import overlap
from ownvision.demo.pictures import Box
from tests.sdk.conftest import SHAPES, scene, trained, wait_for

pytestmark = [pytest.mark.service]
DETECTION = "a27d5ca5-bb19-49d8-a70a-fec086c47f5b"
NAME = "detector"
# By itself about a minute; beside others on two cores it takes several.
TRAIN_SECONDS = 420.0


def entry(tags: dict[str, Any], seed: int) -> ImageFileCreateEntry:
    data, boxes = scene(seed, SHAPES)
    regions = [
        Region(tag_id=tags[shape].id, left=left, top=top, width=width, height=height)
        for shape, (left, top, width, height) in boxes
    ]
    return ImageFileCreateEntry(name=f"{seed}.png", contents=data, regions=regions)


@pytest.fixture
def project(trainer: Any) -> Any:
    return trainer.create_project("Boxes", domain_id=DETECTION)


@pytest.fixture
def tags(trainer: Any, project: Any) -> dict[str, Any]:
    return {shape: trainer.create_tag(project.id, shape) for shape in SHAPES}


def test_regions_come_with_their_images_and_tag_them(trainer: Any, project: Any, tags: dict[str, Any]) -> None:
    summary = trainer.create_images_from_files(project.id, ImageFileCreateBatch(images=[entry(tags, 0)]))
    (image,) = trainer.get_images_by_ids(project.id, image_ids=[summary.images[0].image.id])
    assert {row.tag_name for row in image.regions} == {row.tag_name for row in image.tags} == set(SHAPES)
    truth = dict(scene(0, SHAPES)[1])
    for row in image.regions:
        assert (row.left, row.top, row.width, row.height) == pytest.approx(truth[row.tag_name], abs=1e-6)


def test_regions_are_added_and_removed_with_their_tag(trainer: Any, project: Any, tags: dict[str, Any]) -> None:
    made = trainer.create_images_from_data(project.id, scene(1, ("circle",))[0]).images[0].image
    entries = [ImageRegionCreateEntry(image_id=made.id, tag_id=tags["circle"].id, left=0, top=0, width=0.5, height=0.5)]
    summary = trainer.create_image_regions(project.id, entries)
    assert [row.image_id for row in summary.created] == [made.id]
    assert trainer.get_tagged_image_count(project.id, tag_ids=[tags["circle"].id]) == 1
    trainer.delete_image_regions(project.id, [row.region_id for row in summary.created])
    assert trainer.get_untagged_image_count(project.id) == 1


@pytest.mark.parametrize("box", [(0.5, 0.5, 0.6, 0.1), (-0.1, 0, 0.5, 0.5), (0, 0, 0, 0.5)])
def test_a_box_outside_its_image_is_refused(
    trainer: Any, project: Any, tags: dict[str, Any], box: tuple[float, ...]
) -> None:
    made = trainer.create_images_from_data(project.id, scene(2, ("circle",))[0]).images[0].image
    left, top, width, height = box
    region = ImageRegionCreateEntry(
        image_id=made.id, tag_id=tags["circle"].id, left=left, top=top, width=width, height=height
    )
    with pytest.raises(CustomVisionErrorException) as refusal:
        trainer.create_image_regions(project.id, [region])
    assert refusal.value.response.status_code == 400
    assert trainer.get_tagged_image_count(project.id) == 0


def test_fewer_than_fifteen_images_of_a_tag_are_refused(trainer: Any, project: Any, tags: dict[str, Any]) -> None:
    batch = ImageFileCreateBatch(images=[entry(tags, seed) for seed in range(14)])
    assert trainer.create_images_from_files(project.id, batch).is_batch_successful
    with pytest.raises(CustomVisionErrorException) as refusal:
        trainer.train_project(project.id)
    assert refusal.value.response.status_code == 400


@dataclass
class Life:
    """A detection project with one trained and published iteration."""

    project: Any
    tags: dict[str, Any]
    iteration: Any


@pytest.fixture(scope="module")
def life(trainer: Any, service: Running) -> Life:
    pytest.importorskip("torch")
    project = trainer.create_project("A detector's life", domain_id=DETECTION)
    tags = {shape: trainer.create_tag(project.id, shape) for shape in SHAPES}
    batch = ImageFileCreateBatch(images=[entry(tags, seed) for seed in range(16)])
    assert trainer.create_images_from_files(project.id, batch).is_batch_successful
    iteration = trained(trainer, project, trainer.train_project(project.id), TRAIN_SECONDS)
    trainer.publish_iteration(project.id, iteration.id, NAME, service.resource_id)
    return Life(project, tags, iteration)


@pytest.mark.train
@pytest.mark.timeout(480)
def test_a_detector_finds_what_it_was_shown(predictor: Any, life: Life) -> None:
    for seed in range(200, 203):
        data, boxes = scene(seed, SHAPES)
        answer = predictor.detect_image_with_no_store(life.project.id, NAME, data)
        for shape, place in boxes:
            best = max((row for row in answer.predictions if row.tag_name == shape), key=lambda row: row.probability)
            found = best.bounding_box
            box = Box(shape, found.left, found.top, found.width, found.height)
            assert overlap(box, Box(shape, *place)) > 0.5


@pytest.mark.train
def test_a_detector_s_performance_depends_on_threshold_and_overlap(trainer: Any, life: Life) -> None:
    loose = trainer.get_iteration_performance(life.project.id, life.iteration.id, threshold=0.3, overlap_threshold=0.3)
    strict = trainer.get_iteration_performance(
        life.project.id, life.iteration.id, threshold=0.3, overlap_threshold=0.95
    )
    assert {row.name for row in loose.per_tag_performance} == set(SHAPES)
    assert loose.average_precision > 0.8
    assert strict.recall <= loose.recall
    rows = trainer.get_image_performances(life.project.id, life.iteration.id)
    assert rows
    assert trainer.get_image_performance_count(life.project.id, life.iteration.id) == len(rows)


@pytest.mark.train
def test_the_other_ways_to_ask_a_detector(
    trainer: Any, predictor: Any, life: Life, picture_server: Callable[[bytes], str]
) -> None:
    picture = scene(210, SHAPES)[0]
    stored = predictor.detect_image(life.project.id, NAME, picture)
    url = picture_server(picture)
    for answer in (
        predictor.detect_image_url(life.project.id, NAME, url),
        predictor.detect_image_url_with_no_store(life.project.id, NAME, url),
        trainer.quick_test_image(life.project.id, picture, iteration_id=life.iteration.id, store=False),
    ):
        assert [row.probability for row in answer.predictions] == [row.probability for row in stored.predictions]


@pytest.mark.train
def test_a_detector_goes_with_its_project(trainer: Any, life: Life, objects: Callable[[], set[Any]]) -> None:
    trainer.unpublish_iteration(life.project.id, life.iteration.id)
    trainer.delete_project(life.project.id)
    wait_for(lambda: [path for path in objects() if life.project.id in str(path)], lambda left: not left)
