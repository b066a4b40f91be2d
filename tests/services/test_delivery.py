"""What is told when a training or an export ends: in order, until it is out or a day has passed, then forgotten."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from ownvision.client.local import free_port
from ownvision.jobs.engines import local
from ownvision.services import (
    delivery,
    exports,
    images,
    iterations,
    notices,
    outbound,
    projects,
    storage,
    uris,
    webhooks,
)
from ownvision.services.components import Components
from ownvision.settings import Settings
from ownvision.store.tables import Blob, Iteration, Notification, Project
from ownvision.store.tables.base import now
from tests.receivers import Hook, Letterbox, hook, letterbox
from tests.services import trained as t

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.azurite import Azurite

ADDRESS = "marie.curie+vision@example.org"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    components = t.open_house(
        tmp_path / "data", url_allow=["127.0.0.0/8"], smtp_host="127.0.0.1", smtp_port=free_port(), smtp_tls="none"
    )
    yield components
    components.database.close()


@pytest.fixture
def receiver() -> Iterator[Hook]:
    with hook() as made:
        yield made


@pytest.fixture
def post(house: Components) -> Iterator[Letterbox]:
    with letterbox(house.settings.smtp_port) as box:
        yield box


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that was logged, but for what the servers of these tests say."""
    caplog.set_level("DEBUG")
    return lambda: "\n".join(
        f"{record.getMessage()} {record.exc_text}"
        for record in caplog.records
        if not record.name.startswith(("mail", "azure", "urllib3", "asyncio"))
    )


def _subscribe(house: Components, project: Project, url: str) -> webhooks.Webhook:
    door = outbound.door(house.settings.url_allow, house.settings.url_timeout)
    webhook = asyncio.run(webhooks.checked(door, url, None))
    with house.database.write() as session:
        webhooks.keep(session, house.keys, session.get_one(Project, project.id), webhook)
    return webhook


def _store(house: Components, project: Project, addresses: dict[str, str]) -> None:
    with house.database.write() as session:
        storage.keep(session, house.keys, session.get_one(Project, project.id), addresses)


def _tell(house: Components, project: Project, *iterations: str) -> None:
    with house.database.write() as session:
        for iteration in iterations:
            event = {"type": notices.TRAINING, "iterationId": iteration, "status": notices.COMPLETED}
            notices.tell(session, project.id, event)


def _rows(house: Components) -> list[Notification]:
    with house.database.read() as session:
        return list(session.scalars(select(Notification).order_by(Notification.seq)))


def _hasten(house: Components, **values: Any) -> None:
    """The wait for the next try is over."""
    with house.database.write() as session:
        session.execute(update(Notification).values(due=now(), **values))


def _small_training(house: Components, project: Project, **wishes: Any) -> Iteration:
    t.fill(house, project, {"red": 5, "blue": 5})
    with house.database.write() as session:
        locked = projects.get(session, project.account_id, project.id, lock=True)
        iteration = t.start_in(session, house, locked, email=ADDRESS)
        notices.remember_email(house, iteration, ADDRESS)
    return iteration


def _iteration(house: Components, id: str) -> Iteration:
    with house.database.read() as session:
        return session.get_one(Iteration, id)


def _subjects(receiver: Hook) -> list[str]:
    return [event["subject"].removeprefix("iterations/") for event in receiver.events]


