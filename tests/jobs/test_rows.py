"""Jobs as rows: order, leases, fencing, giving up."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ownvision.jobs import rows
from ownvision.store.database import Database
from ownvision.store.tables import Account, Job, Project
from ownvision.store.tables.base import now
from tests import databases

LEASE = 20.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    databases.migrate(database)
    with database.write() as session:
        for name in ("a", "b"):
            session.add(Account(id=name, user_name=name, email="", tier="Unlimited", prediction_resource_id=""))
            session.flush()
            session.add(Project(id=f"p{name}", account_id=name, name="p", domain_id="d"))
    yield database
    database.close()


def _enqueue(database: Database, subject: str, account: str = "a", **fields: object) -> str:
    with database.write() as session:
        job = rows.enqueue(
            session,
            kind="train",
            account_id=account,
            project_id=f"p{account}",
            subject=subject,
            lane=rows.TRAINING,
            **fields,  # type: ignore[arg-type]
        )
        return job.id


def _claim(database: Database) -> rows.Claim:
    claim = rows.claim(database, rows.TRAINING, LEASE)
    assert claim is not None
    return claim


def _state(database: Database, job_id: str) -> str:
    with database.read() as session:
        return session.get_one(Job, job_id).state


def _nobody(session: Session, job: Job, reason: str) -> None:
    """Nothing is told of failures."""


def test_one_open_job_per_subject(database: Database) -> None:
    first = _enqueue(database, "s")
    assert _enqueue(database, "s") == first
    claim = _claim(database)
    with database.write() as session:
        rows.finish(session, claim)
    assert _enqueue(database, "s") != first


def test_the_account_with_least_running_goes_first(database: Database) -> None:
    for subject in ("1", "2"):
        _enqueue(database, subject, "a")
    _enqueue(database, "3", "b")
    assert [_claim(database).subject for _ in range(3)] == ["1", "3", "2"]
    assert rows.claim(database, rows.TRAINING, LEASE) is None


def test_priority_goes_before_age(database: Database) -> None:
    _enqueue(database, "slow", priority=10)
    _enqueue(database, "fast")
    assert [_claim(database).subject for _ in range(2)] == ["fast", "slow"]


def test_a_stale_worker_can_not_write(database: Database) -> None:
    job_id = _enqueue(database, "s")
    stale = _claim(database)
    rows.recover(database, _nobody, rows.held_by(stale))
    fresh = _claim(database)
    assert fresh.token > stale.token
    with pytest.raises(rows.Stale):
        rows.heartbeat(database, stale, 0.5, LEASE)
    with database.write() as session:
        with pytest.raises(rows.Stale):
            rows.finish(session, stale)
        session.rollback()
    with database.write() as session:
        rows.finish(session, fresh)
    assert _state(database, job_id) == "done"


def test_a_silent_worker_loses_its_job_after_the_lease(database: Database) -> None:
    job_id = _enqueue(database, "s")
    _claim(database)
    assert rows.recover(database, _nobody, rows.lapsed()) == 0
    with database.write() as session:
        session.execute(update(Job).values(lease_until=now() - timedelta(seconds=1)))
    assert rows.recover(database, _nobody, rows.lapsed()) == 1
    assert _state(database, job_id) == "queued"


def test_after_three_tries_it_has_failed_and_says_why(database: Database) -> None:
    told: list[str] = []
    job_id = _enqueue(database, "s")
    for _ in range(3):
        _claim(database)
        rows.recover(database, lambda session, job, reason: told.append(reason), rows.any_running())
    assert _state(database, job_id) == "failed"
    assert len(told) == 1
    assert "3 times" in told[0]


def test_cancelling_stops_a_queued_job_at_once_and_a_running_one_at_its_next_heartbeat(database: Database) -> None:
    running = _enqueue(database, "1")
    claim = _claim(database)
    waiting = _enqueue(database, "2")
    with database.write() as session:
        assert [job.id for job in rows.cancel(session, ["1", "2"])] == [waiting]
    assert _state(database, waiting) == "cancelled"
    assert _state(database, running) == "running"
    with pytest.raises(rows.Cancelled):
        rows.heartbeat(database, claim, 0.1, LEASE)


def test_progress_is_kept(database: Database) -> None:
    job_id = _enqueue(database, "s")
    rows.heartbeat(database, _claim(database), 0.25, LEASE)
    with database.read() as session:
        assert session.scalar(select(Job.progress).where(Job.id == job_id)) == 0.25


def test_accounts_take_turns_however_many_jobs_one_has_queued(database: Database) -> None:
    for number in range(3):
        _enqueue(database, f"a{number}", "a")
    for number in range(2):
        _enqueue(database, f"b{number}", "b")
    order = []
    for _ in range(5):
        claim = _claim(database)
        order.append(claim.subject)
        with database.write() as session:
            rows.finish(session, claim)
    assert order == ["a0", "b0", "a1", "b1", "a2"]


def test_a_lane_that_has_a_job_waiting_is_named(database: Database) -> None:
    assert rows.waiting(database) == set()
    _enqueue(database, "s")
    assert rows.waiting(database) == {rows.TRAINING}
    assert rows.claim(database, rows.QUICK, LEASE) is None
    _claim(database)
    assert rows.waiting(database) == set()


def test_a_job_given_back_has_not_used_up_a_try(database: Database) -> None:
    job_id = _enqueue(database, "s")
    for _ in range(5):
        claim = _claim(database)
        assert rows.still_held(database, [claim]) == {job_id}
        assert rows.give_back(database, claim)
        assert not rows.give_back(database, claim)
        assert rows.still_held(database, [claim]) == set()
    assert _state(database, job_id) == "queued"
    with pytest.raises(rows.Stale):
        rows.heartbeat(database, claim, None, LEASE)


def test_a_job_that_goes_with_its_project_is_no_longer_held(database: Database) -> None:
    _enqueue(database, "s")
    claim = _claim(database)
    with database.write() as session:
        session.delete(session.get_one(Project, "pa"))
    assert rows.still_held(database, [claim]) == set()
    with pytest.raises(rows.Stale):
        rows.heartbeat(database, claim, 0.5, LEASE)


def test_a_cancelled_job_whose_worker_died_is_cancelled_and_told(database: Database) -> None:
    told: list[str] = []
    job_id = _enqueue(database, "s")
    claim = _claim(database)
    with database.write() as session:
        rows.cancel(session, ["s"])
    rows.recover(database, lambda session, job, reason: told.append(reason), rows.held_by(claim))
    assert (_state(database, job_id), told) == ("cancelled", ["Cancelled."])


def test_cancelling_one_job_leaves_others_of_its_subject_alone(database: Database) -> None:
    ended = _enqueue(database, "s")
    first = _claim(database)
    with database.write() as session:
        rows.finish(session, first)
    running = _enqueue(database, "s")
    claim = _claim(database)
    with database.write() as session:
        assert rows.cancel_job(session, ended) is None
    rows.heartbeat(database, claim, 0.1, LEASE)
    with database.write() as session:
        assert rows.cancel_job(session, running) is None
    with pytest.raises(rows.Cancelled):
        rows.heartbeat(database, claim, 0.2, LEASE)
    _enqueue(database, "s")  # wanted again before it stopped
    rows.heartbeat(database, claim, 0.3, LEASE)
