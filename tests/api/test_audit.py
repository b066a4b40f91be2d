"""The audit trail over HTTP: what each kind of call leaves in it, pages, filters, JSON Lines."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ownvision.services import accounts
from tests.api.conftest import Service, new_tag, upload


@pytest.fixture
def told(api: Service) -> Callable[..., list[dict[str, Any]]]:
    """Events of a project, oldest first, once so many are there; they are there within a second."""

    def of(project: str, least: int) -> list[dict[str, Any]]:
        until = time.monotonic() + 5
        while True:
            answer = httpx.get(
                f"{api.url}/api/account/audit",
                params={"projectId": project},
                headers={"Training-Key": api.training_key, "Accept": "application/x-ndjson"},
            )
            found = [json.loads(line) for line in answer.text.splitlines()]
            if len(found) >= least:
                return found
            assert time.monotonic() < until, found
            time.sleep(0.02)

    return of


def short(events: list[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
    return [(one["action"], one["operation"], one.get("target")) for one in events]


def test_a_projects_life_stands_in_the_trail(
    api: Service, client: httpx.Client, told: Callable[..., list[dict[str, Any]]]
) -> None:
    project = client.post("/projects", params={"name": "Audited"}).json()["id"]
    tag = new_tag(client, project, "oak")
    image = upload(client, project, 9_001, tagIds=tag)
    assert client.get(f"/projects/{project}/tags/{tag}").status_code == 200
    assert httpx.get(image["originalImageUri"]).status_code == 200
    assert client.delete(f"/projects/{project}/images", params={"imageIds": image["id"]}).status_code == 204
    assert client.delete(f"/projects/{project}").status_code in (200, 202, 204)
    found = told(project, 7)
    assert sorted(short(found)) == sorted(
        [
            ("change", "CreateProject", None),
            ("change", "CreateTag", tag),
            ("change", "CreateImagesFromData", None),
            ("view", "GetTag", tag),
            ("view", "GetImageFile", image["id"]),
            ("delete", "DeleteImages", None),
            ("delete", "DeleteProject", None),
        ]
    )
    with api.components.database.read() as session:
        account = accounts.all(session)[0]
        key = accounts.authenticate(session, api.training_key, "training")
    assert {one["actor"] for one in found} == {key.id if key else "", "link"}
    assert len({one["requestId"] for one in found}) == 7
    assert account.user_name not in json.dumps(found)


def test_what_is_refused_is_no_event(
    client: httpx.Client, project: str, told: Callable[..., list[dict[str, Any]]]
) -> None:
    new_tag(client, project, "oak")
    assert client.post(f"/projects/{project}/tags", params={"name": "oak"}).status_code == 400
    assert client.get(f"/projects/{project}/tags/{project}").status_code == 404
    assert client.delete(f"/projects/{project}/images", params={"imageIds": project}).status_code == 400
    assert client.get(f"/projects/{project}/tags").status_code == 200
    assert [one["operation"] for one in told(project, 3)] == ["CreateProject", "CreateTag", "GetTags"]


def test_a_page_leads_to_the_next(api: Service, client: httpx.Client, project: str) -> None:
    for number in range(4):
        new_tag(client, project, f"tag {number}")
    seen, before = [], None
    with httpx.Client(base_url=api.url, headers={"Training-Key": api.training_key}) as own:
        while True:
            parameters = {"projectId": project, "action": "change", "take": 2}
            page = own.get("/api/account/audit", params=parameters | ({"before": before} if before else {})).json()
            seen += [one["operation"] for one in page["events"]]
            before = page["next"]
            if before is None:
                break
        assert seen == ["CreateTag"] * 4 + ["CreateProject"]
        assert own.get("/api/account/audit", params={"to": "2020-01-01T00:00:00Z"}).json() == {
            "events": [],
            "next": None,
        }
        for wrong in ({"action": "look"}, {"take": 100_000}, {"from": "yesterday"}):
            assert own.get("/api/account/audit", params=wrong).status_code == 400


def test_another_account_sees_nothing_of_it(api: Service, project: str) -> None:
    with api.components.database.write() as session:
        other = accounts.create(
            session, api.components.keys, user_name="audit-other", email="o@localhost", tier="Unlimited"
        )
        key = accounts.describe(session, api.components.keys, other)["trainingKeys"]["primary"]
    answer = httpx.get(f"{api.url}/api/account/audit", params={"projectId": project}, headers={"Training-Key": key})
    assert answer.json() == {"events": [], "next": None}
