import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from sqlalchemy import select, update

from ownvision.errors import OwnVisionError
from ownvision.learning import evaluate
from ownvision.services import performance, quality
from ownvision.services.components import Components
from ownvision.store.tables import Iteration, IterationTag, Project, ScoredImage
from tests.services import trained as t


@dataclass(frozen=True)
class Home:
    """A project of two tags that nothing tells apart, and two iterations: the second with more images."""

    house: Components
    project: Project
    tags: dict[str, str]
    first: Iteration
    second: Iteration


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    house = t.open_house(tmp_path_factory.mktemp("quality") / "data")
    project = t.make_project(house, "Noise")
    tags = {name: t.make_tag(house, project, name) for name in ("even", "odd")}
    iterations = []
    for start, end in ((0, 16), (16, 22)):
        for seed in range(start, end):
            t.upload(house, project, [t.coloured(3, seed)], [tags["even" if seed % 2 == 0 else "odd"]])
        iterations.append(t.train(house, project))
    yield Home(house, project, tags, *iterations)
    house.database.close()


def test_the_detail_agrees_with_the_original_figures_and_counts_every_image(home: Home) -> None:
    with home.house.database.read() as session:
        detail = quality.detail(session, home.project, home.second.id, 0.4, 0.3)
        original = performance.of_iteration(session, home.project, home.second.id, 0.4)
    for name in ("precision", "precisionStdDeviation", "recall", "recallStdDeviation", "averagePrecision"):
        assert detail[name] == original[name]
    assert (detail["images"], detail["folds"], detail["overlapThreshold"]) == (22, 5, None)
    assert [row["count"] for row in detail["perTag"]] == [11, 11]
    assert sum(cell["count"] for cell in detail["confusion"]) == 22
    assert {cell["tagId"] for cell in detail["confusion"]} <= set(home.tags.values())
    right = sum(cell["count"] for cell in detail["confusion"] if cell["tagId"] == cell["predictedTagId"])
    none = sum(cell["count"] for cell in detail["confusion"] if cell["predictedTagId"] is None)
    assert 0 <= right + none <= 22


