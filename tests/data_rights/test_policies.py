import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from sqlalchemy import func, select, update

from ownvision.data_rights import lineage, policies, receipts, refit
from ownvision.errors import OwnVisionError
from ownvision.jobs import handlers, rows, runner
from ownvision.services import exports, fitting, iterations, outputs, performance, predictions, projects
from ownvision.services.components import Components
from ownvision.services.fitting import MODEL
from ownvision.store import ledger
from ownvision.store.blobs.sealed import SealedBlobs
from ownvision.store.tables import (
    AuditEvent,
    Export,
    Image,
    ImageTag,
    Iteration,
    Job,
    LegalHold,
    Project,
    Receipt,
    ScoredImage,
    Tag,
)
from ownvision.store.tables.base import now
from tests.data_rights import erasing as e
from tests.services import trained as t

# Real trainings, one after the other: left to `make test`.
pytestmark = pytest.mark.slow


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    components = t.open_house(tmp_path / "data")
    yield components
    components.database.close()


@dataclass
class Home:
    """A project with its images and an iteration that is published."""

    house: Components
    project: Project
    tags: dict[str, str]
    images: dict[str, list[str]]
    iteration: Iteration

    @property
    def now(self) -> Iteration:
        return e.now_of(self.house, self.iteration)

    def model(self) -> bytes:
        return self.house.blobs.read(ledger.iteration_prefix(self.project.id, self.now.model_id) + MODEL)

    def erase(self, *image_ids: str, everywhere: bool = True) -> Receipt:
        return e.erase(self.house, self.project, image_ids, everywhere=everywhere)

    def receipt(self, receipt: Receipt) -> Receipt:
        with self.house.database.read() as session:
            return session.get_one(Receipt, receipt.id)

    def predict(self) -> dict[str, float]:
        with self.house.database.read() as session:
            row = iterations.published(session, self.project, "colours")
            tags = iterations.learned_tags(session, row.id)
        found, _ = predictions.predict(self.house, row, tags, t.coloured(0, 99))
        return {one["tagName"]: one["probability"] for one in found}


def home_with(house: Components, policy: str, make: Callable[..., Iteration], red: int = 7) -> Home:
    project = t.make_project(house, "Colours")
    tags, ids = {}, {}
    for colour, name in enumerate(("red", "blue")):
        tags[name] = t.make_tag(house, project, name)
        pictures = [t.coloured(colour, seed) for seed in range(red if name == "red" else 6)]
        ids[name] = t.upload(house, project, pictures, [tags[name]])
    iteration = make(house, project)
    e.publish(house, project, iteration, "colours")
    e.choose(house, project, policy)
    return Home(house, project, tags, ids, iteration)


def count(house: Components, table: Any) -> int:
    with house.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.mark.parametrize(
    ("policy", "published", "flag"),
    [("keep", "colours", "kept"), ("unpublish", None, "unpublished"), ("delete", None, "deleted")],
)
def test_a_policy_is_carried_out_by_the_transaction_that_erases(
    house: Components, policy: str, published: str | None, flag: str
) -> None:
    home = home_with(house, policy, e.completed)
    with house.database.write() as session:
        session.get_one(Iteration, home.iteration.id).is_default = True
        export = Export(iteration_id=home.iteration.id, platform="ONNX", status="Done")
        session.add(export)
    unlearned = e.completed(house, home.project, selected_tags=[home.tags["blue"], home.tags["red"]])
    with house.database.write() as session:  # an iteration that never saw them must stay as it is
        session.get_one(Iteration, unlearned.id).left_out = home.images["red"][:2]
    receipt = home.erase(*home.images["red"][:2])
    assert receipt.learned == [
        {
            "iterationId": home.iteration.id,
            "projectId": home.project.id,
            "images": 2,
            "published": True,
            "exports": 1,
            "outcome": flag,
        }
    ]
    with house.database.read() as session:
        row = session.get(Iteration, home.iteration.id)
        other = session.get_one(Iteration, unlearned.id)
        assert (other.erased_count, other.unlearning) == (0, None)
    if policy == "delete":
        assert row is None
        assert count(house, Export) == 0
    else:
        assert row is not None
        assert (row.publish_name, row.erased_count, row.unlearning) == (published, 2, flag)
        assert row.is_default == (policy == "keep")


