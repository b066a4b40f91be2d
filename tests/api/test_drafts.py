"""Live learning over HTTP; its rules are tested with `services.drafts`, its process with a running service."""

import uuid
from collections.abc import Iterator

import httpx
import pytest

from ownvision.services import drafts, live
from ownvision.services.components import Components
from tests.api.conftest import Service, upload
from tests.services import trained as t

NONE = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def own(api: Service) -> Iterator[httpx.Client]:
    headers = {"Training-Key": api.training_key}
    with httpx.Client(base_url=f"{api.url}/api", headers=headers, timeout=30) as made:
        yield made


def _refresh(components: Components, project_id: str) -> None:
    with components.database.read() as session:
        (found,) = [one for one in drafts.lives(session) if one.project_id == project_id]
    live.refresh(components, found, live.Features(components))


def _project(client: httpx.Client) -> str:
    made = client.post("/projects", params={"name": uuid.uuid4().hex, "domainId": t.COMPACT})
    return str(made.json()["id"])


def test_live_learning_is_off_until_it_is_switched_on(client: httpx.Client, own: httpx.Client) -> None:
    project = _project(client)
    path = f"/projects/{project}"
    off = own.get(f"{path}/draft").json()
    assert (off["enabled"], off["state"], off["score"], off["perTag"]) == (False, "off", None, [])
    for asked in (own.get(f"{path}/draft/suggestions"), own.post(f"{path}/draft/iteration")):
        assert (asked.status_code, asked.json()["code"]) == (404, "NotFound")
    assert own.put(f"{path}/live-learning", json={"enabled": True}).json() == {"enabled": True}
    assert own.put(f"{path}/live-learning", json={"enabled": True}).status_code == 200
    assert own.get(f"{path}/draft").json()["state"] == "learning"
    changes = own.get("/account/audit", params={"operation": "PutLiveLearning"}).json()
    assert "PutLiveLearning" in str(changes)
    held = own.post(f"{path}/holds", json={"reason": "court"}).json()["id"]
    assert own.put(f"{path}/live-learning", json={"enabled": False}).json()["code"] == "BadRequestOperationNotSupported"
    own.delete(f"{path}/holds/{held}")
    assert own.put(f"{path}/live-learning", json={"enabled": False}).json() == {"enabled": False}
    assert own.get(f"{path}/draft").json()["state"] == "off"


def test_a_detection_project_is_refused_with_the_reason(own: httpx.Client, detection: str) -> None:
    answer = own.put(f"/projects/{detection}/live-learning", json={"enabled": True})
    assert (answer.status_code, answer.json()["code"]) == (400, "BadRequestNotSupported")
    assert "a minute" in answer.json()["message"]


@pytest.mark.slow
def test_a_draft_suggests_and_becomes_an_iteration(api: Service, client: httpx.Client, own: httpx.Client) -> None:
    project = _project(client)
    path = f"/projects/{project}"
    for colour, name in enumerate(("red", "blue")):
        tag = client.post(f"{path}/tags", params={"name": name}).json()["id"]
        for seed in range(5):
            client.post(
                f"{path}/images",
                params={"tagIds": tag},
                files={"file": (f"{name}{seed}.png", t.coloured(colour, seed))},
            ).raise_for_status()
    loose = upload(client, project, 5)["id"]
    own.put(f"{path}/live-learning", json={"enabled": True})
    _refresh(api.components, project)
    draft = own.get(f"{path}/draft").json()
    assert (draft["state"], draft["suggestionsComplete"], draft["reason"]) == ("fresh", True, None)
    assert draft["revision"] == draft["workspaceRevision"]
    assert draft["score"]["images"] == 10
    assert {one["name"] for one in draft["perTag"]} == {"red", "blue"}
    page = own.get(f"{path}/draft/suggestions", params={"take": 1}).json()
    assert page["continuation"] is None
    (one,) = page["images"]
    assert one["id"] == loose
    assert {said["tagName"] for said in one["predictions"]} == {"red", "blue"}
    assert httpx.get(one["thumbnailUri"]).status_code == 200
    made = own.post(f"{path}/draft/iteration", json={"name": "From a draft"})
    assert (made.status_code, made.json()["name"], made.json()["status"]) == (202, "From a draft", "Training")
    assert own.post(f"{path}/draft/iteration").json()["code"] == "BadRequestTrainingAlreadyInProgress"
    t.work(api.components)
    names = [row["name"] for row in client.get(f"{path}/iterations").json() if row["status"] == "Completed"]
    assert names == ["From a draft"]
    assert own.post(f"{path}/draft/iteration").json()["code"] == "BadRequestTrainingNotNeeded"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "live-learning", {"enabled": True}),
        ("GET", "draft", None),
        ("GET", "draft/suggestions", None),
        ("POST", "draft/iteration", None),
    ],
)
def test_a_strangers_project_says_nothing(own: httpx.Client, method: str, path: str, body: object) -> None:
    answer = own.request(method, f"/projects/{NONE}/{path}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "NotFoundProject")
