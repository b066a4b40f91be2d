from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from sqlalchemy import select, update

from ownvision.errors import OwnVisionError
from ownvision.learning import evaluate
from ownvision.services import images, performance, projects
from ownvision.services.components import Components
from ownvision.services.regions import Box
from ownvision.store.tables import Iteration, Project, ScoredImage
from tests.services import trained as t


@dataclass(frozen=True)
class Home:
    """A multilabel project whose two tags are hard to tell apart, and its iteration."""

    house: Components
    project: Project
    tags: dict[str, str]
    iteration: Iteration


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    house = t.open_house(tmp_path_factory.mktemp("performance") / "data")
    project = t.make_project(house, "Colours", "Multilabel")
    tags = {name: t.make_tag(house, project, name) for name in ("even", "odd", "both")}
    for seed in range(18):  # noise: nothing in the pictures tells them apart
        wanted = [tags["even" if seed % 2 == 0 else "odd"], *([tags["both"]] if seed % 3 == 0 else [])]
        t.upload(house, project, [t.coloured(3, seed)], wanted)
    yield Home(house, project, tags, t.train(house, project))
    house.database.close()


def test_it_is_what_the_kept_scores_say_at_any_threshold(home: Home) -> None:
    with home.house.database.read() as session:
        rows = list(session.scalars(select(ScoredImage)))
        scores = np.stack([np.frombuffer(row.scores, "<f4") for row in rows])
        truth = np.stack([np.frombuffer(row.truth, np.uint8) for row in rows]).astype(bool)
        folds = np.array([row.fold for row in rows])
        recalls = []
        for threshold in (0.0, 0.2, 0.5, 0.8, 1.0):
            found = performance.of_iteration(session, home.project, home.iteration.id, threshold)
            expected = evaluate.classification(scores, truth, threshold, folds)
            for name, value in (
                ("precision", expected.precision),
                ("precisionStdDeviation", expected.precision_std),
                ("recall", expected.recall),
                ("recallStdDeviation", expected.recall_std),
                ("averagePrecision", expected.average_precision),
            ):
                assert found[name] == pytest.approx(value)
            assert [one["name"] for one in found["perTagPerformance"]] == ["both", "even", "odd"]
            recalls.append(found["recall"])
    assert recalls[0] == 1.0
    assert recalls == sorted(recalls, reverse=True)
    assert sorted(np.unique(folds)) == list(range(5))


@pytest.mark.parametrize("status", ["Training", "Failed"])
def test_an_iteration_that_is_not_completed_has_none(home: Home, status: str) -> None:
    with home.house.database.write() as session:
        session.execute(update(Iteration).values(status=status))
    try:
        with home.house.database.read() as session:
            for call in (performance.of_iteration, performance.images, performance.image_count):
                with pytest.raises(OwnVisionError) as refusal:
                    call(session, home.project, home.iteration.id)
                assert refusal.value.code == "BadRequestIterationIsNotTrained"
    finally:
        with home.house.database.write() as session:
            session.execute(update(Iteration).values(status="Completed"))


def test_images_come_in_pages_with_their_predictions_and_truth(home: Home) -> None:
    with home.house.database.read() as session:
        newest = performance.images(session, home.project, home.iteration.id, take=256)
        oldest = performance.images(session, home.project, home.iteration.id, newest=False, take=5, skip=3)
        assert performance.image_count(session, home.project, home.iteration.id) == 18
    order = [view.image.seq for view, _ in newest]
    assert order == sorted(order, reverse=True)
    assert [view.image.seq for view, _ in oldest] == order[::-1][3:8]
    view, found = newest[0]
    assert {name for _, name, _ in view.tags} == {"odd"}
    assert {one["tagId"] for one in found} == set(home.tags.values())
    assert [one["probability"] for one in found] == sorted((one["probability"] for one in found), reverse=True)


@pytest.mark.parametrize(("names", "count"), [(["both"], 6), (["even", "both"], 12), (["even", "odd"], 18)])
def test_images_of_any_of_the_tags(home: Home, names: list[str], count: int) -> None:
    wanted = [home.tags[name] for name in names]
    with home.house.database.read() as session:
        assert performance.image_count(session, home.project, home.iteration.id, wanted) == count
        found = performance.images(session, home.project, home.iteration.id, wanted, take=256)
    assert len({view.image.id for view, _ in found}) == count


def test_erasing_an_image_moves_no_figure(home: Home) -> None:
    with home.house.database.read() as session:
        before = performance.of_iteration(session, home.project, home.iteration.id)
        (view,) = images.find(session, home.project, take=1, newest=False)
    with home.house.database.read() as session:  # never committed: the other tests want the image
        locked = projects.lock(session, home.project.account_id, home.project.id)
        images.delete_images(session, locked, [view.image.id], all_iterations=True)
        assert performance.of_iteration(session, home.project, home.iteration.id) == before
        assert performance.image_count(session, home.project, home.iteration.id) == 17


def test_a_detector_is_measured_by_overlap(home: Home) -> None:
    house = home.house
    project = t.make_project(house, "Boxes", domain_id=t.DETECTION)
    tag_id = t.make_tag(house, project, "dot")
    shown = t.upload(house, project, [t.coloured(0, seed) for seed in range(15)], [], [Box(tag_id, 0.2, 0.2, 0.4, 0.4)])
    iteration = t.start(house, project)
    truth = np.array([[0, 0.2, 0.2, 0.4, 0.4]], "<f4").tobytes()
    # One box exactly there, one half beside it, one surely elsewhere.
    said = np.array([[0, 0.9, 0.2, 0.2, 0.4, 0.4], [0, 0.3, 0.7, 0.7, 0.2, 0.2]], "<f4")
    beside = np.array([[0, 0.8, 0.4, 0.2, 0.4, 0.4]], "<f4")
    with house.database.write() as session:
        session.get_one(Iteration, iteration.id).status = "Completed"
        session.add_all(
            ScoredImage(iteration_id=iteration.id, image_id=image_id, scores=scores.tobytes(), truth=truth)
            for image_id, scores in zip(shown, (said, beside), strict=False)
        )
    with house.database.read() as session:
        for threshold, overlap, precision, recall in (
            (0.5, 0.3, 1.0, 1.0),
            (0.5, 0.5, 0.5, 0.5),
            (0.2, 0.3, 2 / 3, 1.0),
        ):
            found = performance.of_iteration(session, project, iteration.id, threshold, overlap)
            assert (found["precision"], found["recall"]) == pytest.approx((precision, recall))
        assert performance.of_iteration(session, project, iteration.id)["averagePrecision"] == pytest.approx(1.0)
        (_, boxes), (view, _) = performance.images(session, project, iteration.id, newest=False)
    assert [list(one) for one in boxes] == [["probability", "tagId", "tagName", "boundingBox", "tagType"]] * 2
    assert boxes[0]["boundingBox"] == pytest.approx({"left": 0.2, "top": 0.2, "width": 0.4, "height": 0.4})
    assert [region.tag_name for region in view.regions] == ["dot"]