def test_a_receipt_names_no_names(house: Components) -> None:
    home = home_with(house, "keep", e.completed)
    text = json.dumps(home.erase(home.images["red"][0]).learned)
    assert not any(name in text for name in ("colours", "Colours", "Iteration 1"))


@pytest.mark.parametrize("policy", ["keep", "retrain", "unpublish", "delete"])
def test_deleting_from_the_workspace_says_which_iterations_hold_the_image_and_changes_none(
    house: Components, policy: str
) -> None:
    home = home_with(house, policy, e.completed)
    receipt = home.erase(home.images["red"][0], everywhere=False)
    assert [(one["iterationId"], one["images"], one["outcome"]) for one in receipt.learned] == [
        (home.iteration.id, 1, "holds")
    ]
    row = home.now
    assert (row.publish_name, row.erased_count, row.unlearning) == ("colours", 0, None)
    assert e.queued(house, "refit") == []
    assert home.erase(home.images["blue"][0], everywhere=False).learned[0]["images"] == 1  # not the one before


def test_a_policy_is_chosen_by_its_name(house: Components) -> None:
    project = t.make_project(house, "Colours")
    e.choose(house, project, " Retrain ")
    with house.database.read() as session:
        assert session.get_one(Project, project.id).erasure_policy == "retrain"
    with pytest.raises(OwnVisionError, match="keep, retrain, unpublish, delete; 'burn' is none"):
        e.choose(house, project, "burn")


def test_a_refitted_model_is_the_one_that_never_saw_the_image(house: Components) -> None:
    home = home_with(house, "retrain", t.train)
    with house.database.write() as session:
        locked = projects.get(session, home.project.account_id, home.project.id)
        exports.start(session, locked, home.iteration.id, "ONNX", None)
    t.work(house)
    old, before, old_prediction = home.model(), home.now, home.predict()
    (export,) = _exports(house)
    old_archive = house.blobs.read(ledger.export_prefix(home.project.id, export.archive_id) + exports.ARCHIVE)
    gone = home.images["red"][0]
    receipt = home.erase(gone)
    assert [one["outcome"] for one in receipt.learned] == ["pending"]
    assert (home.now.erased_count, home.now.unlearning, home.now.publish_name) == (1, "pending", "colours")
    assert home.predict() == old_prediction  # the old model answers until the new one is there
    t.work(house)

    after = home.now
    assert (after.erased_count, after.unlearning) == (0, "refitted")
    for name in ("id", "name", "publish_name", "created", "number", "revision", "status"):
        assert getattr(after, name) == getattr(before, name)
    assert after.last_modified > before.last_modified
    new = home.model()
    assert new != old
    assert home.predict() != old_prediction  # the loaded one was let go
    fresh = t.train(house, home.project, force=True)
    assert new == replace(home, iteration=fresh).model()
    with house.database.read() as session:
        assert _figures(session, home.project, after) == _figures(session, home.project, fresh)
        entries = lineage.image_set(session, after)
        (audited,) = session.scalars(select(AuditEvent).where(AuditEvent.operation == "RefitJob"))
    assert gone not in entries.images
    assert [(entry.image_id, entry.receipt) for entry in entries.erased] == [(gone, receipt.id)]
    assert entries.erased[0].unlearned is not None
    assert (audited.target, audited.action) == (after.id, "change")
    assert [one["outcome"] for one in home.receipt(receipt).learned] == ["refitted"]

    (export,) = _exports(house)
    assert export.status == "Done"
    archive = house.blobs.read(ledger.export_prefix(home.project.id, export.archive_id) + exports.ARCHIVE)
    assert archive != old_archive
    models = [key for key in t.files(house) if key.endswith(MODEL) or key.endswith(exports.ARCHIVE)]
    assert len(models) == 3  # two models and an archive: nothing of the old ones is left


