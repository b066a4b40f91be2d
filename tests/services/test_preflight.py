from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from ownvision.data_rights import erasure
from ownvision.data_rights.who import OPERATOR, Who
from ownvision.errors import OwnVisionError
from ownvision.jobs import rows, runner
from ownvision.services import estimating, images, preflight, projects
from ownvision.services.components import Components
from ownvision.services.regions import Box
from ownvision.store.tables import Image, ImageMetadata, Job, Project
from tests.services import trained as t


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    house = t.open_house(tmp_path / "data")
    yield house
    house.database.close()


def ask(house: Components, project: Project) -> None:
    with house.database.write() as session:
        preflight.start(session, projects.get(session, project.account_id, project.id, lock=True))


def latest(house: Components, project: Project) -> dict[str, Any]:
    with house.database.read() as session:
        found = projects.get(session, project.account_id, project.id)
        return preflight.latest(session, found, house.settings.limits)


def examined(house: Components, project: Project) -> dict[str, Any]:
    ask(house, project)
    t.work(house)
    return latest(house, project)


def of_kind(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one for one in found["findings"] if one["kind"] == kind]


def test_a_classifier_is_estimated_and_a_wrong_tag_and_a_copy_across_tags_are_named(house: Components) -> None:
    project = t.make_project(house, "Colours")
    tags = t.fill(house, project, {"red": 20, "blue": 20})
    (wrong,) = t.upload(house, project, [t.coloured(0, 100)], [tags["blue"]])
    found = examined(house, project)
    assert (found["state"], found["error"], found["outOfDate"], found["refusal"]) == ("done", None, False, None)
    assert found["images"] == 41
    assert [part["what"] for part in found["estimate"]["parts"]] == ["read", "fit", "close"]
    assert found["estimate"]["seconds"] == pytest.approx(sum(part["seconds"] for part in found["estimate"]["parts"]))
    assert found["estimate"]["memoryBytes"] > 50e6
    first = of_kind(found, "wrong tag")[0]
    assert (first["imageIds"], first["tagIds"]) == ([wrong], [tags["blue"], tags["red"]])
    assert first["sentence"] == "This image carries “blue”; from all the others one would say “red”."
    assert found["trained"] is None
    iteration = t.train(house, project)
    assert latest(house, project)["trained"] == {"iterationId": iteration.id, "seconds": iteration.training_seconds}


def test_what_is_missing_for_a_training_is_said(house: Components) -> None:
    project = t.make_project(house, "Colours")
    tags = t.fill(house, project, {"red": 3, "none": 0})
    found = examined(house, project)
    assert found["state"] == "done"
    assert "each tag needs 5" in found["refusal"]
    assert found["counts"] == {"no image": 1, "tiny tag": 1}
    assert of_kind(found, "tiny tag")[0]["tagIds"] == [tags["red"]]
    assert of_kind(found, "no image")[0]["sentence"] == "The tag “none” is on no image."


def test_an_empty_project_has_nothing_to_estimate(house: Components) -> None:
    found = examined(house, t.make_project(house, "Empty"))
    assert (found["state"], found["estimate"], found["findings"]) == ("done", None, [])
    assert found["estimateNote"] == "There is not enough to train with yet."


def test_without_having_been_asked_for_there_is_none(house: Components) -> None:
    project = t.make_project(house, "Colours")
    with pytest.raises(OwnVisionError) as refusal:
        latest(house, project)
    assert refusal.value.code == "NotFound"


def test_another_replaces_the_last_and_joins_the_one_under_way(house: Components) -> None:
    project = t.make_project(house, "Colours")
    t.fill(house, project, {"red": 5})
    examined(house, project)
    ask(house, project)
    ask(house, project)
    with house.database.read() as session:
        assert [job.state for job in session.scalars(select(Job).where(Job.kind == preflight.KIND))] == ["queued"]


def erase(house: Components, project: Project, ids: list[str]) -> None:
    with house.database.write() as session:
        who = Who(project.account_id, OPERATOR)
        erasure.erase_images(session, who, project.id, ids, all_iterations=True)


def drop(house: Components, project: Project, ids: list[str]) -> None:
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        images.delete_images(session, locked, ids, all_iterations=False)


