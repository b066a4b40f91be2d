"""Backups hold what their newest rows name; restoring one brings back nothing that was erased since."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from ownvision.client.local import command
from ownvision.data_rights import backup, recovery
from ownvision.data_rights.backup import Cancelled, Made, back_up, read_manifest
from ownvision.data_rights.doctor import doctor
from ownvision.data_rights.key_backup import back_up_keys, read_key_backup
from ownvision.data_rights.recovery import Restored, restore
from ownvision.errors import OwnVisionError
from ownvision.services import accounts, webhooks
from ownvision.services.components import Components, open_components
from ownvision.settings import Settings
from ownvision.store import ledger, occupancy
from ownvision.store.tables import Account, Backup, Export, Image, Iteration, Lineage, Prediction, Project, Tag
from tests.data_rights import homes
from tests.data_rights.homes import Home
from tests.services import trained as t

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lived-in") / "data"
    home = homes.move_in(folder)
    home.house.database.close()
    (folder.parent / "home.json").write_text(
        json.dumps([home.project.id, home.tags, home.images, home.iteration, home.export, home.prediction])
    )
    return folder


@pytest.fixture
def home(lived_in: Path, tmp_path: Path) -> Iterator[Home]:
    shutil.copytree(lived_in, tmp_path / "data")
    house = open_components(Settings(data=tmp_path / "data"))
    project_id, *rest = json.loads((lived_in.parent / "home.json").read_text())
    with house.database.read() as session:
        project = session.get_one(Project, project_id)
    yield Home(house, project, *rest)
    house.database.close()


def _settings(home: Home) -> Settings:
    return Settings(data=home.data.parent / "restored")


def _back_up(home: Home) -> tuple[Path, Path]:
    place, keys = home.data.parent / "backup", home.data.parent / "keys.tar"
    back_up(home.house, place)
    back_up_keys(home.house.database, home.house.keys, home.data, keys, place)
    return place, keys


def _newest_keys(home: Home, keys: Path) -> None:
    back_up_keys(home.house.database, home.house.keys, home.data, keys)


def _restored(home: Home, place: Path, keys: Path | None) -> tuple[Components, Restored]:
    settings = _settings(home)
    restored = restore(place, keys, settings)
    return open_components(settings), restored


def _objects(place: Path) -> dict[str, bytes]:
    return {key: (place / "objects" / key).read_bytes() for key, _ in backup.walk(place / "objects")}


def test_a_backup_is_restored_as_it_was(home: Home) -> None:
    place, keys = _back_up(home)
    house, restored = _restored(home, place, keys)
    assert list(doctor(house)) == []
    assert _objects(house.settings.data) == _objects(home.data) == _objects(place)
    assert restored.erased == {}
    with home.house.database.read() as one, house.database.read() as other:
        for table in (Image, Tag, Iteration, Export, Prediction, Project, Account):
            count = select(func.count()).select_from(table)
            assert one.scalar(count) == other.scalar(count) > 0  # type: ignore[operator]
        assert accounts.describe(one, home.house.keys, accounts.all(one)[0]) == accounts.describe(
            other, house.keys, accounts.all(other)[0]
        )
        assert webhooks.of(house.keys, other.get_one(Project, home.project.id)) is not None
        assert other.scalar(select(func.count()).select_from(Backup)) == 1
    house.database.close()


def test_only_new_objects_are_copied_and_what_was_erased_is_removed(home: Home) -> None:
    place = home.data.parent / "backup"
    first = back_up(home.house, place)
    assert (first.copied, first.removed) == (first.manifest.objects, 0) != (0, 0)
    again = back_up(home.house, place)
    assert (again.copied, again.removed, again.manifest.objects) == (0, 0, first.manifest.objects)
    homes.erase_image(home, home.images[0])
    homes.settle(home.house)
    t.upload(home.house, home.project, [t.coloured(2, 1)], [])
    third = back_up(home.house, place)
    assert third.copied == 1
    assert third.removed >= 1
    assert _objects(place) == _objects(home.data)
    assert len(list((place / "rows").iterdir())) == 1
    with home.house.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Backup)) == 3


def test_the_list_of_objects_is_what_sha256sum_checks(home: Home) -> None:
    place, _ = _back_up(home)
    manifest = read_manifest(place)
    assert manifest is not None
    list_file = place / "rows" / manifest.rows / "objects.sha256"
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", list_file], cwd=place, check=True)
    assert len(list_file.read_text().splitlines()) == manifest.objects


Erase = Callable[[Home], None]


def _an_image(home: Home) -> None:
    homes.erase_image(home, home.images[0])


def _a_tag(home: Home) -> None:
    homes.erase_tag(home, home.tags["oak of Ada"])


def _a_prediction(home: Home) -> None:
    homes.erase_prediction(home, home.prediction)


def _an_iteration(home: Home) -> None:
    homes.erase_iteration(home, home.iteration)


def _a_project(home: Home) -> None:
    homes.erase_project(home, home.project)


def _an_account(home: Home) -> None:
    homes.erase_account(home, home.project.account_id)


@pytest.mark.parametrize(
    ("survived", "erase", "kinds"),
    [
        (False, _an_image, {"image"}),
        (True, _an_image, {"image"}),
        (False, _a_tag, {"tag"}),
        (False, _a_prediction, {"prediction"}),
        (False, _an_iteration, {"iteration", "export"}),
        (False, _a_project, {"project"}),
        (True, _a_project, {"project"}),
        (False, _an_account, {"project", "account"}),
    ],
)
def test_what_was_erased_after_the_backup_does_not_come_back(
    home: Home, survived: bool, erase: Erase, kinds: set[str]
) -> None:
    place, keys = _back_up(home)
    erase(home)
    homes.settle(home.house)
    with home.house.database.read() as session:
        left = {
            table: set(session.scalars(select(table.id))) for table in (Account, Project, Tag, Image, Iteration, Export)
        }
    if survived:
        shutil.copytree(home.data / "keys", _settings(home).data / "keys")
    else:
        _newest_keys(home, keys)
    house, restored = _restored(home, place, None if survived else keys)
    assert set(restored.erased) == kinds
    assert list(doctor(house)) == []
    with house.database.read() as session:
        assert left == {table: set(session.scalars(select(table.id))) for table in left}
    assert {key for key, _ in house.blobs.list()} == {key for key, _ in home.house.blobs.list()}
    house.database.close()


def test_an_image_erased_again_stays_in_the_lineage_of_what_learned_from_it(home: Home) -> None:
    place, keys = _back_up(home)
    _an_image(home)
    homes.settle(home.house)
    _newest_keys(home, keys)
    house, _ = _restored(home, place, keys)
    with house.database.read() as session:
        assert list(session.execute(select(Lineage.iteration_id, Lineage.image_id))) == [
            (home.iteration, home.images[0])
        ]
    house.database.close()


def test_the_journals_of_the_keys_that_survived_and_of_their_backup_are_both_replayed(home: Home) -> None:
    place, keys = _back_up(home)
    shutil.copytree(home.data / "keys", _settings(home).data / "keys")
    _an_image(home)
    homes.settle(home.house)
    _newest_keys(home, keys)  # it knows of the erasure; the keys that survived do not
    house, restored = _restored(home, place, keys)
    assert restored.erased == {"image": 1}
    house.database.close()


def test_an_id_that_was_erased_before_the_backup_and_made_anew_is_kept(home: Home) -> None:
    home.house.keys.journal("image", [ledger.image_prefix(home.project.id, home.images[0])])
    place, keys = _back_up(home)
    house, restored = _restored(home, place, keys)
    assert restored.erased == {}
    house.database.close()


def test_the_service_finishes_a_restore_and_nothing_else_opens_before(home: Home) -> None:
    place, keys = _back_up(home)
    _an_image(home)
    homes.settle(home.house)
    _newest_keys(home, keys)
    settings = _settings(home)
    original, recovery._finish = recovery._finish, lambda settings: (_ for _ in ()).throw(OSError("killed"))
    try:
        with pytest.raises(OSError, match="killed"):
            restore(place, keys, settings)
    finally:
        recovery._finish = original
    with pytest.raises(OwnVisionError, match="not erased again yet"):
        recovery.check_finished(settings.data)
    recovery.finish(settings)
    recovery.check_finished(settings.data)
    house = open_components(settings)
    with house.database.read() as session:
        assert home.images[0] not in set(session.scalars(select(Image.id)))
    assert list(doctor(house)) == []
    house.database.close()


def test_a_restore_that_was_cut_short_is_not_opened_and_can_be_done_again(home: Home) -> None:
    place, keys = _back_up(home)
    settings = _settings(home)
    manifest = read_manifest(place)
    assert manifest is not None
    settings.data.mkdir()
    recovery._mark(settings.data, "copying", manifest)
    with pytest.raises(OwnVisionError, match="restore-backup"):
        recovery.finish(settings)
    house, _ = _restored(home, place, keys)
    assert list(doctor(house)) == []
    house.database.close()


def _damage(place: Path) -> None:
    path = next((place / "objects").rglob("*.original"))
    path.write_bytes(path.read_bytes()[:-1])


def test_damaged_objects_of_a_backup_are_named_and_the_others_restored(home: Home) -> None:
    place, keys = _back_up(home)
    _damage(place)
    house, restored = _restored(home, place, keys)
    assert len(restored.damaged) == 1
    assert restored.objects == restored.manifest.objects
    house.database.close()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda home, place, keys: shutil.rmtree(place / "rows"), "not what was written"),
        (lambda home, place, keys: (place / "backup.json").unlink(), "no whole backup"),
        (lambda home, place, keys: (place / "backup.json").write_text("{}"), "not what a backup writes"),
        (lambda home, place, keys: keys.write_bytes(b"x" * 600), "no backup of keys"),
        (lambda home, place, keys: keys.write_bytes(keys.read_bytes()[:700]), "no backup of keys"),
        (lambda home, place, keys: back_up(home.house, place), "before the rows"),
        (lambda home, place, keys: shutil.copytree(home.data, _settings(home).data), "--replace"),
        (lambda home, place, keys: t.open_house(_settings(home).data).database.close(), "--replace"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_nothing_changed(
    home: Home, prepare: Callable[[Home, Path, Path], object], message: str
) -> None:
    place, keys = _back_up(home)
    prepare(home, place, keys)
    settings = _settings(home)
    before = sorted(settings.data.rglob("*"))
    with pytest.raises(OwnVisionError, match=message):
        restore(place, keys, settings)
    assert [path for path in sorted(settings.data.rglob("*")) if path.suffix != ".lock"] == [
        path for path in before if path.suffix != ".lock"
    ]


def test_keys_of_another_installation_are_refused(home: Home, tmp_path: Path) -> None:
    place, keys = _back_up(home)
    other = t.open_house(tmp_path / "other")
    keys.unlink()
    back_up_keys(other.database, other.keys, other.settings.data, keys)
    with pytest.raises(OwnVisionError, match="another installation"):
        restore(place, keys, _settings(home))
    with pytest.raises(OwnVisionError, match="another installation"):
        restore(place, None, replace(home, house=other).house.settings, replace=True)
    other.database.close()


def test_a_restore_needs_the_folder_alone(home: Home) -> None:
    place, keys = _back_up(home)
    settings = _settings(home)
    with occupancy.used(settings.data), pytest.raises(OwnVisionError, match="stop it first"):
        restore(place, keys, settings)
    with (
        occupancy.alone(settings.data),
        pytest.raises(OwnVisionError, match="must be alone"),
        occupancy.used(settings.data),
    ):
        raise AssertionError("it was let in")


@pytest.mark.parametrize(
    ("place", "message"),
    [("data/backup", "in the data folder"), (".", "around it"), ("elsewhere", "no backup's")],
)
def test_a_backup_goes_only_where_it_can_be_one(home: Home, place: str, message: str) -> None:
    (home.data.parent / "elsewhere").mkdir()
    (home.data.parent / "elsewhere" / "letter.txt").write_text("mine")
    with pytest.raises(OwnVisionError, match=message):
        back_up(home.house, home.data.parent / place)
    with home.house.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Backup)) == 0


@pytest.mark.parametrize(
    ("place", "message"),
    [("data/keys.tar", "in the data folder"), ("backup/keys.tar", "apart"), ("letter.txt", "no backup of keys")],
)
def test_keys_go_only_where_they_are_apart(home: Home, place: str, message: str) -> None:
    (home.data.parent / "letter.txt").write_text("mine")
    back_up(home.house, home.data.parent / "backup")
    with pytest.raises(OwnVisionError, match=message):
        back_up_keys(home.house.database, home.house.keys, home.data, home.data.parent / place)
    assert (home.data.parent / "letter.txt").read_text() == "mine"


def test_a_key_that_is_destroyed_is_not_in_the_next_backup_of_the_keys_nor_where_the_one_before_lay(home: Home) -> None:
    keys = home.data.parent / "keys.tar"
    _newest_keys(home, keys)
    name = f"projects/{home.project.id}.key".encode()
    wrapped = (home.data / "keys" / name.decode()).read_bytes()
    with keys.open("rb") as before:
        assert wrapped in before.read()
        _a_project(home)
        homes.settle(home.house)
        _newest_keys(home, keys)
        before.seek(0)
        assert wrapped not in before.read()
    assert name not in keys.read_bytes()
    assert wrapped not in keys.read_bytes()
    assert read_key_backup(keys).installation == home.house.keys.fingerprint()
    assert keys.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("polls", [1, 5, 12])
def test_a_backup_that_is_stopped_leaves_the_one_before(home: Home, polls: int) -> None:
    place, _ = _back_up(home)
    before = read_manifest(place)
    t.upload(home.house, home.project, [t.coloured(2, seed) for seed in range(8)], [])
    left = iter([False] * polls)
    with pytest.raises(Cancelled):
        back_up(home.house, place, stopped=lambda: next(left, True))
    assert read_manifest(place) == before
    house, _ = _restored(home, place, home.data.parent / "keys.tar")
    assert list(doctor(house)) == []
    house.database.close()
    made: Made = back_up(home.house, place)
    assert _objects(place) == _objects(home.data)
    assert made.manifest.lost == 0


def test_a_backup_that_is_killed_leaves_the_one_before(home: Home) -> None:
    place, keys = _back_up(home)
    t.upload(home.house, home.project, [t.coloured(2, seed) for seed in range(40)], [])
    for delay in (0.0, 0.02):
        process = subprocess.Popen(command("backup", "--data", str(home.data), "--to", str(place)))
        deadline = time.monotonic() + 20
        while len(list((place / "rows").iterdir())) < 2 and process.poll() is None and time.monotonic() < deadline:
            os.sched_yield()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    house, _ = _restored(home, place, keys)
    assert list(doctor(house)) == []
    house.database.close()
    back_up(home.house, place)
    assert _objects(place) == _objects(home.data)
    assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []


def test_of_what_is_erased_while_the_backup_is_made_only_that_is_missing(home: Home) -> None:
    place = home.data.parent / "backup"
    polled = iter(range(10**6))

    def erase() -> bool:
        if next(polled) == 3:  # the rows are read by now
            homes.erase_image(home, home.images[-1])
            homes.settle(home.house)
        return False

    made = back_up(home.house, place, stopped=erase)
    assert (made.manifest.erased_meanwhile, made.manifest.lost) == (1, 0)
    keys = home.data.parent / "keys.tar"
    _newest_keys(home, keys)
    house, _ = _restored(home, place, keys)
    assert list(doctor(house)) == []
    house.database.close()


def test_bytes_that_are_lost_are_said(home: Home) -> None:
    next((home.data / "objects").rglob("*.original")).unlink()
    assert back_up(home.house, home.data.parent / "backup").manifest.lost == 1