def test_a_refitted_model_equals_that_of_another_project_that_never_had_the_images(house: Components) -> None:
    """With other ids, in another order and other batches; only the ids of its tags are its own."""
    home = home_with(house, "retrain", t.train)
    home.erase(*home.images["red"][:1])
    t.work(house)
    with house.database.read() as session:
        left = list(
            session.execute(
                select(Image.id, ImageTag.tag_id)
                .join(ImageTag, ImageTag.image_seq == Image.seq)
                .where(Image.project_id == home.project.id)
                .order_by(Image.sha256)
            )
        )
        names = {tag.id: tag.name for tag in session.scalars(select(Tag).where(Tag.project_id == home.project.id))}
    other = t.make_project(house, "Never", home.project.classification_type, home.project.domain_id)
    tags = {name: t.make_tag(house, other, name) for name in sorted(names.values(), reverse=True)}
    for image_id, tag_id in left:
        original = house.blobs.read(ledger.image_prefix(home.project.id, image_id) + "original")
        t.upload(house, other, [original], [tags[names[tag_id]]])
        t.work(house)  # its features are made alone
    fresh = onnx.load_from_string(replace(home, project=other, iteration=t.train(house, other)).model())
    refitted = onnx.load_from_string(home.model())
    mine = {entry.key: entry.value for entry in refitted.metadata_props}
    for entry in fresh.metadata_props:
        if entry.key == "ownvision.tags":
            assert json.loads(entry.value) == [tags[names[id]] for id in json.loads(mine[entry.key])]
            entry.value = mine[entry.key]
    assert fresh.SerializeToString(deterministic=True) == refitted.SerializeToString(deterministic=True)


def _exports(house: Components) -> list[Export]:
    with house.database.read() as session:
        return list(session.scalars(select(Export)))


def _figures(session: Any, project: Project, iteration: Iteration) -> dict[str, Any]:
    assert session.scalar(select(func.count()).where(ScoredImage.iteration_id == iteration.id)) == 12
    return performance.of_iteration(session, project, iteration.id)


def settled(house: Components) -> set[str]:
    """Receipts of which nothing is left, once the sweeper has been there."""
    t.files(house)
    receipts.settle(house.database)
    with house.database.read() as session:
        return set(session.scalars(select(Receipt.id).where(Receipt.settled.is_not(None))))


def test_receipts_wait_for_the_old_model_and_its_archives_to_go(house: Components) -> None:
    home = home_with(house, "retrain", t.train)
    with house.database.write() as session:
        locked = projects.get(session, home.project.account_id, home.project.id)
        exports.start(session, locked, home.iteration.id, "ONNX", None)
    t.work(house)
    both = {home.erase(image_id).id for image_id in home.images["red"][:2]}
    assert len(e.queued(house, "refit")) == 1  # one for both
    assert settled(house) == set()
    runner.run(house, t.claim(house))
    assert home.now.unlearning == "refitted"
    assert settled(house) == set()  # the archive is still that of the old model
    t.work(house)
    assert settled(house) == both
    with house.database.read() as session:
        first = min((session.get_one(Receipt, one) for one in both), key=lambda receipt: receipt.number)
    counted = {kind: one["count"] for kind, one in first.erased.items()}
    assert (counted["models"], counted["scores"]) == (1, 13)  # the old model, and all that it was measured by


@pytest.mark.parametrize("end", ["deleted", "export deleted", "cancelled"])
def test_no_receipt_waits_for_what_will_not_come(house: Components, end: str) -> None:
    home = home_with(house, "retrain", e.completed)
    with house.database.write() as session:
        session.add(Export(iteration_id=home.iteration.id, platform="ONNX", status="Done"))
    receipt = home.erase(home.images["red"][0])
    with house.database.write() as session:
        locked = projects.get(session, home.project.account_id, home.project.id, lock=True)
        (job,) = session.scalars(select(Job).where(Job.kind == "refit"))
        if end == "cancelled":
            stopped = rows.cancel_job(session, job.id)
            assert stopped is not None
            handlers.on_failed(session, stopped, "Cancelled.")
        else:
            exports.remake(session, locked, home.iteration.id, [receipt.id])
            (export,) = session.scalars(select(Export))
            if end == "export deleted":
                exports.delete(session, locked, home.iteration.id, export.id)
                handlers.on_failed(session, job, "It failed.")
            else:
                iterations.unpublish(session, locked, home.iteration.id)
                iterations.delete(session, locked, home.iteration.id)
    assert settled(house) == {receipt.id}


