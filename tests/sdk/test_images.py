"""Projects, tags, images and metadata through the official SDK."""

from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import pytest
from azure.cognitiveservices.vision.customvision.training.models import (
    CustomVisionErrorException,
    ImageFileCreateBatch,
    ImageFileCreateEntry,
    ImageTagCreateEntry,
    ImageUrlCreateBatch,
    ImageUrlCreateEntry,
)

from tests.sdk.conftest import scene, wait_for

pytestmark = pytest.mark.service
COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"


@pytest.fixture
def project(trainer: Any) -> Any:
    return trainer.create_project("Shapes", description="round and square", domain_id=COMPACT)


def upload(trainer: Any, project: Any, seeds: range, tag: Any = None) -> list[Any]:
    entries = [ImageFileCreateEntry(name=f"{seed}.png", contents=scene(seed, ("circle",))[0]) for seed in seeds]
    batch = ImageFileCreateBatch(images=entries, tag_ids=[tag.id] if tag else None)
    summary = trainer.create_images_from_files(project.id, batch)
    assert summary.is_batch_successful, [row.status for row in summary.images]
    return [row.image for row in summary.images]


def test_domains_are_those_of_the_original(trainer: Any) -> None:
    domains = trainer.get_domains()
    assert {(row.type, row.name) for row in domains} >= {
        ("Classification", "General"),
        ("Classification", "General (compact)"),
        ("ObjectDetection", "General"),
    }
    compact = trainer.get_domain(COMPACT)
    assert (compact.name, compact.exportable) == ("General (compact)", True)
    assert "ONNX" in compact.exportable_platforms


def test_a_project_is_made_read_changed_and_deleted(trainer: Any) -> None:
    made = trainer.create_project("Changing", classification_type="Multiclass", target_export_platforms=["ONNX"])
    assert made.status == "Succeeded"
    assert (made.description, made.settings.classification_type) == ("", "Multiclass")
    made.name, made.description = "Changed", "now with words"
    changed = trainer.update_project(made.id, made)
    assert (changed.name, changed.description) == ("Changed", "now with words")
    assert trainer.get_project(made.id).name == "Changed"
    assert made.id in {row.id for row in trainer.get_projects()}
    trainer.delete_project(made.id)
    with pytest.raises(CustomVisionErrorException, match=r".") as refusal:
        trainer.get_project(made.id)
    assert refusal.value.response.status_code == 404


def test_a_taken_project_name_gets_a_number(trainer: Any) -> None:
    names = [trainer.create_project("Twice").name for _ in range(2)]
    assert names == ["Twice", "Twice (1)"]


def test_tags_are_made_read_renamed_and_deleted(trainer: Any, project: Any) -> None:
    tag = trainer.create_tag(project.id, "circle", description="round")
    negative = trainer.create_tag(project.id, "nothing", type="Negative")
    assert {row.name for row in trainer.get_tags(project.id)} == {"circle", "nothing"}
    tag.name = "disc"
    assert trainer.update_tag(project.id, tag.id, tag).name == "disc"
    assert trainer.get_tag(project.id, tag.id).description == "round"
    trainer.delete_tag(project.id, negative.id)
    assert [row.name for row in trainer.get_tags(project.id)] == ["disc"]
    with pytest.raises(CustomVisionErrorException) as refusal:
        trainer.create_tag(project.id, "disc")
    assert refusal.value.response.status_code == 400


def test_images_come_from_files_data_and_urls(
    trainer: Any, project: Any, picture_server: Callable[[bytes], str]
) -> None:
    tag = trainer.create_tag(project.id, "circle")
    upload(trainer, project, range(3), tag)
    data = trainer.create_images_from_data(project.id, scene(3, ("circle",))[0], tag_ids=[tag.id])
    assert [row.status for row in data.images] == ["OK"]
    url = picture_server(scene(4, ("circle",))[0])
    urls = trainer.create_images_from_urls(
        project.id, ImageUrlCreateBatch(images=[ImageUrlCreateEntry(url=url, tag_ids=[tag.id])])
    )
    assert [(row.status, row.source_url) for row in urls.images] == [("OK", url)]
    again = trainer.create_images_from_data(project.id, scene(3, ("circle",))[0], tag_ids=[tag.id])
    assert [row.status for row in again.images] == ["OKDuplicate"]
    assert again.images[0].image.id == data.images[0].image.id
    assert trainer.get_image_count(project.id) == trainer.get_tagged_image_count(project.id, tag_ids=[tag.id]) == 5
    assert trainer.get_tag(project.id, tag.id).image_count == 5


def test_the_service_s_own_image_addresses_are_taken(trainer: Any, project: Any) -> None:
    (image,) = upload(trainer, project, range(1))
    other = trainer.create_project("Copy")
    batch = ImageUrlCreateBatch(images=[ImageUrlCreateEntry(url=image.original_image_uri)])
    copied = trainer.create_images_from_urls(other.id, batch)
    assert [row.status for row in copied.images] == ["OK"]


def test_original_resized_and_thumbnail_need_no_key(trainer: Any, project: Any) -> None:
    original = scene(0, ("circle",))[0]
    (image,) = upload(trainer, project, range(1))
    with urlopen(image.original_image_uri) as answer:
        assert answer.read() == original
    for uri in (image.resized_image_uri, image.thumbnail_uri):
        with urlopen(uri) as answer:
            assert answer.headers["Content-Type"].startswith("image/")


