"""Recorded exchanges of the original service, replayed: same status, keys, order, nulls and forms of values.

`tests/data/observed/exchanges.jsonl` holds those of `azure-sdk-for-net`'s SessionRecords whose operation and version
are served here.
"""

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ownvision.wire import shapes
from ownvision.wire import values as wire
from ownvision.wire.versions import LATEST
from tests.api.conftest import PREDICTION, Service, jpeg, new_tag, running, upload

COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"
DETECTION = "da2e3a8a-40a5-4171-82f4-58522f70fbc1"
METADATA = {"type": "unit test", "value": "30"}
# What was cut from the recordings when they were written down.
CUT = re.compile(r"\.\.\.|<tag>|subscriptions/\{")
FILE = Path(__file__).parent.parent / "data" / "observed" / "exchanges.jsonl"
RECORDED: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text().splitlines()]

_GUID = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
_FORMS = (
    ("guid", _GUID),
    ("date with three digits and Z", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
    ("date with seven digits and Z", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z"),
    ("date with up to seven digits", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?"),
    ("address", r"(https?://|\.\.\.).*"),
    ("session", r"\d:\d+"),
    ("quoted name", r'".*"'),
)


def form(value: Any) -> Any:
    """What a client could depend on in a value: keys and their order, nulls, kinds of values."""
    if isinstance(value, dict):
        return [("guid" if re.fullmatch(_GUID, key) else key, form(item)) for key, item in value.items()]
    if isinstance(value, list):
        return ["list", *sorted({json.dumps(form(item)) for item in value})]
    if isinstance(value, str):
        return next((name for name, pattern in _FORMS if re.fullmatch(pattern, value)), "text")
    return type(value).__name__


def _template(method: str, uri: str) -> str:
    path = re.sub(rf"\{{\w+\}}|{_GUID}", "{}", uri.partition("?")[0])
    return f"{method} {re.sub(r'iterations/[^/{]+/', 'iterations/{}/', path)}"


def _wait(client: httpx.Client, path: str, busy: str, field: str = "status") -> None:
    until = time.monotonic() + 120
    while client.get(path).text.count(f'"{field}":"{busy}"'):
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.1)


class _Life:
    """Lives through a project as the recorded tests did, and keeps each answer under its operation."""

    def __init__(self, service: Service, client: httpx.Client) -> None:
        self.service, self.client = service, client
        self.answers: dict[str, list[httpx.Response]] = {}

    def say(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = self.client.request(method, path, **options)
        self.answers.setdefault(_template(method, answer.request.url.path), []).append(answer)
        return answer

    def projects_and_tags(self) -> None:
        project = self.say("POST", "/projects?name=Test%20Project&description=This%20is%20a%20test%20project").json()[
            "id"
        ]
        self.say("PATCH", f"/projects/{project}", json={"name": "Another Name", "description": "Updated"})
        self.say("GET", "/domains")
        self.say("GET", "/domains/ee85a74c-405e-4adc-bb47-ffa8ca0c9f31")
        tag = self.say("POST", f"/projects/{project}/tags?name=Test%20Tag%201&description=test").json()["id"]
        self.say("PATCH", f"/projects/{project}/tags/{tag}", json={"name": "New", "description": "Updated"})
        self.say("POST", f"/projects/{project}/tags?name=Tag%20%230&description=")
        self.say("GET", f"/projects/{project}/tags")
        self.say("DELETE", f"/projects/{project}/tags/{tag}")
        self.say("DELETE", f"/projects/{project}")

    def detection(self) -> None:
        project = self.client.post("/projects", params={"name": "boxes", "domainId": DETECTION}).json()["id"]
        tag, image = new_tag(self.client, project, "scissors"), upload(self.client, project, 3)["id"]
        box = {
            "imageId": image,
            "tagId": tag,
            "left": 0.3807391,
            "top": 0.164848924,
            "width": 0.276588678,
            "height": 0.5,
        }
        region = self.say("POST", f"/projects/{project}/images/regions", json={"regions": [box]}).json()["created"][0]
        self.say("GET", f"/projects/{project}/images/id", params={"imageIds": image})
        self.say("DELETE", f"/projects/{project}/images/regions", params={"regionIds": region["regionId"]})
        self.say("POST", f"/projects/{project}/images/{image}/regionproposals")

    def images(self, project: str, tags: list[str]) -> str:
        for index, tag in enumerate(tags):
            for number in range(5):
                self.say(
                    "POST",
                    f"/projects/{project}/images?tagIds={tag}",
                    files={"imageData": (f"hemlock_{number}.jpg", jpeg(10 * number + 100 * index, 64, 64))},
                )
        first = self.say("GET", f"/projects/{project}/images?take=50&skip=0").json()[0]
        file = {"name": "hemlock_1.jpg", "contents": base64.b64encode(jpeg(77)).decode()}
        made = self.say("POST", f"/projects/{project}/images/files", json={"images": [file], "tagIds": tags[:1]})
        image = made.json()["images"][0]["image"]["id"]
        pair = {"imageIds": image, "tagIds": tags[0]}
        self.say("DELETE", f"/projects/{project}/images/tags", params=pair)
        entry = {"imageId": image, "tagId": tags[0]}
        self.say("POST", f"/projects/{project}/images/tags", json={"tags": [entry]})
        self.say("POST", f"/projects/{project}/images/metadata?imageIds={image}", json=METADATA)
        other = self.client.post("/projects?name=copy").json()["id"]
        tag = new_tag(self.client, other, "a")
        url = first["originalImageUri"]
        self.say("GET", f"/projects/{project}/artifacts", params={"path": url})
        self.say("POST", f"/projects/{other}/images/urls", json={"images": [{"url": url}], "tagIds": [tag]})
        self.say("DELETE", f"/projects/{project}/images", params={"imageIds": image})
        for kind in ("tagged", "untagged"):
            self.say("GET", f"/projects/{project}/images/{kind}/count")
        return str(url)

    def iterations(self, project: str, url: str) -> None:
        base = f"/projects/{project}/iterations"
        first = self.say("POST", f"/projects/{project}/train?reservedBudgetInHours=0&forceTrain=false").json()["id"]
        _wait(self.client, f"{base}/{first}", "Training")
        self.say("GET", f"{base}/{first}/performance?threshold=0.9")
        self.say("GET", f"{base}/{first}/performance/images/count")
        self.say("POST", f"/projects/{project}/quicktest/url?iterationId={first}&store=true", json={"url": url})
        found = self.say("POST", f"/projects/{project}/predictions/query", json={"maxCount": 0, "orderBy": "Newest"})
        kept = self.client.post(
            f"/projects/{project}/quicktest/image",
            params={"iterationId": first, "store": "true"},
            files={"imageData": ("new.jpg", jpeg(4321, 64, 64))},
        ).json()["id"]
        taken = {"images": [{"id": kept}]}
        self.say("POST", f"/projects/{project}/images/predictions", json=taken)
        self.say("DELETE", f"/projects/{project}/predictions", params={"ids": found.json()["results"][0]["id"]})
        name = {"publishName": "Training UnitTest Iteration", "predictionId": self.service.resource_id}
        self.say("POST", f"{base}/{first}/publish", params=name)
        self.say("GET", f"{base}/{first}")
        self.say("PATCH", f"{base}/{first}", json={"name": "Another name"})
        self.say("GET", "/projects")
        self.say(
            "POST",
            f"{self.service.url}{PREDICTION}/{project}/classify/iterations/Training%20UnitTest%20Iteration/url/nostore",
            json={"url": url},
            headers={"Prediction-Key": self.service.prediction_key},
        )
        self.say("DELETE", f"{base}/{first}/publish")
        base_model = {"customBaseModelInfo": {"projectId": project, "iterationId": first}}
        self.say("POST", f"/projects/{project}/train?trainingType=Regular&forceTrain=true", json=base_model)
        self.say("DELETE", f"{base}/{first}")

    def exports(self, project: str) -> None:
        iteration = self.client.post(f"/projects/{project}/train").json()["id"]
        path = f"/projects/{project}/iterations/{iteration}"
        _wait(self.client, path, "Training")
        self.say("POST", f"{path}/export?platform=onnx")
        self.say("GET", f"{path}/export")
        _wait(self.client, f"{path}/export", "Exporting")
        self.say("GET", f"{path}/export")

    def older(self, url: str) -> None:
        v12 = f"{self.service.url}/customvision/v1.2/Training/projects"
        v30 = f"{self.service.url}/customvision/v3.0/training/projects"
        gone = self.say("POST", f"{v12}?name=Test%20Project&description=This%20is%20a%20test%20project").json()["Id"]
        self.say("DELETE", f"{v12}/{gone}")
        food = "c151d5b5-dd07-472a-acc8-15d29dea8518"
        for _ in range(2):
            self.say("POST", f"{v12}?name=Test%20Project&description=&domainId={food}")
        project = self.client.post(v12, params={"name": "v1", "domainId": COMPACT}).json()["Id"]
        for index, name in enumerate(("Hemlock", "Japanese Cherry")):
            tag = self.client.post(f"{v12}/{project}/tags", params={"name": name}).json()["Id"]
            files = [("imageData", (f"{number}.jpg", jpeg(number + 90 * index, 64, 64))) for number in range(5)]
            self.client.post(f"{v12}/{project}/images", params={"tagIds": tag}, files=files)
        iteration = self.client.post(f"{v12}/{project}/train").json()["Id"]
        path = f"{v12}/{project}/iterations/{iteration}"
        _wait(self.client, path, "Training", "Status")
        self.client.patch(path, json={"Name": "Iteration 2", "IsDefault": True})
        self.say("GET", f"{v12}/{project}/iterations")
        self.say("POST", f"{v12}/{project}/quicktest/url", json={"Url": url})
        self.say("POST", f"{path}/export?platform=onnx")
        name = {"publishName": "Training UnitTest Iteration", "predictionId": self.service.resource_id}
        self.client.post(f"{v30}/{project}/iterations/{iteration}/publish", params=name)
        self.say("GET", f"{v30}/{project}/iterations")
        self.suggestions(project, iteration)

    def travels(self, project: str) -> None:
        v32 = f"{self.service.url}/customvision/v3.2/training/projects"
        _wait(self.client, f"/projects/{project}/iterations", "Training")
        token = self.say("GET", f"{v32}/{project}/export").json()["token"]
        copy = self.say("POST", f"{v32}/import", params={"token": token}).json()["id"]
        _wait(self.client, f"{v32}/{copy}", "Importing")
        self.say("GET", f"{v32}/{copy}/iterations")

    def suggestions(self, project: str, iteration: str) -> None:
        image = upload(self.client, project, 55)["id"]
        tags = [tag["id"] for tag in self.client.get(f"/projects/{project}/tags").json()]
        at = {"iterationId": iteration}
        self.say("POST", f"/projects/{project}/tagsandregions/suggestions", params={**at, "imageIds": image})
        token = {"tagIds": tags, "threshold": 0.0, "maxCount": 10}
        self.say("POST", f"/projects/{project}/images/suggested", params=at, json=token)
        counted = {"tagIds": tags, "threshold": 0.75}
        self.say("POST", f"/projects/{project}/images/suggested/count", params=at, json=counted)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[httpx.Response]]]:
    """Our answers by operation."""
    with running(tmp_path_factory.mktemp("data"), worker=True) as service, service.client() as client:
        life = _Life(service, client)
        life.projects_and_tags()
        life.detection()
        for domain in ("", COMPACT):
            project = client.post("/projects", params={"name": "life", "domainId": domain}).json()["id"]
            tags = [new_tag(client, project, name) for name in ("Tag1", "Tag2")]
            url = life.images(project, tags)
            if domain:
                life.exports(project)
            else:
                life.iterations(project, url)
                life.travels(project)
        life.older(url)
        yield life.answers


# Exchanges whose bodies the recordings only describe: operation, and what holds of every answer.
DESCRIBED: dict[str, Callable[[Any], bool]] = {
    "GET /customvision/v3.4-preview/training/projects/{}/tags": lambda tags: all(
        list(tag) == ["id", "name", "description", "type", "imageCount"] for tag in tags
    ),
    "PATCH /customvision/v3.4-preview/training/projects/{}/iterations/{}": lambda iteration: (
        iteration["name"] == "Another name" and iteration["lastModified"] > iteration["created"]
    ),
    "GET /customvision/v3.4-preview/training/projects/{}/images": lambda images: (
        len(images) == 10
        and [image["created"] for image in images] == sorted((image["created"] for image in images), reverse=True)
        and not any({"regions", "metadata"} & set(image) for image in images)
    ),
    "POST /customvision/v3.4-preview/training/projects/{}/images/predictions": lambda made: (
        list(made) == ["isBatchSuccessful", "images"]
        and [(form(one["sourceUrl"]), one["status"], "tags" in one["image"]) for one in made["images"]]
        == [("guid", "OK", False)]
    ),
    "POST /customvision/v3.4-preview/training/projects/{}/tagsandregions/suggestions": lambda found: (
        [list(one) for one in found]
        == [["id", "project", "iteration", "created", "predictions", "predictionUncertainty"]]
    ),
    "GET /customvision/v3.4-preview/training/projects": lambda projects: (
        [project["created"] for project in projects]
        == sorted((project["created"] for project in projects), reverse=True)
        and {
            project["settings"]["classificationType"]
            for project in projects
            if project["settings"]["domainId"] == DETECTION
        }
        == {"Multiclass"}
    ),
}


REPLAYED = [exchange for exchange in RECORDED if "<tag>" not in json.dumps(exchange["body"])]


@pytest.mark.slow
@pytest.mark.parametrize("exchange", REPLAYED, ids=lambda exchange: _template(exchange["method"], exchange["uri"]))
def test_an_exchange_goes_as_recorded(answers: dict[str, list[httpx.Response]], exchange: dict[str, Any]) -> None:
    ours = answers[_template(exchange["method"], exchange["uri"])]
    assert {answer.status_code for answer in ours} == {exchange["status"]}
    if exchange["body"] is None:
        assert all(answer.content == b"" and "content-type" not in answer.headers for answer in ours)
        return
    forms = [form(answer.json()) for answer in ours]
    assert form(exchange["body"]) in forms, forms[0]


@pytest.mark.slow
@pytest.mark.parametrize("operation", DESCRIBED)
def test_an_exchange_is_as_it_was_described(answers: dict[str, list[httpx.Response]], operation: str) -> None:
    ours = answers[operation]
    assert {answer.status_code for answer in ours} == {200}
    assert all(DESCRIBED[operation](answer.json()) for answer in ours), ours[0].text


@pytest.mark.slow
def test_an_artifact_is_the_bytes(answers: dict[str, list[httpx.Response]]) -> None:
    for answer in answers["GET /customvision/v3.4-preview/training/projects/{}/artifacts"]:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
        assert answer.content.startswith(b"\xff\xd8")


@pytest.mark.slow
def test_a_taken_name_gets_a_number_in_v1(answers: dict[str, list[httpx.Response]]) -> None:
    names = [answer.json()["Name"] for answer in answers["POST /customvision/v1.2/Training/projects"]]
    assert names == ["Test Project", "Test Project", "Test Project (1)"]


@pytest.mark.parametrize(
    "exchange",
    [
        exchange
        for exchange in RECORDED
        if exchange["body"] is not None and exchange["content_length"] and not CUT.search(json.dumps(exchange))
    ],
    ids=lambda exchange: _template(exchange["method"], exchange["uri"]),
)
def test_our_writer_gives_the_recorded_bytes(exchange: dict[str, Any]) -> None:
    written = wire.dumps(exchange["body"])
    assert len(written) == exchange["content_length"]
    assert json.loads(written) == exchange["body"]


@pytest.mark.parametrize(
    "item",
    [
        item
        for exchange in RECORDED
        if isinstance(exchange["body"], dict)
        for item in exchange["body"].get("predictions", [])
        if isinstance(item, dict)
    ],
    ids=lambda item: str(item["probability"]),
)
def test_a_prediction_is_shaped_as_recorded(item: dict[str, Any]) -> None:
    shuffled = dict(sorted(item.items(), reverse=True))
    assert wire.dumps(shapes.prediction(shuffled, LATEST)) == wire.dumps(item)
