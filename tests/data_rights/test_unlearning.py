"""A service that forgets: an image is erased everywhere, and the published model is replaced while it answers."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ownvision.client import Service
from ownvision.client.local import Running, run
from ownvision.services.components import open_components
from ownvision.services.fitting import MODEL
from ownvision.settings import Settings
from ownvision.store import ledger
from ownvision.store.tables import Iteration
from tests.services import trained as t

pytestmark = [pytest.mark.slow, pytest.mark.service]

_DEADLINE = 120.0


@pytest.fixture
def own(service: Running) -> Iterator[httpx.Client]:
    """The own API, with the training key."""
    headers = {"Training-Key": service.training_key}
    with httpx.Client(base_url=f"{service.endpoint}/api", headers=headers, timeout=30.0) as client:
        yield client


class _Asking(threading.Thread):
    """Asks the published model again and again; keeps what it answered, and what went wrong."""

    def __init__(self, service: Running, project_id: str) -> None:
        super().__init__(daemon=True)
        self._service, self._project_id = service, project_id
        self._enough = threading.Event()
        self.answers: list[tuple[float, ...]] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        path = f"/customvision/v3.1/prediction/{self._project_id}/classify/iterations/live/image/nostore"
        headers = {"Prediction-Key": self._service.prediction_key or "", "Content-Type": "application/octet-stream"}
        with httpx.Client(base_url=self._service.endpoint, headers=headers, timeout=30.0) as client:
            while not self._enough.is_set():
                answer = client.post(path, content=t.coloured(0, 99))
                if answer.status_code != 200:
                    self.wrong.append(answer.text)
                    continue
                said = {one["tagName"]: one["probability"] for one in answer.json()["predictions"]}
                self.answers.append(tuple(said[name] for name in sorted(said)))

    def stop(self) -> None:
        self._enough.set()
        self.join(30)


def _until(done: Any) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not done():
        assert time.monotonic() < deadline, "it did not come to an end in time"
        time.sleep(0.05)


def _trained(client: Service, project_id: str) -> str:
    iteration_id = str(client.train(project_id, True)["id"])
    _until(lambda: client.iteration(project_id, iteration_id)["status"] == "Completed")
    return iteration_id


def _model(service: Running, iteration_id: str) -> bytes:
    components = open_components(Settings(data=service.data))
    try:
        with components.database.read() as session:
            row = session.get_one(Iteration, iteration_id)
        return components.blobs.read(ledger.iteration_prefix(row.project_id, row.model_id) + MODEL)
    finally:
        components.database.close()


def test_a_published_model_forgets_an_image_while_it_answers(
    service: Running, http_client: Service, own: httpx.Client
) -> None:
    project_id = http_client.create_project("Forgetting", t.COMPACT, "Multiclass")["id"]
    images: dict[str, list[str]] = {}
    for colour, name in enumerate(("red", "blue")):
        tag_id = http_client.create_tag(project_id, name)["id"]
        pictures = [(f"{name}{seed}.png", t.coloured(colour, seed)) for seed in range(6)]
        images[name] = [one["image"]["id"] for one in http_client.upload(project_id, pictures, [tag_id])]
    iteration_id = _trained(http_client, project_id)
    http_client.publish(project_id, iteration_id, "live", service.account["predictionResourceId"])
    old = _model(service, iteration_id)
    unflagged = http_client.iteration(project_id, iteration_id)
    assert not {"erasedImages", "unlearning"} & unflagged.keys()
    gone = images["red"][0]

    assert own.put(f"/projects/{project_id}/erasure-policy", json={"policy": "burn"}).json()["code"] == "BadRequest"
    assert own.put(f"/projects/{project_id}/erasure-policy", json={"policy": "retrain"}).json() == {"policy": "retrain"}
    assert run("policy", "show", project_id, "--data", str(service.data)).strip() == "retrain"
    (told,) = own.post(f"/projects/{project_id}/lineage", json={"imageIds": [gone]}).json()
    assert (told["iterationId"], told["publishName"], told["images"]) == (iteration_id, "live", 1)
    assert "published as 'live'" in run("lineage", "of", gone, "--data", str(service.data))

    asking = _Asking(service, project_id)
    asking.start()
    try:
        _until(lambda: asking.answers or asking.wrong)
        answer = httpx.delete(
            f"{service.endpoint}/customvision/v3.4-preview/training/projects/{project_id}/images",
            params={"imageIds": gone, "allIterations": "true"},
            headers={"Training-Key": service.training_key},
        )
        assert answer.status_code == 202
        receipt = answer.headers["OwnVision-Receipt"].rpartition("/")[2]
        lineage = f"/projects/{project_id}/iterations/{iteration_id}/lineage"
        _until(lambda: own.get(lineage).json()["unlearning"] == "refitted")
        seen = len(asking.answers)
        _until(lambda: len(asking.answers) > seen + 1 or asking.wrong)
    finally:
        asking.stop()
    assert asking.wrong == []
    assert len(set(asking.answers)) == 2  # the old model's, then the new one's
    assert asking.answers[0] != asking.answers[-1]

    shown = own.get(lineage).json()
    assert (shown["images"], shown["erased"], shown["erasedImages"]) == (11, 1, 0)
    assert (shown["entries"][0]["imageId"], shown["entries"][0]["receipt"]) == (gone, receipt)
    assert shown["entries"][0]["unlearned"] is not None
    assert {entry["imageId"] for entry in shown["entries"][1:]} == {*images["red"], *images["blue"]} - {gone}
    assert [entry["imageId"] for entry in own.get(lineage, params={"skip": 1, "take": 2}).json()["entries"]] == (
        images["red"][1:3]
    )
    assert f"{gone}  erased, receipt {receipt}" in run("lineage", "show", iteration_id, "--data", str(service.data))
    learned = httpx.get(f"{service.endpoint}/receipts/{receipt}").json()
    (outcome,) = (learned.get("statement") or learned)["learned"]
    assert (outcome["iterationId"], outcome["published"], outcome["outcome"]) == (iteration_id, True, "refitted")
    after = http_client.iteration(project_id, iteration_id)
    moved = {"lastModified", "trainedAt"}
    assert {key: value for key, value in after.items() if key not in moved} == {
        key: value for key, value in unflagged.items() if key not in moved
    }
    new = _model(service, iteration_id)
    assert new != old
    assert new == _model(service, _trained(http_client, project_id))  # as if the image had never been there


def test_an_iteration_that_keeps_what_it_learned_shows_it(
    service: Running, http_client: Service, own: httpx.Client
) -> None:
    project_id = http_client.create_project("Keeping", t.COMPACT, "Multiclass")["id"]
    ids = []
    for colour, name in enumerate(("red", "blue")):
        tag_id = http_client.create_tag(project_id, name)["id"]
        pictures = [(f"{name}{seed}.png", t.coloured(colour, seed)) for seed in range(6)]
        ids += [one["image"]["id"] for one in http_client.upload(project_id, pictures, [tag_id])]
    iteration_id = _trained(http_client, project_id)
    refit = f"/projects/{project_id}/iterations/{iteration_id}/refit"
    assert own.post(refit).json()["code"] == "BadRequestTrainingNotNeeded"

    def shown(version: str) -> dict[str, Any]:
        address = f"{service.endpoint}/customvision/{version}/training/projects/{project_id}/iterations/{iteration_id}"
        answer: dict[str, Any] = httpx.get(address, headers={"Training-Key": service.training_key}).json()
        return {key: answer[key] for key in ("erasedImages", "unlearning") if key in answer}

    httpx.delete(
        f"{service.endpoint}/customvision/v3.3/training/projects/{project_id}/images",
        params={"imageIds": ids[0], "allIterations": "true"},
        headers={"Training-Key": service.training_key},
    )
    assert shown("v3.4-preview") == {"erasedImages": 1, "unlearning": "kept"}
    assert shown("v3.3") == {}  # as the original's
    assert own.post(refit).status_code == 202
    _until(lambda: shown("v3.4-preview") == {})


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "erasure-policy", None),
        ("PUT", "erasure-policy", {"policy": "keep"}),
        ("POST", "lineage", {"imageIds": ["00000000-0000-0000-0000-000000000001"]}),
        ("GET", "iterations/00000000-0000-0000-0000-000000000001/lineage", None),
        ("POST", "iterations/00000000-0000-0000-0000-000000000001/refit", None),
    ],
)
def test_a_strangers_project_says_nothing(own: httpx.Client, method: str, path: str, body: Any) -> None:
    answer = own.request(method, f"/projects/00000000-0000-0000-0000-000000000000/{path}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "NotFoundProject")
