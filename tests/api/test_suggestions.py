"""Region proposals over HTTP; suggestions are tested with their rules, and as recorded in `test_observed`."""

import uuid

import httpx

from tests.api.conftest import Service, upload


def test_a_detection_projects_image_has_25_ranked_boxes_before_any_training(
    client: httpx.Client, detection: str
) -> None:
    image = upload(client, detection, 5)["id"]
    answer = client.post(f"/projects/{detection}/images/{image}/regionproposals").json()
    assert list(answer) == ["projectId", "imageId", "proposals"]
    assert (answer["projectId"], answer["imageId"]) == (detection, image)
    confidences = [one["confidence"] for one in answer["proposals"]]
    assert len(confidences) == 25
    assert confidences == sorted(confidences, reverse=True)
    for one in answer["proposals"]:
        box = one["boundingBox"]
        assert list(box) == ["left", "top", "width", "height"]
        assert box["width"] > 0 < box["height"]
        assert box["left"] >= 0 <= box["top"]
        assert box["left"] + box["width"] <= 1.000001 >= box["top"] + box["height"]


def test_the_path_of_v2_gives_the_same(api: Service, client: httpx.Client, detection: str) -> None:
    image = upload(client, detection, 6)["id"]
    old = httpx.post(
        f"{api.url}/customvision/v2.1/Training/{detection}/images/{image}/regionproposals",
        headers={"Training-Key": api.training_key},
        timeout=30,
    )
    assert old.json() == client.post(f"/projects/{detection}/images/{image}/regionproposals").json()


def test_where_there_are_no_regions_none_are_proposed(client: httpx.Client, project: str, detection: str) -> None:
    image = upload(client, project, 7)["id"]
    for of, wanted, status, code in (
        (project, image, 400, "BadRequestOperationNotSupported"),
        (detection, image, 404, "NotFoundImage"),
        (str(uuid.uuid4()), image, 404, "NotFoundProject"),
    ):
        answer = client.post(f"/projects/{of}/images/{wanted}/regionproposals")
        assert (answer.status_code, answer.json()["code"]) == (status, code)
