"""A project's own Azure Storage: tried before it is kept, shown as given, never half changed."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from tests.api.conftest import Service, running

if TYPE_CHECKING:
    from tests.azurite import Azurite

pytestmark = pytest.mark.service
CONTAINER, QUEUE = "exportModelContainerUri", "notificationQueueUri"


@pytest.fixture(scope="module")
def storing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that may call this machine."""
    with running(tmp_path_factory.mktemp("data"), url_allow=["127.0.0.0/8"]) as service:
        yield service


@pytest.fixture
def client(storing: Service) -> Iterator[httpx.Client]:
    with storing.client() as made:
        yield made


@pytest.fixture
def name() -> str:
    """Of a container or queue that no other test has."""
    return f"test-{uuid4()}"


def _query(client: httpx.Client, **addresses: str) -> httpx.Response:
    return client.post("/projects", params={"name": "Trees", **addresses})


def _body(client: httpx.Client, **addresses: str) -> httpx.Response:
    return client.post("/projects", params={"name": "Trees"}, json=addresses)


def _update(client: httpx.Client, **addresses: str) -> httpx.Response:
    project = client.post("/projects", params={"name": "Trees"}).json()["id"]
    return client.patch(f"/projects/{project}", json={"settings": addresses})


def _tests(azurite: "Azurite", name: str) -> list[Any]:
    return [json.loads(text) for text in azurite.texts(name)]


@pytest.mark.parametrize("give", [_query, _body, _update])
def test_addresses_that_work_are_kept_and_shown_as_they_were_given(
    client: httpx.Client, azurite: "Azurite", name: str, give: Callable[..., httpx.Response]
) -> None:
    addresses = {CONTAINER: azurite.container(name), QUEUE: azurite.queue(name)}
    answer = give(client, **addresses)
    assert answer.status_code == 200, answer.text
    project = answer.json()
    assert client.get(f"/projects/{project['id']}").json() == project
    assert list(project["settings"].items())[-2:] == list(addresses.items())
    assert list(azurite.blobs(name).list_blobs()) == []
    assert _tests(azurite, name) == [
        {"version": "1.0", "type": "ConnectionTest", "Content": {"projectId": project["id"]}}
    ]


