"""What is held, for how long, and what may not be erased: over HTTP."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ownvision.data_rights.inventory import KINDS
from ownvision.data_rights.retention import TERMS
from ownvision.services import accounts
from tests.api.conftest import Service, new_tag, upload


@pytest.fixture
def own(api: Service) -> Iterator[httpx.Client]:
    """A client of `/api`."""
    with _client(api, api.training_key) as made:
        yield made


@pytest.fixture
def stranger(api: Service) -> Iterator[httpx.Client]:
    """Another account's."""
    components = api.components
    with components.database.write() as session:
        name = f"stranger {len(accounts.all(session))}"
        account = accounts.create(session, components.keys, user_name=name, email="s@localhost", tier="Unlimited")
        key = accounts.describe(session, components.keys, account)["trainingKeys"]["primary"]
    with _client(api, key) as made:
        yield made


def _client(api: Service, key: str) -> httpx.Client:
    return httpx.Client(base_url=f"{api.url}/api", headers={"Training-Key": key}, timeout=30)


def kinds(answer: httpx.Response) -> dict[str, dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return {kind["name"]: kind for kind in answer.json()["kinds"]}


def test_a_project_shows_what_is_held_of_it(own: httpx.Client, client: httpx.Client, project: str) -> None:
    tag = new_tag(client, project, "oak")
    upload(client, project, 1, tagIds=tag)
    upload(client, project, 2)
    held = kinds(own.get(f"/projects/{project}/data"))
    assert [held[name]["count"] for name in ("projects", "images", "tags", "image–tag links")] == [1, 2, 1, 1]
    images = held["images"]
    assert images["sealed"] is True
    assert images["bytes"] > 0
    assert images["oldest"].endswith("Z")
    assert images["delete"][0] == "DeleteImages"
    assert images["inOriginal"] is True
    assert held["stored predictions"]["days"] == 30
    assert held["stored predictions"]["rule"] == "setting"


def test_an_account_shows_every_kind_of_the_map(own: httpx.Client, project: str) -> None:
    held = kinds(own.get("/account/data"))
    assert list(held) == [kind.name for kind in KINDS]
    assert held["account info"]["count"] == 1
    assert held["encryption keys"]["count"] >= 2
    assert held["logs"]["count"] is None


def test_nothing_of_anothers_is_counted(own: httpx.Client, stranger: httpx.Client, project: str) -> None:
    held = kinds(stranger.get("/account/data"))
    assert {name: kind["count"] for name, kind in held.items() if kind["count"]} == {
        "account info": 1,
        "API keys": 4,
        "encryption keys": 1,
    }


def test_a_rule_is_set_shown_and_taken_away(own: httpx.Client, project: str) -> None:
    path = f"/projects/{project}/retention"
    set_to = own.put(path, json={"kind": "predictions", "days": 7})
    assert set_to.status_code == 200
    shown = {one["kind"]: one for one in own.get(path).json()}
    assert list(shown) == list(TERMS)
    assert shown == {one["kind"]: one for one in set_to.json()}
    assert shown["predictions"] == {
        "kind": "predictions",
        "days": 7,
        "rule": "project",
        "default": 30,
        "setting": "prediction_days",
    }
    assert kinds(own.get(f"/projects/{project}/data"))["stored predictions"]["days"] == 7
    assert own.delete(path, params={"kind": "predictions"}).status_code == 204
    assert {one["rule"] for one in own.get(path).json()} == {"setting"}


def test_an_accounts_rule_holds_in_its_projects(own: httpx.Client, project: str) -> None:
    own.put("/account/retention", json={"kind": "jobs", "days": 11})
    try:
        (jobs,) = (one for one in own.get(f"/projects/{project}/retention").json() if one["kind"] == "jobs")
        assert (jobs["days"], jobs["rule"]) == (11, "account")
    finally:
        assert own.delete("/account/retention", params={"kind": "jobs"}).status_code == 204


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "images", "days": 7},
        {"kind": "predictions", "days": 0},
        {"kind": "predictions", "days": 10**9},
        {"kind": "predictions"},
        {"kind": "predictions", "days": "many"},
        {},
    ],
    ids=json.dumps,
)
def test_a_rule_that_can_not_be_is_refused(own: httpx.Client, project: str, rule: dict[str, Any]) -> None:
    answer = own.put(f"/projects/{project}/retention", json=rule)
    assert answer.status_code == 400
    assert answer.json()["code"].startswith("BadRequest")
    assert {one["rule"] for one in own.get(f"/projects/{project}/retention").json()} == {"setting"}


def test_a_held_project_refuses_to_be_erased_until_the_hold_is_lifted(
    own: httpx.Client, client: httpx.Client, project: str
) -> None:
    image = upload(client, project, 3)["id"]
    placed = own.post(f"/projects/{project}/holds", json={"reason": "case 7"}).json()
    assert (placed["projectId"], placed["reason"]) == (project, "case 7")
    assert own.get(f"/projects/{project}/data").json()["holds"] == [placed]
    for path, params in (
        (f"/projects/{project}/images", {"imageIds": image}),
        (f"/projects/{project}/images", {"allImages": "true", "allIterations": "true"}),
        (f"/projects/{project}", {}),
    ):
        refused = client.delete(path, params=params)
        assert (refused.status_code, refused.json()["code"]) == (400, "BadRequestOperationNotSupported")
        assert placed["id"] in refused.json()["message"]
    assert client.get(f"/projects/{project}/images/count").json() == 1
    assert own.get(f"/projects/{project}/holds").json() == [placed]
    assert own.delete(f"/projects/{project}/holds/{placed['id']}").status_code == 204
    assert client.delete(f"/projects/{project}").status_code == 204


def test_a_hold_on_the_account_is_one_on_each_project(own: httpx.Client, client: httpx.Client, project: str) -> None:
    placed = own.post("/account/holds", json={"reason": "case 8"}).json()
    try:
        assert placed["projectId"] is None
        assert client.delete(f"/projects/{project}").status_code == 400
        assert placed in own.get(f"/projects/{project}/holds").json()
        assert own.delete(f"/projects/{project}/holds/{placed['id']}").json()["code"] == "NotFound"
    finally:
        assert own.delete(f"/account/holds/{placed['id']}").status_code == 204
    assert placed not in own.get("/account/holds").json()


def test_a_hold_without_a_reason_is_refused(own: httpx.Client, project: str) -> None:
    assert own.post(f"/projects/{project}/holds", json={"reason": " "}).json()["code"] == "BadRequestInvalid"
    assert own.get(f"/projects/{project}/holds").json() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "data"),
        ("GET", "retention"),
        ("PUT", "retention"),
        ("DELETE", "retention"),
        ("GET", "holds"),
        ("POST", "holds"),
        ("DELETE", "holds/00000000-0000-4000-8000-000000000000"),
    ],
)
def test_a_strangers_project_is_not_there(stranger: httpx.Client, project: str, method: str, path: str) -> None:
    bodies: dict[str, Any] = {"PUT": {"kind": "jobs", "days": 1}, "POST": {"reason": "mine"}}
    answer = stranger.request(method, f"/projects/{project}/{path}", json=bodies.get(method), params={"kind": "jobs"})
    assert (answer.status_code, answer.json()["code"]) == (404, "NotFoundProject")
