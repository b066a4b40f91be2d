"""The webhook of a project: set, shown without its secret, taken away; and what else training is told to notify."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from ownvision.store.tables import Iteration
from tests.api.conftest import Service, jpeg, new_tag, running

pytestmark = pytest.mark.slow

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def calling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that may call this machine and has a mail server."""
    options: dict[str, Any] = {"url_allow": ["127.0.0.0/8"], "smtp_host": "127.0.0.1"}
    with running(tmp_path_factory.mktemp("data"), **options) as service:
        yield service


@pytest.fixture
def client(calling: Service) -> Iterator[httpx.Client]:
    with calling.client() as made:
        yield made


@pytest.fixture
def path(calling: Service, project: str) -> str:
    return f"{calling.url}/api/projects/{project}/webhook"


def test_a_webhook_shows_its_secret_once(client: httpx.Client, path: str, project: str) -> None:
    assert client.get(path).json()["code"] == "NotFound"
    made = client.put(path, json={"url": "http://127.0.0.1:1/a?b=c"}).json()
    assert made["secret"].startswith("whsec_")
    shown = {"projectId": project, "url": "http://127.0.0.1:1/a?b=c"}
    assert made == {**shown, "secret": made["secret"]}
    assert client.get(path).json() == shown
    assert client.put(path, json={"url": "http://127.0.0.1:2/"}).json()["secret"] != made["secret"]
    assert client.put(path, json={"url": "http://127.0.0.1:2/", "secret": SECRET}).json()["secret"] == SECRET
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert client.delete(path).status_code == 204


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"url": "http://10.0.0.1/"}, "BadRequestInvalidUri"),
        ({"url": "http://[::1]/"}, "BadRequestInvalidUri"),
        ({"url": "http://user@169.254.169.254/"}, "BadRequestInvalidUri"),
        ({"url": "file:///etc/passwd"}, "BadRequestInvalidUri"),
        ({"url": "http://127.0.0.1:99999/"}, "BadRequestInvalidUri"),
        ({"url": "http://no.such.host.invalid/"}, "BadRequestInvalidUri"),
        ({"url": "http://127.0.0.1/" + "a" * 2_050}, "BadRequestInvalidUri"),
        ({"url": ""}, "BadRequestInvalidUri"),
        ({}, "BadRequestRequiredParamIsNull"),
        ({"url": "http://127.0.0.1/", "secret": "short"}, "BadRequestInvalid"),
        ({"url": "http://127.0.0.1/", "secret": "whsec_c2hvcnQ="}, "BadRequestInvalid"),
        ({"url": "http://127.0.0.1/", "secret": "whsec_!" + "a" * 40}, "BadRequestInvalid"),
    ],
)
def test_a_webhook_that_can_not_work_is_refused(
    client: httpx.Client, path: str, body: dict[str, str], code: str
) -> None:
    answer = client.put(path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert client.get(path).status_code == 404


def test_a_strangers_project_has_no_webhook(client: httpx.Client, calling: Service) -> None:
    path = f"{calling.url}/api/projects/00000000-0000-0000-0000-000000000000/webhook"
    assert client.put(path, json={"url": "http://127.0.0.1/"}).json()["code"] == "NotFoundProject"
    assert client.get(path).json()["code"] == "NotFoundProject"
    assert client.delete(path).json()["code"] == "NotFoundProject"


@pytest.mark.parametrize(
    ("address", "accepted"),
    [
        ("marie.curie+vision@example.org", True),
        ("o'neill@mail.example-site.co.uk", True),
        ("marie", False),
        ("marie@localhost", False),
        ("marie@example.org\n", False),
        ("marie@example.org,pierre@example.org", False),
        ("marie,pierre@example.org", False),
        ("Marie <marie@example.org>", False),
        ("marie@example.org\r\nBcc: pierre@example.org", False),
        ("marie@-example.org", False),
        ("a" * 65 + "@example.org", False),
    ],
)
def test_whom_to_write_to_is_kept_encrypted_if_it_is_an_address(
    client: httpx.Client, calling: Service, project: str, address: str, accepted: bool
) -> None:
    for number, name in enumerate(("red", "blue")):
        tag = new_tag(client, project, name)
        files = [("imageData", (f"{seed}.jpg", jpeg(100 * number + seed))) for seed in range(5)]
        assert client.post(f"/projects/{project}/images", params={"tagIds": tag}, files=files).status_code == 200
    answer = client.post(f"/projects/{project}/train", params={"notificationEmailAddress": address})
    with calling.components.database.read() as session:
        kept = session.scalars(select(Iteration.notify_email).where(Iteration.project_id == project)).all()
    if accepted:
        assert answer.status_code == 200, answer.text
        assert len(kept) == 1
        assert kept[0] is not None
        assert address.encode() not in kept[0]
    else:
        assert (answer.json()["code"], kept) == ("BadRequestInvalidEmailAddress", [])