def test_images_are_listed_by_state_tag_page_and_id(trainer: Any, project: Any) -> None:
    tag = trainer.create_tag(project.id, "circle")
    tagged = upload(trainer, project, range(4), tag)
    untagged = upload(trainer, project, range(4, 6))
    assert trainer.get_untagged_image_count(project.id) == 2
    assert {row.id for row in trainer.get_untagged_images(project.id)} == {row.id for row in untagged}
    assert {row.id for row in trainer.get_tagged_images(project.id)} == {row.id for row in tagged}
    newest = [row.id for row in trainer.get_images(project.id)]
    oldest = [row.id for row in trainer.get_images(project.id, order_by="Oldest")]
    assert newest == oldest[::-1]
    assert len(newest) == 6
    assert [row.id for row in trainer.get_images(project.id, take=2, skip=3)] == newest[3:5]
    assert trainer.get_image_count(project.id, tagging_status="Tagged", tag_ids=[tag.id]) == 4
    found = trainer.get_images_by_ids(project.id, image_ids=[tagged[0].id])
    assert [row.tags[0].tag_name for row in found] == ["circle"]


def test_image_tags_are_added_and_removed(trainer: Any, project: Any) -> None:
    tag = trainer.create_tag(project.id, "circle")
    images = upload(trainer, project, range(2))
    entries = [ImageTagCreateEntry(image_id=image.id, tag_id=tag.id) for image in images]
    summary = trainer.create_image_tags(project.id, entries)
    assert (len(summary.created), summary.duplicated) == (2, [])
    assert len(trainer.create_image_tags(project.id, entries).duplicated) == 2
    trainer.delete_image_tags(project.id, [images[0].id], [tag.id])
    assert trainer.get_tag(project.id, tag.id).image_count == 1


def test_metadata_is_kept_and_filters(trainer: Any, project: Any) -> None:
    images = upload(trainer, project, range(3))
    summary = trainer.update_image_metadata(project.id, [images[0].id], {"place": "Rome", "year": "1999"})
    assert summary.is_batch_successful
    where = "metadata=place eq 'Rome' and year ne '2000'"
    assert [row.id for row in trainer.get_images(project.id, filter=where)] == [images[0].id]
    assert trainer.get_image_count(project.id, filter="metadata=place eq 'Paris'") == 0
    assert trainer.get_images_by_ids(project.id, image_ids=[images[0].id])[0].metadata["place"] == "Rome"


def test_deleted_images_are_gone_with_their_files(trainer: Any, project: Any, objects: Callable[[], set[Any]]) -> None:
    images = upload(trainer, project, range(10, 13))
    trainer.delete_images(project.id, image_ids=[images[0].id])
    assert trainer.get_image_count(project.id) == 2
    trainer.delete_images(project.id, all_images=True, all_iterations=True)
    assert trainer.get_image_count(project.id) == 0
    wait_for(lambda: [path for path in objects() if project.id in str(path)], lambda left: not left)


def test_a_picture_that_is_none_is_refused_and_the_others_are_taken(trainer: Any, project: Any) -> None:
    entries = [
        ImageFileCreateEntry(name="good.png", contents=scene(0, ("circle",))[0]),
        ImageFileCreateEntry(name="bad.png", contents=b"this is no picture"),
    ]
    summary = trainer.create_images_from_files(project.id, ImageFileCreateBatch(images=entries))
    assert not summary.is_batch_successful
    assert [row.status for row in summary.images] == ["OK", "ErrorImageFormat"]
    assert trainer.get_image_count(project.id) == 1


def test_nothing_of_one_account_is_visible_to_another(
    trainer: Any,
    project: Any,
    make_account: Callable[[str], dict[str, Any]],
    clients_of: Callable[[dict[str, Any]], tuple[Any, Any]],
) -> None:
    tag = trainer.create_tag(project.id, "circle")
    (image,) = upload(trainer, project, range(1), tag)
    stranger, predictor = clients_of(make_account("stranger"))
    assert stranger.get_projects() == []
    attempts: list[Callable[[], Any]] = [
        lambda: stranger.get_project(project.id),
        lambda: stranger.update_project(project.id, project),
        lambda: stranger.delete_project(project.id),
        lambda: stranger.get_tags(project.id),
        lambda: stranger.create_tag(project.id, "mine"),
        lambda: stranger.delete_tag(project.id, tag.id),
        lambda: stranger.get_images(project.id),
        lambda: stranger.get_images_by_ids(project.id, image_ids=[image.id]),
        lambda: stranger.create_images_from_data(project.id, scene(9, ("circle",))[0]),
        lambda: stranger.delete_images(project.id, image_ids=[image.id]),
        lambda: stranger.delete_images(project.id, all_images=True),
        lambda: stranger.train_project(project.id),
        lambda: stranger.get_iterations(project.id),
        lambda: stranger.quick_test_image(project.id, scene(9, ("circle",))[0]),
    ]
    for attempt in attempts:
        with pytest.raises(CustomVisionErrorException) as refusal:
            attempt()
        assert refusal.value.response.status_code == 404
    with pytest.raises(Exception, match=r".") as refused:
        predictor.classify_image(project.id, "any", scene(9, ("circle",))[0])
    assert refused.value.response.status_code == 404  # type: ignore[attr-defined]
    assert trainer.get_image_count(project.id) == 1
