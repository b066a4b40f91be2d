"""An import in the worker: killed, it begins anew and nothing is there twice; its project deleted, it ends."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import func, select

from ownvision.data_rights.doctor import doctor
from ownvision.services import projects, uris
from ownvision.services.components import Components
from ownvision.services.travel import arriving, tokens
from ownvision.store.tables import Image, Project
from tests.jobs.conftest import Starter
from tests.jobs.test_worker import _alive, _children, _job, _until
from tests.services import trained as t

pytestmark = pytest.mark.service
IMAGES = 640


@pytest.fixture
def copy(house: Components) -> Project:
    """A project that is to be filled by an import, which takes a second or more."""
    project = t.make_project(house, "Squares", domain_id=t.DETECTION)
    for start in range(0, IMAGES, 64):
        t.upload(house, project, [t.coloured(0, seed) for seed in range(start, start + 64)], [])
    with house.database.write() as session:
        locked = projects.get(session, project.account_id, project.id, lock=True)
        export = tokens.make(session, locked, 7)
    token = uris.sign_project(house, "http://127.0.0.1:1", project.id, export.id, export.expires)
    return arriving.start(house, project.account_id, "http://127.0.0.1:1", token, None)


def _arrived(house: Components, project: Project) -> int:
    with house.database.read() as session:
        return session.scalar(select(func.count()).select_from(Image).where(Image.project_id == project.id)) or 0


def _status(house: Components, project: Project) -> str:
    with house.database.read() as session:
        return session.get_one(Project, project.id).status


def _kill_in_the_middle(house: Components, copy: Project, worker: "subprocess.Popen[bytes]", attempt: int) -> None:
    _until(lambda: _job(house, "import").attempts == attempt and _children(worker), house)
    _until(lambda: _arrived(house, copy) > 0, house)
    for pid in _children(worker):
        os.kill(pid, signal.SIGKILL)


def test_a_killed_import_begins_anew_and_nothing_is_there_twice(
    house: Components, copy: Project, start: Starter
) -> None:
    worker = start()
    for attempt in (1, 2):
        _kill_in_the_middle(house, copy, worker, attempt)
    _until(lambda: _status(house, copy) != "Importing", house)
    assert (_status(house, copy), _job(house, "import").attempts) == ("Succeeded", 3)
    assert _arrived(house, copy) == IMAGES
    t.files(house)
    assert list(doctor(house)) == []


def test_an_import_killed_three_times_has_failed_and_keeps_nothing(
    house: Components, copy: Project, start: Starter
) -> None:
    worker = start()
    for attempt in (1, 2, 3):
        _kill_in_the_middle(house, copy, worker, attempt)
    _until(lambda: _status(house, copy) != "Importing", house)
    assert _status(house, copy) == "Failed"
    assert "was stopped 3 times while it was at this import" in str(_job(house, "import").error)
    assert _arrived(house, copy) == 0
    t.files(house)
    assert list(doctor(house)) == []


def test_an_import_whose_project_is_deleted_ends(house: Components, copy: Project, start: Starter) -> None:
    worker = start(OWNVISION_JOB_LEASE="1.5")
    _until(lambda: _arrived(house, copy) > 0, house)
    running = _children(worker)
    t.close(house, copy)
    _until(lambda: not any(_alive(pid) for pid in running), house)
    _until(lambda: not Path(house.settings.data / "objects" / copy.id).exists(), house)
    assert worker.poll() is None