@pytest.mark.parametrize("remove", [erase, drop])
def test_what_it_found_goes_with_the_first_image_that_goes(
    house: Components, remove: Callable[[Components, Project, list[str]], None]
) -> None:
    project = t.make_project(house, "Colours")
    t.fill(house, project, {"red": 5})
    examined(house, project)
    with house.database.read() as session:
        gone = session.scalars(select(Image.id).limit(1)).one()
    remove(house, project, [gone])
    with house.database.read() as session:
        assert session.scalars(select(Job.result).where(Job.kind == preflight.KIND)).all() == [None]
    with pytest.raises(OwnVisionError):
        latest(house, project)


def test_an_image_erased_meanwhile_makes_it_begin_anew(house: Components, monkeypatch: pytest.MonkeyPatch) -> None:
    project = t.make_project(house, "Colours")
    t.fill(house, project, {"red": 12})
    ask(house, project)
    with house.database.read() as session:
        gone = session.scalars(select(Image.id).limit(1)).one()
    estimated, ways = estimating.estimate, []

    def meanwhile(*arguments: Any) -> estimating.Estimate:
        if not ways:
            ways.append(erase(house, project, [gone]))
        return estimated(*arguments)

    monkeypatch.setattr(estimating, "estimate", meanwhile)
    claims = []
    while (claim := rows.claim(house.database, rows.QUICK, 60.0)) is not None:
        if claim.kind == preflight.KIND:
            claims.append(claim.job_id)
        runner.run(house, claim)
    assert len(claims) == 2
    assert claims[0] == claims[1]
    found = latest(house, project)
    assert (found["state"], found["images"]) == ("done", 11)
    assert gone not in str(found)


def test_it_makes_way_for_whoever_waits_for_a_quick_job(house: Components, monkeypatch: pytest.MonkeyPatch) -> None:
    project = t.make_project(house, "Colours")
    t.fill(house, project, {"red": 6, "blue": 6})
    monkeypatch.setattr(preflight, "_BEAT_SECONDS", 0.0)
    ask(house, project)
    mine = next(
        claim
        for claim in iter(lambda: rows.claim(house.database, rows.QUICK, 60.0), None)
        if claim.kind == preflight.KIND
    )
    with house.database.write() as session:
        rows.enqueue(
            session,
            kind="export",
            account_id=project.account_id,
            project_id=project.id,
            subject=project.id,
            lane=rows.QUICK,
        )
    runner.run(house, mine)
    with house.database.read() as session:
        job = session.get_one(Job, mine.job_id)
        assert (job.state, job.attempts) == (rows.QUEUED, 0)
    following = rows.claim(house.database, rows.QUICK, 60.0)
    assert following is not None
    assert following.kind == "export"


@pytest.mark.slow
def test_a_detector_is_told_of_boxes_that_can_not_be_meant(house: Components) -> None:
    project = t.make_project(house, "Boxes", domain_id=t.DETECTION)
    red, blue = (t.make_tag(house, project, name) for name in ("red", "blue"))
    for seed in range(16):
        places = [t.place(seed, colour) for colour in range(2)]
        boxes = [Box(tag, *place) for tag, place in zip((red, blue), places, strict=True)]
        if seed == 3:
            boxes.append(Box(red, *places[0]))
        if seed == 4:
            boxes.append(Box(blue, *places[0]))
        if seed == 5:
            boxes.append(Box(blue, 0.2, 0.2, 0.004, 0.004))
        t.upload(house, project, [t.squares(seed)], [], boxes)
    found = examined(house, project)
    assert (found["state"], found["error"]) == ("done", None)
    assert {kind: number for kind, number in found["counts"].items() if kind.startswith("box")} == {
        "box twice": 1,
        "box two tags": 1,
        "box small": 1,
    }
    assert of_kind(found, "box two tags")[0]["sentence"] == "Two boxes on the same spot carry “red” and “blue”."
    assert found["estimate"] is None or np.isfinite(found["estimate"]["seconds"])


def test_sources_that_metadata_names_are_warned_of(house: Components) -> None:
    project = t.make_project(house, "Colours")
    tags = t.fill(house, project, {"red": 6, "blue": 6})
    with house.database.write() as session:
        for number, image in enumerate(session.scalars(select(Image).order_by(Image.seq)).all()):
            source = "north" if number < 6 else "south"
            session.add(ImageMetadata(project_id=project.id, image_seq=image.seq, key="Camera", value=source))
    found = examined(house, project)
    assert "2 sources" in of_kind(found, "sources")[0]["sentence"]
    assert {tuple(one["tagIds"]) for one in of_kind(found, "one source")} == {(tags["red"],), (tags["blue"],)}
