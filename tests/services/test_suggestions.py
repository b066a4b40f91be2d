from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select, update

from ownvision.data_rights import retention
from ownvision.errors import OwnVisionError
from ownvision.inference import Classification, load
from ownvision.services import images, iterations, projects, suggestions
from ownvision.services.components import Components
from ownvision.services.fitting import MODEL
from ownvision.services.suggestions import Suggested
from ownvision.store import ledger
from ownvision.store.tables import Image, Iteration, Project, Suggestion
from ownvision.store.tables.base import now
from tests.services import trained as t

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Home:
    """A trained classifier and images of its two colours that nobody tagged."""

    house: Components
    project: Project
    iteration: Iteration
    tags: dict[str, str]
    reds: list[str]
    blues: list[str]

    def suggest(self, image_ids: Sequence[str], iteration_id: str | None = None) -> list[Suggested]:
        wanted = iteration_id or self.iteration.id
        return suggestions.suggest(self.house, self.project.account_id, self.project.id, wanted, image_ids)

    def query(self, **token: Any) -> tuple[dict[str, Any], list[Suggested]]:
        with self.house.database.read() as session:
            return suggestions.query(session, self.project, self.iteration.id, token, self.house.settings.limits)

    def count(self, tag_ids: Sequence[str], threshold: float) -> dict[str, int]:
        with self.house.database.read() as session:
            return suggestions.count(session, self.project, self.iteration.id, tag_ids, threshold)

    def rows(self) -> int:
        with self.house.database.read() as session:
            return session.scalar(select(func.count()).select_from(Suggestion)) or 0


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    house = t.open_house(tmp_path_factory.mktemp("suggestions") / "data")
    project = t.make_project(house, "Colours")
    tags = t.fill(house, project, {"red": 6, "blue": 6})
    iteration = t.train(house, project)
    reds = t.upload(house, project, [t.coloured(0, seed) for seed in range(100, 103)], [])
    blues = t.upload(house, project, [t.coloured(1, seed) for seed in range(100, 102)], [])
    yield Home(house, project, iteration, tags, reds, blues)
    house.database.close()


def test_a_classifier_suggests_what_its_model_predicts(home: Home) -> None:
    made = home.suggest([*home.reds, *home.blues])
    assert [one.image.id for one in made] == [*home.reds, *home.blues]
    model = load(home.house.blobs.read(ledger.iteration_prefix(home.project.id, home.iteration.id) + MODEL))
    for one, colour in zip(made, ["red"] * 3 + ["blue"] * 2, strict=True):
        assert one.row.predictions[0]["tagId"] == home.tags[colour]
        original = home.house.blobs.read(ledger.image_prefix(home.project.id, one.image.id) + "original")
        answer = model.predict(original)
        assert isinstance(answer, Classification)
        ours = {item["tagId"]: item["probability"] for item in one.row.predictions}
        # Embeddings are kept in half precision.
        assert np.abs([ours[tag] for tag in model.tag_ids] - answer.probabilities).max() < 5e-3


def test_what_was_suggested_is_given_again_until_its_time_is_over(home: Home) -> None:
    first = home.suggest(home.reds)[0].row
    assert home.suggest(home.reds)[0].row.created == first.created
    with home.house.database.write() as session:
        session.execute(update(Suggestion).values(created=now() - timedelta(days=31)))
    assert sum(retention.enforce(home.house.database, home.house.settings)) == len(home.reds)
    assert home.rows() == 0
    assert home.suggest(home.reds)[0].row.created > first.created


