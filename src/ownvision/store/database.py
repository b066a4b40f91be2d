"""The database: SQLite by default, PostgreSQL for more than one machine; one code path."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=ON",
    "PRAGMA busy_timeout=30000",
)


class Database:
    """Sessions for reading and for writing, each one transaction.

    Args:
        url: A SQLAlchemy address.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        # Writers queue here rather than at SQLite's lock, which is polled and not fair.
        self._writer = threading.Lock()
        self.engine: Engine = create_engine(url, pool_size=16, max_overflow=32)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._immediate = self.engine.execution_options(immediate=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads; it never waits for a writer."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed when the block ends and undone when it raises."""
        with (
            self._writer if self.is_sqlite else _no_lock(),
            Session(self._immediate, expire_on_commit=False) as session,
        ):
            yield session
            session.commit()

    def migrate(self) -> None:
        """Bring the schema to the newest version."""
        command.upgrade(self._alembic(), "head")

    def is_migrated(self) -> bool:
        """Whether the schema is at the newest version."""
        head = ScriptDirectory.from_config(self._alembic()).get_current_head()
        with self.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision() == head

    def scrub(self) -> None:
        """Leave no byte of a deleted row behind: rewrite the file and empty the write-ahead log.

        `secure_delete` alone leaves copies in page slack; an erasure is finished only after this.
        """
        if self.is_sqlite:
            with self._writer, self.engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                driver.execute("VACUUM")
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _alembic(self) -> Config:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["engine"] = self.engine
        return config


@contextmanager
def _no_lock() -> Iterator[None]:
    yield


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver's own transaction handling would begin late and deferred; we say BEGIN ourselves.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: Any) -> None:
    immediate = connection.get_execution_options().get("immediate")
    connection.execute(text("BEGIN IMMEDIATE" if immediate else "BEGIN").execution_options(autocommit=False))
