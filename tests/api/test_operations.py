"""The training API's operations on projects, tags, images and regions, over HTTP."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ownvision.limits import Limits
from tests.api.conftest import Service, jpeg, new_tag, running, upload

NOBODY = "ffffffff-ffff-4fff-8fff-ffffffffffff"


def test_a_taken_name_gets_a_number(client: httpx.Client) -> None:
    names = [client.post("/projects", params={"name": "Twice"}).json()["name"] for _ in range(3)]
    assert names == ["Twice", "Twice (1)", "Twice (2)"]
    listed = [project["name"] for project in client.get("/projects").json()]
    assert listed[:3] == ["Twice (2)", "Twice (1)", "Twice"]


def test_enumerations_and_field_names_match_in_any_case(client: httpx.Client, project: str) -> None:
    made = client.post(
        "/projects?name=a&classificationType=multiclass&targetExportPlatforms=onnx&targetExportPlatforms=coreml"
    ).json()
    assert made["settings"]["classificationType"] == "Multiclass"
    assert made["settings"]["targetExportPlatforms"] == ["ONNX", "CoreML"]
    changed = client.patch(
        f"/projects/{project}", json={"NAME": "New", "Settings": {"CLASSIFICATIONTYPE": "multiClass"}}
    )
    assert (changed.json()["name"], changed.json()["settings"]["classificationType"]) == ("New", "Multiclass")
    assert client.get(f"/projects/{project}/images?orderBy=oldest&taggingStatus=ALL").json() == []
    assert client.delete(f"/projects/{project}/images?allImages=True&allIterations=False").status_code == 202


def test_a_whole_object_can_be_sent_back(client: httpx.Client, project: str) -> None:
    shown = client.get(f"/projects/{project}").json()
    shown["description"] = "changed"
    answer = client.patch(f"/projects/{project}", json=shown).json()
    assert answer["lastModified"] >= shown["lastModified"]
    assert answer | {"lastModified": ""} == shown | {"lastModified": ""}
    tag = client.post(f"/projects/{project}/tags?name=a").json()
    assert client.patch(f"/projects/{project}/tags/{tag['id']}", json=tag | {"name": "b"}).json()["name"] == "b"
    assert client.patch(f"/projects/{project}/tags/{tag['id']}", json={"description": "d"}).json() == tag | {
        "name": "b",
        "description": "d",
    }


@pytest.mark.parametrize("joined", [True, False])
def test_lists_come_with_commas_or_repeated(client: httpx.Client, project: str, joined: bool) -> None:
    tags = [new_tag(client, project, name) for name in "ab"]
    images = [upload(client, project, seed, tagIds=tags[seed])["id"] for seed in (0, 1)]
    upload(client, project, 2)
    given: Any = ",".join(tags) if joined else tags
    assert client.get(f"/projects/{project}/images/tagged/count", params={"tagIds": given}).json() == 2
    found = client.get(f"/projects/{project}/images", params={"tagIds": given}).json()
    assert [image["id"] for image in found] == images[::-1]
    given = ",".join(images) if joined else images
    assert len(client.get(f"/projects/{project}/images/id", params={"imageIds": given}).json()) == 2


def test_images_are_paged_counted_and_filtered(client: httpx.Client, project: str) -> None:
    tag = new_tag(client, project, "a")
    ids = [upload(client, project, seed, **({"tagIds": tag} if seed % 2 else {}))["id"] for seed in range(6)]
    base = f"/projects/{project}/images"

    def found(query: str) -> list[int]:
        return [ids.index(image["id"]) for image in client.get(base + query).json()]

    assert found("") == [5, 4, 3, 2, 1, 0]
    assert found("?take=2&skip=1") == [4, 3]
    assert found("?take=0") == []
    assert found("?orderBy=Oldest&take=2") == [0, 1]
    assert found("/tagged") == [5, 3, 1]
    assert found("/untagged?orderBy=Oldest") == [0, 2, 4]
    assert found("?taggingStatus=untagged") == [4, 2, 0]
    counts = [client.get(f"{base}/{kind}").json() for kind in ("count", "tagged/count", "untagged/count")]
    assert counts == [6, 3, 3]
    answer = client.post(f"{base}/metadata", params={"imageIds": ids[0]}, json={"site": "north", "lens": "it's"})
    assert answer.json() == {
        "isBatchSuccessful": True,
        "images": [{"imageId": ids[0], "status": "OK", "metadata": {"site": "north", "lens": "it's"}}],
    }
    assert found("?$filter=metadata=site eq 'north' and lens ne 'x'") == [0]
    assert client.get(f"{base}/count", params={"$filter": "site eq 'north'"}).json() == 1
    assert client.get(f"{base}/id?imageIds={ids[0]}").json()[0]["metadata"] == {"lens": "it's", "site": "north"}


def test_metadata_of_an_unknown_image_is_a_partial_success(client: httpx.Client, project: str) -> None:
    image = upload(client, project, 1)["id"]
    answer = client.post(f"/projects/{project}/images/metadata?imageIds={image},{project}", json={"a": "b"})
    assert answer.status_code == 207
    assert answer.json()["images"][1] == {"imageId": project, "status": "ErrorImageNotFound"}


def test_image_tags_are_made_once(client: httpx.Client, project: str) -> None:
    tag, image = new_tag(client, project, "a"), upload(client, project, 1)["id"]
    entry = {"imageId": image, "tagId": tag}
    path = f"/projects/{project}/images/tags"
    assert client.post(path, json={"tags": [entry]}).json() == {"created": [entry], "duplicated": [], "exceeded": []}
    again = client.post(path, json={"tags": [entry]})
    assert (again.status_code, again.json()) == (200, {"created": [], "duplicated": [entry], "exceeded": []})
    shown = client.get(f"/projects/{project}/images/id?imageIds={image}").json()[0]
    assert [(item["tagId"], item["tagName"]) for item in shown["tags"]] == [(tag, "a")]
    assert client.get(f"/projects/{project}/tags/{tag}").json()["imageCount"] == 1
    gone = client.delete(path, params={"imageIds": image, "tagIds": tag})
    assert (gone.status_code, gone.content, gone.headers["content-length"]) == (204, b"", "0")
    assert "content-type" not in gone.headers
    assert "tags" not in client.get(f"/projects/{project}/images").json()[0]
    many = client.post(path, json={"tags": [entry] * 129})
    assert (many.status_code, many.json()["code"]) == (400, "BadRequestExceededBatchSize")


def test_regions_are_made_shown_and_deleted(client: httpx.Client, detection: str) -> None:
    tag, image = new_tag(client, detection, "fork"), upload(client, detection, 1)["id"]
    box = {"imageId": image, "tagId": tag, "left": 0.25, "top": 0.164848924, "width": 0.5, "height": 0.6538571}
    path = f"/projects/{detection}/images/regions"
    made = client.post(path, json={"regions": [box]})
    assert made.status_code == 200
    assert f'"tagId":"{tag}","left":0.25,"top":0.164848924,"width":0.5,"height":0.6538571}}' in made.text
    region = made.json()["created"][0]
    assert list(region) == [
        "imageId", "regionId", "tagName", "created", "tagId", "left", "top", "width", "height"
    ]  # fmt: skip
    assert region["tagName"] is None
    again = client.post(path, json={"regions": [box]})
    assert again.status_code == 207
    assert len(again.json()["duplicated"]) == 1
    shown = client.get(f"/projects/{detection}/images").json()[0]
    assert [item["tagName"] for item in shown["regions"]] == ["fork"]
    assert len(shown["tags"]) == 1
    assert client.delete(path, params={"regionIds": region["regionId"]}).status_code == 204
    assert {"tags", "regions"}.isdisjoint(client.get(f"/projects/{detection}/images").json()[0])


@pytest.mark.parametrize(
    ("left", "width", "status"),
    [(0.5, 0.5, 200), (0.5, 0.50009, 200), (-0.00009, 0.5, 200), (0.5, 0.51, 400), (0.1, 0.0, 400), (2, 1, 400)],
)
def test_a_box_must_lie_in_the_picture(
    client: httpx.Client, detection: str, left: float, width: float, status: int
) -> None:
    tag, image = new_tag(client, detection, "a"), upload(client, detection, 1)["id"]
    box = {"imageId": image, "tagId": tag, "left": left, "top": 0, "width": width, "height": 1}
    assert client.post(f"/projects/{detection}/images/regions", json={"regions": [box]}).status_code == status


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", '"x"', "null"])
def test_a_box_without_numbers_is_refused(client: httpx.Client, detection: str, number: str) -> None:
    tag, image = new_tag(client, detection, "a"), upload(client, detection, 1)["id"]
    body = f'{{"regions":[{{"imageId":"{image}","tagId":"{tag}","left":{number},"top":0,"width":1,"height":1}}]}}'
    answer = client.post(
        f"/projects/{detection}/images/regions", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400


def test_another_projects_tag_changes_nothing(
    client: httpx.Client, project: str, new_project: Callable[..., str]
) -> None:
    stranger = new_tag(client, new_project(), "a")
    answer = client.post(f"/projects/{project}/images?tagIds={stranger}", content=jpeg(1))
    assert (answer.status_code, answer.json()["code"]) == (400, "BadRequestImageTags")
    assert client.get(f"/projects/{project}/images/count").json() == 0


def test_delete_images_answers_202_only_for_the_wide_flags(client: httpx.Client, project: str) -> None:
    ids = [upload(client, project, seed)["id"] for seed in range(3)]
    path = f"/projects/{project}/images"
    assert client.delete(f"{path}?imageIds={ids[0]}").status_code == 204
    assert client.delete(f"{path}?imageIds={ids[1]}&allIterations=true").status_code == 202
    assert client.delete(f"{path}?imageIds={ids[2]}&allImages=true").status_code == 400
    assert client.delete(f"{path}?allImages=true").status_code == 202
    assert client.get(f"{path}/count").json() == 0


def test_a_project_goes_with_everything(client: httpx.Client, project: str) -> None:
    image = upload(client, project, 1)
    assert client.delete(f"/projects/{project}").status_code == 204
    assert client.get(f"/projects/{project}").json()["code"] == "NotFoundProject"
    assert httpx.get(image["originalImageUri"]).status_code == 404


def test_predictions_and_iterations_of_a_fresh_project_are_empty(client: httpx.Client, project: str) -> None:
    assert client.get(f"/projects/{project}/iterations").json() == []
    answer = client.post(f"/projects/{project}/predictions/query", json={"maxCount": 0, "orderBy": "Newest"}).json()
    assert answer["results"] == []
    assert re.fullmatch(r"2:\d+", answer["token"].pop("session"))
    assert answer["token"] == {
        "continuation": None,
        "maxCount": 0,
        "orderBy": "Newest",
        "tags": None,
        "iterationId": None,
        "startTime": None,
        "endTime": None,
        "application": None,
    }
    query = {
        "startTime": "2020-01-01T01:00:00+01:00",
        "endTime": "2030-01-01T00:00:00",
        "tags": [],
        "orderBy": "oldest",
    }
    token = client.post(f"/projects/{project}/predictions/query", json=query).json()["token"]
    assert (token["startTime"], token["endTime"]) == ("2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z")
    bad = client.post(f"/projects/{project}/predictions/query", json={"startTime": "0001-01-01T00:00:00+01:00"})
    assert (bad.status_code, bad.json()["code"]) == (400, "BadRequest")
    refused = client.post(f"/projects/{project}/train", headers={"Content-Type": "application/json"})
    assert refused.json()["code"] == "BadRequestMultiLabelClassificationTrainingValidationFailed"
    refused = client.post(f"/projects/{project}/quicktest/image", content=jpeg(1))
    assert (refused.status_code, refused.json()["code"]) == (404, "NotFoundProjectDefaultIteration")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"orderBy": "Random"}, "BadRequestPredictionInvalidQueryParameters"),
        ({"tags": [{"id": NOBODY, "minThreshold": float("nan")}]}, "BadRequest"),
        ({"tags": [{"id": NOBODY, "maxThreshold": float("inf")}]}, "BadRequest"),
        ({"tags": [{"id": NOBODY, "maxThreshold": 1e300}]}, "BadRequest"),
        ({"tags": [{"id": NOBODY, "minThreshold": -0.1}]}, "BadRequest"),
    ],
)
def test_a_query_of_predictions_has_its_bounds(
    client: httpx.Client, project: str, query: dict[str, Any], code: str
) -> None:
    answer = client.post(f"/projects/{project}/predictions/query", content=json.dumps(query))
    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize("order", ["newest", "OLDEST", "Suggested", "", None])
def test_predictions_come_in_any_order_there_is(client: httpx.Client, project: str, order: str | None) -> None:
    tags = [{"id": NOBODY, "minThreshold": 0, "maxThreshold": 1}]
    query = {"orderBy": order, "tags": tags}
    assert client.post(f"/projects/{project}/predictions/query", json=query).status_code == 200


def test_the_largest_page_of_predictions_is_the_installation_s(tmp_path: Path) -> None:
    with running(tmp_path, limits=Limits(page=300, query_tags=1)) as service, service.client() as client:
        path = f"/projects/{client.post('/projects', params={'name': 'a'}).json()['id']}/predictions/query"
        assert client.post(path, json={"maxCount": 300}).status_code == 200
        assert client.post(path, json={"maxCount": 301}).json()["code"] == "BadRequestPredictionResultsExceededCount"
        tags = [{"id": NOBODY}] * 2
        assert client.post(path, json={"tags": tags}).json()["code"] == "BadRequestPredictionTagsExceededCount"


def test_ids_of_predictions_that_do_not_exist_are_not_noted_as_erased(
    api: Service, client: httpx.Client, project: str
) -> None:
    assert client.delete(f"/projects/{project}/predictions", params={"ids": NOBODY}).status_code == 204
    assert ("prediction", NOBODY) not in api.components.keys.erased()


def test_images_are_noted_as_erased_only_once_they_are(api: Service, client: httpx.Client, project: str) -> None:
    image = upload(client, project, 1)["id"]
    client.delete(f"/projects/{project}/images", params={"imageIds": image, "allIterations": "true"})
    assert ("image", image) not in api.components.keys.erased()  # its bytes are there until the worker sweeps


def test_cancelling_a_job_that_has_ended_leaves_the_next_one_alone(
    api: Service, client: httpx.Client, project: str
) -> None:
    def jobs() -> dict[str, str]:
        shown = client.get(f"{api.url}/api/projects/{project}/jobs").json()
        return {job["id"]: job["state"] for job in shown}

    upload(client, project, 1)
    (first,) = jobs()
    assert client.post(f"{api.url}/api/jobs/{first}/cancel").json()["state"] == "cancelled"
    upload(client, project, 2)
    assert client.post(f"{api.url}/api/jobs/{first}/cancel").json()["state"] == "cancelled"
    assert sorted(jobs().values()) == ["cancelled", "queued"]


def test_a_waiting_training_can_be_cancelled(api: Service, client: httpx.Client, project: str) -> None:
    tags = [new_tag(client, project, name) for name in "ab"]
    for seed in range(10):
        upload(client, project, seed, tagIds=tags[seed % 2])
    iteration = client.post(f"/projects/{project}/train").json()
    assert (iteration["status"], "trainedAt" in iteration) == ("Training", False)
    again = client.post(f"/projects/{project}/train").json()
    assert again["code"] == "BadRequestTrainingAlreadyInProgress"
    jobs = client.get(f"{api.url}/api/projects/{project}/jobs").json()
    assert {(job["kind"], job["state"]) for job in jobs} == {("train", "queued"), ("embed", "queued")}
    job = next(job["id"] for job in jobs if job["kind"] == "train")
    assert client.post(f"{api.url}/api/jobs/{job}/cancel").json()["state"] == "cancelled"
    shown = client.get(f"/projects/{project}/iterations/{iteration['id']}").json()
    assert (shown["status"], shown["trainingErrorDetails"]) == ("Failed", "Cancelled before it started.")
    assert client.post(f"{api.url}/api/jobs/{project}/cancel").status_code == 404


def test_the_older_version_lacks_what_came_later(api: Service) -> None:
    with api.client("v3.3") as older:
        shown = older.get("/domains").json()[0]
    assert list(shown) == ["id", "name", "type", "exportable", "enabled"]
