"""Projects that travel, through the official SDK: inside one installation, and from one to another over HTTP."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import httpx
import pytest
from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient
from azure.cognitiveservices.vision.customvision.training.models import (
    CustomVisionErrorException,
    ImageFileCreateBatch,
    ImageFileCreateEntry,
    PredictionQueryToken,
    Region,
)
from msrest.authentication import ApiKeyCredentials
from msrest.exceptions import HttpOperationError

from ownvision.client.local import Running, run, running_service
from tests.sdk.conftest import SHAPES, scene, trained, wait_for
from tests.sdk.test_classification import COMPACT, entries

pytestmark = [pytest.mark.service]
DETECTION = "da2e3a8a-40a5-4171-82f4-58522f70fbc1"


@dataclass
class Journey:
    """A trained project with an image that only its iteration has."""

    project: Any
    iteration: Any


@pytest.fixture(scope="module")
def journey(trainer: Any) -> Journey:
    project = trainer.create_project("A journey", "seen", domain_id=COMPACT, classification_type="Multiclass")
    tags = {shape: trainer.create_tag(project.id, shape, f"a {shape}") for shape in SHAPES}
    batch = ImageFileCreateBatch(images=entries(tags, range(7)), metadata={"site": "north"})
    made = trainer.create_images_from_files(project.id, batch)
    assert made.is_batch_successful
    iteration = trained(trainer, project, trainer.train_project(project.id))
    trainer.delete_images(project.id, image_ids=[made.images[0].image.id])
    return Journey(trainer.get_project(project.id), iteration)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Another installation, which may call the first."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with running_service(folder / "data", {"OWNVISION_URL_ALLOW": '["127.0.0.0/8"]'}) as running:
        yield running


@pytest.fixture(scope="module")
def stranger(elsewhere: Running) -> Iterator[Any]:
    key = ApiKeyCredentials(in_headers={"Training-key": elsewhere.training_key})
    with CustomVisionTrainingClient(elsewhere.endpoint, key) as client:
        yield client


def arrived(trainer: Any, copy: Any) -> Any:
    done = wait_for(lambda: trainer.get_project(copy.id), lambda project: project.status != "Importing")
    assert done.status == "Succeeded"
    return done


def contents(trainer: Any, project: Any, iteration_id: str | None = None) -> list[Any]:
    """Bytes, tags, metadata and boxes of all images."""
    found = []
    for image in trainer.get_images(project.id, iteration_id=iteration_id, order_by="Oldest", take=256):
        with urlopen(image.original_image_uri) as picture:
            found.append(
                (
                    picture.read(),
                    image.created,
                    image.metadata,
                    sorted(tag.tag_name for tag in image.tags or ()),
                    sorted((box.tag_name, box.left, box.top, box.width, box.height) for box in image.regions or ()),
                )
            )
    return found


def figures(trainer: Any, project: Any, iteration: Any) -> Any:
    said = trainer.get_iteration_performance(project.id, iteration.id, threshold=0.5)
    per_tag = sorted((row.name, row.precision, row.recall, row.average_precision) for row in said.per_tag_performance)
    return said.precision, said.recall, said.average_precision, per_tag


def answer(trainer: Any, project: Any, iteration: Any) -> list[tuple[str, float]]:
    said = trainer.quick_test_image(project.id, scene(300, ("circle",))[0], iteration_id=iteration.id, store=False)
    return [(row.tag_name, row.probability) for row in said.predictions]


@pytest.mark.parametrize("far", [False, True], ids=["the same installation", "another one"])
def test_everything_arrives(trainer: Any, stranger: Any, journey: Journey, far: bool) -> None:
    receiver = stranger if far else trainer
    export = trainer.export_project(journey.project.id)
    assert (export.iteration_count, export.image_count, export.tag_count, export.region_count) == (1, 14, 2, 0)
    assert export.estimated_import_time_in_ms > 0
    path = f"/prjexp-{journey.project.id.replace('-', '')}/project-export-info"
    assert urlsplit(export.token).path == path
    copy = receiver.import_project(export.token)
    assert (copy.status, copy.name) == ("Importing", "A journey" if far else "A journey (1)")
    copy = arrived(receiver, copy)
    assert copy.description == "seen"
    assert copy.settings.as_dict() == journey.project.settings.as_dict()
    assert contents(receiver, copy) == contents(trainer, journey.project)
    (iteration,) = receiver.get_iterations(copy.id)
    assert (iteration.name, iteration.status, iteration.publish_name) == ("Iteration 1", "Completed", None)
    assert len(contents(receiver, copy, iteration.id)) == 14
    assert contents(receiver, copy, iteration.id) == contents(trainer, journey.project, journey.iteration.id)
    assert figures(receiver, copy, iteration) == figures(trainer, journey.project, journey.iteration)
    assert answer(receiver, copy, iteration) == answer(trainer, journey.project, journey.iteration)
    tags = [(tag.name, tag.description, tag.image_count) for tag in trainer.get_tags(journey.project.id)]
    assert sorted((tag.name, tag.description, tag.image_count) for tag in receiver.get_tags(copy.id)) == sorted(tags)
    receiver.delete_project(copy.id)


def test_a_copy_can_be_published_and_exported(
    stranger: Any, trainer: Any, elsewhere: Running, journey: Journey
) -> None:
    copy = arrived(stranger, stranger.import_project(trainer.export_project(journey.project.id).token, name="Mine"))
    assert copy.name == "Mine"
    (iteration,) = stranger.get_iterations(copy.id)
    assert stranger.publish_iteration(copy.id, iteration.id, "here", elsewhere.resource_id)
    stranger.export_iteration(copy.id, iteration.id, "ONNX")
    (export,) = wait_for(
        lambda: stranger.get_exports(copy.id, iteration.id), lambda rows: rows[0].status != "Exporting"
    )
    assert export.status == "Done"
    stranger.unpublish_iteration(copy.id, iteration.id)
    stranger.delete_project(copy.id)
    wait_for(lambda: run("doctor", "--data", str(elsewhere.data)), lambda said: "Nothing is wrong" in said)


def test_regions_travel(trainer: Any, stranger: Any) -> None:
    project = trainer.create_project("Boxes", domain_id=DETECTION)
    tags = {shape: trainer.create_tag(project.id, shape).id for shape in SHAPES}
    images = []
    for seed in range(3):
        picture, boxes = scene(seed, SHAPES)
        placed = [Region(tag_id=tags[s], left=b[0], top=b[1], width=b[2], height=b[3]) for s, b in boxes]
        images.append(ImageFileCreateEntry(name=f"{seed}.png", contents=picture, regions=placed))
    assert trainer.create_images_from_files(project.id, ImageFileCreateBatch(images=images)).is_batch_successful
    export = trainer.export_project(project.id)
    assert (export.image_count, export.region_count) == (3, 6)
    copy = arrived(stranger, stranger.import_project(export.token))
    assert contents(stranger, copy) == contents(trainer, project)


def test_what_was_erased_after_the_export_is_counted(trainer: Any, stranger: Any, elsewhere: Running) -> None:
    project = trainer.create_project("Erased", domain_id=COMPACT)
    tag = trainer.create_tag(project.id, "circle")
    batch = ImageFileCreateBatch(
        images=[
            ImageFileCreateEntry(name=f"{seed}.png", contents=scene(seed, ("circle",))[0], tag_ids=[tag.id])
            for seed in range(5)
        ]
    )
    made = trainer.create_images_from_files(project.id, batch)
    token = trainer.export_project(project.id).token
    trainer.delete_images(project.id, image_ids=[made.images[0].image.id, made.images[3].image.id])
    copy = arrived(stranger, stranger.import_project(token))
    told = httpx.get(
        f"{elsewhere.endpoint}/api/projects/{copy.id}/import", headers={"Training-Key": elsewhere.training_key}
    ).json()
    assert told["status"] == "Succeeded"
    assert told["arrived"] == {"images": 3, "tags": 1, "regions": 0, "iterations": 0}
    assert told["missing"] == {"images": 2, "tags": 0, "regions": 0, "iterations": 0}
    assert stranger.get_image_count(copy.id) == 3


def test_a_token_can_be_seen_and_revoked(trainer: Any, stranger: Any, service: Running, journey: Journey) -> None:
    token = trainer.export_project(journey.project.id).token
    with httpx.Client(base_url=service.endpoint, headers={"Training-Key": service.training_key}) as own:
        tokens = own.get(f"/api/projects/{journey.project.id}/tokens").json()
        assert tokens[0]["id"] in token
        assert (tokens[0]["imageCount"], tokens[0]["iterationCount"]) == (14, 1)
        assert httpx.get(token).headers["content-type"] == "application/x-tar"
        gone = own.delete(f"/api/projects/{journey.project.id}/tokens/{tokens[0]['id']}")
        assert (gone.status_code, gone.content) == (204, b"")
        assert own.delete(f"/api/projects/{journey.project.id}/tokens/{tokens[0]['id']}").status_code == 404
        assert httpx.get(token).status_code == 403
    for client in (trainer, stranger):
        with pytest.raises(CustomVisionErrorException) as refusal:
            client.import_project(token)
        assert refusal.value.error.code == "BadRequestInvalidImportToken"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token.replace("se=20", "se=21"),
        lambda token: token.replace("sig=", "sig=A"),
        lambda token: token.partition("&")[0],
        lambda token: "https://example.invalid/token",
    ],
    ids=["later", "signed otherwise", "cut", "elsewhere"],
)
def test_an_altered_token_is_refused(trainer: Any, journey: Journey, spoil: Callable[[str], str]) -> None:
    token = trainer.export_project(journey.project.id).token
    assert httpx.get(token).status_code == 200
    with pytest.raises(CustomVisionErrorException) as refusal:
        trainer.import_project(spoil(token))
    assert refusal.value.error.code == "BadRequestInvalidImportToken"


def test_a_token_is_sent_as_curl_users_send_it(service: Running, trainer: Any, journey: Journey) -> None:
    token = trainer.export_project(journey.project.id).token
    base = f"{service.endpoint}/customvision/v3.3/Training/projects"
    headers = {"Training-Key": service.training_key}
    answered = httpx.post(f"{base}/import?token={quote(token, safe='')}&name=By%20curl", headers=headers)
    assert (answered.status_code, answered.json()["name"]) == (200, "By curl")
    trainer.delete_project(arrived(trainer, trainer.get_project(answered.json()["id"])).id)
    # Not encoded, its own query breaks off at the first ampersand; and none at all.
    assert httpx.post(f"{base}/import?token={token}", headers=headers).json()["code"] == "BadRequestInvalidImportToken"
    assert httpx.post(f"{base}/import", headers=headers).json()["code"] == "BadRequestRequiredParamIsNull"
    assert httpx.post(f"{base}/import?token=", headers=headers).json()["code"] == "BadRequestInvalidImportToken"


def test_a_project_can_be_deleted_while_it_arrives(trainer: Any, journey: Journey) -> None:
    copy = trainer.import_project(trainer.export_project(journey.project.id).token)
    trainer.delete_project(copy.id)
    assert copy.id not in [project.id for project in trainer.get_projects()]


def artifact(trainer: Any, project: Any, path: str) -> bytes:
    return b"".join(trainer.get_artifact(project.id, path))


def test_artifacts_are_read_by_address_or_path(
    trainer: Any, predictor: Any, service: Running, journey: Journey
) -> None:
    project, iteration = journey.project, journey.iteration
    image = trainer.get_images(project.id, take=1)[0]
    trainer.publish_iteration(project.id, iteration.id, "artifacts", service.resource_id)
    picture = scene(7, ("square",))[0]
    predictor.classify_image(project.id, "artifacts", picture)
    trainer.unpublish_iteration(project.id, iteration.id)
    stored = trainer.query_predictions(project.id, PredictionQueryToken(order_by="Newest")).results[0]
    trainer.export_iteration(project.id, iteration.id, "ONNX")
    (export,) = wait_for(
        lambda: trainer.get_exports(project.id, iteration.id), lambda rows: rows[0].status != "Exporting"
    )
    addresses = [image.original_image_uri, image.resized_image_uri, image.thumbnail_uri]
    addresses += [stored.original_image_uri, stored.thumbnail_uri, export.download_uri]
    for address in addresses:
        with urlopen(address) as there:
            expected = there.read()
        path = urlsplit(address).path
        for given in (address, path, path.lstrip("/")):
            assert artifact(trainer, project, given) == expected
    whole = trainer.get_artifact(project.id, addresses[0], raw=True)
    assert whole.response.headers["Content-Type"] == "application/octet-stream"
    assert b"".join(whole.output)


@pytest.mark.parametrize(
    "path",
    [
        "x",
        "/",
        "..%2f..%2fetc/passwd",
        "/i-{other}/i-{other}",
        "http://example.com/i-{mine}/i-{mine}",
        "/prjexp-{mine}/project-export-info",
        "http://[::1",
    ],
)
def test_what_is_no_artifact_of_the_project_is_refused(trainer: Any, journey: Journey, path: str) -> None:
    path = path.format(mine=journey.project.id.replace("-", ""), other="0" * 32)
    with pytest.raises(HttpOperationError) as refusal:
        artifact(trainer, journey.project, path)
    assert refusal.value.response.json()["code"] == "BadRequestInvalidArtifactUri"


def test_an_artifact_that_is_gone_is_not_found(trainer: Any, journey: Journey) -> None:
    mine = journey.project.id.replace("-", "")
    with pytest.raises(HttpOperationError) as refusal:
        artifact(trainer, journey.project, f"/i-{mine}/i-{mine}")
    assert refusal.value.response.status_code == 404
