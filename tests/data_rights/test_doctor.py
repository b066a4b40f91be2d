"""The doctor finds each planted fault, and nothing where nothing is wrong."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from ownvision.data_rights.doctor import doctor
from ownvision.services import accounts, intake, projects
from ownvision.services.components import Components, open_components
from ownvision.services.intake import Picture
from ownvision.settings import Settings
from ownvision.store import ledger
from ownvision.store.tables import Blob, Image, Iteration, Job, Project, Tag
from ownvision.store.tables.base import now
from tests import databases
from tests.services import trained as t
from tests.services.conftest import png

House = tuple[Components, Project, str]


@pytest.fixture
def installation(tmp_path: Path) -> House:
    house = open_components(Settings(data=tmp_path / "data"))
    databases.migrate(house.database)
    account = accounts.first_start(house)
    with house.database.write() as session:
        project = projects.create(
            session,
            house.keys,
            accounts.get(session, account.id),
            name="Trees",
            description=None,
            domain_id=None,
            classification_type=None,
            target_export_platforms=[],
            limits=house.settings.limits,
        )
    (added,) = intake.add_images(house, account.id, project.id, None, [Picture("1.png", lambda: png(1))])
    assert added.view is not None
    return house, project, ledger.image_prefix(project.id, added.view.image.id)


def _object(house: Components, prefix: str) -> Path:
    return house.settings.data / "objects" / (prefix + "original")


def _flip(house: Components, project: Project, prefix: str) -> None:
    path = _object(house, prefix)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _shorten(house: Components, project: Project, prefix: str) -> None:
    path = _object(house, prefix)
    path.write_bytes(path.read_bytes()[:-1])


def _stray_file(house: Components, project: Project, prefix: str) -> None:
    (house.settings.data / "objects" / project.id / "leftover").write_bytes(b"left over")


def _lost_file(house: Components, project: Project, prefix: str) -> None:
    _object(house, prefix).unlink()


def _lost_row(house: Components, project: Project, prefix: str) -> None:
    with house.database.write() as session:
        session.execute(delete(Image))
        session.execute(update(Project).values(image_count=0))


def _lost_ledger_row(house: Components, project: Project, prefix: str) -> None:
    with house.database.write() as session:
        session.execute(delete(Blob))


def _stale_lease(house: Components, project: Project, prefix: str) -> None:
    ledger.reserve(house.database, [("x/images/1/", "image", "a", "x")])
    with house.database.write() as session:
        session.execute(update(Blob).where(Blob.state == "pending").values(due=now() - timedelta(minutes=1)))


def _stray_key(house: Components, project: Project, prefix: str) -> None:
    house.keys.create_project(project.account_id, "00000000-0000-4000-8000-000000000000")


def _lost_key(house: Components, project: Project, prefix: str) -> None:
    house.keys.destroy_project(project.id)


def _useless_key(house: Components, project: Project, prefix: str) -> None:
    (house.keys.folder / "projects" / f"{project.id}.key").write_bytes(b"x" * 90)


def _file_among_the_keys(house: Components, project: Project, prefix: str) -> None:
    (house.keys.folder / "projects" / "notes.txt").write_bytes(b"x")


def _file_in_the_root(house: Components, project: Project, prefix: str) -> None:
    (house.settings.data / "objects" / "stray").write_bytes(b"x")


def _foreign_file(house: Components, project: Project, prefix: str) -> None:
    _object(house, prefix).with_suffix(".extra").write_bytes(b"never sealed")


def _empty_file(house: Components, project: Project, prefix: str) -> None:
    _object(house, prefix).write_bytes(b"")


def _other_picture(house: Components, project: Project, prefix: str) -> None:
    _object(house, prefix).unlink()
    house.blobs.put_new(prefix + "original", png(2))


def _silent_worker(house: Components, project: Project, prefix: str) -> None:
    with house.database.write() as session:
        session.execute(update(Job).values(state="running", lease_until=now() - timedelta(seconds=1)))


def _training_without_job(house: Components, project: Project, prefix: str) -> None:
    with house.database.write() as session:
        iteration = Iteration(
            project_id=project.id,
            number=1,
            name="Iteration 1",
            revision=1,
            domain_id=project.domain_id,
            classification_type="Multilabel",
            pipeline="",
        )
        session.add(iteration)


def _wrong_tag_count(house: Components, project: Project, prefix: str) -> None:
    with house.database.write() as session:
        session.add(Tag(project_id=project.id, name="oak", image_count=3))


def _wrong_count(house: Components, project: Project, prefix: str) -> None:
    with house.database.write() as session:
        session.execute(update(Project).values(image_count=7))


@pytest.mark.parametrize(
    ("plant", "kinds"),
    [
        (_flip, {"damaged"}),
        (_shorten, {"damaged"}),
        (_stray_file, {"file without row"}),
        (_lost_file, {"row without file"}),
        (_lost_row, {"file without row"}),
        (_lost_ledger_row, {"row without file", "file without row"}),
        (_foreign_file, {"damaged"}),
        (_file_in_the_root, {"file without row"}),
        (_empty_file, {"damaged"}),
        (_other_picture, {"damaged"}),
        (_stale_lease, {"stale lease"}),
        (_silent_worker, {"stale lease"}),
        (_training_without_job, {"stuck"}),
        (_useless_key, {"key missing", "damaged"}),
        (_file_among_the_keys, {"stray key"}),
        (_wrong_tag_count, {"wrong count"}),
        (_stray_key, {"stray key"}),
        (_lost_key, {"key missing", "damaged"}),
        (_wrong_count, {"wrong count"}),
    ],
)
def test_each_planted_fault_is_found(
    installation: House, plant: Callable[[Components, Project, str], None], kinds: set[str]
) -> None:
    house, project, prefix = installation
    assert list(doctor(house)) == []
    plant(house, project, prefix)
    assert {finding.kind for finding in doctor(house)} == kinds


def test_a_deleted_project_leaves_no_file_and_no_key(installation: House) -> None:
    house, project, _ = installation
    t.erase(house, project)
    ledger.sweep(house.database, house.blobs)
    assert list(doctor(house)) == []
    assert list((house.settings.data / "objects").rglob("*")) == []
    assert house.keys.projects() == []
