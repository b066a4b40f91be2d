"""Writers one after another, readers beside them, and a disk that is full."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import OperationalError

from ownvision.store import ledger
from ownvision.store.ballast import BALLAST_BYTES, Ballast
from ownvision.store.blobs.local import LocalBlobs
from ownvision.store.database import Database
from ownvision.store.migrations import newest
from ownvision.store.tables import Account, Blob, Project
from tests.store.conftest import ACCOUNT, PROJECT, Store

pytestmark = pytest.mark.slow


def test_a_write_inside_a_write_is_refused_instead_of_waiting_for_ever(store: Store) -> None:
    with store.database.write(), pytest.raises(RuntimeError, match="outer session"), store.database.write():
        pass
    with store.database.write() as session:
        session.execute(text("SELECT 1"))


def test_writers_in_threads_and_processes_lose_no_update(store: Store) -> None:
    with store.database.write() as session:
        session.add(Account(id=ACCOUNT, user_name="a", email="", tier="F0", prediction_resource_id=""))
        session.flush()
        session.add(Project(id=PROJECT, account_id=ACCOUNT, name="p", domain_id="d"))

    def count(database: Database) -> None:
        for _ in range(25):
            with database.write() as session:
                project = session.get_one(Project, PROJECT)
                project.revision += 1  # read, then written: lost if another could write in between

    program = (
        "import sys; from ownvision.store.database import Database; from ownvision.store.tables import Project\n"
        "database = Database(sys.argv[1])\n"
        "for _ in range(25):\n"
        "    with database.write() as session:\n"
        "        session.get_one(Project, sys.argv[2]).revision += 1\n"
    )
    other = subprocess.Popen([sys.executable, "-c", program, store.database.url, PROJECT])
    threads = [threading.Thread(target=count, args=(store.database,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait(60) == 0
    with store.database.read() as session:
        assert session.get_one(Project, PROJECT).revision == 125


def test_a_reader_sees_one_moment_and_never_waits_for_a_writer(store: Store) -> None:
    with store.database.read() as reader:
        assert reader.scalars(select(Blob)).all() == []
        ledger.reserve(store.database, [("p/x/", "image", ACCOUNT, PROJECT)])
        with store.database.write() as writer:
            writer.execute(update(Blob).values(state="doomed"))
            assert reader.scalars(select(Blob)).all() == []
            with store.database.read() as another:
                assert another.scalars(select(Blob.state)).all() == ["pending"]


def test_processes_that_migrate_at_once_make_one_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a%20folder.db'}"
    program = "import sys; from ownvision.store.database import Database; Database(sys.argv[1]).migrate()"
    processes = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    database = Database(url)
    assert database.is_migrated()
    with database.read() as session:
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
        assert session.scalar(text("SELECT count(*) FROM alembic_version")) == 1
    database.close()


def test_an_empty_or_older_database_is_not_migrated(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    assert not database.is_migrated()
    database.migrate()
    database.migrate()
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert not database.is_migrated()
    database.close()


def test_the_newest_version_is_alembics_head() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import ownvision.store.migrations as migrations

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == newest()


def test_while_a_reader_looks_at_the_past_scrubbing_says_that_it_is_not_done(store: Store) -> None:
    ledger.reserve(store.database, [("p/x/", "image", ACCOUNT, PROJECT)])
    with store.database.read() as reader:
        reader.scalars(select(Blob)).all()
        assert store.database.scrub() is False
    assert store.database.scrub() is True


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 104 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=104m", "none", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _fill(folder: Path) -> None:
    """Leave no byte free."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(os.urandom(1 << 16))
        except OSError:
            pass
    assert shutil.disk_usage(folder).free < 1 << 16


def test_erasing_works_on_a_full_disk(small_disk: Path) -> None:
    database = Database(f"sqlite:///{small_disk / 'ownvision.db'}")
    database.migrate()
    blobs = LocalBlobs(small_disk / "objects")
    prefixes = [ledger.image_prefix(PROJECT, f"{number:04}") for number in range(400)]
    ledger.reserve(database, [(prefix, "image", ACCOUNT, PROJECT) for prefix in prefixes])
    for prefix in prefixes:
        blobs.put_new(prefix + "original", b"x" * 10_000, durable=False)
    with database.write() as session:
        ledger.make_live(session, prefixes)
    assert database.ballast is not None
    assert database.ballast.keep()
    assert database.ballast.path.stat().st_size == BALLAST_BYTES
    database.scrub()  # the log is empty: the next write needs new space for it
    _fill(small_disk)
    with pytest.raises(OSError, match="No space"):
        blobs.put_new(f"{PROJECT}/late", b"x" * 100_000)
    with database.write() as session:
        ledger.doom(session, prefixes)
    assert ledger.sweep(database, blobs) == 400
    assert list(blobs.list()) == []  # nor half of the one that was refused
    assert not database.ballast.path.exists()
    assert not database.ballast.keep()  # not while space is short
    (small_disk / "filler").unlink()
    assert database.ballast.keep()
    database.close()


def test_without_ballast_a_full_disk_refuses_a_write_and_changes_nothing(small_disk: Path) -> None:
    database = Database(f"sqlite:///{small_disk / 'ownvision.db'}")
    database.migrate()
    database.scrub()
    _fill(small_disk)

    def write() -> None:
        with database.write() as session:
            session.add_all(
                Blob(prefix=f"{number}/", kind="image", account_id="", project_id="") for number in range(5_000)
            )

    with pytest.raises(OperationalError, match="full"):
        write()
    with database.read() as session:
        assert session.scalars(select(Blob)).all() == []
    (small_disk / "filler").unlink()
    write()
    database.close()


def test_ballast_without_a_folder_is_no_error(tmp_path: Path) -> None:
    Ballast(tmp_path / "gone").drop_when_low()
    Ballast(tmp_path).drop()
