from collections.abc import Iterator
from pathlib import Path

import pytest

from ownvision.data_rights import lineage
from ownvision.services import images, projects
from ownvision.services.components import Components
from ownvision.store.tables import Export, Image, Iteration, Project
from ownvision.store.tables.base import now
from tests.data_rights import erasing as e
from tests.services import trained as t


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    components = t.open_house(tmp_path / "data")
    yield components
    components.database.close()


@pytest.fixture
def project(house: Components) -> Project:
    return t.make_project(house, "Colours")


def fill(house: Components, project: Project) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Tags by name and the ids of their images; green has too few to be trained."""
    made = {name: t.make_tag(house, project, name) for name in ("red", "blue", "green")}
    counts = {"red": 5, "blue": 6, "green": 2}
    ids = {
        name: t.upload(house, project, [t.coloured(colour, seed) for seed in range(counts[name])], [made[name]])
        for colour, name in enumerate(made)
    }
    ids["nothing"] = t.upload(house, project, [t.coloured(3, 0)], [])
    return made, ids


def train(house: Components, project: Project, made: dict[str, str]) -> Iteration:
    return e.completed(house, project, selected_tags=[made["red"], made["blue"]])


def set_of(house: Components, iteration: Iteration) -> lineage.ImageSet:
    with house.database.read() as session:
        return lineage.image_set(session, session.get_one(Iteration, iteration.id))


def test_an_iteration_knows_exactly_the_images_that_it_was_trained_on(house: Components, project: Project) -> None:
    made, ids = fill(house, project)
    iteration = train(house, project, made)
    later = t.upload(house, project, [t.coloured(0, 50)], [made["red"]])
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        images.remove_tags(session, locked, [ids["red"][0]], [made["red"]])
        images.add_tags(session, locked, [(ids["nothing"][0], made["red"])], house.settings.limits)
    e.erase(house, project, [ids["blue"][0]], everywhere=False)
    assert set_of(house, iteration) == lineage.ImageSet([*ids["red"], *ids["blue"]], [])
    second = train(house, project, made)
    assert set_of(house, second).images == [*ids["red"][1:], *ids["blue"][1:], *ids["nothing"], *later]


def test_of_an_erased_image_its_id_and_the_receipt_stay(house: Components, project: Project) -> None:
    made, ids = fill(house, project)
    iteration = train(house, project, made)
    gone = [ids["red"][0], ids["blue"][3]]
    receipt = e.erase(house, project, [*gone, *ids["green"], *ids["nothing"]])
    found = set_of(house, iteration)
    assert found.images == [*ids["red"][1:], *ids["blue"][:3], *ids["blue"][4:]]
    assert found.erased == [lineage.Entry(image_id, receipt.id) for image_id in sorted(gone)]
    with house.database.read() as session:
        row = session.get_one(Iteration, iteration.id)
        assert (row.erased_count, row.unlearning) == (2, "kept")
        assert lineage.counts(session, row) == (9, 2)
        paged = [entry for skip in range(0, 12, 3) for entry in lineage.entries(session, row, skip, 3)]
    assert paged == [*found.erased, *(lineage.Entry(image_id) for image_id in found.images)]


def test_what_was_erased_before_or_never_trained_on_flags_no_iteration(house: Components, project: Project) -> None:
    made, ids = fill(house, project)
    extra = t.upload(house, project, [t.coloured(0, 50)], [made["red"]])
    e.erase(house, project, extra)
    iteration = train(house, project, made)
    receipt = e.erase(house, project, [*ids["green"], *ids["nothing"]])
    assert receipt.learned == []
    row = e.now_of(house, iteration)
    assert (row.erased_count, row.unlearning) == (0, None)
    assert set_of(house, iteration).erased == []


def test_a_restricted_image_was_not_learned_from(house: Components, project: Project) -> None:
    made, ids = fill(house, project)
    iteration = train(house, project, made)
    left = ids["red"][0]
    with house.database.write() as session:
        session.get_one(Iteration, iteration.id).left_out = [left]
    assert left not in set_of(house, iteration).images
    with house.database.read() as session:
        (found,) = lineage.learned_from(session, project.account_id, ids["red"])
        assert found.images == 4
        assert lineage.learned_from(session, project.account_id, [left]) == []
    receipt = e.erase(house, project, [left])
    assert receipt.learned == []
    row = e.now_of(house, iteration)
    assert (row.erased_count, row.left_out) == (0, [])  # its id is nowhere any more


def test_a_training_leaves_out_what_is_restricted_at_the_time(house: Components, project: Project) -> None:
    made, ids = fill(house, project)
    iteration = t.start(house, project, selected_tags=[made["red"], made["blue"]])
    with house.database.write() as session:
        row = session.query(Image).filter_by(id=ids["red"][2]).one()
        row.restricted = now()
    assert ids["red"][2] not in set_of(house, iteration).images
    t.work(house)
    with house.database.write() as session:
        session.query(Image).filter_by(id=ids["red"][2]).one().restricted = None
    assert e.now_of(house, iteration).left_out == [ids["red"][2]]
    assert ids["red"][2] not in set_of(house, iteration).images


def test_images_lead_to_the_iterations_names_and_exports_that_learned_from_them(
    house: Components, project: Project
) -> None:
    made, ids = fill(house, project)
    first, second = train(house, project, made), train(house, project, made)
    e.publish(house, project, second, "colours")
    with house.database.write() as session:
        session.add(Export(iteration_id=second.id, platform="ONNX", status="Done"))
    erased = ids["red"][0]
    e.erase(house, project, [erased])
    other = t.make_project(house, "Others")
    its_made, its_ids = fill(house, other)
    third = train(house, other, its_made)
    with house.database.read() as session:
        asked = [erased, erased, ids["red"][1], ids["green"][0], its_ids["blue"][0], "no such image"]
        found = lineage.learned_from(session, project.account_id, asked)
        assert {one.iteration.id: one.images for one in found} == {first.id: 2, second.id: 2, third.id: 1}
        of_project = lineage.learned_from(session, project.account_id, asked, project.id)
        assert [one.iteration.id for one in of_project] == [second.id, first.id]
        newest = of_project[0]
        assert newest.record() == {
            "iterationId": second.id,
            "projectId": project.id,
            "images": 2,
            "published": True,
            "exports": 1,
        }
        assert newest.shape()["publishName"] == "colours"
        assert [one["platform"] for one in newest.shape()["exports"]] == ["ONNX"]
        assert lineage.learned_from(session, "another account", asked) == []


def test_many_images_are_asked_for_in_parts(house: Components, project: Project) -> None:
    made, ids = fill(house, project)
    iteration = train(house, project, made)
    asked = [*(f"no such image {number}" for number in range(1_200)), *ids["red"], *ids["blue"]]
    with house.database.read() as session:
        (found,) = lineage.learned_from(session, project.account_id, asked)
    assert (found.iteration.id, found.images) == (iteration.id, 11)
