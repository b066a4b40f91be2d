"""Leaving Azure: the live resource is another OwnVision with the original's limits switched on."""

import hashlib
import io
import json
import os
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ownvision.client import ClientError
from ownvision.client import Service as Client
from ownvision.client.local import command
from ownvision.commands.azure import import_azure
from ownvision.data_rights.azure_import import client, copying
from ownvision.data_rights.azure_import.client import CONCURRENT, Patience
from ownvision.data_rights.azure_import.work import Work
from ownvision.data_rights.doctor import doctor
from ownvision.services import exports, images, intake, projects, tags
from ownvision.services.components import Components
from ownvision.services.intake import Picture
from ownvision.services.regions import Box
from ownvision.store.tables import Project
from tests.api.conftest import Service, running
from tests.front import Answer, Asked, front
from tests.services import test_travel as travel
from tests.services import trained as t

pytestmark = [pytest.mark.service, pytest.mark.slow]


@dataclass
class Resource:
    """A running service that plays Azure, with what it holds."""

    service: Service
    colours: str  # ids of its projects
    squares: str
    first: str  # ids of the first one's iterations
    second: str

    def get(self, path: str, **parameters: Any) -> Any:
        deadline = time.monotonic() + 30
        with self.service.client("v3.3") as caller:
            answer = caller.get(path, params=parameters)
            while answer.status_code == 429 and time.monotonic() < deadline:
                time.sleep(0.05)
                answer = caller.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def resource(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resource]:
    folder = tmp_path_factory.mktemp("azure") / "data"
    house = t.open_house(folder, tier="S0")
    colours, squares = classifier(house), detector(house)
    house.database.close()
    with running(folder, tier="S0") as service:
        found = Resource(service, colours.id, squares.id, "", "")
        made = {row["name"]: row["id"] for row in found.get(f"/projects/{colours.id}/iterations")}
        found.first, found.second = made["Iteration 1"], made["Iteration 2"]
        predict(found)
        yield found


def predict(resource: Resource) -> None:
    """Publish the second iteration and store three predictions."""
    service = resource.service
    with Client(service.url, service.training_key) as client:
        client.publish(resource.colours, resource.second, "live", service.resource_id)
    at = f"{service.url}/customvision/v3.1/prediction/{resource.colours}/classify/iterations/live/image"
    for seed in range(3):
        answer = httpx.post(
            f"{at}?application=shop",
            content=t.coloured(0, 100 + seed),
            headers={"Prediction-Key": service.prediction_key},
        )
        assert answer.status_code == 200, answer.text


def classifier(house: Components) -> Project:
    """Two iterations, between them images deleted, tags taken off, a tag renamed; an export, stored predictions."""
    project = t.make_project(house, "Colours", "Multilabel")
    ids = t.fill(house, project, {"red": 7, "blue": 6})
    ids["other"] = t.make_tag(house, project, "other", "Negative")
    t.upload(house, project, [t.coloured(2, seed) for seed in range(5)], [ids["other"]])
    named = Picture("x", lambda: t.coloured(3, 0), file_name="yellow.png", tag_ids=[ids["red"]])
    intake.add_images(house, project.account_id, project.id, None, [named], metadata={"site": "north", "lot": "7"})
    first = t.train(house, project)
    with house.database.write() as session:
        export = exports.start(session, projects.get(session, project.account_id, project.id), first.id, "ONNX", None)
        assert export.status == "Exporting"
    t.work(house)

    def edit(session: Any, locked: Project) -> None:
        found = images.find(session, locked, newest=False)
        images.delete_images(session, locked, [found[0].image.id], all_iterations=False)
        images.remove_tags(session, locked, [found[1].image.id], [ids["red"]])
        tags.update_tag(session, locked, ids["blue"], {"name": "navy"}, house.settings.limits)

    travel.change(house, project, edit)
    t.upload(house, project, [t.coloured(1, 50)], [ids["blue"], ids["red"]])
    t.train(house, project)
    t.upload(house, project, [t.coloured(3, 1)], [])
    return project