def test_the_signature_is_the_one_of_the_standard() -> None:
    webhook = webhooks.Webhook("", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = webhooks.sign(webhook, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_webhook_gets_a_signed_cloud_event(house: Components, receiver: Hook) -> None:
    project = t.make_project(house, "Colours")
    webhook = _subscribe(house, project, receiver.url)
    _tell(house, project, "one")
    (row,) = _rows(house)
    delivery.post(house)
    ((headers, body),) = receiver.came
    assert json.loads(body) == {
        "specversion": "1.0",
        "id": row.id,
        "source": f"/api/projects/{project.id}",
        "type": "ownvision.training.completed",
        "subject": "iterations/one",
        "time": row.created.strftime("%Y-%m-%dT%H:%M:%S.") + f"{row.created.microsecond // 1000:03}Z",
        "datacontenttype": "application/json",
        "data": {"projectId": project.id, "iterationId": "one", "trainingStatus": "TrainingCompleted"},
    }
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert headers["webhook-id"] == row.id
    assert abs(int(headers["webhook-timestamp"]) - now().timestamp()) < 60
    key = base64.b64decode(webhook.secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert _rows(house) == []


@pytest.mark.parametrize("answer", [503, 302, 404])
def test_messages_are_tried_again_and_stay_in_order(house: Components, receiver: Hook, answer: int) -> None:
    project = t.make_project(house, "Colours")
    _subscribe(house, project, receiver.url)
    receiver.answer = lambda number: answer if number <= 2 else 200
    _tell(house, project, "one", "two", "three")
    for tries in (1, 2):
        before = now()
        delivery.post(house)
        first, *others = _rows(house)
        assert (first.attempts, [row.attempts for row in others]) == (tries, [0, 0])
        assert first.due >= before + delivery.delay(tries)
        delivery.post(house)  # not yet due
        assert len(receiver.came) == tries
        _hasten(house)
    delivery.post(house)
    assert _subjects(receiver) == ["one", "one", "one", "two", "three"]
    assert len({headers["webhook-id"] for headers, _ in receiver.came}) == 3
    assert _rows(house) == []


def test_waits_double_up_to_an_hour() -> None:
    assert [delivery.delay(tries).total_seconds() for tries in (1, 2, 3, 11, 5_000)] == [5, 10, 20, 3_600, 3_600]


def test_a_slow_receiver_holds_up_nobody_else(house: Components, receiver: Hook) -> None:
    slow, quick = (t.make_project(house, name) for name in ("Slow", "Quick"))
    arrived, others_came = threading.Event(), threading.Event()

    def wait(number: int) -> int:
        arrived.set()
        assert others_came.wait(20)
        return 200

    def note(number: int) -> int:
        if number == 2:
            others_came.set()
        return 200

    receiver.answer = wait
    with hook() as other:
        other.answer = note
        _subscribe(house, slow, receiver.url)
        _subscribe(house, quick, other.url)
        _tell(house, slow, "one", "two")
        _tell(house, quick, "three")
        sending = threading.Thread(target=delivery.post, args=(house,))
        sending.start()
        assert arrived.wait(20)
        _tell(house, quick, "four")  # while the sender is at work
        sending.join(30)
        assert _subjects(other) == ["three", "four"]
    assert _subjects(receiver) == ["one", "two"]


def test_a_sender_that_is_killed_while_it_sends_loses_nothing(house: Components, receiver: Hook) -> None:
    project = t.make_project(house, "Colours")
    _subscribe(house, project, receiver.url)
    _tell(house, project, "one", "two")
    sender: list[local.Child] = []
    begun = threading.Event()

    def kill(number: int) -> int:
        assert begun.wait(20)
        os.kill(sender[0].pid, signal.SIGKILL)
        return 200

    receiver.answer = kill
    house.database.close()
    sender.append(local.start(lambda: delivery.post(house)))
    begun.set()
    os.waitpid(sender[0].pid, 0)
    receiver.answer = lambda number: 200
    delivery.post(house)  # the row is still claimed
    assert _subjects(receiver) == ["one"]
    _hasten(house)
    delivery.post(house)
    assert _subjects(receiver) == ["one", "one", "two"]
    assert receiver.events[0]["id"] == receiver.events[1]["id"]


def test_after_a_day_a_message_is_given_up_and_the_log_names_ids_only(
    house: Components, receiver: Hook, logged: Callable[[], str]
) -> None:
    project = t.make_project(house, "Colours")
    _subscribe(house, project, receiver.url + "?token=secret")
    receiver.answer = lambda number: 500
    _tell(house, project, "one")
    (row,) = _rows(house)
    _hasten(house, created=now() - delivery.GIVE_UP + timedelta(minutes=5))
    delivery.post(house)
    assert len(_rows(house)) == 1
    _hasten(house, created=now() - delivery.GIVE_UP)
    delivery.post(house)
    assert _rows(house) == []
    assert f"notification {row.id} (webhook) is given up after 2 tries" in logged()
    assert receiver.url not in logged()
    assert "secret" not in logged()


def test_a_receiver_that_is_gone_gets_nothing_more(house: Components, receiver: Hook) -> None:
    project = t.make_project(house, "Colours")
    _subscribe(house, project, receiver.url)
    receiver.answer = lambda number: 410
    _tell(house, project, "one", "two")
    delivery.post(house)
    assert (_subjects(receiver), _rows(house)) == (["one"], [])
    with house.database.read() as session:
        assert session.get_one(Project, project.id).webhook is None


def test_an_address_that_was_replaced_meanwhile_is_not_removed(house: Components, receiver: Hook) -> None:
    project = t.make_project(house, "Colours")
    _subscribe(house, project, receiver.url)
    with hook() as other:
        receiver.answer = lambda number: 410 if _subscribe(house, project, other.url) else 500
        _tell(house, project, "one", "two")
        delivery.post(house)
        assert _subjects(other) == ["two"]


def test_a_private_address_is_not_called_although_it_was_once_allowed(house: Components, receiver: Hook) -> None:
    project = t.make_project(house, "Colours")
    _subscribe(house, project, receiver.url)
    _store(house, project, {storage.QUEUE: receiver.url + "?sig=x"})
    _tell(house, project, "one")
    house.settings.url_allow = []
    delivery.post(house)
    assert receiver.came == []
    assert [row.attempts for row in _rows(house)] == [1, 1]


def test_a_deleted_project_is_not_told_of(house: Components, receiver: Hook) -> None:
    project = t.make_project(house, "Colours")
    _subscribe(house, project, receiver.url)
    _tell(house, project, "one")
    t.close(house, project)
    assert _rows(house) == []
    delivery.post(house)
    assert receiver.came == []


def test_a_webhook_that_was_taken_away_takes_its_messages_along(house: Components, receiver: Hook) -> None:
    project = t.make_project(house, "Colours")
    _subscribe(house, project, receiver.url)
    _tell(house, project, "one")
    with house.database.write() as session:
        webhooks.remove(session, session.get_one(Project, project.id))
    assert _rows(house) == []


def test_a_queue_that_was_taken_away_is_not_told(house: Components, receiver: Hook) -> None:
    project = t.make_project(house, "Colours")
    _store(house, project, {storage.QUEUE: receiver.url + "?sig=x"})
    _tell(house, project, "one")
    _store(house, project, {storage.QUEUE: ""})
    delivery.post(house)
    assert (_rows(house), receiver.came) == ([], [])


@pytest.mark.parametrize("fails", [False, True])
def test_the_end_of_a_training_is_told_and_the_address_forgotten(
    house: Components, receiver: Hook, post: Letterbox, logged: Callable[[], str], fails: bool
) -> None:
    project = t.make_project(house, "Colours")
    _subscribe(house, project, receiver.url)
    iteration = _small_training(house, project)
    assert _iteration(house, iteration.id).notify_email is not None
    delivery.post(house)
    assert receiver.came == []
    if fails:
        with house.database.write() as session:
            locked = projects.lock(session, project.account_id, project.id)
            images.delete_images(session, locked, None, all_iterations=True)
    t.work(house)
    assert _iteration(house, iteration.id).notify_email is None
    assert sorted(row.channel for row in _rows(house)) == ["email", "webhook"]
    delivery.post(house)
    outcome = "Failed" if fails else "Completed"
    ((_, body),) = receiver.came
    assert json.loads(body)["type"] == f"ownvision.training.{outcome.lower()}"
    assert json.loads(body)["data"]["trainingStatus"] == f"Training{outcome}"
    ((recipients, message),) = post.came
    assert recipients == [parseaddr(str(message["To"]))[1]] == [ADDRESS]
    assert message["Subject"] == f"Iteration 1 of Colours {'could not be trained' if fails else 'is trained'}"
    assert "http" not in message.get_content()
    assert _rows(house) == []
    assert ADDRESS not in logged()
    with house.database.read() as session:  # so that no page of the database keeps a copy
        assert session.scalar(select(Blob.state).where(Blob.kind == "rows")) == "doomed"
    assert not [path for path in house.settings.data.rglob("ownvision.db*") if ADDRESS.encode() in path.read_bytes()]


def test_without_a_mail_server_no_address_is_kept(house: Components) -> None:
    house.settings.smtp_host = None
    project = t.make_project(house, "Colours")
    iteration = _small_training(house, project)
    assert _iteration(house, iteration.id).notify_email is None
    t.work(house)
    assert _rows(house) == []


@pytest.mark.parametrize(
    ("refusal", "kept"), [("550 no such user", []), ("451 come again", [1])], ids=["for good", "for now"]
)
def test_a_refused_mail_is_tried_again_only_when_that_may_help(
    house: Components, post: Letterbox, logged: Callable[[], str], refusal: str, kept: list[int]
) -> None:
    project = t.make_project(house, "Colours")
    _small_training(house, project)
    t.work(house)
    post.refuse = refusal
    delivery.post(house)
    assert (post.asked, [row.attempts for row in _rows(house)]) == (1, kept)
    assert ADDRESS not in logged()
    post.refuse = ""
    _hasten(house)
    delivery.post(house)
    assert (len(post.came), _rows(house)) == (len(kept), [])


def test_the_mail_of_a_deleted_iteration_is_not_sent(house: Components, post: Letterbox) -> None:
    project = t.make_project(house, "Colours")
    iteration = _small_training(house, project)
    t.work(house)
    with house.database.write() as session:
        iterations.delete(session, projects.get(session, project.account_id, project.id, lock=True), iteration.id)
    delivery.post(house)
    assert (post.came, _rows(house)) == ([], [])


@pytest.mark.service
@pytest.mark.parametrize("contained", [True, False])
def test_an_export_is_copied_first_and_then_told(
    house: Components, azurite: "Azurite", receiver: Hook, logged: Callable[[], str], contained: bool
) -> None:
    name = f"test-{uuid4()}"
    project = t.make_project(house, "Colours")
    container, queue = azurite.container(name), azurite.queue(name)
    _store(house, project, {storage.QUEUE: queue, **({storage.CONTAINER: container} if contained else {})})
    _subscribe(house, project, receiver.url)
    t.fill(house, project, {"red": 5, "blue": 5})
    iteration = t.train(house, project)
    with house.database.write() as session:
        locked = projects.get(session, project.account_id, project.id, lock=True)
        export = exports.start(session, locked, iteration.id, "ONNX", None, "http://vision.example")
    t.work(house)
    delivery.post(house)
    training, exported = (json.loads(text) for text in azurite.texts(name))
    said = {"projectId": project.id, "iterationId": iteration.id}
    assert training == {
        "version": "1.0",
        "type": "Training",
        "Content": {**said, "trainingStatus": "TrainingCompleted"},
    }
    uri = exported["Content"].pop("modelUri")
    assert exported == {"version": "1.0", "type": "Export", "Content": {**said, "exportStatus": "ExportCompleted"}}
    archive = house.blobs.read(f"{project.id}/exports/{export.id}/archive.zip")
    kept = azurite.blobs(name)
    blobs = {blob.name: kept.download_blob(blob.name).readall() for blob in kept.list_blobs()}
    if contained:
        assert blobs == {f"{project.id} - {iteration.id}.ONNX": archive}
        assert unquote(uri) == f"{container.partition('?')[0]}/{project.id} - {iteration.id}.ONNX"
    else:
        assert blobs == {}
        assert uri.startswith("http://vision.example/m-")
        parts = urlsplit(uri)
        assert uris.resolve(house, parts.path, parts.query).object_id == export.id
    kinds = [event["type"] for event in receiver.events]
    assert kinds == ["ownvision.training.completed", "ownvision.export.completed"]
    assert receiver.events[1]["data"] == {**exported["Content"], "platform": "ONNX", "flavor": None, "modelUri": uri}
    for secret in ("sig=", name, ADDRESS):
        assert secret not in logged()


@pytest.mark.service
def test_an_export_that_failed_is_told(house: Components, azurite: "Azurite") -> None:
    name = f"test-{uuid4()}"
    project = t.make_project(house, "Colours")
    _store(house, project, {storage.QUEUE: azurite.queue(name), storage.CONTAINER: azurite.container(name)})
    t.fill(house, project, {"red": 5, "blue": 5})
    iteration = t.train(house, project)
    house.blobs.delete_prefix(f"{project.id}/iterations/{iteration.id}/")
    with house.database.write() as session:
        locked = projects.get(session, project.account_id, project.id, lock=True)
        exports.start(session, locked, iteration.id, "ONNX", None)
    t.work(house)
    delivery.post(house)
    assert json.loads(azurite.texts(name)[1])["Content"] == {
        "projectId": project.id,
        "iterationId": iteration.id,
        "exportStatus": "ExportFailed",
        "modelUri": None,
    }


@pytest.mark.service
def test_when_a_container_takes_nothing_for_a_day_the_export_is_told_all_the_same(
    house: Components, receiver: Hook
) -> None:
    project = t.make_project(house, "Colours")
    _subscribe(house, project, receiver.url)
    _store(house, project, {storage.CONTAINER: "http://127.0.0.1:1/container?sig=x"})
    t.fill(house, project, {"red": 5, "blue": 5})
    iteration = t.train(house, project)
    with house.database.write() as session:
        locked = projects.get(session, project.account_id, project.id, lock=True)
        exports.start(session, locked, iteration.id, "ONNX", None, "http://vision.example")
    t.work(house)
    delivery.post(house)
    assert [event["type"] for event in receiver.events] == ["ownvision.training.completed"]
    _hasten(house, created=now() - delivery.GIVE_UP)
    delivery.post(house)
    assert receiver.events[1]["data"]["modelUri"].startswith("http://vision.example/m-")
    assert _rows(house) == []


def test_settings_show_no_password() -> None:
    assert "hush" not in repr(Settings(smtp_password="hush"))
