"""The census counts what is there: rows of the scope and no others, files as they lie on the disk."""

import shutil
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from ownvision.data_rights import census, holds, retention
from ownvision.data_rights.census import Census, Held
from ownvision.services import accounts
from ownvision.services.components import Components
from ownvision.store.blobs.sealed import FRAME, sealed_size
from ownvision.store.tables import Base, Blob, Project
from tests.services import trained as t


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Components]:
    components = t.open_house(tmp_path_factory.mktemp("data") / "data")
    yield components
    components.database.close()


@pytest.fixture(scope="module")
def projects(house: Components) -> tuple[Project, Project]:
    """One that was trained, one of a few pictures; and another account."""
    trained, other = t.make_project(house, "Trees"), t.make_project(house, "Birds")
    t.fill(house, trained, {"oak": 6, "elm": 6})
    t.fill(house, other, {"owl": 2})
    t.train(house, trained)
    with house.database.write() as session:
        accounts.create(session, house.keys, user_name="b", email="b@localhost", tier="Unlimited")
    return trained, other


def take(house: Components, project: Project, project_id: str | None) -> Census:
    with house.database.read() as session:
        return census.take(session, house, project.account_id, project_id)


def by_name(taken: Census) -> dict[str, Held]:
    return {held.kind.name: held for held in taken.kinds}


def counts(taken: Census, *names: str) -> list[int | None]:
    held = by_name(taken)
    return [held[name].count for name in names]


NAMES = ("projects", "tags", "images", "image–tag links", "embeddings", "models", "per-image scores", "learned tags")


def test_an_account_holds_what_its_projects_hold(house: Components, projects: tuple[Project, Project]) -> None:
    trained, other = projects
    assert counts(take(house, trained, None), *NAMES) == [2, 3, 14, 14, 14, 1, 12, 2]
    assert counts(take(house, trained, trained.id), *NAMES) == [1, 2, 12, 12, 12, 1, 12, 2]
    assert counts(take(house, other, other.id), *NAMES[:4]) == [1, 1, 2, 2]


def test_what_is_the_accounts_is_counted_there_and_not_in_a_project(
    house: Components, projects: tuple[Project, Project]
) -> None:
    names = ("account info", "API keys", "encryption keys")
    assert counts(take(house, projects[0], None), *names) == [1, 4, 3]
    of_project = by_name(take(house, projects[0], projects[0].id))
    assert not {"account info", "API keys", "usage counts", "logs"} & set(of_project)
    assert of_project["encryption keys"].count == 1


def test_bytes_are_those_of_the_files(house: Components, projects: tuple[Project, Project]) -> None:
    """Neither a file nor a byte is missing, though most files are never looked at."""
    held = take(house, projects[0], None).kinds
    objects = [one for one in held if one.sealed]
    listed = [size for _, size in house.blobs.list()]
    assert sum(one.bytes or 0 for one in objects) == sum(listed)
    assert sum(one.files or 0 for one in objects) == len(listed)


def test_the_oldest_is_the_first_that_was_made(house: Components, projects: tuple[Project, Project]) -> None:
    held = by_name(take(house, projects[0], None))
    with house.database.read() as session:
        assert held["projects"].oldest == session.scalar(select(func.min(Project.created)))
    assert held["learned tags"].oldest is None
    assert held["file names"].oldest is None, "there are none"


def test_a_file_that_nobody_knows_is_counted_too(house: Components, projects: tuple[Project, Project]) -> None:
    stray = house.settings.data / "objects" / projects[0].id / "images" / "x" / ".half.1234"
    stray.parent.mkdir()
    stray.write_bytes(b"half")
    try:
        held = by_name(take(house, projects[0], None))[census.UNNAMED]
        assert (held.files, held.bytes) == (1, 4)
    finally:
        shutil.rmtree(stray.parent)


def test_what_is_kept_for_how_long_and_what_is_held_is_told(
    house: Components, projects: tuple[Project, Project]
) -> None:
    project = projects[0]
    with house.database.write() as session:
        retention.put(session, project.account_id, project.id, "predictions", 7)
        hold = holds.place(session, project.account_id, project.id, "case 7")
    try:
        of_project, of_account = take(house, project, project.id), take(house, project, None)
        assert by_name(of_project)["stored predictions"].until().startswith("7 days or until")
        assert by_name(of_account)["stored predictions"].until().startswith("30 days or until")
        assert [one.id for one in of_project.holds] == [one.id for one in of_account.holds] == [hold.id]
    finally:
        with house.database.write() as session:
            holds.lift(session, project.account_id, None, hold.id)
            retention.remove(session, project.account_id, project.id, "predictions")


def test_every_table_of_an_account_is_counted_somewhere(house: Components, projects: tuple[Project, Project]) -> None:
    counted = {table for table, _ in census._rows_wanted()}
    not_counted = {"backups", "alembic_version"}  # the installation's
    assert counted == set(Base.metadata.tables) - not_counted


@pytest.mark.parametrize("size", [1, 100, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME])
def test_the_size_of_a_sealed_object_follows_from_what_is_in_it(
    house: Components, projects: tuple[Project, Project], size: int
) -> None:
    key = f"{projects[0].id}/images/sized/{size}"
    house.blobs.put_new(key, bytes(size))
    try:
        assert house.blobs.store.size(key) == sealed_size(size)
    finally:
        house.blobs.delete_prefix(f"{projects[0].id}/images/sized/")


def test_nothing_is_changed_by_looking(house: Components, projects: tuple[Project, Project]) -> None:
    with house.database.read() as session:
        before = session.scalar(select(func.count()).select_from(Blob))
    take(house, projects[0], None)
    with house.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Blob)) == before
