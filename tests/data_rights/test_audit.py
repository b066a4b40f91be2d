"""The audit trail: changes record themselves, views follow within a second, nothing is rewritten."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import typer.main
from fastapi.routing import APIRoute
from sqlalchemy import delete, select, text
from sqlalchemy.exc import IntegrityError

from ownvision.api.application import _ROUTERS
from ownvision.cli import app
from ownvision.data_rights import actions, audit, erasure
from ownvision.data_rights.who import LINK, OPERATOR, RULE, Who
from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.jobs.handlers import HANDLERS
from ownvision.limits import Tier
from ownvision.services import accounts, projects, tags
from ownvision.services.components import Components
from ownvision.services.usage import Meter
from ownvision.store import ledger
from ownvision.store.audit import Act, acting
from ownvision.store.tables import Account, AuditEvent, Project, Tag
from tests.services import trained as t

KEY = "11111111-1111-4111-8111-111111111111"
REQUEST = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    components = t.open_house(tmp_path / "data")
    yield components
    components.database.close()


@pytest.fixture
def project(house: Components) -> Project:
    return t.make_project(house, "Trees")


@pytest.fixture
def trail(house: Components) -> Iterator[audit.Trail]:
    made = audit.Trail(house.database, seconds=0.01)
    yield made
    made.close()


def events(house: Components) -> list[AuditEvent]:
    with house.database.read() as session:
        return list(session.scalars(select(AuditEvent).order_by(AuditEvent.seq)))


def act_of(project: Project, operation: str, **path: str) -> Act:
    return audit.of_request(operation, Who(project.account_id, KEY, REQUEST), {"projectId": project.id, **path})


def add_tag(house: Components, project: Project, name: str) -> None:
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        tags.create(session, locked, name, None, None, house.settings.limits, Tier())


def test_a_change_is_recorded_in_the_transaction_that_makes_it(house: Components, project: Project) -> None:
    act = act_of(project, "CreateTag")
    with acting(act):
        add_tag(house, project, "oak")
    (event,) = events(house)
    with house.database.read() as session:
        tag = session.scalars(select(Tag)).one()
    assert act.recorded
    assert (event.account_id, event.actor, event.action, event.operation) == (
        project.account_id,
        KEY,
        "change",
        "CreateTag",
    )
    assert (event.project_id, event.target, event.count, event.request_id) == (project.id, tag.id, 1, REQUEST)


def test_what_is_undone_is_not_recorded(house: Components, project: Project) -> None:
    with acting(act_of(project, "CreateTag")):
        add_tag(house, project, "oak")
        with pytest.raises(OwnVisionError, match="oak"):
            add_tag(house, project, "oak")
    assert len(events(house)) == 1


def test_an_event_that_can_not_be_written_undoes_the_change(house: Components, project: Project) -> None:
    with house.database.write() as session:
        session.execute(
            text("CREATE TRIGGER full BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'no room'); END")
        )
    with acting(act_of(project, "CreateTag")), pytest.raises(IntegrityError, match="no room"):
        add_tag(house, project, "oak")
    with house.database.read() as session:
        assert session.scalars(select(Tag)).all() == []


def test_upkeep_alone_is_nobodys_change(house: Components, project: Project) -> None:
    act = act_of(project, "CreateImagesFromData")
    with acting(act):
        ledger.reserve(house.database, [(f"{project.id}/images/x.", "image", project.account_id, project.id)])
        Meter(house.database).count(project.account_id, 100)
        with house.database.write() as session:
            session.execute(delete(Tag).where(Tag.project_id == project.id))  # there is none
    assert events(house) == []
    assert not act.recorded


@pytest.mark.parametrize("number", [1, 3])
def test_rows_of_the_operations_noun_are_counted(house: Components, project: Project, number: int) -> None:
    with acting(act_of(project, "CreateImagesFromData")):
        t.upload(house, project, [t.coloured(0, seed) for seed in range(number)], [])
    (event,) = events(house)
    assert (event.operation, event.count, event.target) == ("CreateImagesFromData", number, None)


def test_a_new_project_is_named_by_its_id(house: Components) -> None:
    with house.database.read() as session:
        account_id = accounts.named(session, None).id
    with acting(audit.of_request("CreateProject", Who(account_id, KEY), {})):
        made = t.make_project(house, "Trees")
    (event,) = events(house)
    assert (event.project_id, event.target) == (made.id, None)


def test_threads_that_work_for_a_request_record_for_it_and_others_do_not(house: Components, project: Project) -> None:
    other = threading.Thread(target=add_tag, args=(house, project, "elm"))
    with acting(act_of(project, "CreateTag")):
        other.start()
        other.join()
        add_tag(house, project, "oak")
    assert [event.count for event in events(house)] == [1]


def test_what_was_recorded_can_not_be_rewritten(house: Components, project: Project) -> None:
    with acting(act_of(project, "CreateTag")):
        add_tag(house, project, "oak")
    with pytest.raises(IntegrityError, match="append-only"), house.database.write() as session:
        session.execute(text("UPDATE audit_events SET actor = 'somebody else'"))
    assert [event.actor for event in events(house)] == [KEY]


def test_events_outlive_their_project_and_go_with_their_account(house: Components, project: Project) -> None:
    with acting(act_of(project, "CreateTag")):
        add_tag(house, project, "oak")
    with acting(act_of(project, "DeleteProject")), house.database.write() as session:
        session.execute(delete(Project).where(Project.id == project.id))
    assert [event.operation for event in events(house)] == ["CreateTag", "DeleteProject"]
    with acting(act_of(project, "EraseAccount")), house.database.write() as session:
        session.execute(delete(Account).where(Account.id == project.account_id))
    assert events(house) == []


def test_a_jobs_result_is_recorded_for_whoever_asked_for_it(house: Components, project: Project) -> None:
    t.fill(house, project, {"red": 5, "blue": 5})
    with acting(act_of(project, "TrainProject")):
        iteration = t.start(house, project)
    t.work(house)
    found = [(event.operation, event.actor, event.target) for event in events(house)]
    assert found == [("TrainProject", KEY, iteration.id), ("TrainJob", KEY, iteration.id)]


def test_what_nobody_asked_for_and_erases_is_a_rules(house: Components, project: Project) -> None:
    (image_id,) = t.upload(house, project, [t.coloured(0, 1)], [])
    with house.database.write() as session:
        receipt = erasure.erase_images(
            session, Who(project.account_id, RULE), project.id, [image_id], all_iterations=True
        )
    (event,) = events(house)
    assert (event.actor, event.action, event.target) == (RULE, "delete", receipt.id)


def test_a_view_is_kept_within_a_second_and_off_the_way(house: Components, project: Project) -> None:
    trail = audit.Trail(house.database)
    try:
        trail.done(act_of(project, "GetIteration", iterationId=KEY.upper()))
        noted = time.monotonic()
        assert events(house) == []
        while not (found := events(house)):
            assert time.monotonic() - noted < 1.0
            time.sleep(0.01)
    finally:
        trail.close()
    assert [(one.action, one.operation, one.target) for one in found] == [("view", "GetIteration", KEY)]


def test_what_a_transaction_recorded_or_nothing_changed_is_not_noted_again(
    house: Components, project: Project, trail: audit.Trail
) -> None:
    exported, unchanged = act_of(project, "ExportProject"), act_of(project, "UpdateTag")
    exported.recorded = True
    for act in (exported, unchanged):
        trail.done(act)
    trail.flush()
    assert events(house) == []


def test_predictions_that_store_nothing_are_counted_in_one_event(
    house: Components, project: Project, trail: audit.Trail
) -> None:
    slow = audit.Trail(house.database, seconds=60)
    for _ in range(5):
        act = act_of(project, "ClassifyImageWithNoStore")
        act.target = KEY
        slow.done(act)
    slow.close()
    (event,) = events(house)
    assert (event.action, event.count, event.target, event.request_id) == ("view", 5, KEY, None)


def test_closing_loses_nothing_and_what_can_not_be_kept_is_kept_later(house: Components, project: Project) -> None:
    trail = audit.Trail(house.database, seconds=60)
    trail.done(act_of(project, "GetTags"))
    trail.done(act_of(project, "PredictImageWithNoStore"))
    with house.database.write() as session:
        session.execute(text("ALTER TABLE audit_events RENAME TO away"))
    with pytest.raises(Exception, match="no such table"):
        trail.flush()
    with house.database.write() as session:
        session.execute(text("ALTER TABLE away RENAME TO audit_events"))
    trail.close()
    assert sorted(event.operation for event in events(house)) == ["GetTags", "PredictImageWithNoStore"]


def test_a_links_event_is_its_projects_accounts_and_of_what_is_gone_there_is_none(
    house: Components, project: Project, trail: audit.Trail
) -> None:
    trail.opened("GetImageFile", "view", project.id, KEY, REQUEST)
    trail.opened("GetTakeoutFile", "export", project.account_id, KEY, REQUEST)
    trail.opened("GetImageFile", "view", KEY, KEY, REQUEST)
    trail.flush()
    assert [(one.account_id, one.actor, one.project_id) for one in events(house)] == [
        (project.account_id, LINK, project.id),
        (project.account_id, LINK, None),
    ]


def test_pages_and_lines_give_what_was_asked_for(house: Components, project: Project, trail: audit.Trail) -> None:
    for number in range(5):
        with acting(act_of(project, "CreateTag")):
            add_tag(house, project, f"tag {number}")
        trail.done(act_of(project, "GetTags"))
        trail.flush()
    every = events(house)
    middle = every[4].at
    cases = [
        (audit.Wanted(), 10),
        (audit.Wanted(action="view"), 5),
        (audit.Wanted(operation="CreateTag", actor=KEY), 5),
        (audit.Wanted(actor=OPERATOR), 0),
        (audit.Wanted(project_id=project.id), 10),
        (audit.Wanted(project_id=KEY), 0),
        (audit.Wanted(since=middle), 6),
        (audit.Wanted(until=middle), 4),
        (audit.Wanted(since=middle, until=middle + timedelta(days=1), action="change"), 3),
    ]
    for wanted, number in cases:
        told = [json.loads(line) for line in audit.lines(house.database, project.account_id, wanted)]
        seqs, before = [], None
        while True:
            with house.database.read() as session:
                found, before = audit.page(session, project.account_id, wanted, 3, before)
            seqs += [event.seq for event in found]
            if before is None:
                break
        assert (len(told), seqs) == (number, [one["seq"] for one in told][::-1]), wanted
    assert not list(audit.lines(house.database, KEY))


def operations() -> set[str]:
    """Of both APIs and of /api; what needs no key has no account whose trail it could stand in, or is a link."""
    routes = [route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    return {route.operation_id or "" for route in routes if hasattr(route, "api")}


def commands() -> set[str]:
    """That open a data folder."""

    def of(command: object, name: str) -> Iterator[str]:
        for child, one in getattr(command, "commands", {}).items():
            yield from of(one, f"{name} {child}".strip())
        module = getattr(getattr(command, "callback", None), "__module__", "")
        inside = module == "ownvision.cli" or module.startswith("ownvision.commands.")
        if inside and any(option.name == "data" for option in getattr(command, "params", ())):
            yield name

    of_the_weights_folder = {"backbone add", "backbone list", "domains"}  # in which there is nobody's data
    return set(of(typer.main.get_command(app), "")) - {"serve"} - of_the_weights_folder


@pytest.mark.parametrize(
    ("there", "table"),
    [(operations, actions.OPERATIONS), (commands, actions.COMMANDS), (lambda: set(HANDLERS), actions.JOBS)],
    ids=["operations", "commands", "jobs"],
)
def test_the_table_says_of_everything_what_it_does(there: object, table: dict[str, actions.Action]) -> None:
    assert callable(there)
    assert there() - table.keys() == set()


def test_the_table_uses_four_words_and_tables_that_are_there() -> None:
    every = [*actions.OPERATIONS.values(), *actions.COMMANDS.values(), *actions.JOBS.values(), *actions.LINKS.values()]
    assert {one.action for one in every} == {actions.VIEW, actions.EXPORT, actions.CHANGE, actions.DELETE}
    assert {one.noun for one in every} - {""} <= set(AuditEvent.metadata.tables)


def test_the_jobs_of_an_older_version_are_the_operators(house: Components, project: Project) -> None:
    act = audit.of_job("train", project.account_id, None, project.id, KEY)
    assert (act.actor, act.operation) == (OPERATOR, "TrainJob")
    assert rows.Claim("", 1, "train", rows.TRAINING, "", "", "").asked_by is None
