from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from ownvision.errors import OwnVisionError
from ownvision.learning import pixels
from ownvision.limits import Limits
from ownvision.services import exports, images, iterations, predictions, projects
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.tables import Account, Image, ImageTag, Iteration, IterationTag, Prediction, Project, ScoredImage
from tests.services import trained as t

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Components]:
    house = t.open_house(tmp_path / "data")
    yield house
    house.database.close()


@pytest.fixture
def project(home: Components) -> Project:
    return t.make_project(home, "Colours")


@pytest.fixture
def made(home: Components, project: Project) -> list[Iteration]:
    """Three iterations, oldest first, two of them completed; as `start` makes them, but for the fitting."""
    t.fill(home, project, {"red": 5, "blue": 5})
    rows = []
    for status in ("Completed", "Completed", "Failed"):
        rows.append(t.start(home, project, force=True))
        with home.database.write() as session:
            session.execute(update(Iteration).where(Iteration.status == "Training").values(status=status))
    return rows


@pytest.fixture
def resource(home: Components) -> str:
    with home.database.read() as session:
        return session.scalars(select(Account.prediction_resource_id)).one()


@pytest.fixture
def changed(home: Components, project: Project) -> Callable[..., Any]:
    """Calls a function of the module in a transaction of its own."""

    def call(function: Callable[..., Any], *given: Any) -> Any:
        with home.database.write() as session:
            return function(session, projects.get(session, project.account_id, project.id, lock=True), *given)

    return call


def test_they_are_listed_newest_first(home: Components, project: Project, made: list[Iteration]) -> None:
    with home.database.read() as session:
        listed = [(row.name, row.status) for row in iterations.all(session, project)]
    assert listed == [("Iteration 3", "Failed"), ("Iteration 2", "Completed"), ("Iteration 1", "Completed")]


def test_another_project_s_iteration_is_not_found(home: Components, made: list[Iteration]) -> None:
    other = t.make_project(home, "Other")
    with home.database.read() as session, pytest.raises(OwnVisionError) as refusal:
        iterations.get(session, other, made[0].id)
    assert refusal.value.code == "NotFoundIteration"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("best", None),
        ("Iteration 1", None),
        ("", "BadRequestIterationName"),
        (" ", "BadRequestIterationName"),
        ("x" * 257, "BadRequestIterationName"),
        ("Iteration 2", "BadRequestIterationNameNotUnique"),
    ],
)
def test_renaming(
    home: Components, made: list[Iteration], changed: Callable[..., Any], name: str, code: str | None
) -> None:
    update = partial(iterations.update, name=name, default=None, limits=home.settings.limits)
    if code is None:
        assert changed(update, made[0].id).name == name
        return
    with pytest.raises(OwnVisionError) as refusal:
        changed(update, made[0].id)
    assert refusal.value.code == code


def test_one_trained_iteration_is_the_default(
    home: Components, project: Project, made: list[Iteration], changed: Callable[..., Any]
) -> None:
    def choose(number: int, default: bool) -> None:
        update = partial(iterations.update, name=None, default=default, limits=home.settings.limits)
        changed(update, made[number].id)

    def chosen() -> str:
        with home.database.read() as session:
            return iterations.default(session, project).id

    with pytest.raises(OwnVisionError, match="isDefault"):
        chosen()
    choose(0, True)
    choose(1, True)
    assert chosen() == made[1].id
    with pytest.raises(OwnVisionError) as refusal:
        choose(2, True)  # it failed
    assert refusal.value.code == "BadRequestIterationIsNotTrained"
    choose(1, False)
    with pytest.raises(OwnVisionError, match="isDefault"):
        chosen()


def test_the_workspace_is_no_iteration_that_changes_or_goes(
    home: Components, project: Project, changed: Callable[..., Any]
) -> None:
    update = partial(iterations.update, name="x", default=None, limits=home.settings.limits)
    for change, code in (
        (update, "BadRequestWorkspaceCannotBeModified"),
        (iterations.delete, "BadRequestWorkspaceNotDeletable"),
    ):
        with pytest.raises(OwnVisionError) as refusal:
            changed(change, projects.workspace_id(project.id))
        assert refusal.value.code == code


def test_numbers_are_never_used_again(
    home: Components, project: Project, made: list[Iteration], changed: Callable[..., Any]
) -> None:
    changed(iterations.delete, made[2].id)
    assert t.start(home, project, force=True).name == "Iteration 4"


def test_publishing_answers_to_a_name_until_unpublished(
    home: Components, project: Project, made: list[Iteration], changed: Callable[..., Any], resource: str
) -> None:
    assert changed(iterations.publish, made[0].id, "live", resource.upper(), False, Limits()) is True
    with home.database.read() as session:
        found = iterations.published(session, project, "live")
        assert (found.id, found.publish_resource_id) == (made[0].id, resource)
        with pytest.raises(OwnVisionError, match=r"^Invalid iteration$"):
            iterations.published(session, project, "Live")
    changed(iterations.unpublish, made[0].id)
    with home.database.read() as session, pytest.raises(OwnVisionError):
        iterations.published(session, project, "live")
    with pytest.raises(OwnVisionError) as refusal:
        changed(iterations.unpublish, made[0].id)
    assert refusal.value.code == "BadRequestIterationNotPublished"


