"""Live learning: the draft follows the workspace, says no more than it knows, and forgets with what it learned from."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update

from ownvision.data_rights import person, retention
from ownvision.data_rights.who import OPERATOR, Who
from ownvision.errors import OwnVisionError
from ownvision.learning import graph
from ownvision.services import drafts, fitting, images, live, projects, tags
from ownvision.services.components import Components
from ownvision.services.frozen import freeze
from ownvision.store import ledger
from ownvision.store.tables import Draft, Image, Iteration, Project
from tests.services import trained as t

pytestmark = pytest.mark.slow


@pytest.fixture
def house(tmp_path: Path) -> Components:
    return t.open_house(tmp_path / "data")


def switched_on(house: Components, kind: str = "Multiclass", counts: dict[str, int] | None = None) -> Project:
    project = t.make_project(house, "Live", kind)
    t.fill(house, project, counts or {"red": 6, "blue": 7})
    with house.database.write() as session:
        drafts.switch_on(session, projects.get(session, project.account_id, project.id, lock=True))
    return project


def only(house: Components) -> drafts.Live:
    with house.database.read() as session:
        (found,) = drafts.lives(session)
    return found


def refresh(house: Components, look: live.Look = lambda scored: None) -> bool:
    return live.refresh(house, only(house), live.Features(house), look)


def shape(house: Components, project: Project) -> dict[str, object]:
    with house.database.read() as session:
        row = projects.get(session, project.account_id, project.id)
        return drafts.shape(session, row, house.settings.limits)


def suggestions(
    house: Components, project: Project, take: int = 50, by: str = drafts.ASCENDING, continuation: str | None = None
) -> tuple[list[drafts.Suggestion], str | None]:
    with house.database.read() as session:
        row = projects.get(session, project.account_id, project.id)
        return drafts.suggestions(session, row, take=take, sort_by=by, continuation=continuation)


def change(house: Components, project: Project, action: Callable[..., object]) -> None:
    with house.database.write() as session:
        action(session, projects.lock(session, project.account_id, project.id))


@pytest.mark.parametrize("kind", ["Multiclass", "Multilabel"])
def test_a_draft_follows_the_workspace(house: Components, kind: str) -> None:
    project = switched_on(house, kind)
    loose = t.upload(house, project, [t.coloured(0, 90), t.coloured(1, 91), t.coloured(0, 92)], [])
    assert shape(house, project)["state"] == drafts.LEARNING
    assert only(house).due
    assert refresh(house)
    assert not only(house).due
    told = shape(house, project)
    assert (told["state"], told["revision"], told["suggestionsComplete"]) == (drafts.FRESH, only(house).revision, True)
    assert told["score"]["images"] == 13  # type: ignore[index]
    assert told["score"]["accuracy"] == 1.0  # type: ignore[index]
    assert [one["name"] for one in told["perTag"]] == ["blue", "red"]  # type: ignore[attr-defined]
    found, more = suggestions(house, project)
    assert more is None
    best = {one.image.id: one.tags[0][0].name for one in found}
    assert best == dict(zip(loose, ["red", "blue", "red"], strict=True))
    assert [one.uncertainty for one in found] == sorted(one.uncertainty for one in found)

    t.upload(house, project, [t.coloured(1, 93)], [told["perTag"][0]["id"]])  # type: ignore[index]
    assert shape(house, project)["state"] == drafts.BEHIND
    assert only(house).behind
    assert refresh(house)
    assert shape(house, project)["score"]["images"] == 14  # type: ignore[index]


def test_suggestions_come_in_pages_of_what_is_untagged_now(house: Components) -> None:
    project = switched_on(house)
    loose = t.upload(house, project, [t.coloured(seed % 2, 90 + seed) for seed in range(7)], [])
    refresh(house)
    whole, _ = suggestions(house, project)
    down, _ = suggestions(house, project, by=drafts.DESCENDING.lower())
    assert [one.image.id for one in down] == [one.image.id for one in reversed(whole)]
    paged: list[str] = []
    place: str | None = None
    while True:
        page, place = suggestions(house, project, 3, continuation=place)
        paged += [one.image.id for one in page]
        if place is None:
            break
    assert paged == [one.image.id for one in whole]
    assert sorted(paged) == sorted(loose)
    red = whole[0].tags[0][0].id
    change(house, project, lambda s, p: images.add_tags(s, p, [(paged[0], red)], house.settings.limits))
    assert [one.image.id for one in suggestions(house, project)[0]] == paged[1:]
    for wrong in ({"by": "name"}, {"continuation": "x"}):
        with pytest.raises(OwnVisionError) as refused:
            suggestions(house, project, **wrong)  # type: ignore[arg-type]
        assert refused.value.code == "BadRequest"


def test_a_draft_of_a_revision_is_what_training_it_gives(house: Components) -> None:
    project = switched_on(house)
    t.upload(house, project, [t.coloured(0, 90)], [])
    heads: list[bytes] = []

    real = fitting.fit_head

    def kept(*arguments: object) -> object:
        fitted = real(*arguments)  # type: ignore[arg-type]
        frozen = arguments[3]
        heads.append(graph.classifier(str(arguments[0]), fitted.head, frozen.tag_ids))  # type: ignore[attr-defined]
        return fitted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live.fitting, "fit_head", kept)
        refresh(house)
    iteration = t.train(house, project)
    assert heads == [house.blobs.read(ledger.iteration_prefix(project.id, iteration.model_id) + fitting.MODEL)]
    score = shape(house, project)["score"]
    from ownvision.services import performance

    with house.database.read() as session:
        measured = performance.of_iteration(session, project, iteration.id)
        assert freeze(session, session.get_one(Iteration, iteration.id)).tag_ids
    for name in ("precision", "recall", "averagePrecision"):
        assert score[name] == measured[name]  # type: ignore[index]


def test_tags_with_too_few_images_wait_and_the_others_are_learned(house: Components) -> None:
    project = switched_on(house, counts={"red": 6, "blue": 3, "green": 0})
    assert not refresh(house)
    told = shape(house, project)
    assert told["state"] == drafts.WAITING
    assert "Not enough tags for training" in str(told["reason"])
    waiting = [(one["name"], one["images"], one["needed"]) for one in told["waitingTags"]]  # type: ignore[attr-defined]
    assert waiting == [("blue", 3, 5), ("green", 0, 5)]
    assert not only(house).due  # nothing more can be done
    blue = told["waitingTags"][0]["id"]  # type: ignore[index]
    t.upload(house, project, [t.coloured(1, 80 + seed) for seed in range(2)], [blue])
    assert refresh(house)
    told = shape(house, project)
    assert (told["state"], told["score"]["images"]) == (drafts.FRESH, 11)  # type: ignore[index]
    assert [one["name"] for one in told["waitingTags"]] == ["green"]  # type: ignore[attr-defined]


def test_detectors_do_not_learn_live(house: Components) -> None:
    project = t.make_project(house, "Boxes", domain_id=t.DETECTION)
    with pytest.raises(OwnVisionError, match="minute") as refused, house.database.write() as session:
        drafts.switch_on(session, projects.get(session, project.account_id, project.id, lock=True))
    assert refused.value.code == "BadRequestNotSupported"


def _erase(session: object, project: Project, image: Image) -> None:
    images.delete_images(session, project, [image.id], all_iterations=True)  # type: ignore[arg-type]


def _take_off(session: object, project: Project, image: Image) -> None:
    (tag,) = [tag for tag in tags.all(session, project) if tag.name == "red"]  # type: ignore[arg-type]
    images.remove_tags(session, project, [image.id], [tag.id])  # type: ignore[arg-type]


def _delete_tag(session: object, project: Project, image: Image) -> None:
    (tag,) = [tag for tag in tags.all(session, project) if tag.name == "red"]  # type: ignore[arg-type]
    tags.delete(session, project, tag.id)  # type: ignore[arg-type]


def _restrict(session: object, project: Project, image: Image) -> None:
    person.restrict(session, Who(project.account_id, OPERATOR), [image.id], restricted=True)  # type: ignore[arg-type]


FORGETTING = {"an image": _erase, "a link": _take_off, "a tag": _delete_tag, "by restriction": _restrict}


def _row(house: Components, project: Project) -> dict[str, object]:
    with house.database.read() as session:
        row = session.get_one(Draft, project.id)
        return {name: getattr(row, name) for name in ("outcome", "score", "suggested", "revision", "learned", "reason")}


@pytest.mark.parametrize("forget", FORGETTING.values(), ids=FORGETTING.keys())
def test_a_draft_goes_in_the_transaction_that_erases(house: Components, forget: Callable[..., object]) -> None:
    project = switched_on(house, counts={"blue": 7, "green": 7, "red": 7})
    t.upload(house, project, [t.coloured(0, 90)], [])
    refresh(house)
    with house.database.read() as session:
        image = images.find(session, project, newest=True)[1].image
    change(house, project, lambda s, p: forget(s, p, image))
    assert set(_row(house, project).values()) == {None}
    assert shape(house, project)["state"] == drafts.LEARNING
    assert suggestions(house, project) == ([], None)
    assert refresh(house)
    learned = shape(house, project)["score"]["images"]  # type: ignore[index]
    assert learned == {"_delete_tag": 14}.get(forget.__name__, 20)


@pytest.mark.parametrize("scored", [False, True])
def test_what_was_erased_while_a_draft_was_made_is_in_none(house: Components, scored: bool) -> None:
    project = switched_on(house)
    t.upload(house, project, [t.coloured(0, 90)], [])
    with house.database.read() as session:
        image = images.find(session, project, newest=True)[1].image
    erased = []

    def look(now: bool) -> None:
        if now == scored and not erased:
            erased.append(image.id)
            change(house, project, lambda s, p: _erase(s, p, image))

    with pytest.raises(live.Superseded):
        refresh(house, look)
    assert erased
    assert set(_row(house, project).values()) == {None}
    assert only(house).due


def test_embeddings_in_memory_go_with_their_images_and_stay_within_bounds(house: Components) -> None:
    project = switched_on(house)
    features = live.Features(house)
    live.refresh(house, only(house), features, lambda scored: None)
    (held,) = features._held.values()
    assert len(held) == 13
    with house.database.read() as session:
        image = images.find(session, project, newest=True)[1].image
    change(house, project, lambda s, p: _erase(s, p, image))
    live.refresh(house, only(house), features, lambda scored: None)
    (held,) = features._held.values()
    assert image.id not in held
    assert len(held) == 12
    size = next(iter(held.values())).nbytes
    assert features._size == 12 * size
    features.keep_projects([])
    assert (features._held, features._size) == ({}, 0)
    small = live.Features(house, most=5 * size)
    live.refresh(house, only(house), small, lambda scored: None)
    assert small._size == 5 * size


def test_a_burst_of_changes_is_one_fit_and_steady_changes_are_not_put_off_for_ever(
    house: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = switched_on(house)
    clock = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    fits = []
    monkeypatch.setattr(live, "refresh", lambda components, one, features, look: fits.append((clock[0], one.revision)))
    follower = live.Follower(house, live.Features(house))

    def bump() -> None:
        change(house, project, lambda s, p: None)

    for _ in range(100):  # within a second
        bump()
        clock[0] += 0.01
        assert follower.step()
    assert fits == []
    clock[0] += live.QUIET_SECONDS
    follower.step()
    assert [revision for _, revision in fits] == [only(house).revision]
    fits.clear()
    begun = clock[0]
    while clock[0] < begun + 3 * live.PATIENCE_SECONDS:
        bump()
        clock[0] += 0.2
        follower.step()
    assert 2 <= len(fits) <= 4


def test_a_newer_change_supersedes_a_fit_under_way(house: Components, monkeypatch: pytest.MonkeyPatch) -> None:
    project = switched_on(house)
    clock = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    follower = live.Follower(house, live.Features(house))
    follower.step()
    clock[0] += live.QUIET_SECONDS
    told: list[str] = []
    real = live.refresh

    def interrupted(components: Components, one: drafts.Live, features: live.Features, look: live.Look) -> bool:
        change(house, project, lambda s, p: None)
        clock[0] += 1.0
        try:
            return real(components, one, features, look)
        except live.Superseded:
            told.append("superseded")
            raise

    monkeypatch.setattr(live, "refresh", interrupted)
    follower.step()
    assert told == ["superseded"]
    assert shape(house, project)["state"] == drafts.LEARNING
    monkeypatch.setattr(live, "refresh", real)
    clock[0] += live.QUIET_SECONDS
    follower.step()
    assert shape(house, project)["state"] == drafts.FRESH


def test_an_error_is_told_once_and_not_tried_again_before_the_next_change(
    house: Components, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    project = switched_on(house)

    def broken(*_: object) -> bool:
        raise MemoryError

    monkeypatch.setattr(live, "refresh", broken)
    monkeypatch.setattr(live, "QUIET_SECONDS", 0.0)
    live.Follower(house, live.Features(house)).step()
    assert shape(house, project)["state"] == drafts.FAILED
    assert not only(house).due
    assert [record.name for record in caplog.records] == ["ownvision.live"]


def test_an_image_that_can_not_be_read_is_named(house: Components) -> None:
    project = switched_on(house)
    with house.database.read() as session:
        image = images.find(session, project, newest=True)[0].image
    house.blobs.delete_prefix(ledger.image_prefix(project.id, image.id))
    assert not refresh(house)
    told = shape(house, project)
    assert told["state"] == drafts.FAILED
    assert image.id in str(told["reason"])


def test_nothing_is_suggested_for_an_untagged_image_that_can_not_be_read(house: Components) -> None:
    project = switched_on(house)
    lost, there = t.upload(house, project, [t.coloured(0, 90), t.coloured(1, 91)], [])
    house.blobs.delete_prefix(ledger.image_prefix(project.id, lost))
    assert refresh(house)
    assert [one.image.id for one in suggestions(house, project)[0]] == [there]


def test_another_domain_makes_the_draft_due(house: Components) -> None:
    project = switched_on(house)
    refresh(house)
    with house.database.write() as session:
        row = projects.get(session, project.account_id, project.id, lock=True)
        projects.update(session, row, {"settings": {"classificationType": "Multilabel"}}, house.settings.limits)
    assert shape(house, project)["state"] == drafts.BEHIND
    assert only(house).behind


def test_a_draft_ends_when_nobody_touches_the_project_for_as_long_as_suggestions_are_kept(house: Components) -> None:
    from datetime import timedelta

    from ownvision.store.tables.base import now

    project = switched_on(house)
    refresh(house)
    assert sum(retention.enforce(house.database, house.settings)) == 0
    old = now() - timedelta(days=house.settings.suggestion_days, seconds=1)
    with house.database.write() as session:
        session.execute(update(Draft).values(learned=old))
    assert sum(retention.enforce(house.database, house.settings)) == 1
    assert shape(house, project)["state"] == drafts.OFF


def test_suggestions_are_packed_without_loss() -> None:
    said = drafts.Suggested(
        ["0" * 36, "1" * 36],
        np.array([5, 7], np.int64),
        np.array([0.5, 1.25], np.float32),
        np.array([[0, 1], [1, 0]], np.int16),
        np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
    )
    back = drafts.Suggested.unpacked(said.packed())
    assert back.tag_ids == said.tag_ids
    for name in ("seqs", "doubts", "tags", "probabilities"):
        assert np.array_equal(getattr(back, name), getattr(said, name))
    assert json.dumps(back.tag_ids)