def test_a_legal_hold_keeps_the_old_model_but_nobody_is_answered_by_it(house: Components) -> None:
    home = home_with(house, "retrain", e.pretended)
    home.erase(home.images["red"][0])
    with house.database.write() as session:
        session.add(LegalHold(account_id=home.project.account_id, project_id=home.project.id, reason="A lawsuit."))
    old = home.model()
    t.work(house)
    assert home.model() == old
    assert (home.now.publish_name, home.now.unlearning) == (None, "failed")


def test_where_too_few_images_are_left_it_is_unpublished(house: Components) -> None:
    home = home_with(house, "retrain", e.pretended, red=6)
    model = home.model()
    receipt = home.erase(*home.images["red"][:2])  # four are left, each tag needs five
    assert home.now.unlearning == "pending"
    t.work(house)
    row = home.now
    assert (row.publish_name, row.unlearning, row.erased_count, row.status) == (None, "failed", 2, "Completed")
    assert home.model() == model
    assert [one["outcome"] for one in home.receipt(receipt).learned] == ["failed"]
    with house.database.read() as session:
        (job,) = session.scalars(select(Job).where(Job.kind == "refit"))
        assert "fewer than the 5" in (job.error or "")
    assert settled(house) == {receipt.id}  # it waits no longer


def test_where_a_tag_has_no_image_left_it_is_unpublished_at_once(house: Components) -> None:
    home = home_with(house, "retrain", e.completed)
    receipt = home.erase(*home.images["red"])
    assert [one["outcome"] for one in receipt.learned] == ["failed"]
    assert (home.now.publish_name, home.now.unlearning) == (None, "failed")
    assert e.queued(house, "refit") == []


class _Interfering:
    """Blobs where something happens as a model is being written."""

    def __init__(self, blobs: SealedBlobs, happens: Callable[[], None]) -> None:
        self._blobs = blobs
        self._happens: Callable[[], None] | None = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    def put_parts(self, key: str, parts: Iterable[bytes]) -> None:
        if key.endswith(MODEL) and self._happens is not None:
            happens, self._happens = self._happens, None
            happens()
        self._blobs.put_parts(key, parts)


@pytest.mark.parametrize("what", ["erased", "restricted"])
def test_an_image_that_goes_while_a_model_is_refitted_is_not_in_it_either(house: Components, what: str) -> None:
    home = home_with(house, "retrain", e.pretended)
    second = home.images["red"][1]

    def go() -> None:
        if what == "erased":
            home.erase(second)
        else:
            with house.database.write() as session:
                session.scalars(select(Image).where(Image.id == second)).one().restricted = now()

    home.erase(home.images["red"][0])
    runner.run(replace(house, blobs=_Interfering(house.blobs, go)), t.claim(house))  # type: ignore[arg-type]
    row = home.now
    assert (row.erased_count, row.unlearning) == (0, "refitted")
    assert row.left_out == ([second] if what == "restricted" else [])
    with house.database.read() as session:
        assert second not in lineage.image_set(session, row).images
        assert second not in set(session.scalars(select(ScoredImage.image_id)))
    assert e.queued(house, "refit") == []


def killed_while_writing(home: Home) -> None:
    """A worker's attempt at a refit that ends in the middle of writing the model."""
    claim = t.claim(home.house)
    prefix = ledger.iteration_prefix(home.project.id, claim.job_id)
    outputs.write(home.house, claim, prefix, "iteration", MODEL, b"half")
    rows.recover(home.house.database, handlers.on_failed, rows.any_running())