@pytest.mark.parametrize(
    ("which", "name", "target", "overwrite", "code", "says"),
    [
        (2, "next", None, False, "BadRequestIterationIsNotTrained", "Failed"),
        (1, "", None, False, "BadRequestInvalidPublishName", "printable"),
        (1, "a\nb", None, False, "BadRequestInvalidPublishName", "printable"),
        (1, "x" * 257, None, False, "BadRequestInvalidPublishName", "256"),
        (1, "next", "/subscriptions/other", False, "BadRequestInvalidPublishTarget", "ownvision account show"),
        (1, "live", None, False, "BadRequestInvalidPublishName", "overwrite=true"),
        (0, "next", None, False, "BadRequestIterationIsPublished", "Iteration is already published as: live"),
        (0, "next", None, True, "BadRequestIterationIsPublished", "Iteration is already published as: live"),
    ],
)
def test_what_can_not_be_published(
    made: list[Iteration],
    changed: Callable[..., Any],
    resource: str,
    which: int,
    name: str,
    target: str | None,
    overwrite: bool,
    code: str,
    says: str,
) -> None:
    changed(iterations.publish, made[0].id, "live", resource, False, Limits())
    with pytest.raises(OwnVisionError) as refusal:
        changed(iterations.publish, made[which].id, name, target or resource, overwrite, Limits())
    assert refusal.value.code == code
    assert says in refusal.value.message


def test_overwriting_moves_a_name(
    home: Components, project: Project, made: list[Iteration], changed: Callable[..., Any], resource: str
) -> None:
    changed(iterations.publish, made[0].id, "live", resource, False, Limits())
    changed(iterations.publish, made[1].id, "live", resource, True, Limits())
    changed(iterations.publish, made[1].id, "live", resource, True, Limits())  # again: nothing to do
    with home.database.read() as session:
        assert iterations.published(session, project, "live").id == made[1].id
        assert iterations.get(session, project, made[0].id).publish_name is None


def test_a_published_iteration_is_not_deleted(
    made: list[Iteration], changed: Callable[..., Any], resource: str
) -> None:
    changed(iterations.publish, made[0].id, "live", resource, False, Limits())
    with pytest.raises(OwnVisionError) as refusal:
        changed(iterations.delete, made[0].id)
    assert refusal.value.code == "BadRequestIterationIsPublished"


def test_what_only_a_deleted_iteration_covered_goes_with_it(
    home: Components, project: Project, changed: Callable[..., Any]
) -> None:
    t.fill(home, project, {"red": 6, "blue": 7})
    first = t.train(home, project)
    gone = changed(lambda session, locked: [view.image.id for view in images.find(session, locked, take=2)])
    with home.database.write() as session:
        images.delete_images(
            session, projects.lock(session, project.account_id, project.id), gone, all_iterations=False
        )
    second = t.train(home, project)
    with home.database.read() as session:
        assert images.count(session, project, iteration_id=first.id) == 13
        assert images.count(session, project, iteration_id=second.id) == 11
    data = t.coloured(0, 50)
    predictions.store(home, project.account_id, project, first, data, pixels.inspect(data), [], first.id, None)
    with home.database.write() as session:
        exports.start(session, project, first.id, "onnx", None)
    t.work(home)
    before = t.files(home)
    theirs = {key for key in before if first.id in key or "/exports/" in key or any(id in key for id in gone)}
    assert {key.removeprefix(ledger.prefix_of(key)).partition("-")[0] for key in theirs} == {
        "original",
        "embedding",
        "model.onnx",
        "archive.zip",
    }
    changed(iterations.delete, first.id)
    assert t.files(home) == before - theirs
    with home.database.read() as session:
        for table, count in ((Image, 11), (ImageTag, 11), (ScoredImage, 11), (IterationTag, 2), (Prediction, 0)):
            assert session.scalar(select(func.count()).select_from(table)) == count
        assert images.count(session, project, iteration_id=second.id) == 11


def test_an_image_stays_while_an_iteration_covers_it(
    home: Components, project: Project, made: list[Iteration], changed: Callable[..., Any]
) -> None:
    with home.database.write() as session:
        images.delete_images(
            session, projects.lock(session, project.account_id, project.id), None, all_iterations=False
        )
    for left, row in zip((10, 10, 0), made, strict=True):  # a failed one covers its revision, too
        changed(iterations.delete, row.id)
        assert len([key for key in t.files(home) if key.endswith("original")]) == left
