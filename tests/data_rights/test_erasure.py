"""Erasing each kind of thing: what goes, what stays and why, what is refused, and what a crash can't change."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ownvision.data_rights import closing, erasure, finishing, receipts
from ownvision.data_rights.doctor import doctor
from ownvision.data_rights.who import OPERATOR, Who
from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.services import accounts, exports, iterations, predictions, projects, webhooks
from ownvision.services.components import Components, open_components
from ownvision.settings import Settings
from ownvision.store import ledger
from ownvision.store.tables import (
    Account,
    ApiKey,
    Blob,
    Export,
    Image,
    Iteration,
    Job,
    LegalHold,
    Prediction,
    Project,
    Receipt,
    Tag,
    Takeout,
)
from ownvision.store.tables.base import new_id
from tests.services import trained as t

pytestmark = pytest.mark.slow
Erase = Callable[[Session, Who, Project], Receipt]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Project]:
    """An installation with a trained project of 12 images, two of them named, an export, and a stored prediction."""
    folder = tmp_path_factory.mktemp("trained") / "data"
    house = t.open_house(folder)
    project = t.make_project(house, "Herbarium")
    t.fill(house, project, {"red": 6, "blue": 6})
    with house.database.write() as session:
        for image in session.scalars(select(Image).order_by(Image.seq).limit(2)):
            image.file_name = "ada.png"
    iteration = t.train(house, project)
    with house.database.write() as session:
        exports.start(session, projects.get(session, project.account_id, project.id), iteration.id, "ONNX", None)
    t.work(house)
    _predict(house, project, iteration)
    house.database.close()
    return folder, project


@pytest.fixture
def project(trained: tuple[Path, Project]) -> Project:
    return trained[1]


@pytest.fixture
def house(trained: tuple[Path, Project], tmp_path: Path) -> Iterator[Components]:
    shutil.copytree(trained[0], tmp_path / "data")
    components = open_components(Settings(data=tmp_path / "data"))
    yield components
    components.database.close()


def _predict(house: Components, project: Project, iteration: Iteration) -> None:
    with house.database.read() as session:
        learned = iterations.learned_tags(session, iteration.id)
    data = t.coloured(0, 99)
    found, info = predictions.predict(house, iteration, learned, data)
    predictions.store(house, project.account_id, project, iteration, data, info, found, new_id(), None)


def _who(project: Project) -> Who:
    return Who(project.account_id, OPERATOR)


def _erase(house: Components, project: Project, change: Erase) -> Receipt:
    with house.database.write() as session:
        receipt = change(session, _who(project), project)
    erasure.after_commit(house, receipt)
    return receipt


def _settled(house: Components, receipt: Receipt) -> Receipt:
    """The receipt when all that follows was done, as where no worker is there."""
    assert finishing.finish(house)
    with house.database.read() as session:
        done = receipts.get(session, receipt.id)
    assert done.state == "signed"
    return done


def _counts(receipt: Receipt) -> dict[str, int]:
    return {kind: one["count"] for kind, one in receipt.erased.items()}


def _one(session: Session, column: Any) -> Any:
    return session.scalars(select(column).order_by(column)).first()


def _images(session: Session, who: Who, project: Project, *, all_iterations: bool) -> Receipt:
    ids = list(session.scalars(select(Image.id).where(Image.until.is_(None)).order_by(Image.seq).limit(3)))
    return erasure.erase_images(session, who, project.id, ids, all_iterations=all_iterations)


def _first_iteration(session: Session) -> str:
    return session.scalars(select(Iteration.id)).one()


CHANGES: dict[str, Erase] = {
    "images of the workspace": lambda s, who, p: _images(s, who, p, all_iterations=False),
    "images everywhere": lambda s, who, p: _images(s, who, p, all_iterations=True),
    "tag": lambda s, who, p: erasure.erase_tag(s, who, p.id, _one(s, Tag.id)),
    "iteration": lambda s, who, p: erasure.erase_iteration(s, who, p.id, _first_iteration(s)),
    "predictions": lambda s, who, p: erasure.erase_predictions(s, who, p.id, [_one(s, Prediction.id)]),
    "export": lambda s, who, p: erasure.erase_export(s, who, p.id, _first_iteration(s), _one(s, Export.id)),
    "project": lambda s, who, p: erasure.erase_project(s, who, p.id),
    "account": lambda s, who, p: erasure.erase_account(s, who),
}
# What each counts, and why it keeps what it keeps (kinds).
COUNTED: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "images of the workspace": ({}, {"images": 3, "imageTags": 3}),
    "images everywhere": (
        {"images": 3, "fileNames": 2, "imageTags": 3, "embeddings": 3, "scoresDetached": 3},
        {"lineage": 3, "scores": 3},
    ),
    "tag": ({"tags": 1}, {"imageTags": 6, "iterationTags": 1}),
    "iteration": (
        {"iterations": 1, "iterationTags": 2, "models": 1, "scores": 12, "exports": 1, "predictions": 1},
        {},
    ),
    "predictions": ({"predictions": 1}, {}),
    "export": ({"exports": 1}, {}),
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_receipt_counts_what_goes_and_says_what_stays(house: Components, project: Project, name: str) -> None:
    before = sum(size for _, size in house.blobs.list())
    receipt = _settled(house, _erase(house, project, CHANGES[name]))
    erased, kept = COUNTED[name]
    assert _counts(receipt) == erased
    assert {one["kind"]: one["count"] for one in receipt.kept} == kept
    # Every byte that is no longer there is counted.
    assert sum(one["bytes"] for one in receipt.erased.values()) == before - sum(size for _, size in house.blobs.list())
    assert list(doctor(house)) == []


def test_a_project_goes_with_all_it_holds_counted_to_the_byte(house: Components, project: Project) -> None:
    before = list(house.blobs.list())
    receipt = _erase(house, project, CHANGES["project"])
    with house.database.read() as session:
        assert projects.all(session, project.account_id) == []
        with pytest.raises(OwnVisionError, match="There is no project"):
            projects.get(session, project.account_id, project.id)
    assert house.keys.projects() == []
    again = t.make_project(house, "Herbarium")
    assert again.name == "Herbarium"
    receipt = _settled(house, receipt)
    counts = _counts(receipt)
    assert {kind: counts[kind] for kind in ("images", "fileNames", "imageTags", "tags", "projects")} == {
        "images": 12,
        "fileNames": 2,
        "imageTags": 12,
        "tags": 2,
        "projects": 1,
    }
    assert (counts["embeddings"], counts["models"], counts["exports"], counts["predictions"]) == (12, 1, 1, 1)
    assert sum(one["bytes"] for one in receipt.erased.values()) == sum(size for _, size in before)
    assert list(house.blobs.list()) == []
    assert ("project", f"{project.id}/") in set(house.keys.erased())
    assert list(doctor(house)) == []


def test_nothing_of_an_account_is_left_but_its_receipts(house: Components, project: Project) -> None:
    with house.database.write() as session:
        account = session.get_one(Account, project.account_id)
        account.user_name, account.email = "ada-lovelace", "ada@analytical.example"
        keys = list(session.scalars(select(ApiKey.sha256)))
    first = _erase(house, project, CHANGES["predictions"])
    receipt = _settled(house, _erase(house, project, CHANGES["account"]))
    counts = _counts(receipt)
    assert (counts["accounts"], counts["keys"], counts["projects"], counts["images"]) == (1, 4, 1, 12)
    assert [one["kind"] for one in receipt.kept] == ["receipts"]
    with house.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Account)) == 0
        assert [row.id for row in receipts.all(session, project.account_id)] == [receipt.id, first.id]
    assert house.keys.accounts() == house.keys.projects() == []
    words = [b"Herbarium", b"ada.png", b"ada-lovelace", b"analytical", *(key.encode() for key in keys)]
    house.database.close()
    left = {
        (path.name, word)
        for path in house.settings.data.rglob("*")
        if path.is_file()
        for word in words
        if word in path.read_bytes()
    }
    assert left == set()


def test_an_installation_whose_accounts_are_erased_starts_without_one(house: Components, project: Project) -> None:
    _erase(house, project, CHANGES["account"])
    assert accounts.first_start(house) is None
    finishing.finish(house)
    assert accounts.first_start(house) is None
    with house.database.write() as session:
        made = accounts.create(session, house.keys, user_name="owner", email="x@example.org", tier="F0")
    assert accounts.first_start(house).id == made.id  # type: ignore[union-attr]


@pytest.mark.parametrize("name", CHANGES)
def test_a_legal_hold_refuses_every_erasure_and_nothing_changes(house: Components, project: Project, name: str) -> None:
    with house.database.write() as session:
        session.add(LegalHold(account_id=project.account_id, project_id=project.id, reason="a trial"))
    before = _dump(house)
    with pytest.raises(OwnVisionError, match="legal hold"):
        _erase(house, project, CHANGES[name])
    assert _dump(house) == before


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "account"])
def test_nothing_of_another_account_can_be_erased(house: Components, project: Project, name: str) -> None:
    with house.database.write() as session:
        other = accounts.create(session, house.keys, user_name="other", email="x@example.org", tier="Unlimited")
    before = _dump(house)
    with pytest.raises(OwnVisionError) as refused, house.database.write() as session:
        CHANGES[name](session, Who(other.id, OPERATOR), project)
    assert refused.value.code == "NotFoundProject"
    assert _dump(house) == before


def test_a_published_iteration_keeps_itself_and_its_project_but_not_its_account(
    house: Components, project: Project
) -> None:
    with house.database.write() as session:
        session.scalars(select(Iteration)).one().publish_name = "best"
    before = _dump(house)
    for name in ("iteration", "project"):
        with pytest.raises(OwnVisionError) as refused:
            _erase(house, project, CHANGES[name])
        assert refused.value.code == "BadRequestIterationIsPublished"
    assert _dump(house) == before
    _settled(house, _erase(house, project, CHANGES["account"]))


def test_loaded_models_are_let_go_and_work_under_way_is_stopped(house: Components, project: Project) -> None:
    with house.database.read() as session:
        iteration = session.scalars(select(Iteration)).one()
    _predict(house, project, iteration)
    assert list(house.models.loaded()) == [iteration.id]
    running = t.start(house, project, force=True)
    claim = t.claim(house)
    with house.database.write() as session:
        locked = projects.get(session, project.account_id, project.id, lock=True)
        webhooks.keep(session, house.keys, locked, webhooks.Webhook("https://x.example", "whsec_" + 32 * "A"))
    receipt = _erase(house, project, CHANGES["project"])
    assert house.models.loaded() == {}
    assert (_counts(receipt)["jobsCancelled"], _counts(receipt)["addresses"]) == (1, 1)
    with pytest.raises(rows.Cancelled):
        rows.heartbeat(house.database, claim, None, 60.0)
    t.runner.run(house, claim)
    with house.database.read() as session:
        assert session.get_one(Job, claim.job_id).state == "cancelled"
        assert session.get_one(Iteration, running.id).status != "Completed"
    _settled(house, receipt)


def test_archives_that_hold_what_is_erased_go_with_it(house: Components, project: Project) -> None:
    other = t.make_project(house, "Other")
    made = {}
    with house.database.write() as session:
        for owner in (project.account_id, project.id, other.id):
            takeout = Takeout(
                account_id=project.account_id,
                project_id=None if owner == project.account_id else owner,
            )
            session.add(takeout)
            session.flush()
            made[owner] = f"{owner}/takeouts/{takeout.id}/"
    ledger.reserve(house.database, [(prefix, "takeout", project.account_id, owner) for owner, prefix in made.items()])
    for prefix in made.values():
        house.blobs.put_new(prefix + "archive.zip", b"everything")
    with house.database.write() as session:
        ledger.make_live(session, list(made.values()))
    receipt = _settled(house, _erase(house, project, CHANGES["predictions"]))
    assert _counts(receipt) == {"predictions": 1, "takeouts": 2}
    assert receipt.erased["takeouts"]["bytes"] > 0
    assert [key for key, _ in house.blobs.list() if "takeouts" in key] == [made[other.id] + "archive.zip"]


def finished(house: Components, receipt: Receipt) -> bool:
    with house.database.read() as session:
        return receipts.left(session, receipt) == 0


class Struck(Exception):
    """The process ends here."""


@pytest.mark.parametrize("name", ["project", "account"])
def test_an_emptying_that_is_struck_down_between_any_two_steps_counts_everything_once(
    house: Components, project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(closing, "_ROWS", 5)
    monkeypatch.setattr(closing, "_FILES", 5)
    receipt = _erase(house, project, CHANGES[name])
    subject = project.id if name == "project" else project.account_id
    expected = {"images": 12, "imageTags": 12, "tags": 2, "embeddings": 12, "scores": 12, "models": 1}
    total = sum(size for _, size in house.blobs.list())
    delete = type(house.blobs).delete_prefix
    steps = iter(range(10_000))

    def strike(step: int) -> None:
        if step % 3 == 1:
            raise Struck

    def removing(blobs: Any, prefix: str) -> None:
        strike(next(steps))  # counted, and not yet removed
        delete(blobs, prefix)
        strike(next(steps))

    monkeypatch.setattr(type(house.blobs), "delete_prefix", removing)
    attempts = 0
    while attempts < 200:
        attempts += 1
        try:
            closing.empty(house, subject, lambda: strike(next(steps)))
            break
        except Struck:
            assert not finished(house, receipt)
    assert 5 < attempts < 200
    monkeypatch.setattr(type(house.blobs), "delete_prefix", delete)
    receipt = _settled(house, receipt)
    assert {kind: _counts(receipt)[kind] for kind in expected} == expected
    assert sum(one["bytes"] for one in receipt.erased.values()) == total
    assert list(house.blobs.list()) == []


def test_a_sweep_that_is_struck_down_counts_the_files_once(
    house: Components, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sum(size for _, size in house.blobs.list())
    receipt = _erase(house, project, CHANGES["iteration"])
    delete = type(house.blobs).delete_prefix
    left = iter([True, False, True, False])

    def removing(blobs: Any, prefix: str) -> None:
        if next(left, False):
            raise Struck
        delete(blobs, prefix)
        raise Struck

    monkeypatch.setattr(type(house.blobs), "delete_prefix", removing)
    for _ in range(4):
        with pytest.raises(Struck):
            ledger.sweep(house.database, house.blobs)
    monkeypatch.setattr(type(house.blobs), "delete_prefix", delete)
    receipt = _settled(house, receipt)
    after = sum(size for _, size in house.blobs.list())
    assert sum(one["bytes"] for one in receipt.erased.values()) == before - after


def test_what_is_closed_is_emptied_even_when_its_job_is_lost(house: Components, project: Project) -> None:
    _erase(house, project, CHANGES["project"])
    assert closing.resume(house.database) == 0
    claim = t.claim(house, rows.QUICK)
    with house.database.write() as session:
        rows.fail(session, claim, "the disk was full")
    assert closing.resume(house.database) == 1
    assert closing.resume(house.database) == 0
    t.work(house)
    with house.database.read() as session:
        assert session.scalar(select(Project)) is None
        assert session.scalars(select(Job.state).where(Job.kind == closing.KIND)).all() == ["failed", "done"]
    assert closing.resume(house.database) == 0


def test_a_key_that_outlived_a_crash_after_the_commit_is_destroyed_and_journaled(
    house: Components, project: Project
) -> None:
    with house.database.write() as session:
        receipt = erasure.erase_project(session, _who(project), project.id)
    assert house.keys.projects() == [project.id]
    assert [found.kind for found in doctor(house)] == ["stray key"]
    _settled(house, receipt)
    assert house.keys.projects() == []
    assert ("project", f"{project.id}/") in set(house.keys.erased())


def _dump(house: Components) -> str:
    """All that could have changed."""
    with house.database.read() as session:
        counts = {
            table.__tablename__: session.scalar(select(func.count()).select_from(table))
            for table in (Image, Iteration, Project, Receipt, Job, Blob, Account, ApiKey)
        }
        states = session.execute(select(Blob.prefix, Blob.state).order_by(Blob.prefix)).all()
        open_ones = session.execute(select(Project.name, Project.revision, Project.closed)).all()
    return json.dumps([counts, [list(row) for row in states], [list(row) for row in open_ones]], default=str)
