"""A legal hold is placed, listed and lifted; while it is there nothing is erased, by no way there is."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ownvision.data_rights import erasure, holds
from ownvision.data_rights.who import OPERATOR, Who
from ownvision.errors import OwnVisionError
from ownvision.services import accounts
from ownvision.services.components import Components, open_components
from ownvision.settings import Settings
from ownvision.store.tables import Base, LegalHold, Project
from ownvision.store.tables.base import new_id
from tests.services import trained as t

pytestmark = pytest.mark.slow


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
    project = t.make_project(house, "Trees")
    t.fill(house, project, {"oak": 2})
    return project


def place(house: Components, project: Project, *, on_account: bool) -> LegalHold:
    with house.database.write() as session:
        return holds.place(session, project.account_id, None if on_account else project.id, "case 7")


def rows(house: Components) -> dict[str, int]:
    with house.database.read() as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }


Erase = Callable[[Session, Who, str], object]
ERASURES: dict[str, Erase] = {
    "images": lambda session, who, id: erasure.erase_images(session, who, id, None, all_iterations=False),
    "images everywhere": lambda session, who, id: erasure.erase_images(session, who, id, None, all_iterations=True),
    "image tags": lambda session, who, id: erasure.erase_image_tags(session, who, id, [new_id()], [new_id()]),
    "regions": lambda session, who, id: erasure.erase_regions(session, who, id, [new_id()]),
    "tag": lambda session, who, id: erasure.erase_tag(session, who, id, new_id()),
    "iteration": lambda session, who, id: erasure.erase_iteration(session, who, id, new_id()),
    "export": lambda session, who, id: erasure.erase_export(session, who, id, new_id(), new_id()),
    "selection": lambda session, who, id: erasure.erase_selection(session, who, {id: [new_id()]}, {}),
    "predictions": lambda session, who, id: erasure.erase_predictions(session, who, id, [new_id()]),
    "project": lambda session, who, id: erasure.erase_project(session, who, id),
    "account": lambda session, who, id: erasure.erase_account(session, who),
}


def test_every_erasing_function_is_tested() -> None:
    named = {name for name in vars(erasure) if name.startswith("erase_")}
    assert named == {f"erase_{name.removesuffix(' everywhere').replace(' ', '_')}" for name in ERASURES}


@pytest.mark.parametrize("on_account", [False, True], ids=["on the project", "on the account"])
@pytest.mark.parametrize("erase", ERASURES.values(), ids=ERASURES)
def test_a_hold_refuses_every_erasure_and_nothing_changes(
    house: Components, project: Project, erase: Erase, on_account: bool
) -> None:
    hold = place(house, project, on_account=on_account)
    before = rows(house)
    with pytest.raises(OwnVisionError) as refused, house.database.write() as session:
        erase(session, Who(project.account_id, OPERATOR), project.id)
    assert refused.value.code == "BadRequestOperationNotSupported"
    assert hold.id in refused.value.message
    assert "until the hold is lifted" in refused.value.message
    assert rows(house) == before


def test_once_it_is_lifted_erasing_goes_on(house: Components, project: Project) -> None:
    hold = place(house, project, on_account=False)
    with house.database.write() as session:
        holds.lift(session, project.account_id, project.id, hold.id)
        ERASURES["images"](session, Who(project.account_id, OPERATOR), project.id)
    assert rows(house)["images"] == 0


def test_of_two_holds_one_is_enough(house: Components, project: Project) -> None:
    first, second = place(house, project, on_account=True), place(house, project, on_account=False)
    for hold in (first, second):
        with pytest.raises(OwnVisionError), house.database.write() as session:
            ERASURES["images"](session, Who(project.account_id, OPERATOR), project.id)
        with house.database.write() as session:
            holds.lift(session, project.account_id, None, hold.id)
    with house.database.write() as session:
        ERASURES["images"](session, Who(project.account_id, OPERATOR), project.id)


def test_a_hold_on_one_project_leaves_the_others_free(house: Components, project: Project) -> None:
    other = t.make_project(house, "Birds")
    place(house, other, on_account=False)
    with house.database.write() as session:
        ERASURES["images"](session, Who(project.account_id, OPERATOR), project.id)


def test_holds_are_listed_by_whom_they_hold(house: Components, project: Project) -> None:
    other = t.make_project(house, "Birds")
    on_project, on_other = (place(house, one, on_account=False).id for one in (project, other))
    on_account = place(house, project, on_account=True).id
    with house.database.read() as session:
        listed = {
            id: [hold.id for hold in holds.all(session, project.account_id, id)] for id in (None, project.id, other.id)
        }
    assert listed == {
        None: [on_project, on_other, on_account],
        project.id: [on_project, on_account],
        other.id: [on_other, on_account],
    }


@pytest.mark.parametrize("reason", ["", "  ", "x" * (holds.LONGEST_REASON + 1)])
def test_a_hold_needs_a_reason(house: Components, project: Project, reason: str) -> None:
    with pytest.raises(OwnVisionError, match="reason"), house.database.write() as session:
        holds.place(session, project.account_id, None, reason)
    assert rows(house)["legal_holds"] == 0


def test_only_who_may_can_lift_a_hold(house: Components, project: Project) -> None:
    hold = place(house, project, on_account=True)
    with house.database.write() as session:
        stranger = accounts.create(session, house.keys, user_name="b", email="b@localhost", tier="Unlimited")
    for account_id, project_id, hold_id in (
        (stranger.id, None, hold.id),
        (project.account_id, project.id, hold.id),  # one on the account is lifted there
        (project.account_id, None, new_id()),
    ):
        with pytest.raises(OwnVisionError, match="There is no hold"), house.database.write() as session:
            holds.lift(session, account_id, project_id, hold_id)
    assert rows(house)["legal_holds"] == 1
