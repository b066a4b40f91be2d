"""What an erasure still needs after its commit."""

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from ownvision.data_rights import orphans, scrubbing
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.tables import Account, Blob, Iteration, Job, Project
from ownvision.store.tables.base import now
from tests.data_rights import erasing as e
from tests.services import trained as t


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    components = t.open_house(tmp_path / "data")
    yield components
    components.database.close()


def test_a_key_whose_project_is_not_there_is_destroyed_and_the_others_stay(house: Components) -> None:
    project = t.make_project(house, "Trees")
    house.keys.create_project(project.account_id, "undone")
    house.keys.create_account("undone-too")
    assert sorted(scrubbing.destroy_stray_keys(house.database, house.keys)) == ["undone", "undone-too"]
    assert house.keys.projects() == [project.id]
    assert house.keys.accounts() == [project.account_id]
    assert scrubbing.destroy_stray_keys(house.database, house.keys) == []


def test_the_key_of_a_project_that_is_just_being_made_is_left_alone(house: Components) -> None:
    with house.database.write() as session:
        account = session.scalars(select(Account)).one()
        house.keys.create_project(account.id, "being-made")
        # Another process, as the worker is: it may not wait for long here.
        looker = sqlite3.connect(house.settings.data / "ownvision.db", timeout=0.1)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            looker.execute("BEGIN IMMEDIATE")
        looker.close()
        session.add(Project(id="being-made", account_id=account.id, name="x", domain_id=t.COMPACT))
    assert scrubbing.destroy_stray_keys(house.database, house.keys) == []
    assert house.keys.projects() == ["being-made"]


@pytest.mark.parametrize(
    ("minutes_ago", "scrubbed_minutes_ago", "due"),
    [
        (2, None, True),
        (0, None, False),  # more may follow
        (2, 15, True),
        (2, 5, False),  # the next one takes it along
        (20, 15, False),  # done already
    ],
)
def test_the_database_is_rewritten_once_for_many_erasures(
    house: Components, minutes_ago: float, scrubbed_minutes_ago: float | None, due: bool
) -> None:
    data = house.settings.data
    assert not scrubbing.scrub_due(house.database, data)
    ledger.reserve(house.database, [("p/images/x/", "image", "a", "p")])
    with house.database.write() as session:
        session.execute(
            update(Blob).values(state=ledger.GONE, due=now() - timedelta(minutes=minutes_ago) + ledger.AFTERSWEEP)
        )
    if scrubbed_minutes_ago is not None:
        (data / "scrubbed").write_text(f"{now().timestamp() - 60 * scrubbed_minutes_ago}\n")
    assert scrubbing.scrub_due(house.database, data) is due
    if due:
        assert scrubbing.scrub(house.database, data)
        assert not scrubbing.scrub_due(house.database, data)


@pytest.mark.slow
def test_an_error_names_a_picture_only_as_long_as_it_is_there(house: Components) -> None:
    project = t.make_project(house, "Colours")
    tag_id = t.make_tag(house, project, "red")
    gone, stays = t.upload(house, project, [t.coloured(0, 0), t.coloured(0, 1)], [tag_id])
    blue = t.make_tag(house, project, "blue")
    t.upload(house, project, [t.coloured(1, seed) for seed in range(5)], [blue])
    t.upload(house, project, [t.coloured(0, seed) for seed in range(2, 7)], [tag_id])
    iteration = t.start(house, project)
    text = "Image {} can't be read, image {} too."
    with house.database.write() as session:
        session.execute(update(Iteration).values(error=text.format(gone, stays)))
        session.execute(update(Job).where(Job.subject == iteration.id).values(error=text.format(stays, gone)))
    e.erase(house, project, [gone])
    assert orphans.forget(house.database) == 2
    with house.database.read() as session:
        assert session.get_one(Iteration, iteration.id).error == text.format("(erased)", stays)
        job = session.scalars(select(Job).where(Job.subject == iteration.id)).one()
        assert job.error == text.format(stays, "(erased)")
    assert orphans.forget(house.database) == 0


def test_after_a_scrub_no_file_holds_a_word_of_what_was_erased(house: Components) -> None:
    words = [f"Herbarium of Ada number {number}" for number in range(200)]
    made = [t.make_project(house, word) for word in words]
    for project in made:
        t.erase(house, project)
    scrubbing.destroy_stray_keys(house.database, house.keys)
    assert scrubbing.scrub(house.database, house.settings.data)
    left = [path for path in house.settings.data.rglob("*") if path.is_file() and b"Herbarium" in path.read_bytes()]
    assert left == []
    assert house.keys.projects() == []
