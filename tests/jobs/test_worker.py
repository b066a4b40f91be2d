"""The worker as a process: it takes jobs up, survives being killed, and erases in between."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from ownvision.jobs import rows
from ownvision.services import notices, projects, webhooks
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.tables import Blob, Iteration, Job, Notification, Project
from ownvision.store.tables.base import now
from tests.jobs.conftest import Starter
from tests.receivers import hook
from tests.services import trained as t

pytestmark = pytest.mark.service
SECONDS = 180.0


def _until(true: Callable[[], object], house: Components) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, (house.settings.data / "worker.log").read_text()[-3_000:]
        time.sleep(0.005)


def _children(worker: "subprocess.Popen[bytes]") -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _job(house: Components, kind: str = "train") -> Job:
    with house.database.read() as session:
        return session.scalars(select(Job).where(Job.kind == kind)).one()


def _status(house: Components) -> str:
    with house.database.read() as session:
        return session.scalars(select(Iteration.status)).one()


@pytest.fixture
def training(house: Components) -> Project:
    """A project whose training is queued and takes a second or more; no embedding was made before."""
    project = t.make_project(house, "Colours")
    t.fill(house, project, {"red": 30, "blue": 30, "green": 30})
    with house.database.write() as session:
        rows.cancel(session, [project.id])
    t.start(house, project)
    return project


def test_a_queued_job_is_taken_up_and_done(house: Components, training: Project, start: Starter) -> None:
    start()
    _until(lambda: _status(house) != "Training", house)
    assert _status(house) == "Completed"
    assert (_job(house).state, _job(house).attempts) == ("done", 1)


def test_a_job_whose_process_is_killed_is_taken_up_again_and_given_up_after_three_times(
    house: Components, training: Project, start: Starter
) -> None:
    worker = start()
    for attempt in (1, 2, 3):
        _until(lambda attempt=attempt: _job(house).attempts == attempt and _children(worker), house)  # type: ignore[misc]
        for pid in _children(worker):
            os.kill(pid, signal.SIGKILL)
    _until(lambda: _status(house) != "Training", house)
    with house.database.read() as session:
        iteration = session.scalars(select(Iteration)).one()
        assert iteration.status == "Failed"
        assert iteration.error is not None
        assert "was stopped 3 times while it was at this training" in iteration.error
    assert _job(house).state == "failed"


def test_when_the_worker_is_killed_its_job_ends_with_it_and_the_next_worker_takes_it_up(
    house: Components, training: Project, start: Starter
) -> None:
    first = start()
    _until(lambda: _job(house).state == "running" and _children(first), house)
    running = _children(first)
    second = start()  # it waits for the first, whose lock it needs
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    _until(lambda: not any(_alive(pid) for pid in running), house)
    _until(lambda: _status(house) != "Training", house)
    assert _status(house) == "Completed"
    assert _job(house).attempts == 2
    assert second.poll() is None


def test_a_worker_told_to_stop_puts_its_job_back_and_the_try_does_not_count(
    house: Components, training: Project, start: Starter
) -> None:
    worker = start()
    _until(lambda: _job(house).state == "running" and _children(worker), house)
    running = _children(worker)
    assert (house.settings.data / "worker.alive").exists()
    worker.terminate()
    assert worker.wait(20) == 0
    assert not any(_alive(pid) for pid in running)
    job = _job(house)
    assert (job.state, job.attempts, job.lease_until) == ("queued", 0, None)
    assert not (house.settings.data / "worker.alive").exists()
    start()
    _until(lambda: _status(house) == "Completed", house)


def test_a_process_that_is_silent_beyond_its_lease_loses_its_job_and_is_ended(
    house: Components, training: Project, start: Starter
) -> None:
    worker = start(OWNVISION_JOB_LEASE="1.5")
    _until(lambda: _job(house).state == "running" and _children(worker), house)
    (silent,) = _children(worker)
    os.kill(silent, signal.SIGSTOP)
    _until(lambda: not _alive(silent), house)
    _until(lambda: _status(house) == "Completed", house)
    assert _job(house).attempts == 2


def test_a_training_whose_project_is_deleted_ends(house: Components, training: Project, start: Starter) -> None:
    worker = start(OWNVISION_JOB_LEASE="1.5")
    _until(lambda: _job(house).state == "running" and _children(worker), house)
    t.close(house, training)
    _until(lambda: not _children(worker), house)
    _until(lambda: not list(house.blobs.list()) and not house.keys.projects(), house)
    assert worker.poll() is None


def test_two_lanes_run_beside_each_other(house: Components, start: Starter) -> None:
    project = t.make_project(house, "Colours")
    t.fill(house, project, {"red": 30, "blue": 30})  # queues the embedding too
    t.start(house, project)
    worker = start()
    _until(lambda: len(_children(worker)) == 2, house)
    _until(lambda: _status(house) == "Completed" and _job(house, "embed").state == "done", house)


def test_what_a_worker_had_no_time_to_send_the_next_one_sends(
    house: Components, training: Project, start: Starter
) -> None:
    with hook() as receiver:
        with house.database.write() as session:
            project = projects.get(session, training.account_id, training.id)
            webhooks.keep(session, house.keys, project, webhooks.Webhook(receiver.url, "whsec_" + 32 * "A"))
        t.work(house)  # the training ends, and nothing is sent
        assert receiver.came == []
        worker = start(OWNVISION_URL_ALLOW='["127.0.0.0/8"]')
        _until(lambda: receiver.came, house)
        assert [event["type"] for event in receiver.events] == ["ownvision.training.completed"]
        _until(lambda: not _children(worker), house)
    with house.database.read() as session:
        assert session.scalar(select(Notification)) is None


def test_a_slow_receiver_holds_up_neither_jobs_nor_the_end_of_the_worker(
    house: Components, training: Project, start: Starter
) -> None:
    release = threading.Event()
    with hook() as receiver:
        receiver.answer = lambda number: 200 if release.wait(SECONDS) else 500
        with house.database.write() as session:
            project = projects.get(session, training.account_id, training.id)
            webhooks.keep(session, house.keys, project, webhooks.Webhook(receiver.url, "whsec_" + 32 * "A"))
            notices.tell(session, project.id, {"type": "Training", "iterationId": "one", "status": "Completed"})
        worker = start(OWNVISION_URL_ALLOW='["127.0.0.0/8"]', OWNVISION_URL_TIMEOUT="600")
        _until(lambda: receiver.came, house)
        _until(lambda: _status(house) == "Completed", house)  # meanwhile
        worker.terminate()
        assert worker.wait(20) == 0
        release.set()
    with house.database.read() as session:
        assert session.scalars(select(Notification.attempts).order_by(Notification.seq)).all() == [1, 0]


def test_between_jobs_what_is_doomed_lapsed_or_stray_goes(house: Components, start: Starter) -> None:
    project = t.make_project(house, "Colours")
    keep, lapsed, doomed = (ledger.image_prefix(project.id, f"{name}-1") for name in ("keep", "lapsed", "doomed"))
    ledger.reserve(house.database, [(prefix, "image", "a", project.id) for prefix in (keep, lapsed, doomed)])
    for prefix in (keep, lapsed, doomed):
        house.blobs.put_new(prefix + "original", b"x", durable=False)
    with house.database.write() as session:
        ledger.make_live(session, [keep])
        ledger.doom(session, [doomed])
        session.execute(update(Blob).where(Blob.prefix == lapsed).values(due=now() - timedelta(seconds=1)))
    house.keys.create_project(project.account_id, "stray")
    start()
    _until(lambda: [key for key, _ in house.blobs.list()] == [keep + "original"], house)
    _until(lambda: house.keys.projects() == [project.id], house)
    _until((house.settings.data / "ballast").exists, house)