def test_what_is_sent_back_changes_nothing_and_what_is_empty_goes(
    client: httpx.Client, azurite: "Azurite", name: str
) -> None:
    container, queue = azurite.container(name), azurite.queue(name)
    project = _body(client, **{CONTAINER: container, QUEUE: queue}).json()
    path = f"/projects/{project['id']}"

    def settings(change: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = client.patch(path, json=change).json()["settings"]
        assert client.get(path).json()["settings"] == shown
        return shown

    assert settings(project) == project["settings"]
    assert settings({"name": "Bushes", "settings": {"domainId": None}}) == project["settings"]
    assert len(_tests(azurite, name)) == 1
    assert QUEUE not in settings({"settings": {QUEUE: ""}})
    assert CONTAINER not in settings({"settings": {CONTAINER: None}})
    settings({"settings": {QUEUE: queue}})
    assert len(_tests(azurite, name)) == 2


def _unsigned(azurite: "Azurite", name: str) -> dict[str, str]:
    return {CONTAINER: azurite.container(name).partition("?")[0]}


def _tampered(azurite: "Azurite", name: str) -> dict[str, str]:
    return {CONTAINER: azurite.container(name).replace("sig=", "sig=A")}


def _without_deleting(azurite: "Azurite", name: str) -> dict[str, str]:
    return {CONTAINER: azurite.container(name, "cw")}


def _without_writing(azurite: "Azurite", name: str) -> dict[str, str]:
    return {CONTAINER: azurite.container(name, "r")}


def _without_adding(azurite: "Azurite", name: str) -> dict[str, str]:
    return {CONTAINER: azurite.container(name), QUEUE: azurite.queue(name, "r")}


def _missing(azurite: "Azurite", name: str) -> dict[str, str]:
    return {QUEUE: azurite.queue(name).replace(name, name + "x")}


def _private(azurite: "Azurite", name: str) -> dict[str, str]:
    return {QUEUE: "http://10.0.0.1/queue?sig=secret"}


def _nobody(azurite: "Azurite", name: str) -> dict[str, str]:
    return {QUEUE: "http://127.0.0.1:1/queue?sig=secret"}


def _none(azurite: "Azurite", name: str) -> dict[str, str]:
    return {CONTAINER: "http://[::1/x?sig=secret"}


def _file(azurite: "Azurite", name: str) -> dict[str, str]:
    return {CONTAINER: "file:///etc/passwd?sig=secret"}


@pytest.mark.parametrize(
    ("addresses", "why"),
    [
        (_unsigned, "exportModelContainerUri must be .* with a shared access signature"),
        (_tampered, "exportModelContainerUri can't be used. It answers with status 403 .AuthorizationFailure"),
        (_without_deleting, "status 403 .*permit it to delete"),
        (_without_writing, "status 403 .*permit it to write"),
        (_without_adding, "notificationQueueUri can't be used. .*permit it to add"),
        (_missing, "notificationQueueUri can't be used. It answers with status 40[34]"),
        (_private, "leads to an address that this service does not call"),
        (_nobody, "notificationQueueUri can't be used. It can't be reached"),
        (_none, "must be the http or https address"),
        (_file, "must be the http or https address"),
    ],
)
@pytest.mark.parametrize("give", [_body, _update])
def test_an_address_that_does_not_work_is_refused_and_nothing_changes(
    client: httpx.Client,
    azurite: "Azurite",
    name: str,
    give: Callable[..., httpx.Response],
    addresses: Callable[["Azurite", str], dict[str, str]],
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "ownvision")
    given = addresses(azurite, name)
    before = {project["id"] for project in client.get("/projects").json()}
    answer = give(client, **given)
    assert (answer.status_code, answer.json()["code"]) == (400, "BadRequestInvalidUri")
    assert re.search(why, answer.json()["message"]), answer.text
    for said in (answer.text, caplog.text):
        assert "sig=" not in said.replace("(sig=…)", "")
        assert name not in said
    after = client.get("/projects").json()
    assert len({project["id"] for project in after} - before) == (give is _update)
    assert not any({CONTAINER, QUEUE} & project["settings"].keys() for project in after if project["id"] not in before)


def test_a_private_address_is_refused_unless_it_is_allowed(tmp_path: Path, azurite: "Azurite", name: str) -> None:
    with running(tmp_path) as service, service.client() as client:
        answer = _query(client, **{CONTAINER: azurite.container(name)})
        assert answer.json()["code"] == "BadRequestInvalidUri"
        assert "does not call" in answer.json()["message"]
        assert client.get("/projects").json() == []


def test_a_wrong_name_is_refused_before_anything_is_sent(client: httpx.Client, azurite: "Azurite", name: str) -> None:
    answer = client.post("/projects", params={"name": " ", QUEUE: azurite.queue(name)})
    assert answer.json()["code"] == "BadRequestProjectName"
    assert azurite.texts(name) == []


def test_an_older_version_does_not_show_addresses_and_keeps_them(
    storing: Service, client: httpx.Client, azurite: "Azurite", name: str
) -> None:
    project = _query(client, **{QUEUE: azurite.queue(name)}).json()
    with storing.client("v3.3") as older:
        shown = older.get(f"/projects/{project['id']}").json()
        assert QUEUE not in shown["settings"]
        assert older.patch(f"/projects/{project['id']}", json=shown).status_code == 200
        assert _query(older, **{QUEUE: "http://10.0.0.1/queue?sig=x"}).json()["code"] == "BadRequest"
    assert client.get(f"/projects/{project['id']}").json()["settings"] == project["settings"]
