"""Every version of the API over one service: paths, names, dates, statuses and errors of its time."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownvision.api.models import IterationChange, ProjectChange, TagChange, Wire
from ownvision.services import accounts
from ownvision.wire import values as wire
from ownvision.wire import versions
from ownvision.wire.versions import LATEST, PREDICTION, TRAINING, VERSIONS, Version
from tests.api.conftest import Service, jpeg, running

pytestmark = pytest.mark.slow

TRAININGS = versions.names(TRAINING)
PREDICTIONS = versions.names(PREDICTION)
OLD = [name for name in TRAININGS if VERSIONS[TRAINING, name].default_iteration]
NOBODY = "5d3c5b8e-0000-4000-8000-0123456789ab"


@dataclass(frozen=True)
class Home:
    """A service with one trained compact classifier."""

    service: Service
    project: str
    iteration: str
    tags: tuple[str, str]
    image: str

    def call(self, version: str, method: str, path: str, **options: Any) -> httpx.Response:
        base = f"{self.service.url}/customvision/{version}/Training"
        return httpx.request(
            method, base + path, headers={"Training-Key": self.service.training_key}, timeout=60, **options
        )

    def predict(self, version: str, path: str, **options: Any) -> httpx.Response:
        base = f"{self.service.url}/customvision/{version}/Prediction"
        return httpx.post(base + path, headers={"Prediction-Key": self.service.prediction_key}, timeout=60, **options)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with running(tmp_path_factory.mktemp("versions"), worker=True) as service, service.client() as client:
        domain = "0732100f-1a38-4e49-a514-c9b44c697ab5"
        project = client.post("/projects", params={"name": "all", "domainId": domain}).json()["id"]
        tags = []
        for index, name in enumerate(("Hemlock", "Cherry")):
            tags.append(client.post(f"/projects/{project}/tags", params={"name": name}).json()["id"])
            files = [("imageData", (f"{number}.jpg", jpeg(number + 90 * index, 64, 64))) for number in range(5)]
            made = client.post(f"/projects/{project}/images", params={"tagIds": tags[-1]}, files=files)
        iteration = client.post(f"/projects/{project}/train").json()["id"]
        until = time.monotonic() + 120
        while client.get(f"/projects/{project}/iterations/{iteration}").json()["status"] == "Training":
            assert time.monotonic() < until, "it takes too long"
            time.sleep(0.05)
        image = made.json()["images"][0]["image"]["id"]
        yield Home(service, project, iteration, (tags[0], tags[1]), image)


def named(version: str, name: str) -> str:
    """A key of the newest shape as a version writes it."""
    return name[0].upper() + name[1:] if VERSIONS[TRAINING, version].pascal else name


@pytest.mark.parametrize("version", TRAININGS)
def test_models_have_the_keys_of_their_version_in_order(home: Home, version: str) -> None:
    at = VERSIONS[TRAINING, version]
    answers = {
        "Project": home.call(version, "GET", f"/projects/{home.project}").json(),
        "Domain": home.call(version, "GET", "/domains").json()[0],
        "Tag": home.call(version, "GET", f"/projects/{home.project}/tags/{home.tags[0]}").json(),
        "Iteration": home.call(version, "GET", f"/projects/{home.project}/iterations/{home.iteration}").json(),
        "Image": home.call(version, "GET", f"/projects/{home.project}/images/tagged").json()[0],
        "IterationPerformance": home.call(
            version, "GET", f"/projects/{home.project}/iterations/{home.iteration}/performance?threshold=0.5"
        ).json(),
    }
    newest = {
        "Project": "id name description settings created lastModified thumbnailUri drModeEnabled status",
        "Domain": "id name type exportable enabled exportablePlatforms modelInformation",
        "Tag": "id name description type imageCount",
        "Iteration": "id name status created lastModified trainedAt projectId exportable exportableTo domainId "
        "classificationType trainingType reservedBudgetInHours trainingTimeInMinutes publishName "
        "originalPublishResourceId customBaseModelInfo trainingErrorDetails",
        "Image": "id created width height resizedImageUri thumbnailUri originalImageUri tags",
        "IterationPerformance": "perTagPerformance precision precisionStdDeviation recall recallStdDeviation "
        "averagePrecision",
    }
    for model, answer in answers.items():
        keys = [name for name, _ in at.keys(model)] or newest[model].split()
        absent = {"regions"}  # of a classifier's images
        assert list(answer) == [named(version, key) for key in keys if key not in absent], model


DATES = {
    "v1.0": (r"\.\d{1,6}", r"\.\d{7}Z", r"\.\d{1,6}"),
    "v1.2": (r"\.\d{1,6}", r"\.\d{7}Z", r"\.\d{1,6}"),
    "v2.0": (r"\.\d{1,6}",) * 3,
    "v2.1": (r"\.\d{1,6}",) * 3,
    "v2.2": (r"\.\d{1,6}",) * 3,
}


@pytest.mark.parametrize("version", TRAININGS)
def test_dates_have_their_versions_form(home: Home, version: str) -> None:
    created, changed, trained = DATES.get(version, (r"\.\d{3}Z",) * 3)
    project = home.call(version, "GET", f"/projects/{home.project}").json()
    iteration = home.call(version, "GET", f"/projects/{home.project}/iterations/{home.iteration}").json()
    for value, ending in (
        (project[named(version, "created")], created),
        (project[named(version, "lastModified")], changed),
        (iteration[named(version, "trainedAt")], trained),
    ):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d" + ending, value), value


@pytest.mark.parametrize("version", TRAININGS)
def test_errors_and_keys_are_refused_in_their_versions_form(home: Home, version: str) -> None:
    answer = home.call(version, "GET", f"/projects/{NOBODY}")
    assert list(answer.json()) == [named(version, "code"), named(version, "message")]
    assert (answer.status_code, answer.json()[named(version, "code")]) == (404, "NotFoundProject")
    refused = httpx.get(f"{home.service.url}/customvision/{version}/training/projects")
    old = VERSIONS[TRAINING, version].default_iteration
    assert (refused.status_code, list(refused.json())) == (401, ["statusCode", "message"] if old else ["error"])


@pytest.mark.parametrize("version", TRAININGS)
def test_operations_exist_from_their_version_on(home: Home, version: str) -> None:
    project = f"/projects/{home.project}"
    for first, last, method, path in (
        ("v1.0", "v1.2", "GET", "/account"),
        ("v2.0", "", "GET", f"{project}/images/tagged/count"),
        ("v2.0", "", "GET", f"{project}/iterations/{home.iteration}/performance/images"),
        ("v3.0", "", "DELETE", f"{project}/iterations/{home.iteration}/publish"),
        ("v3.1", "", "POST", f"{project}/images/suggested/count?iterationId={home.iteration}"),
        ("v3.3", "", "GET", f"{project}/images"),
        ("v1.0", "v1.0", "GET", f"{project}/images/tagged/all"),
    ):
        mine = versions.number(version)
        there = mine >= versions.number(first) and (not last or mine <= versions.number(last))
        answer = home.call(version, method, path)
        gateway = answer.status_code == 404 and "statusCode" in answer.json()
        assert gateway != there, (path, answer.text)


@pytest.mark.parametrize("version", TRAININGS)
def test_a_batch_that_failed_in_part(home: Home, version: str) -> None:
    files = [("imageData", ("a.jpg", jpeg(7, 64, 64))), ("imageData", ("b.jpg", b"no picture"))]
    answer = home.call(version, "POST", f"/projects/{home.project}/images", files=files)
    assert answer.status_code == (207 if versions.number(version) >= (3, 3) else 200)
    assert answer.json()[named(version, "isBatchSuccessful")] is False
    statuses = [one[named(version, "status")] for one in answer.json()[named(version, "images")]]
    assert statuses[1] == "ErrorImageFormat"


def test_v1_lists_tags_with_counts_and_the_workspace_with_iterations(home: Home) -> None:
    tags = home.call("v1.2", "GET", f"/projects/{home.project}/tags").json()
    assert list(tags) == ["Tags", "TotalTaggedImages", "TotalUntaggedImages"]
    assert [list(tag) for tag in tags["Tags"]] == [["Id", "Name", "Description", "ImageCount"]] * 2
    assert tags["TotalTaggedImages"] == 10
    project = home.call("v1.2", "GET", f"/projects/{home.project}").json()
    listed = home.call("v1.2", "GET", f"/projects/{home.project}/iterations").json()
    assert [one["Status"] for one in listed] == ["Completed", "New"]
    assert listed[1]["Id"] == project["CurrentIterationId"]
    workspace = {"iterationId": project["CurrentIterationId"]}
    assert home.call("v1.2", "GET", f"/projects/{home.project}/tags", params=workspace).json() == tags
    got = home.call("v1.2", "GET", f"/projects/{home.project}/iterations/{project['CurrentIterationId']}").json()
    assert got == listed[1]


def test_a_v10_client_gives_addresses_and_parts_its_way(home: Home) -> None:
    files = [("file", ("x.jpg", jpeg(201, 64, 64), "application/.jpg"))]
    query = f"tagIds={home.tags[0]}&tagIds={home.tags[1]}&classifier=MultiLabel"
    made = home.call("v1.0", "POST", f"/projects/{home.project}/images/image?{query}", files=files).json()
    assert [tag["TagId"] for tag in made["Images"][0]["Image"]["Tags"]] == list(home.tags)
    address = made["Images"][0]["Image"]["ImageUri"]
    body = {"TagIds": [home.tags[0]], "Urls": [address]}
    again = home.call("v1.0", "POST", f"/projects/{home.project}/images/url", json=body).json()
    assert [(one["SourceUrl"], one["Status"]) for one in again["Images"]] == [(address, "OKDuplicate")]
    home.call("v1.0", "DELETE", f"/projects/{home.project}/images?imageIds={made['Images'][0]['Image']['Id']}")


@pytest.mark.parametrize("version", [name for name in PREDICTIONS if VERSIONS[PREDICTION, name].default_iteration])
def test_old_predictions_are_the_default_iterations(home: Home, version: str) -> None:
    at = VERSIONS[PREDICTION, version]
    name = {True: "Code", False: "code"}[at.pascal]
    iteration = f"/projects/{home.project}/iterations/{home.iteration}"
    path = f"/{home.project}/image/nostore"
    home.call("v2.2", "PATCH", iteration, json={"name": "Iteration 1", "isDefault": False})
    refused = home.predict(version, path, content=jpeg(3))
    assert (refused.status_code, refused.json()[name]) == (404, "NotFoundProjectDefaultIteration")
    changed = home.call("v1.2", "PATCH", iteration, json={"Name": "Iteration 1", "IsDefault": True}).json()
    assert changed["IsDefault"] is True
    for options in ({}, {"params": {"iterationId": home.iteration}}):
        answer = home.predict(version, path, content=jpeg(3), **options).json()
        keys = ["Id", "Project", "Iteration", "Created", "Predictions"]
        assert list(answer) == (keys if at.pascal else [key.lower() for key in keys])
        first = answer[keys[4] if at.pascal else "predictions"][0]
        assert list(first) == (["TagId", "Tag", "Probability"] if at.pascal else ["probability", "tagId", "tagName"])
        assert re.search(r"\.\d{7}Z$", answer["Created" if at.pascal else "created"])
    url = home.call("v1.2", "GET", f"/projects/{home.project}/images/tagged").json()[0]["ImageUri"]
    assert home.predict(version, f"/{home.project}/url", json={"Url": url}).status_code == 200
    stored = home.call("v1.2", "POST", f"/projects/{home.project}/predictions/query", json={"MaxCount": 1}).json()
    assert list(stored) == ["Results", "Token"]
    assert list(stored["Results"][0])[-2:] == ["ImageUri", "ThumbnailUri"]


def test_new_predictions_know_no_default_and_old_ones_no_published_name(home: Home) -> None:
    for version, path in (
        ("v3.0", f"/{home.project}/image"),
        ("v2.0", f"/{home.project}/classify/iterations/x/image"),
    ):
        answer = home.predict(version, path, content=jpeg(3))
        assert (answer.status_code, answer.json()["statusCode"]) == (404, 404)


def test_account_info_is_both_v1s(home: Home) -> None:
    for version in ("v1.0", "v1.2"):
        answer = home.call(version, "GET", "/account").json()
        assert list(answer) == ["UserName", "Email", "Keys", "Quotas"]


@pytest.mark.parametrize("version", OLD)
def test_the_gateway_of_old_versions_names_itself_above_the_rate(tmp_path: Path, version: str) -> None:
    with running(tmp_path) as service:
        with service.components.database.write() as session:
            accounts.all(session)[0].tier = "F0"
        url = f"{service.url}/customvision/{version}/training/projects/{NOBODY}/train"
        with httpx.Client(headers={"Training-Key": service.training_key}) as client:
            answers = [client.post(url) for _ in range(9)]
        slow = next(answer for answer in answers if answer.status_code == 429)
        assert slow.headers["retry-after"] == "1"
        assert slow.json()["statusCode"] == 429
        assert f"under Custom_Vision_Training_{version[1:]} have exceeded rate limit" in slow.json()["message"]


# What an older version shows can be sent back to it, as programs do with PATCH, and means the same.

TEXT = st.text(max_size=20)
CHANGES: dict[str, tuple[type[Wire], st.SearchStrategy[dict[str, Any]]]] = {
    "Tag": (
        TagChange,
        st.fixed_dictionaries(
            {
                "id": st.uuids().map(str),
                "name": TEXT,
                "description": st.none() | TEXT,
                "type": st.sampled_from(["Regular", "Negative"]),
                "imageCount": st.integers(0, 9),
            }
        ),
    ),
    "Iteration": (IterationChange, st.fixed_dictionaries({"id": st.uuids().map(str), "name": TEXT})),
    "Project": (
        ProjectChange,
        st.fixed_dictionaries(
            {
                "id": st.uuids().map(str),
                "name": TEXT,
                "description": TEXT,
                "settings": st.fixed_dictionaries({"domainId": st.uuids().map(str)}),
            }
        ),
    ),
}


@pytest.mark.parametrize("version", [VERSIONS[TRAINING, name] for name in TRAININGS], ids=TRAININGS)
@pytest.mark.parametrize("model", CHANGES)
@given(data=st.data())
def test_what_a_version_shows_it_also_takes(version: Version, model: str, data: st.DataObject) -> None:
    change, shapes = CHANGES[model]
    newest = data.draw(shapes)
    shown = json.loads(wire.dumps(version.show(model, newest, isDefault=True), pascal=version.pascal))
    read = change.model_validate(shown).model_dump(by_alias=True, exclude_unset=True)
    for key, value in read.items():
        if key in newest and key != "settings":
            assert value == newest[key]
    assert read.keys() >= {key for key in change.model_fields if key in newest and not version.lacks(model, key)}


@pytest.mark.parametrize("version", VERSIONS.values(), ids=lambda version: f"{version.api} {version.name}")
def test_an_older_code_is_one_its_version_knows(version: Version) -> None:
    for table, say in ((versions._CODES, version.code), (versions._STATUSES, version.status)):
        for value in table:
            said = say(value)
            known = said not in table or versions.number(table[said][0]) <= versions.number(version.contract)
            assert known, (value, said)


def test_the_newest_version_shows_everything_as_it_is() -> None:
    shape = {"anything": 1}
    assert all(LATEST.show(model, shape) is shape for model in versions._MODELS)
