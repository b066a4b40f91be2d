"""Erasing over HTTP: the header with the receipt's address, names typed back, receipts read without a key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from ownvision.data_rights import finishing
from ownvision.store.tables import ApiKey, Export, Iteration, Receipt
from tests.api.conftest import PREDICTION, Service, new_tag, running, upload

HEADER = "OwnVision-Receipt"


def _receipt(answer: httpx.Response) -> dict[str, Any]:
    """What stands at the address that an answer names; no key is sent."""
    found = httpx.get(answer.headers[HEADER])
    assert found.status_code == 200, found.text
    document: dict[str, Any] = found.json()
    return document


def _iteration(api: Service, project: str) -> tuple[str, str]:
    """An iteration without a model, and an export of it."""
    with api.components.database.write() as session:
        iteration = Iteration(
            project_id=project,
            number=1,
            name="Iteration 1",
            status="Failed",
            revision=0,
            domain_id="ee85a74c-405e-4adc-bb47-ffa8ca0c9f31",
            classification_type="Multilabel",
            pipeline="1",
        )
        session.add(iteration)
        session.flush()
        export = Export(iteration_id=iteration.id, platform="ONNX", status="Failed")
        session.add(export)
        session.flush()
        return iteration.id, export.id


def test_every_operation_that_erases_names_its_receipt(
    api: Service, client: httpx.Client, project: str, detection: str
) -> None:
    tags = [new_tag(client, project, name) for name in "ab"]
    images = [upload(client, project, seed, tagIds=tags[0])["id"] for seed in range(3)]
    box = {"tagId": new_tag(client, detection, "c"), "left": 0, "top": 0, "width": 1, "height": 1}
    entry = {**box, "imageId": upload(client, detection, 1)["id"]}
    made = client.post(f"/projects/{detection}/images/regions", json={"regions": [entry]}).json()["created"]
    iteration, export = _iteration(api, project)
    at = f"/projects/{project}"
    key = {"Training-Key": api.training_key}
    own = f"{api.url}/api{at}/iterations/{iteration}/exports/{export}"
    calls: list[tuple[str, Callable[[], httpx.Response], int, dict[str, int]]] = [
        ("DeleteImages", lambda: client.delete(f"{at}/images?imageIds={images[0]}"), 204, {"images": 1}),
        ("DeleteImages", lambda: client.delete(f"{at}/images?imageIds={images[1]}&allIterations=true"), 202, {}),
        ("DeleteImageTags", lambda: client.delete(f"{at}/images/tags?imageIds={images[2]}&tagIds={tags[0]}"), 204, {}),
        ("DeleteTag", lambda: client.delete(f"{at}/tags/{tags[1]}"), 204, {"tags": 1}),
        (
            "DeleteImageRegions",
            lambda: client.delete(f"/projects/{detection}/images/regions?regionIds={made[0]['regionId']}"),
            204,
            {"regions": 1},
        ),
        ("DeleteExport", lambda: httpx.delete(own, headers=key), 204, {"exports": 1}),
        ("DeleteIteration", lambda: client.delete(f"{at}/iterations/{iteration}"), 204, {"iterations": 1}),
        ("DeletePrediction", lambda: client.delete(f"{at}/predictions?ids={images[0]}"), 204, {}),
        ("DeleteProject", lambda: client.delete(at), 204, {}),
    ]
    with api.components.database.read() as session:
        key_id = session.scalar(select(ApiKey.id).where(ApiKey.kind == "training", ApiKey.slot == "primary"))
    for operation, call, status, erased in calls:
        answer = call()
        assert (operation, answer.status_code, answer.content) == (operation, status, b"")
        document = _receipt(answer)
        assert (document["operation"], document["state"]) == (operation, "open")
        counts = {kind: one["count"] for kind, one in document["erased"].items()}
        assert erased.items() <= counts.items(), (operation, counts)
        with api.components.database.read() as session:
            assert session.get_one(Receipt, document["id"]).key_id == key_id


def test_a_refused_erasure_names_no_receipt(client: httpx.Client, project: str) -> None:
    answer = client.delete(f"/projects/{project}/images?imageIds={project}")
    assert answer.status_code == 400
    assert HEADER not in answer.headers


def test_web_pages_may_read_the_header(client: httpx.Client, project: str) -> None:
    answer = client.delete(f"/projects/{project}/images?allImages=true", headers={"Origin": "https://portal.example"})
    assert HEADER in answer.headers["access-control-expose-headers"]


def test_a_project_is_shown_and_erased_with_its_name_typed_back(
    api: Service, client: httpx.Client, new_project: Callable[..., str]
) -> None:
    project = new_project(name="Typed back")
    upload(client, project, 1, tagIds=new_tag(client, project, "a"))
    at, key = f"{api.url}/api/projects/{project}", {"Training-Key": api.training_key}
    shown = httpx.get(f"{at}/erasure", headers=key).json()
    assert (shown["name"], shown["refused"]) == ("Typed back", [])
    counts = {one["kind"]: one["count"] for one in shown["data"]}
    assert (counts["images"], counts["imageTags"], counts["tags"], counts["fileNames"]) == (1, 1, 1, 1)
    for typed in ({"name": "typed back"}, {"name": ""}):
        refused = httpx.request("DELETE", at, headers=key, json=typed)
        assert (refused.status_code, refused.json()["code"]) == (400, "BadRequestInvalid")
    assert httpx.request("DELETE", at, headers=key).status_code == 400
    assert client.get(f"/projects/{project}").status_code == 200
    answer = httpx.request("DELETE", at, headers=key, json={"name": "Typed back"})
    assert (answer.status_code, answer.json()) == (202, {"receipt": answer.headers[HEADER]})
    assert client.get(f"/projects/{project}").json()["code"] == "NotFoundProject"
    assert httpx.get(f"{at}/erasure", headers=key).status_code == 404


def test_what_stands_in_the_way_is_shown_before(api: Service, client: httpx.Client, project: str) -> None:
    iteration, _ = _iteration(api, project)
    with api.components.database.write() as session:
        session.get_one(Iteration, iteration).publish_name = "best"
    shown = httpx.get(f"{api.url}/api/projects/{project}/erasure", headers={"Training-Key": api.training_key}).json()
    assert shown["refused"] == ["Published as 'best'; unpublish it first."]


@pytest.mark.parametrize("id", ["ffffffff-ffff-4fff-8fff-ffffffffffff", "x", "../key"])
def test_an_address_that_is_no_receipt_s_gives_none(api: Service, id: str) -> None:
    assert httpx.get(f"{api.url}/receipts/{id}").status_code in (400, 404)


def test_the_list_is_the_account_s_own(api: Service, client: httpx.Client, project: str) -> None:
    answer = client.delete(f"/projects/{project}/images?allImages=true")
    mine = answer.headers[HEADER].rpartition("/")[2]
    key = {"Training-Key": api.training_key}
    listed = httpx.get(f"{api.url}/api/receipts?take=3", headers=key).json()
    assert (listed[0]["id"], len(listed) <= 3) == (mine, True)
    assert httpx.get(f"{api.url}/api/receipts").status_code == 401
    assert httpx.get(f"{api.url}/api/receipts?take=257", headers=key).status_code == 400


def test_an_account_goes_and_its_receipt_stays(tmp_path: Path) -> None:
    with running(tmp_path / "data", account_name="ada") as api, api.client() as client:
        project = client.post("/projects", params={"name": "Herbarium"}).json()["id"]
        image = upload(client, project, 1)
        at, key = f"{api.url}/api/account", {"Training-Key": api.training_key}
        assert httpx.get(f"{at}/erasure", headers=key).json()["name"] == "ada"
        assert httpx.request("DELETE", at, headers=key, json={"userName": "Ada"}).status_code == 400
        answer = httpx.request("DELETE", at, headers=key, json={"userName": "ada"})
        assert answer.status_code == 202
        assert client.get("/projects").status_code == 401
        asked = httpx.post(
            f"{api.url}{PREDICTION}/{project}/classify/iterations/x/image",
            headers={"Prediction-Key": api.prediction_key},
            content=b"x",
        )
        assert asked.status_code == 401
        assert httpx.get(image["originalImageUri"]).status_code == 404
        document = _receipt(answer)
        assert document["state"] == "open"
        assert finishing.finish(api.components)
        signed = _receipt(answer)
        assert signed["state"] == "signed"
        assert signed["statement"]["erased"]["images"]["count"] == 1
        public = httpx.get(f"{api.url}/receipts/key").json()
        assert public == {"algorithm": "Ed25519", "publicKey": signed["statement"]["publicKey"]}
        ready = httpx.get(f"{api.url}/health/ready").json()
        assert ready["checks"]["keys"]
