from collections.abc import Iterator
from pathlib import Path

import pytest

from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.jobs.handlers import on_failed
from ownvision.learning.curve import Point
from ownvision.services import fitting, progress, projects
from ownvision.services.components import Components
from ownvision.store.tables import Iteration, Job, Project
from tests.services import trained as t


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    house = t.open_house(tmp_path / "data")
    yield house
    house.database.close()


@pytest.fixture
def project(house: Components) -> Project:
    project = t.make_project(house, "Colours")
    t.fill(house, project, {"red": 5, "blue": 5})
    return project


def state(house: Components, project: Project, iteration: Iteration) -> dict[str, object]:
    with house.database.read() as session:
        return progress.of_iteration(session, project, iteration.id)


def test_a_training_tells_its_course_and_what_is_left(
    house: Components, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    iteration = t.start(house, project)
    assert state(house, project, iteration)["state"] == "queued"
    claim = t.claim(house)
    monkeypatch.setattr(fitting, "_REPORT_SECONDS", 0.0)
    report = fitting._Reporter(house, claim)
    report.watch(Point(10, 100, 1.5, None))
    report.watch(Point(20, 100, 1.25, 0.5))
    report(0.25)
    found = state(house, project, iteration)
    assert (found["state"], found["progress"], found["status"]) == ("running", 0.25, "Training")
    assert found["curve"] == [
        {"step": 10, "steps": 100, "loss": 1.5, "holdOut": None},
        {"step": 20, "steps": 100, "loss": 1.25, "holdOut": 0.5},
    ]
    assert isinstance(found["seconds"], float)
    assert found["secondsLeft"] == pytest.approx(3 * found["seconds"], rel=0.01)


@pytest.mark.parametrize(
    ("state", "share", "left"),
    [("running", 0.5, 10.0), ("running", 0.0, None), ("queued", 0.5, None), ("done", 1.0, None)],
)
def test_what_is_left_is_told_only_where_it_is_known(state: str, share: float, left: float | None) -> None:
    assert progress.seconds_left(Job(state=state, progress=share), 10.0) == left


def cancel(house: Components, project: Project, iteration: Iteration) -> int:
    with house.database.write() as session:
        locked = projects.get(session, project.account_id, project.id, lock=True)
        stopped = progress.cancel(session, locked, iteration.id)
        for job in stopped:
            on_failed(session, job, "Cancelled before it started.")
        return len(stopped)


def test_a_queued_training_is_cancelled_at_once_and_can_be_asked_for_again(house: Components, project: Project) -> None:
    iteration = t.start(house, project)
    assert cancel(house, project, iteration) == 1
    found = state(house, project, iteration)
    assert (found["state"], found["status"]) == ("cancelled", "Failed")
    assert t.train(house, project).status == "Completed"


def test_a_running_training_is_asked_to_stop(house: Components, project: Project) -> None:
    iteration = t.start(house, project)
    claim = t.claim(house)
    assert cancel(house, project, iteration) == 0
    with pytest.raises(rows.Cancelled):
        rows.heartbeat(house.database, claim, 0.5, 60.0)


def test_an_iteration_of_another_project_has_none(house: Components, project: Project) -> None:
    iteration = t.start(house, project)
    other = t.make_project(house, "Other")
    for ask in (progress.of_iteration, progress.cancel):
        with house.database.read() as session, pytest.raises(OwnVisionError) as refusal:
            ask(session, other, iteration.id)
        assert refusal.value.code == "NotFoundIteration"


def test_an_iteration_whose_job_is_gone_still_says_how_it_ended(house: Components, project: Project) -> None:
    iteration = t.train(house, project)
    with house.database.write() as session:
        for job in session.query(Job).all():
            session.delete(job)
    found = state(house, project, iteration)
    assert (found["jobId"], found["progress"], found["seconds"]) == (None, 1.0, iteration.training_seconds)