def detector(house: Components) -> Project:
    project, tag_ids, made = travel.boxed(house)
    t.upload(house, project, [t.squares(9)], [], [Box(tag_ids[0], 0.1, 0.2, 0.3, 0.4)])
    travel.change(
        house, project, lambda session, locked: images.delete_images(session, locked, made[:1], all_iterations=False)
    )
    return project


@dataclass
class Left:
    """An archive that was written from the resource, and what the resource was asked for."""

    path: Path
    said: str
    came: list[Asked]
    limited: list[Asked]

    def json(self, name: str) -> Any:
        with zipfile.ZipFile(self.path) as archive:
            return json.loads(archive.read(name))

    def lines(self, name: str) -> list[Any]:
        with zipfile.ZipFile(self.path) as archive:
            return [json.loads(line) for line in archive.read(name).splitlines()]

    def bytes(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name)


@pytest.fixture(scope="module")
def left(resource: Resource, tmp_path_factory: pytest.TempPathFactory) -> Left:
    """Both projects as an archive, while somebody else uses up the resource's calls for a moment."""
    out = tmp_path_factory.mktemp("left") / "azure.zip"
    limited: list[Asked] = []

    def rule(asked: Asked, forward: Callable[[], Answer]) -> Answer:
        answer = forward()
        if answer.status == 429:
            limited.append(asked)
        return answer

    with front(resource.service.url, rule) as server, used_up(resource, lambda: bool(limited)):
        said = copied(server.endpoint, resource.service.training_key, out=out)
        return Left(out, said, server.came, limited)


def copied(endpoint: str, key: str, **options: Any) -> str:
    """What the command prints."""
    with redirect_stdout(io.StringIO()) as said:
        import_azure(endpoint=endpoint, training_key=key, rate=100.0, **options)
    return said.getvalue()


@contextmanager
def used_up(resource: Resource, enough: Callable[[], bool]) -> Iterator[None]:
    """Others call the resource as often as it lets them, until it is enough."""
    address, over = f"{resource.service.url}/customvision/v3.3/training/domains", threading.Event()

    def call() -> None:
        with httpx.Client(headers={"Training-Key": resource.service.training_key}) as caller:
            while not (enough() or over.is_set()):
                caller.get(address)

    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(call)
        yield
        over.set()


def plain(shape: Any) -> Any:
    """A shape without its addresses, whose signatures differ."""
    if isinstance(shape, list):
        return [plain(one) for one in shape]
    if isinstance(shape, dict):
        return {name: plain(one) for name, one in shape.items() if not name.endswith("Uri") and name != "path"}
    return shape


def every(resource: "Resource | Arrived", path: str, **parameters: Any) -> list[Any]:
    return list(resource.get(path, take=256, orderBy="Oldest", **parameters))


def test_the_archive_holds_what_the_resource_shows(resource: Resource, left: Left) -> None:
    for folder, id in (("Colours", resource.colours), ("Squares", resource.squares)):
        at = f"projects/{folder}/"
        project = left.json(f"{at}project.json")
        assert (project["id"], project["name"]) == (id, folder)
        assert plain(left.json(f"{at}tags.json")) == plain(resource.get(f"/projects/{id}/tags"))
        images = left.lines(f"{at}images.jsonl")
        shown = every(resource, f"/projects/{id}/images")
        workspace = [line for line in images if not line.pop("onlyInIterations", False)]
        for line, image in zip(workspace, shown, strict=True):
            original = httpx.get(image["originalImageUri"]).content
            assert left.bytes(at + line["path"]) == original
            assert hashlib.sha256(original).hexdigest() == line.pop("sha256")
            assert line.pop("fileName") is None
            assert plain(line) == plain(image)
        for iteration in resource.get(f"/projects/{id}/iterations"):
            number = int(iteration["name"].removeprefix("Iteration "))
            of = f"/projects/{id}/iterations/{iteration['id']}"
            assert plain(left.json(f"{at}iterations/{number}/iteration.json")) == iteration
            assert left.json(f"{at}iterations/{number}/performance.json") == resource.get(f"{of}/performance")
            scored = left.lines(f"{at}iterations/{number}/image-performances.jsonl")
            assert plain(scored) == plain(every(resource, f"{of}/performance/images"))