def test_a_query_pages_by_uncertainty_while_suggestions_arrive(home: Home) -> None:
    home.suggest(home.reds)
    token, page = home.query(maxCount=2, sortBy="uncertaintyDESCENDING")
    home.suggest(home.blues)  # after the session began
    seen = list(page)
    while token["continuation"] is not None:
        token, page = home.query(**token)
        seen += page
    assert sorted(one.image.id for one in seen) == sorted(home.reds)
    doubts = [one.row.uncertainty for one in seen]
    assert doubts == sorted(doubts, reverse=True)
    assert len(home.query()[1]) == 5
    ascending = [one.row.uncertainty for one in home.query(sortBy="UncertaintyAscending")[1]]
    assert ascending == sorted(ascending)


def test_queries_and_counts_follow_tag_and_threshold(home: Home) -> None:
    home.suggest([*home.reds, *home.blues])
    red, blue = home.tags["red"], home.tags["blue"]
    assert home.count([red, blue], 0.5) == {red: 3, blue: 2}
    assert home.count([], 0.0) == {blue: 5, red: 5}
    assert home.count([red], 1.0) == {red: 0}
    assert {one.image.id for one in home.query(tagIds=[blue], threshold=0.5)[1]} == set(home.blues)
    assert len(home.query(threshold=0.5)[1]) == 5
    assert home.query(threshold=1.0)[1] == []


def test_a_tagged_or_deleted_image_is_suggested_no_more(home: Home) -> None:
    home.suggest([*home.reds, *home.blues])
    with home.house.database.write() as session:
        project = projects.lock(session, home.project.account_id, home.project.id)
        images.add_tags(session, project, [(home.reds[0], home.tags["red"])], home.house.settings.limits)
    assert home.count([home.tags["red"]], 0.5) == {home.tags["red"]: 2}
    with home.house.database.write() as session:
        project = projects.lock(session, home.project.account_id, home.project.id)
        images.delete_images(session, project, home.reds[1:2], all_iterations=False)
    assert home.rows() == 4
    with home.house.database.write() as session:
        project = projects.get(session, home.project.account_id, home.project.id, lock=True)
        iterations.delete(session, project, home.iteration.id)
    assert home.rows() == 0


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ({"maxCount": 257}, "BadRequestPredictionResultsExceededCount"),
        ({"sortBy": "Newest"}, "BadRequestPredictionInvalidQueryParameters"),
        ({"session": "0:x"}, "BadRequestPredictionInvalidQueryParameters"),
        ({"continuation": "soon"}, "BadRequestPredictionInvalidQueryParameters"),
        ({"continuation": "nan/1"}, "BadRequestPredictionInvalidQueryParameters"),
        ({"continuation": "0.5/99999999999999999999"}, "BadRequestPredictionInvalidQueryParameters"),
        ({"tagIds": ["00000000-0000-0000-0000-000000000000"]}, "BadRequestInvalidIds"),
    ],
)
def test_a_wrong_token_is_refused(home: Home, token: dict[str, Any], code: str) -> None:
    with pytest.raises(OwnVisionError) as caught:
        home.query(**token)
    assert caught.value.code == code


def test_only_images_of_the_workspace_and_trained_iterations_count(home: Home) -> None:
    other = "00000000-0000-0000-0000-000000000000"
    for wrong, code in (([other], "BadRequestInvalidIds"), (home.reds, "NotFoundIteration")):
        with pytest.raises(OwnVisionError) as caught:
            home.suggest(wrong, iteration_id=None if wrong == [other] else other)
        assert caught.value.code == code
    assert home.rows() == 0


def test_damaged_bytes_are_named_and_nothing_is_kept(home: Home) -> None:
    prefix = ledger.image_prefix(home.project.id, home.reds[0])
    with home.house.database.write() as session:
        session.execute(update(Image).where(Image.id == home.reds[0]).values(size=1))
    for key, _ in list(home.house.blobs.list(prefix)):
        (home.house.settings.data / "objects" / key).write_bytes(b"damaged")
    with pytest.raises(OwnVisionError) as caught:
        home.suggest(home.reds)
    assert caught.value.code == "BadRequestInvalidIds"
    assert home.reds[0] in caught.value.message
    assert home.rows() == 0