def test_curves_hold_the_figures_of_their_thresholds(home: Home) -> None:
    with home.house.database.read() as session:
        curves = quality.curves(session, home.project, home.second.id, 0.3, 10)
        for curve in curves:
            assert 2 <= len(curve["points"]) <= 10
            point = curve["points"][len(curve["points"]) // 2]
            detail = quality.detail(session, home.project, home.second.id, point["threshold"], 0.3)
            (row,) = (row for row in detail["perTag"] if row["tagId"] == curve["tagId"])
            assert (row["precision"], row["recall"]) == (point["precision"], point["recall"])


def test_the_most_wrong_come_first_in_pages(home: Home) -> None:
    with home.house.database.read() as session:
        whole = quality.most_wrong(session, home.project, home.second.id, 0.3, 50, 0)
        page = quality.most_wrong(session, home.project, home.second.id, 0.3, 5, 3)
    errors = [error for _, _, error in whole]
    assert len(whole) == 22
    assert errors == sorted(errors, reverse=True)
    assert [view.image.id for view, _, _ in page] == [view.image.id for view, _, _ in whole[3:8]]
    view, predictions, error = whole[0]
    own = {tag for tag, _, _ in view.tags}
    assert error == pytest.approx(max(abs((one["tagId"] in own) - one["probability"]) for one in predictions))


def test_two_iterations_are_compared_on_the_images_of_both(home: Home) -> None:
    with home.house.database.read() as session:
        found = quality.compare(session, home.project, home.first.id, home.second.id, 0.5, 0.3)
        again = quality.compare(session, home.project, home.second.id, home.first.id, 0.5, 0.3)
        alone = quality.detail(session, home.project, home.first.id, 0.5, 0.3)
    assert found["images"] == 16
    first, second = found["iterations"]
    assert first["averagePrecision"] == pytest.approx(alone["averagePrecision"])
    assert first["rightImages"] - second["rightImages"] == found["onlyFirstRightCount"] - found["onlySecondRightCount"]
    assert len(found["onlyFirstRight"]) == found["onlyFirstRightCount"]
    assert again["onlyFirstRight"] == found["onlySecondRight"]
    assert again["iterations"] == [second, first]


def test_an_iteration_compared_with_itself_differs_nowhere(home: Home) -> None:
    with home.house.database.read() as session:
        found = quality.compare(session, home.project, home.first.id, home.first.id, 0.5, 0.3)
    assert found["onlyFirstRight"] == found["onlySecondRight"] == []


def test_an_image_erased_everywhere_is_not_shown_and_still_counts(home: Home) -> None:
    with home.house.database.write() as session:
        row = session.scalars(select(ScoredImage).where(ScoredImage.iteration_id == home.first.id)).first()
        assert row is not None
        kept, row.image_id = row.image_id, None
        session.flush()
        assert len(quality.most_wrong(session, home.project, home.first.id, 0.3, 50, 0)) == 15
        assert quality.detail(session, home.project, home.first.id, 0.5, 0.3)["images"] == 16
        assert quality.compare(session, home.project, home.first.id, home.second.id, 0.5, 0.3)["images"] == 15
        row.image_id = kept


def test_without_a_common_tag_there_is_nothing_to_compare(home: Home) -> None:
    with home.house.database.write() as session:
        mine = IterationTag.iteration_id == home.first.id
        for number, tag in enumerate(session.scalars(select(IterationTag).where(mine)).all()):
            session.execute(
                update(IterationTag)
                .where(mine, IterationTag.tag_id == tag.tag_id)
                .values(tag_id=f"00000000-0000-0000-0000-00000000000{number}")
            )
        with pytest.raises(OwnVisionError, match="share no held-out image, or no tag"):
            quality.compare(session, home.project, home.first.id, home.second.id, 0.5, 0.3)
        session.rollback()


def test_a_copied_iteration_has_figures_but_no_detail(home: Home) -> None:
    with home.house.database.write() as session:
        session.execute(update(Iteration).where(Iteration.id == home.first.id).values(origin={"performance": {}}))
    try:
        with home.house.database.read() as session, pytest.raises(OwnVisionError) as refusal:
            quality.detail(session, home.project, home.first.id, 0.5, 0.3)
        assert refusal.value.code == "BadRequestIterationIsNotTrained"
    finally:
        with home.house.database.write() as session:
            session.execute(update(Iteration).where(Iteration.id == home.first.id).values(origin=None))


def test_a_detector_has_background_and_one_fold(home: Home) -> None:
    """Scores written by hand: a training of a detector takes its time."""
    project = t.make_project(home.house, "Boxes", domain_id=t.DETECTION)
    iteration = Iteration(
        project_id=project.id, number=1, name="1", status="Completed", revision=1, domain_id=t.DETECTION,
        classification_type="Multilabel", pipeline="",
    )  # fmt: skip
    tag = "11111111-1111-1111-1111-111111111111"
    box = [0.1, 0.1, 0.3, 0.3]
    images = t.upload(home.house, project, [t.coloured(0, 50), t.coloured(0, 51)], [])
    with home.house.database.write() as session:
        session.add(iteration)
        session.flush()
        session.add(
            IterationTag(iteration_id=iteration.id, tag_id=tag, position=0, name="a", type="Regular", image_count=2)
        )
        for image, score in zip(images, (0.9, 0.2), strict=True):
            session.add(
                ScoredImage(
                    iteration_id=iteration.id,
                    image_id=image,
                    scores=np.array([0, score, *box], "<f4").tobytes(),
                    truth=np.array([0, *box], "<f4").tobytes(),
                )
            )
    with home.house.database.read() as session:
        detail = quality.detail(session, project, iteration.id, 0.5, 0.3)
        curves = quality.curves(session, project, iteration.id, 0.3)
        wrong = quality.most_wrong(session, project, iteration.id, 0.3, 10, 0)
        compared = quality.compare(session, project, iteration.id, iteration.id, 0.5, 0.3)
    assert (detail["precision"], detail["recall"], detail["folds"], detail["overlapThreshold"]) == (1.0, 0.5, 1, 0.3)
    assert detail["confusion"] == [
        {"tagId": tag, "predictedTagId": tag, "count": 1},
        {"tagId": tag, "predictedTagId": None, "count": 1},
    ]
    assert curves[0]["points"][-1] == {"threshold": pytest.approx(0.2), "precision": 1.0, "recall": 1.0}
    assert [(view.image.id, round(error, 3)) for view, _, error in wrong] == [(images[1], 0.8), (images[0], 0.1)]
    assert [one["rightImages"] for one in compared["iterations"]] == [1, 1]
    json.dumps([detail, curves, compared])  # plain numbers only


def test_measuring_reads_what_evaluate_says(home: Home) -> None:
    with home.house.database.read() as session:
        kept = performance.kept(session, home.first, 2)
    assert kept.labels is not None
    assert kept.performance(0.5, 0.3) == evaluate.classification(*kept.labels, 0.5, kept.folds)