def test_a_refit_that_was_killed_is_taken_up_and_leaves_nothing_behind(house: Components) -> None:
    home = home_with(house, "retrain", e.pretended)
    home.erase(home.images["red"][0])
    old = home.model()
    killed_while_writing(home)
    assert home.model() == old
    t.work(house)
    assert home.now.unlearning == "refitted"
    assert len([key for key in t.files(house) if key.endswith(MODEL)]) == 1


def figures(home: Home) -> tuple[dict[str, Any], int]:
    """What a reader is told of an iteration's scores."""
    with home.house.database.read() as session:
        told = performance.of_iteration(session, home.project, home.iteration.id)
        return told, performance.image_count(session, home.project, home.iteration.id)


class _Killed(BaseException):
    """The process of a job ends here."""


def watched(house: Components, before: Callable[[], object]) -> Components:
    """A house in which something happens before each write transaction."""

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(house.database, name)

        def write(self) -> Any:
            before()
            return house.database.write()

    return replace(house, database=Watched())  # type: ignore[arg-type]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_PART", 5)
    monkeypatch.setattr(refit, "_PART", 5)


def scored_by(house: Components) -> set[str]:
    with house.database.read() as session:
        return set(session.scalars(select(ScoredImage.model_id)))


@pytest.mark.usefixtures("small_parts")
def test_a_reader_sees_all_old_or_all_new_scores_whenever_they_look(house: Components) -> None:
    home = home_with(house, "retrain", t.train)
    home.erase(home.images["red"][0])
    with house.database.write() as session:
        session.execute(update(ScoredImage).values(scores=bytes(8)))  # the old model found nothing
    old = figures(home)
    seen: list[tuple[dict[str, Any], int]] = []
    runner.run(watched(house, lambda: seen.append(figures(home))), t.claim(house))
    new = figures(home)
    assert scored_by(house) == {home.now.model_id}
    with house.database.read() as session:
        assert session.scalar(select(func.count()).select_from(ScoredImage)) == new[1] == 12
    assert new != old
    turn = seen.index(new)
    assert seen == [old] * turn + [new] * (len(seen) - turn)
    assert turn > 3  # parts were written before it
    assert len(seen) - turn > 2  # and removed after it


def killed_when(home: Home, swapped: bool, parts: int) -> None:
    """A worker's attempt at a refit that ends so many transactions after it has staged a score, or has swapped."""
    old, left = home.now.model_id, parts

    def die() -> None:
        nonlocal left
        if home.now.model_id != old if swapped else len(scored_by(home.house)) > 1:
            left -= 1
            if left < 0:
                raise _Killed

    with pytest.raises(_Killed):
        runner.run(watched(home.house, die), t.claim(home.house))
    rows.recover(home.house.database, handlers.on_failed, rows.any_running())


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("swapped", "parts"), [(False, 0), (False, 1), (True, 0), (True, 1)])
@pytest.mark.parametrize("then", ["taken up", "cancelled", "more erased"])
def test_a_kill_amid_staging_or_clearing_leaves_no_score_and_no_receipt_too_early(
    house: Components, swapped: bool, parts: int, then: str
) -> None:
    home = home_with(house, "retrain", e.pretended)
    with house.database.write() as session:
        session.add_all(
            ScoredImage(iteration_id=home.iteration.id, image_id=id, scores=b"", truth=b"")
            for id in (*home.images["red"], *home.images["blue"])
        )
    receipt = home.erase(home.images["red"][0])
    killed_when(home, swapped, parts)
    assert len(scored_by(house)) == 2
    assert settled(house) == set()
    asked = {receipt.id}
    if then == "cancelled":
        with house.database.write() as session:
            (job,) = session.scalars(select(Job).where(Job.kind == "refit"))
            stopped = rows.cancel_job(session, job.id)
            assert stopped is not None
            handlers.on_failed(session, stopped, "Cancelled.")
    elif then == "more erased":
        asked.add(home.erase(home.images["red"][1]).id)
    t.work(house)
    assert scored_by(house) == {home.now.model_id}
    given_up = then == "cancelled" and not swapped
    assert (home.now.unlearning, home.now.erased_count) == (("failed", 1) if given_up else ("refitted", 0))
    assert settled(house) == asked