def test_exports_and_predictions_lie_in_the_archive(resource: Resource, left: Left) -> None:
    export = left.json("projects/Colours/iterations/1/exports.json")[0]
    assert (export["platform"], export["status"]) == ("ONNX", "Done")
    shown = resource.get(f"/projects/{resource.colours}/iterations/{resource.first}/export")[0]
    assert left.bytes(f"projects/Colours/{export['downloadUri']}") == httpx.get(shown["downloadUri"]).content
    stored = left.lines("projects/Colours/predictions.jsonl")
    assert len(stored) == 3
    for one in stored:
        assert hashlib.sha256(left.bytes(f"projects/Colours/{one['path']}")).hexdigest() == one["sha256"]
        assert one["iteration"] == resource.second


def test_what_came_is_said_and_the_rate_limit_was_met_with_patience(resource: Resource, left: Left) -> None:
    assert "2 projects, 25 images, 5 tags, 5 regions, 3 iterations, 1 exports, 3 predictions" in left.said
    assert "every file has its hash" in left.said
    assert len(left.limited) > 0
    assert not left.path.with_name(left.path.name + ".part").exists()
    pictures = [asked.path.partition("?")[0] for asked in left.came if asked.picture]
    assert len(pictures) == len(set(pictures)) == 25 + 3
    assert {asked.headers.get("training-key") for asked in left.came if asked.picture} == {None}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "Say where to"),
        ({"out": Path("/nowhere/x.zip")}, "There is no folder /nowhere"),
        ({"project": ["Shapes"]}, "There is no project 'Shapes'; give an id. The resource has: 'Colours', 'Squares'."),
        ({"training_key": "0" * 32}, "does not know this training key"),
        ({"endpoint": "http://127.0.0.1:1"}, "127.0.0.1 can't be reached"),
    ],
)
def test_a_mistake_is_told_and_leaves_nothing(
    resource: Resource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(client, "Patience", lambda: Patience(attempts=2, pause=0.01))
    key = resource.service.training_key
    given = {"endpoint": resource.service.url, "training_key": key, "out": tmp_path / "x.zip", "rate": 100.0}
    with pytest.raises(ClientError) as told:
        import_azure(**({**given, **more} if more else {**given, "out": None}))
    assert words in str(told.value)
    assert key not in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_is_there_is_not_written_over(left: Left) -> None:
    with pytest.raises(ClientError, match="is there already; remove it, or give another name"):
        import_azure(endpoint="http://127.0.0.1:1", training_key="any", out=left.path)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_a_copy_that_was_ended_goes_on_where_it_was(resource: Resource, tmp_path: Path, how: signal.Signals) -> None:
    """At a picture the copy is ended; what was kept by then is not fetched again, only what was under way."""
    project, images, at = "Colours", 21, CONCURRENT + 6
    out, come, ended = tmp_path / "x.zip", threading.Lock(), threading.Event()
    sent: list[str] = []
    process: list[subprocess.Popen[str]] = []

    def rule(asked: Asked, forward: Callable[[], Answer]) -> Answer:
        if not asked.picture:
            return forward()
        with come:  # one at a time
            if len(sent) == at and not ended.is_set():
                ended.set()
                process[0].send_signal(how)
                process[0].wait(30)
            sent.append(asked.path.partition("?")[0])
            return forward()

    with front(resource.service.url, rule) as server:
        given = command("import", "azure", "--endpoint", server.endpoint, "--project", project, "--out", str(out))
        environment = {**os.environ, "AZURE_TRAINING_KEY": resource.service.training_key}
        process.append(subprocess.Popen(given, stderr=subprocess.PIPE, text=True, env=environment))
        _, said = process[0].communicate(timeout=60)
        assert ended.is_set()
        assert process[0].returncode == (-signal.SIGKILL if how == signal.SIGKILL else 1)
        assert how == signal.SIGKILL or "start the command again to go on" in said
        assert not out.exists()
        listed = sum("/images?" in asked.path for asked in server.came)
        first, before = set(sent[:at]), len(sent)
        copied(server.endpoint, resource.service.training_key, out=out, project=[project])
        assert len(first & set(sent[before:])) <= CONCURRENT
        assert sum("/images?" in asked.path for asked in server.came) == listed
    with zipfile.ZipFile(out) as archive:
        assert sum(name.startswith(f"projects/{project}/images/") for name in archive.namelist()) == images
    assert list(tmp_path.iterdir()) == [out]


# --- into an OwnVision


@dataclass
class Arrived:
    """A service that got the projects."""

    service: Service
    said: str

    def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        with self.service.client("v3.3") as caller:
            return caller.request(method, path, **request)

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.call("GET", path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def arrived(resource: Resource, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrived]:
    folder = tmp_path_factory.mktemp("own") / "data"
    t.open_house(folder).database.close()
    said = copied(resource.service.url, resource.service.training_key, data=folder)
    assert not (folder / "imports").exists()
    with running(folder) as service:
        yield Arrived(service, said)


def test_the_projects_arrive_with_their_ids_images_and_iterations(resource: Resource, arrived: Arrived) -> None:
    for id in (resource.colours, resource.squares):
        assert plain(arrived.get(f"/projects/{id}")) == plain(resource.get(f"/projects/{id}"))
        assert arrived.get(f"/projects/{id}/tags") == resource.get(f"/projects/{id}/tags")
        iterations = resource.get(f"/projects/{id}/iterations")
        # Exportable and published nothing is without its model.
        unlike = {"exportable": False, "exportableTo": None, "publishName": None, "originalPublishResourceId": None}
        assert arrived.get(f"/projects/{id}/iterations") == [{**one, **unlike} for one in iterations]
        for one in [{"id": None}, *iterations]:
            of = {} if one["id"] is None else {"iterationId": one["id"]}
            assert plain(every(arrived, f"/projects/{id}/images", **of)) == plain(
                every(resource, f"/projects/{id}/images", **of)
            )
            assert arrived.get(f"/projects/{id}/tags", **of) == resource.get(f"/projects/{id}/tags", **of)
        for one in iterations:
            at = f"/projects/{id}/iterations/{one['id']}/performance"
            assert arrived.get(at) == resource.get(at)
            assert arrived.get(at, threshold=0.9) == resource.get(at)  # what was copied, whatever is asked
            assert plain(every(arrived, f"{at}/images")) == plain(every(resource, f"{at}/images"))
            assert arrived.get(f"{at}/images/count") == resource.get(f"{at}/images/count")
    for image in every(arrived, f"/projects/{resource.colours}/images"):
        there = resource.get(f"/projects/{resource.colours}/images/id", imageIds=image["id"])[0]
        assert httpx.get(image["originalImageUri"]).content == httpx.get(there["originalImageUri"]).content


def test_exports_and_predictions_arrive(resource: Resource, arrived: Arrived) -> None:
    at = f"/projects/{resource.colours}/iterations/{resource.first}/export"
    here, there = arrived.get(at), resource.get(at)
    assert plain(here) == plain(there)
    assert httpx.get(here[0]["downloadUri"]).content == httpx.get(there[0]["downloadUri"]).content
    body, path = {"orderBy": "Oldest"}, f"/projects/{resource.colours}/predictions/query"
    stored = arrived.call("POST", path, json=body).json()["results"]
    resource.get("/domains")  # until the rate lets us
    with resource.service.client("v3.3") as caller:
        shown = caller.post(path, json=body).json()["results"]
    assert len(stored) == 3
    assert plain(stored) == plain(shown)
    for one, other in zip(stored, shown, strict=True):
        assert httpx.get(one["originalImageUri"]).content == httpx.get(other["originalImageUri"]).content


REFUSED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "publish": ("POST", "/iterations/{it}/publish", {"params": {"publishName": "x", "predictionId": "{resource}"}}),
    "export": ("POST", "/iterations/{it}/export", {"params": {"platform": "ONNX"}}),
    "quick test": ("POST", "/quicktest/image", {"params": {"iterationId": "{it}"}, "content": t.coloured(0, 1)}),
    "suggest": ("POST", "/tagsandregions/suggestions", {"params": {"iterationId": "{it}", "imageIds": "{image}"}}),
    "suggested": ("POST", "/images/suggested", {"params": {"iterationId": "{it}"}, "json": {"maxCount": 5}}),
    "train on": (
        "POST",
        "/train",
        {"json": {"customBaseModelInfo": {"projectId": "{project}", "iterationId": "{it}"}}},
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_without_its_model_an_iteration_is_there_to_be_read(resource: Resource, arrived: Arrived, what: str) -> None:
    method, path, request = REFUSED[what]
    image = every(arrived, f"/projects/{resource.colours}/images")[0]["id"]
    names = {"it": resource.first, "project": resource.colours, "image": image, "resource": arrived.service.resource_id}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(one) for name, one in value.items()}
        return value.format(**names) if isinstance(value, str) else value

    at = f"/projects/{resource.colours}{path.format(**names)}"
    with arrived.service.client() as caller:
        answer = caller.request(method, at, **filled(request))
    assert (answer.status_code, answer.json()["code"]) == (400, "BadRequestIterationIsNotTrained")
    assert "was copied from another service without its model: it is there to be read" in answer.json()["message"]


def test_nothing_is_wrong_with_what_arrived(arrived: Arrived) -> None:
    assert list(doctor(arrived.service.components)) == []


def test_a_project_that_left_travels_on(resource: Resource, arrived: Arrived) -> None:
    """A token and a takeout of it hold the copied figures too."""
    house = arrived.service.components
    with house.database.read() as session:
        project = session.get_one(Project, resource.colours)
    copy = travel.bring(house, travel.token_of(house, project), "Again")
    at = "/projects/{}/iterations"
    first = {one["name"]: one["id"] for one in arrived.get(at.format(copy.id))}["Iteration 1"]
    copied_on = arrived.get(f"{at.format(copy.id)}/{first}/performance")
    before = resource.get(f"{at.format(resource.colours)}/{resource.first}/performance")
    for one in (copied_on, before):
        for tag in one["perTagPerformance"]:
            tag.pop("id")
    assert copied_on == before
    assert len(every(arrived, f"{at.format(copy.id)}/{first}/performance/images")) == len(
        every(resource, f"{at.format(resource.colours)}/{resource.first}/performance/images")
    )


def test_training_goes_on_with_the_next_number(resource: Resource, arrived: Arrived) -> None:
    house = arrived.service.components
    with house.database.read() as session:
        project = session.get_one(Project, resource.colours)
    iteration = t.train(house, project)
    assert (iteration.status, iteration.name, iteration.number) == ("Completed", "Iteration 3", 3)
    answer = arrived.call(
        "POST",
        f"/projects/{project.id}/iterations/{iteration.id}/publish",
        params={"publishName": "live", "predictionId": arrived.service.resource_id},
    )
    assert (answer.status_code, answer.json()) == (200, True)


def test_a_project_that_is_there_already_comes_under_another_id(resource: Resource, arrived: Arrived) -> None:
    folder = arrived.service.components.settings.data
    said = copied(resource.service.url, resource.service.training_key, data=folder, project=["Squares"])
    assert "Squares (1)" in said
    assert {one["name"] for one in arrived.get("/projects")} >= {"Squares", "Squares (1)"}


def test_an_unfinished_copy_is_found_by_the_doctor(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    house = t.open_house(folder)
    work = folder / "imports" / "0123456789abcdef"
    left = Work(work, copying.of("https://x", []))
    assert [finding for finding in doctor(house) if "imports" in finding.where] == []  # under way
    left.close()
    (found,) = doctor(house)
    assert (found.kind, found.where) == ("unfinished import", "imports/0123456789abcdef")
    house.database.close()
