"""Advanced training and trainings that go on from another iteration, as jobs: with a budget of seconds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ownvision.inference import load
from ownvision.jobs import rows, runner
from ownvision.learning import search_classifier
from ownvision.services import bases, fitting, iterations, performance, predictions, projects, suggestions
from ownvision.services.components import Components
from ownvision.services.images import delete_images
from ownvision.store import ledger
from ownvision.store.tables import Iteration, Lineage, Project, ScoredImage
from tests.services import trained as t

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Components]:
    house = t.open_house(tmp_path / "data")
    yield house
    house.database.close()


@pytest.fixture
def project(home: Components) -> Project:
    made = t.make_project(home, "Colours")
    t.fill(home, made, {"red": 6, "blue": 6})
    return made


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of one hour is one of seconds, colours are not quite told apart, and inputs are small."""
    monkeypatch.setattr(fitting, "BUDGET_UNIT", 60.0)
    monkeypatch.setattr(search_classifier, "_NO_GAIN", -1.0)
    monkeypatch.setattr(search_classifier, "_SIZES", (64,))
    monkeypatch.setitem(fitting._FAMILIES, "Advanced", ("base", "looks"))


def shape(iteration: Iteration) -> list[dict[str, Any]]:
    trials: list[dict[str, Any]] = iterations.searched(iteration)["trials"]
    return trials


def base_of(iteration: Iteration) -> dict[str, str]:
    return {"projectId": iteration.project_id, "iterationId": iteration.id}


@pytest.mark.usefixtures("brief")
def test_advanced_training_reports_what_it_tried_and_serves_what_it_found(home: Components, project: Project) -> None:
    iteration = t.train(home, project, training_type="Advanced", budget_hours=1)
    assert (iteration.status, iteration.error, iteration.training_type) == ("Completed", None, "Advanced")
    assert iteration.training_seconds < 60
    trials = shape(iteration)
    assert [trial["what"] for trial in trials][:2] == ["quick training", "input of 64 px"]
    assert sum(trial["chosen"] for trial in trials) == 1
    assert all(set(trial) == {"what", "score", "seconds", "chosen", "note"} for trial in trials)
    with home.database.read() as session:
        learned = iterations.learned_tags(session, iteration.id)
        measured = performance.of_iteration(session, project, iteration.id)
        assert len(session.scalars(select(ScoredImage.id)).all()) == 12
    assert measured["averagePrecision"] > 0.9
    found, _ = predictions.predict(home, iteration, learned, t.coloured(0, 99))
    assert (found[0]["tagName"], len(found)) == ("red", 2)


@pytest.mark.usefixtures("brief")
def test_what_looks_at_pictures_in_its_own_way_suggests_as_it_predicts(
    home: Components, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whatever_is_new(_shop: object, old: object, new: object) -> bool:
        return new is not old

    monkeypatch.setattr(search_classifier._Workshop, "better", whatever_is_new)
    iteration = t.train(home, project, training_type="Advanced", budget_hours=1)
    assert not shape(iteration)[0]["chosen"]
    model = home.blobs.read(ledger.iteration_prefix(project.id, iteration.model_id) + fitting.MODEL)
    assert load(model).height == 64
    (image_id,) = t.upload(home, project, [t.coloured(1, 50)], [])
    with home.database.read() as session:
        learned = iterations.learned_tags(session, iteration.id)
    suggested = suggestions.suggest(home, project.account_id, project.id, iteration.id, [image_id])
    predicted, _ = predictions.predict(home, iteration, learned, t.coloured(1, 50))
    for one, two in zip(suggested[0].row.predictions, predicted, strict=True):
        assert (one["tagId"], one["probability"]) == (two["tagId"], pytest.approx(two["probability"], abs=1e-5))


def test_quick_training_tries_nothing_else(home: Components, project: Project) -> None:
    iteration = t.train(home, project)
    assert (iteration.search, shape(iteration)) == (None, [])


@pytest.mark.usefixtures("brief")
def test_a_cancelled_search_leaves_nothing(home: Components, project: Project) -> None:
    iteration = t.start(home, project, training_type="Advanced", budget_hours=1)
    claim = t.claim(home)
    with home.database.write() as session:
        rows.cancel_job(session, claim.job_id)
    runner.run(home, claim)
    with home.database.read() as session:
        row = iterations.get(session, project, iteration.id)
        assert (row.status, row.search) == ("Failed", None)


@pytest.mark.usefixtures("brief")
def test_going_on_from_a_base_needs_images_that_it_does_not_know(home: Components, project: Project) -> None:
    first = t.train(home, project)
    again = t.train(home, project, custom_base=base_of(first))
    assert again.status == "Completed"
    assert "all but 0 of these images" in shape(again)[1]["note"]
    with home.database.read() as session:
        row = iterations.get(session, project, again.id)
        assert [one.id for one in bases.ancestors(session, row)] == [first.id]
    other = t.make_project(home, "More colours")
    tags = [t.make_tag(home, other, name) for name in ("red", "blue")]
    for colour, tag in enumerate(tags):
        t.upload(home, other, [t.coloured(colour, seed) for seed in range(20, 26)], [tag])
    new = t.train(home, other, custom_base=base_of(first))
    assert shape(new)[1]["score"] is not None  # measured: it knows none of these


def test_what_a_base_learned_is_learned_by_those_that_go_on_from_it(home: Components, project: Project) -> None:
    first = t.train(home, project)
    with home.database.read() as session:
        known = list(session.scalars(select(ScoredImage.image_id).where(ScoredImage.iteration_id == first.id)))
    gone = known[0]
    with home.database.write() as session:  # from the workspace only: the next iteration never sees it itself
        locked = projects.lock(session, project.account_id, project.id)
        delete_images(session, locked, [gone], all_iterations=False)
    second = t.train(home, project, custom_base=base_of(first))
    with home.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        delete_images(session, locked, [gone], all_iterations=True)
    with home.database.read() as session:
        for iteration in (first, second):
            row = iterations.get(session, project, iteration.id)
            assert (row.erased_count, row.unlearning) == (1, "kept")
            assert session.get(Lineage, (iteration.id, gone)) is not None
        row = iterations.get(session, project, second.id)
        found = bases.find(home, session, row)
    assert found is not None
    assert found.model is None  # whoever is fitted now goes on without it
    assert "erased" in found.reason