def test_a_refit_that_is_given_up_keeps_only_the_old_model_and_unpublishes_it(house: Components) -> None:
    home = home_with(house, "retrain", e.pretended)
    home.erase(home.images["red"][0])
    old = home.model()
    for _ in range(rows.MAX_ATTEMPTS):
        killed_while_writing(home)
    assert (home.now.publish_name, home.now.unlearning) == (None, "failed")
    assert home.model() == old
    assert len([key for key in t.files(house) if key.endswith(MODEL)]) == 1


def test_an_iteration_deleted_while_it_is_refitted_leaves_nothing(house: Components) -> None:
    home = home_with(house, "retrain", e.pretended)
    home.erase(home.images["red"][0])

    def go() -> None:
        with house.database.write() as session:
            locked = projects.get(session, home.project.account_id, home.project.id, lock=True)
            iterations.unpublish(session, locked, home.iteration.id)
            iterations.delete(session, locked, home.iteration.id)

    runner.run(replace(house, blobs=_Interfering(house.blobs, go)), t.claim(house))  # type: ignore[arg-type]
    assert count(house, Iteration) == 0
    assert not [key for key in t.files(house) if key.endswith(MODEL)]


def test_one_model_can_be_refitted_by_hand(house: Components) -> None:
    home = home_with(house, "keep", e.pretended)

    def ask() -> Job:
        with house.database.write() as session:
            locked = projects.get(session, home.project.account_id, home.project.id, lock=True)
            return policies.refit(session, locked, home.iteration.id)

    with pytest.raises(OwnVisionError, match="no image that was erased"):
        ask()
    home.erase(home.images["red"][0])
    ask()
    t.work(house)
    assert (home.now.unlearning, home.now.erased_count, home.now.publish_name) == ("refitted", 0, "colours")


def test_an_archive_that_can_not_be_made_anew_goes_all_the_same(house: Components) -> None:
    home = home_with(house, "retrain", t.train)
    with house.database.write() as session:
        locked = projects.get(session, home.project.account_id, home.project.id)
        exports.start(session, locked, home.iteration.id, "ONNX", None)
    t.work(house)
    home.erase(home.images["red"][0])
    runner.run(house, t.claim(house))
    for _ in range(rows.MAX_ATTEMPTS):
        t.claim(house, rows.QUICK)
        rows.recover(house.database, handlers.on_failed, rows.any_running())
    (export,) = _exports(house)
    assert export.status == "Failed"
    assert not [key for key in t.files(house) if key.endswith(exports.ARCHIVE)]


def test_the_journal_tells_a_model_that_was_replaced_from_an_iteration_that_went(house: Components) -> None:
    home = home_with(house, "retrain", e.pretended)

    def journaled() -> list[tuple[str, str]]:
        """What the journal holds of iterations and models, once the sweeper told it."""
        while ledger.sweep(house.database, house.blobs, erased=house.keys.journal):
            pass
        return [
            (kind, name.rstrip("/").rpartition("/")[2])
            for kind, name in house.keys.erased()
            if kind in ("iteration", "model")
        ]

    home.erase(home.images["red"][0])
    t.work(house)
    refitted = home.now.model_id
    assert journaled() == [("model", home.iteration.id)]  # the iteration is not erased
    with house.database.write() as session:
        locked = projects.get(session, home.project.account_id, home.project.id, lock=True)
        iterations.unpublish(session, locked, home.iteration.id)
        iterations.delete(session, locked, home.iteration.id)
    assert set(journaled()[1:]) == {("iteration", home.iteration.id), ("iteration", refitted)}


def test_a_model_that_a_restored_backup_brought_back_is_replaced_again(house: Components) -> None:
    home = home_with(house, "keep", e.pretended)
    home.erase(home.images["red"][0])
    with house.database.write() as session:
        assert policies.unlearn(session, ["another", home.now.model_id]) == 1
    assert home.now.unlearning == "pending"
    t.work(house)
    assert (home.now.unlearning, home.now.publish_name) == ("refitted", "colours")
