from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from ownvision.data_rights import retention
from ownvision.errors import OwnVisionError
from ownvision.learning import pixels
from ownvision.learning.evaluate import Detections
from ownvision.services import intake, iterations, predictions, projects
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.tables import Iteration, IterationTag, Prediction, Project
from ownvision.store.tables.base import new_id, now
from tests.services import trained as t


@dataclass(frozen=True)
class Home:
    """A trained classifier of red and blue."""

    house: Components
    project: Project
    tags: dict[str, str]
    iteration: Iteration
    learned: list[IterationTag]

    def store(self, colour: int, seed: int, application: str | None = None) -> Prediction:
        data = t.coloured(colour, seed)
        found, info = predictions.predict(self.house, self.iteration, self.learned, data)
        return predictions.store(
            self.house,
            self.project.account_id,
            self.project,
            self.iteration,
            data,
            info,
            found,
            new_id(),
            application,
        )

    def query(self, **token: Any) -> tuple[dict[str, Any], list[Prediction]]:
        with self.house.database.read() as session:
            return predictions.query(session, self.project, token, self.house.settings.limits)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    house = t.open_house(tmp_path_factory.mktemp("predictions") / "data")
    project = t.make_project(house, "Colours")
    tags = t.fill(house, project, {"red": 5, "blue": 5})
    iteration = t.train(house, project)
    with house.database.read() as session:
        learned = iterations.learned_tags(session, iteration.id)
    yield Home(house, project, tags, iteration, learned)
    house.database.close()


@pytest.fixture
def home(trained: Home) -> Iterator[Home]:
    """The same, without stored predictions."""
    yield trained
    with trained.house.database.write() as session:
        predictions.remove(session, trained.project.id, list(session.scalars(select(Prediction.id))))


def test_every_tag_is_answered_most_probable_first(home: Home) -> None:
    for colour, name in enumerate(("red", "blue")):
        found, info = predictions.predict(home.house, home.iteration, home.learned[::-1], t.coloured(colour, 60))
        assert [list(one) for one in found] == [["probability", "tagId", "tagName", "tagType"]] * 2
        assert found[0]["tagName"] == name
        assert found[0]["tagId"] == home.tags[name]
        assert sum(one["probability"] for one in found) == pytest.approx(1.0, abs=1e-5)
        assert info == pixels.ImageInfo(48, 48, "PNG")


def test_boxes_are_answered_by_tag_and_within_a_tag_most_probable_first(home: Home) -> None:
    boxes = np.arange(16, dtype=np.float32).reshape(4, 4) / 16
    found = Detections(boxes, np.array([0.2, 0.9, 0.5, 0.3], np.float32), np.array([1, 0, 1, 0]))
    shown = predictions.boxed(found, home.learned)
    assert [(one["tagName"], round(one["probability"], 2)) for one in shown] == [
        ("blue", 0.9),
        ("blue", 0.3),
        ("red", 0.5),
        ("red", 0.2),
    ]
    assert shown[0]["boundingBox"] == {"left": 0.25, "top": 0.3125, "width": 0.375, "height": 0.4375}
    assert list(shown[0]) == ["probability", "tagId", "tagName", "boundingBox", "tagType"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "BadRequestImageStream"),
        (b"no picture", "BadRequestImageFormat"),
        (t.coloured(0, 0)[:-40], "BadRequestImageFormat"),
    ],
)
def test_bad_images_are_refused(home: Home, data: bytes, code: str) -> None:
    with pytest.raises(OwnVisionError) as refusal:
        predictions.predict(home.house, home.iteration, home.learned, data)
    assert refusal.value.code == code


def test_a_model_that_is_gone_is_said_to_be(home: Home) -> None:
    ghost = Iteration(id=new_id(), project_id=home.project.id, name="Iteration 9")
    with pytest.raises(OwnVisionError, match="Iteration 9") as refusal:
        predictions.predict(home.house, ghost, home.learned, t.coloured(0, 0))
    assert refusal.value.code == "ErrorPredictionModelNotFound"


def test_a_stored_prediction_keeps_image_and_numbers_but_no_names(home: Home) -> None:
    row = home.store(0, 61, "kiosk")
    assert (row.application, row.width, row.height, row.format) == ("kiosk", 48, 48, "PNG")
    assert [set(one) for one in row.predictions] == [{"probability", "tagId"}] * 2
    key = ledger.prediction_prefix(home.project.id, row.id) + "original"
    assert home.house.blobs.read(key) == t.coloured(0, 61)


def test_a_query_pages_through_what_was_there_when_it_began(home: Home) -> None:
    stored = [home.store(0, seed).id for seed in range(5)]
    for order, expected in (("Newest", stored[::-1]), ("Oldest", stored)):
        token, page = home.query(maxCount=2, orderBy=order)
        seen = [row.id for row in page]
        assert token["session"].startswith("2:")
        late = home.store(1, 0).id
        while token["continuation"] is not None:
            token, page = home.query(**token)
            seen += [row.id for row in page]
        assert seen == expected
        with home.house.database.write() as session:
            predictions.delete(session, home.project, [late])


