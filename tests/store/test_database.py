"""Migrations, transactions, and what the ledger does between them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text, update

from ownvision.errors import OwnVisionError
from ownvision.store import ledger
from ownvision.store.blobs.local import LocalBlobs
from ownvision.store.database import Database
from ownvision.store.tables import Account, Base, Blob
from ownvision.store.tables.base import now

PREFIX = "p/images/ab/abc/"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    database.migrate()
    yield database
    database.close()


def _account(name: str) -> Account:
    return Account(user_name=name, email="", tier="Unlimited", prediction_resource_id="")


def _states(database: Database) -> dict[str, str]:
    with database.read() as session:
        return {row.prefix: row.state for row in session.scalars(select(Blob))}


def test_the_migrated_schema_is_that_of_the_tables(database: Database) -> None:
    assert database.is_migrated()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_scores_of_before_models_had_ids_are_of_the_iterations_own(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'old.db'}")

    def scores() -> list[tuple[object, ...]]:
        with database.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text("SELECT * FROM scored_images"))]

    command.upgrade(database._alembic(), "0002")
    old = (1, "one", "image", 0, b"s", b"t")
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.execute("INSERT INTO scored_images VALUES (?, ?, ?, ?, ?, ?)", old)
        connection.commit()
    command.upgrade(database._alembic(), "0003")
    assert scores() == [(*old, "one")]
    command.downgrade(database._alembic(), "0002")
    assert scores() == [old]
    database.close()


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.write() as session:
            session.add(_account("one"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.read() as session:
        assert session.scalar(select(Account.id)) is None


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("foreign_keys", 1), ("synchronous", 2), ("secure_delete", 1)]
)
def test_sqlite_is_set_to_lose_and_keep_nothing(database: Database, pragma: str, value: object) -> None:
    with database.read() as session:
        assert session.scalar(text(f"PRAGMA {pragma}")) == value


def test_scrubbing_leaves_no_byte_of_a_deleted_row(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        session.add(_account("a-name-to-forget"))
    with database.write() as session:
        session.delete(session.scalars(select(Account)).one())
    database.scrub()
    for path in tmp_path.iterdir():
        assert b"a-name-to-forget" not in path.read_bytes()


def test_bytes_live_from_their_transaction_until_they_are_doomed(database: Database, tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "objects")
    ledger.reserve(database, [(PREFIX, "image", "a", "p")])
    blobs.put_new(PREFIX + "original", b"x")
    assert ledger.sweep(database, blobs) == 0
    with database.write() as session:
        ledger.make_live(session, [PREFIX])
    assert ledger.sweep(database, blobs) == 0
    assert _states(database) == {PREFIX: "live"}
    with database.write() as session:
        ledger.doom(session, [PREFIX])
    assert ledger.sweep(database, blobs) == 1
    assert _states(database) == {PREFIX: "gone"}
    assert not list(blobs.list())


def test_a_late_write_is_swept_again_and_then_forgotten(database: Database, tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "objects")
    ledger.reserve(database, [(PREFIX, "image", "a", "p")])
    with database.write() as session:
        ledger.doom(session, [PREFIX])
    ledger.sweep(database, blobs)
    blobs.put_new(PREFIX + "original", b"late")
    with database.write() as session:
        session.execute(update(Blob).values(due=now() - timedelta(seconds=1)))
    assert ledger.sweep(database, blobs) == 1
    assert not list(blobs.list())
    assert _states(database) == {}


def test_a_lapsed_upload_can_no_longer_become_live(database: Database, tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "objects")
    ledger.reserve(database, [(PREFIX, "image", "a", "p")])
    with database.write() as session:
        session.execute(update(Blob).values(due=now() - timedelta(seconds=1)))
    while ledger.sweep(database, blobs):
        pass
    with database.write() as session:
        with pytest.raises(OwnVisionError) as refused:
            ledger.make_live(session, [PREFIX])
        session.rollback()
    assert refused.value.code == "Conflict"
