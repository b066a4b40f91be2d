"""What is kept no longer goes, whatever says so: setting, account's rule, project's rule; a legal hold keeps it."""

import logging
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ownvision.data_rights import holds, retention
from ownvision.data_rights.retention import LONGEST, TERMS
from ownvision.errors import OwnVisionError
from ownvision.services import accounts
from ownvision.services.components import Components, open_components
from ownvision.settings import Settings
from ownvision.store import ledger
from ownvision.store.tables import (
    AuditEvent,
    Base,
    Blob,
    Image,
    Iteration,
    Job,
    Prediction,
    Project,
    ProjectExport,
    Receipt,
    RetentionRule,
    Suggestion,
    Takeout,
)
from ownvision.store.tables.base import new_id, now
from tests.services import trained as t

pytestmark = pytest.mark.slow

DEFAULTS = {"predictions": 30, "suggestions": 30, "drafts": 30, "takeouts": 7, "tokens": 14, "audit": 365, "jobs": 90}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation as its first start makes it, to be copied: migrating takes longer than most tests."""
    folder = tmp_path_factory.mktemp("fresh") / "data"
    t.open_house(folder).database.close()
    return folder


@pytest.fixture
def house(fresh: Path, tmp_path: Path) -> Iterator[Components]:
    shutil.copytree(fresh, tmp_path / "data")
    components = open_components(Settings(data=tmp_path / "data"))
    yield components
    components.database.close()


@pytest.fixture
def project(house: Components) -> Project:
    return t.make_project(house, "Trees")


def _iteration(session: Session, project: Project) -> str:
    found = session.scalar(select(Iteration.id).where(Iteration.project_id == project.id))
    if found is not None:
        return found
    row = Iteration(
        id=new_id(),
        project_id=project.id,
        number=1,
        name="Iteration 1",
        revision=1,
        domain_id=project.domain_id,
        classification_type="Multilabel",
        pipeline="",
    )
    session.add(row)
    session.flush()
    return row.id


def _blob(session: Session, project: Project, prefix: str, kind: str) -> None:
    session.add(Blob(prefix=prefix, kind=kind, account_id=project.account_id, project_id=project.id, state=ledger.LIVE))


def _prediction(session: Session, project: Project, at: datetime) -> Base:
    row = Prediction(
        id=new_id(),
        project_id=project.id,
        iteration_id=_iteration(session, project),
        domain_id=project.domain_id,
        created=at,
        predictions=[],
        sha256="0" * 64,
        width=1,
        height=1,
        size=1,
        format="PNG",
    )
    _blob(session, project, ledger.prediction_prefix(project.id, row.id), "prediction")
    return row


def _suggestion(session: Session, project: Project, at: datetime) -> Base:
    image = Image(project_id=project.id, sha256=new_id(), width=1, height=1, size=1, format="PNG", since=1)
    session.add(image)
    session.flush()
    return Suggestion(
        image_seq=image.seq,
        iteration_id=_iteration(session, project),
        project_id=project.id,
        created=at,
        uncertainty=0.5,
        predictions=[],
    )


def _takeout(session: Session, project: Project, at: datetime) -> Base:
    row = Takeout(id=new_id(), account_id=project.account_id, project_id=project.id, status="Done", created=at)
    _blob(session, project, ledger.takeout_prefix(project.id, row.id), "takeout")
    return row


def _token(session: Session, project: Project, at: datetime) -> Base:
    counts = dict.fromkeys(("revision", "image_count", "tag_count", "region_count", "iteration_count"), 0)
    return ProjectExport(project_id=project.id, created=at, expires=at + timedelta(days=7), **counts)


def _event(session: Session, project: Project, at: datetime) -> Base:
    return AuditEvent(
        account_id=project.account_id, project_id=project.id, at=at, actor="operator", action="view", operation="x"
    )


def _job(session: Session, project: Project, at: datetime) -> Base:
    return Job(
        account_id=project.account_id,
        project_id=project.id,
        kind="embed",
        lane="quick",
        subject=new_id(),
        state="done",
        created=at - timedelta(days=1),
        finished=at,
    )


Make = Callable[[Session, Project, datetime], Base]
MAKE: dict[str, Make] = {
    "predictions": _prediction,
    "suggestions": _suggestion,
    "takeouts": _takeout,
    "tokens": _token,
    "audit": _event,
    "jobs": _job,
}


def put_there(house: Components, project: Project, kind: str, *ages: float) -> None:
    """Rows of a kind, so many days old."""
    with house.database.write() as session:
        for age in ages:
            session.add(MAKE[kind](session, project, now() - timedelta(days=age)))


def left(house: Components, project: Project, kind: str) -> int:
    table = TERMS[kind].table
    with house.database.read() as session:
        mine = select(func.count()).select_from(table).where(table.c["project_id"] == project.id)
        if kind == "audit":  # that a rule was at work is recorded there too
            mine = mine.where(AuditEvent.actor != "rule")
        return session.scalar(mine.where(*TERMS[kind].only)) or 0


def enforce(house: Components) -> int:
    return sum(retention.enforce(house.database, house.settings))


def put(house: Components, project: Project, kind: str, days: int, *, of_account: bool = False) -> None:
    with house.database.write() as session:
        retention.put(session, project.account_id, None if of_account else project.id, kind, days)


def receipts(house: Components) -> list[Receipt]:
    with house.database.read() as session:
        return list(session.scalars(select(Receipt).order_by(Receipt.number)))


def test_every_term_is_tested() -> None:
    assert set(MAKE) | {"drafts"} == set(DEFAULTS) == set(TERMS)  # of drafts there is one: `services.test_drafts`


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_older_than_the_setting_says_goes_and_the_rest_stays(
    house: Components, project: Project, kind: str
) -> None:
    put_there(house, project, kind, DEFAULTS[kind] + 0.1, DEFAULTS[kind] - 0.1, 0)
    assert enforce(house) == 1
    assert left(house, project, kind) == 2
    assert enforce(house) == 0


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("of_account", [False, True], ids=["project", "account"])
def test_a_rule_holds_for_what_is_there_already(
    house: Components, project: Project, kind: str, of_account: bool
) -> None:
    put_there(house, project, kind, DEFAULTS[kind] + 5, 4, 2)
    put(house, project, kind, DEFAULTS[kind] + 10, of_account=of_account)
    assert enforce(house) == 0, "a longer one"
    put(house, project, kind, 3, of_account=of_account)
    assert enforce(house) == 2, "a shorter one"
    assert left(house, project, kind) == 1


@pytest.mark.parametrize("kind", MAKE)
def test_a_receipt_says_what_a_rule_removed_of_which_kind(house: Components, project: Project, kind: str) -> None:
    put_there(house, project, kind, 400, 400, 0)
    enforce(house)
    (receipt,) = receipts(house)
    assert (receipt.operation, receipt.key_id) == ("Retention", None)
    assert {name: one["count"] for name, one in receipt.erased.items()} == {TERMS[kind].tally: 2}
    with house.database.read() as session:
        doomed = session.scalars(select(Blob).where(Blob.receipt == receipt.id)).all()
    assert {blob.state for blob in doomed} == {ledger.DOOMED}
    assert [blob for blob in doomed if kind not in ("predictions", "takeouts") or blob.kind != ledger.ROWS]


def test_nothing_over_makes_no_receipt(house: Components, project: Project) -> None:
    put_there(house, project, "predictions", 1)
    enforce(house)
    assert receipts(house) == []


def test_a_projects_rule_wins_and_touches_no_other_project(house: Components, project: Project) -> None:
    other = t.make_project(house, "Birds")
    for place in (project, other):
        put_there(house, place, "predictions", 20)
    put(house, project, "predictions", 10)
    assert enforce(house) == 1
    assert (left(house, project, "predictions"), left(house, other, "predictions")) == (0, 1)
    put(house, other, "predictions", 25)
    put(house, other, "predictions", 5, of_account=True)
    assert enforce(house) == 0, "its own rule is longer than the account's"
    with house.database.write() as session:
        retention.remove(session, other.account_id, other.id, "predictions")
    assert enforce(house) == 1


def test_the_rules_of_one_account_touch_no_other(house: Components, project: Project) -> None:
    with house.database.write() as session:
        other = accounts.create(session, house.keys, user_name="b", email="b@localhost", tier="Unlimited")
        retention.put(session, other.id, None, "predictions", 1)
    put_there(house, project, "predictions", 20)
    assert enforce(house) == 0


def test_the_setting_of_today_holds_for_what_was_stored_before(tmp_path: Path) -> None:
    house = t.open_house(tmp_path / "data", prediction_days=3)
    project = t.make_project(house, "Trees")
    put_there(house, project, "predictions", 4, 2)
    assert enforce(house) == 1
    house.database.close()


def test_many_go_in_short_transactions_each_with_its_receipt(
    house: Components, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_PART", 2)
    put_there(house, project, "predictions", *[50] * 5)
    assert list(retention.enforce(house.database, house.settings)) == [2, 2, 1]
    assert [receipt.erased["predictions"]["count"] for receipt in receipts(house)] == [2, 2, 1]


def test_open_jobs_stay_however_old(house: Components, project: Project) -> None:
    put_there(house, project, "jobs", 400)
    with house.database.write() as session:
        session.query(Job).update({"state": "running", "finished": None})
    assert enforce(house) == 0


def test_rows_of_the_account_itself_go_too(house: Components, project: Project) -> None:
    with house.database.write() as session:
        session.add(
            AuditEvent(
                account_id=project.account_id,
                at=now() - timedelta(days=400),
                actor="operator",
                action="view",
                operation="x",
            )
        )
    assert enforce(house) == 1


def test_what_a_closed_project_holds_is_left_to_the_job_that_empties_it(house: Components, project: Project) -> None:
    put_there(house, project, "predictions", 50)
    with house.database.write() as session:
        found = session.get(Project, project.id)
        assert found is not None
        found.closed = now()
    assert enforce(house) == 0


@pytest.mark.parametrize("of_account", [False, True], ids=["project", "account"])
def test_a_legal_hold_keeps_what_is_over_and_the_log_says_so(
    house: Components, project: Project, of_account: bool, caplog: pytest.LogCaptureFixture
) -> None:
    put_there(house, project, "predictions", 50)
    with house.database.write() as session:
        hold = holds.place(session, project.account_id, None if of_account else project.id, "case 7")
    with caplog.at_level(logging.INFO, "ownvision.retention"):
        assert enforce(house) == 0
    assert caplog.messages == [f"predictions of {project.id} are over but stay: legal hold {hold.id}"]
    assert receipts(house) == []
    with house.database.write() as session:
        holds.lift(session, project.account_id, None, hold.id)
    assert enforce(house) == 1


def test_a_hold_on_another_project_keeps_nothing(house: Components, project: Project) -> None:
    other = t.make_project(house, "Birds")
    put_there(house, project, "predictions", 50)
    with house.database.write() as session:
        holds.place(session, other.account_id, other.id, "case 7")
    assert enforce(house) == 1


def test_what_says_so_is_shown(house: Components, project: Project) -> None:
    put(house, project, "predictions", 7)
    put(house, project, "audit", 60, of_account=True)
    with house.database.read() as session:
        of_project = retention.effective(session, house.settings, project.account_id, project.id)
        of_account = retention.effective(session, house.settings, project.account_id, None)
    assert {one.kind: (one.days, one.by) for one in of_project} == {
        **{kind: (days, "setting") for kind, days in DEFAULTS.items()},
        "predictions": (7, "project"),
        "audit": (60, "account"),
    }
    assert {one.kind: (one.days, one.by) for one in of_account}["predictions"] == (30, "setting")


def test_a_rule_replaces_the_one_before(house: Components, project: Project) -> None:
    for days in (3, 5, 5):
        put(house, project, "jobs", days)
    with house.database.read() as session:
        assert [rule.days for rule in session.scalars(select(RetentionRule))] == [5]


@pytest.mark.parametrize(("kind", "days"), [("images", 3), ("", 3), ("jobs", 0), ("jobs", -1), ("jobs", LONGEST + 1)])
def test_a_rule_that_can_not_be_kept_is_refused_and_changes_nothing(
    house: Components, project: Project, kind: str, days: int
) -> None:
    put(house, project, "jobs", 5)
    with pytest.raises(OwnVisionError) as refused:
        put(house, project, kind, days)
    assert refused.value.code == "BadRequestInvalid"
    with house.database.read() as session:
        assert [(rule.kind, rule.days) for rule in session.scalars(select(RetentionRule))] == [("jobs", 5)]


def test_a_change_of_rules_or_holds_is_noticed(house: Components, project: Project) -> None:
    """The worker begins another round then, and does not wait for the hour."""
    seen = []

    def look() -> None:
        with house.database.read() as session:
            seen.append(retention.asked(session))

    look()
    put(house, project, "jobs", 5)
    look()
    put(house, project, "jobs", 6)
    look()
    with house.database.write() as session:
        hold = holds.place(session, project.account_id, None, "case 7")
    look()
    with house.database.write() as session:
        holds.lift(session, project.account_id, None, hold.id)
        retention.remove(session, project.account_id, project.id, "jobs")
    look()
    assert len({*seen}) == 4
    assert seen[0] == seen[-1]


@pytest.mark.parametrize("kind", MAKE)
def test_the_audit_trail_says_that_a_rule_did_it(house: Components, project: Project, kind: str) -> None:
    put_there(house, project, kind, 400, 400)
    enforce(house)
    with house.database.read() as session:
        (event,) = session.scalars(select(AuditEvent).where(AuditEvent.actor == "rule"))
    assert (event.action, event.operation, event.project_id) == ("delete", "Retention", project.id)
    assert event.count == 2