def test_the_token_is_given_back_as_it_came(home: Home) -> None:
    token, _ = home.query(maxCount=0, orderBy="Newest", startTime=now().replace(2020, 1, 2, 3, 4, 5, 678_000))
    assert list(token) == [
        "session",
        "continuation",
        "maxCount",
        "orderBy",
        "tags",
        "iterationId",
        "startTime",
        "endTime",
        "application",
    ]
    assert {**token, "session": None} == {
        "session": None,
        "continuation": None,
        "maxCount": 0,
        "orderBy": "Newest",
        "tags": None,
        "iterationId": None,
        "startTime": "2020-01-02T03:04:05.678000Z",
        "endTime": None,
        "application": None,
    }


def test_a_query_filters(home: Home) -> None:
    red, blue = home.store(0, 62, "kiosk"), home.store(1, 62)
    hour = timedelta(hours=1)
    likely = {"minThreshold": 0.5, "maxThreshold": 1.0}
    for token, expected in (
        ({}, [blue, red]),
        ({"application": "kiosk"}, [red]),
        ({"application": "other"}, []),
        ({"iterationId": home.iteration.id}, [blue, red]),
        ({"iterationId": new_id()}, []),
        ({"startTime": now() - hour, "endTime": now() + hour}, [blue, red]),
        ({"startTime": now() + hour}, []),
        ({"endTime": (now() - hour).replace(tzinfo=None)}, []),
        ({"tags": [{"id": home.tags["red"], **likely}]}, [red]),
        ({"tags": [{"id": home.tags["red"], "minThreshold": None, "maxThreshold": 0.5}]}, [blue]),
        ({"tags": [{"id": home.tags["red"], **likely}, {"id": home.tags["blue"], **likely}]}, []),
    ):
        assert [row.id for row in home.query(**token)[1]] == [row.id for row in expected], token


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ({"maxCount": 257}, "BadRequestPredictionResultsExceededCount"),
        ({"tags": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}, "BadRequestPredictionTagsExceededCount"),
        ({"session": "3:1"}, "BadRequestPredictionInvalidQueryParameters"),
        ({"session": "2:" + "9" * 30}, "BadRequestPredictionInvalidQueryParameters"),
        ({"continuation": "yesterday/x"}, "BadRequestPredictionInvalidQueryParameters"),
    ],
)
def test_a_query_that_can_not_be_answered(home: Home, token: dict[str, Any], code: str) -> None:
    with pytest.raises(OwnVisionError) as refusal:
        home.query(**token)
    assert refusal.value.code == code


def test_deleting_removes_rows_and_files_of_this_project_only(home: Home) -> None:
    gone, stays = home.store(0, 63), home.store(0, 64)
    other = t.make_project(home.house, "Other")
    with home.house.database.write() as session:
        predictions.delete(session, other, [stays.id])
        predictions.delete(session, home.project, [gone.id, new_id()])
    assert [row.id for row in home.query()[1]] == [stays.id]
    kept = [key for key in t.files(home.house) if "/predictions/" in key]
    assert kept == [ledger.prediction_prefix(home.project.id, stays.id) + "original"]
    with home.house.database.write() as session, pytest.raises(OwnVisionError) as refusal:
        predictions.delete(session, home.project, [])
    assert refusal.value.code == "BadRequestPredictionIdsMissing"


def test_predictions_whose_time_is_over_go_with_their_images(home: Home) -> None:
    first, second = home.store(0, 65), home.store(0, 66)
    with home.house.database.write() as session:
        session.execute(update(Prediction).where(Prediction.id == first.id).values(created=now() - timedelta(days=31)))
    assert sum(retention.enforce(home.house.database, home.house.settings)) == 1
    assert [row.id for row in home.query()[1]] == [second.id]
    assert not [key for key in t.files(home.house) if first.id in key]


def test_nothing_is_kept_for_an_iteration_that_was_deleted_meanwhile(home: Home) -> None:
    house, data = home.house, t.coloured(0, 67)
    project = t.make_project(house, "Short-lived")
    t.fill(house, project, {"red": 5, "blue": 5})
    iteration = t.start(house, project)
    with house.database.write() as session:
        iterations.delete(session, projects.get(session, project.account_id, project.id, lock=True), iteration.id)
    with pytest.raises(OwnVisionError, match=r"^Invalid iteration$"):
        predictions.store(house, project.account_id, project, iteration, data, pixels.inspect(data), [], new_id(), None)
    assert not [key for key in t.files(house) if key.startswith(project.id) and "/predictions/" in key]


def test_a_prediction_named_twice_becomes_one_image(home: Home) -> None:
    row = home.store(0, 71)
    taken = intake.add_from_predictions(
        home.house,
        home.project.account_id,
        home.project.id,
        None,
        [(row.id, [], []), (row.id, [], []), (new_id(), [], [])],
    )
    assert [one.status for one in taken] == ["OK", "OKDuplicate", "ErrorSource"]
    assert {one.view.image.id for one in taken if one.view} == {row.id}
    with home.house.database.read() as session:
        assert session.get(Prediction, row.id) is None
