"""The database: SQLite by default, PostgreSQL for more than one machine; one code path."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Engine, Table, create_engine, event, insert, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ownvision.store import audit
from ownvision.store.ballast import Ballast
from ownvision.store.tables.base import Base

if TYPE_CHECKING:
    from alembic.config import Config

_BUSY_TIMEOUT = "PRAGMA busy_timeout=30000"
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=ON",
    _BUSY_TIMEOUT,
)


class _Writing(Session):
    """A session that writes: whatever commits it, its audit event is in the same transaction."""


event.listen(_Writing, "after_begin", lambda session, transaction, connection: audit.begin(connection))
event.listen(_Writing, "before_commit", audit.record)


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
        self._held = threading.local()
        self._head: str | None = None
        # Parameters are names, addresses and secrets, and the text of an error goes into logs.
        self.engine: Engine = create_engine(url, pool_size=16, max_overflow=32, hide_parameters=True)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._immediate = self.engine.execution_options(immediate=True)
        audit.watch(self._immediate)
        file = self.engine.url.database
        self.ballast = Ballast(Path(file).parent) if self.is_sqlite and file else None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads; it never waits for a writer."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed when the block ends and undone when it raises.

        It holds the database's write lock from its beginning (SQLite): what it reads can't change under it. What is
        being done here (`audit.acting`) is recorded in it, if it changes anything.

        Raises:
            RuntimeError: This thread is writing already; the inner transaction would wait for the outer for ever.
        """
        with self._only_writer(), _Writing(self._immediate, expire_on_commit=False) as session:
            session.connection()
            yield session
            session.commit()

    def migrate(self) -> None:
        """Bring the schema to the newest version; of several processes one does it and the others wait."""
        if self.is_migrated():
            return
        # Loaded only when needed: it is as large as the rest of the store.
        from alembic import command

        with self._only_writer():
            command.upgrade(self._alembic(), "head")

    def is_migrated(self) -> bool:
        """Whether the schema is at the newest version."""
        if self._head is None:
            from ownvision.store.migrations import newest

            self._head = newest()
        with self.engine.connect() as connection:
            if not self.engine.dialect.has_table(connection, "alembic_version"):
                return False
            return bool(connection.scalar(text("SELECT version_num FROM alembic_version")) == self._head)

    def scrub(self) -> bool:
        """Leave no byte of a deleted row behind: rewrite the file and empty the write-ahead log.

        `secure_delete` alone leaves copies in page slack; an erasure is finished only after this.

        Returns:
            Whether it was done: a long read may keep the log from being emptied; try again later.
        """
        if not self.is_sqlite:
            return True  # PostgreSQL's autovacuum and log recycling do it
        with self._only_writer(), self.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("VACUUM")
            # Writers wait while this waits for readers, so not for long.
            driver.execute("PRAGMA busy_timeout=1000")
            busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            driver.execute(_BUSY_TIMEOUT)
            return not busy

    def empty_log(self) -> None:
        """Move what the write-ahead log holds into the file, unless somebody reads at this moment."""
        if not self.is_sqlite:
            return
        with self.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA busy_timeout=0")
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            driver.execute(_BUSY_TIMEOUT)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        if not self.is_sqlite:
            yield
            return
        if getattr(self._held, "here", False):
            raise RuntimeError("a write inside a write: pass the outer session on instead")
        with self._writer:
            self._held.here = True
            try:
                if self.ballast is not None:
                    self.ballast.drop_when_low()
                yield
            except OperationalError as error:
                if self.ballast is not None and "disk is full" in str(error):
                    self.ballast.drop()  # so that the next try, of an erasure above all, has room
                raise
            finally:
                self._held.here = False

    def _alembic(self) -> "Config":
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["engine"] = self._immediate
        return config


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver's own transaction handling would begin late and deferred; we say BEGIN ourselves.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: Any) -> None:
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def insert_all(session: Session, table: type[Base], values: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of one table by one statement of the core; the ORM's bulk insert costs as much again.

    Args:
        session: Of a write transaction; nothing that these rows need may wait in it to be flushed.
        table: Which.
        values: By column; every row has the same columns.
    """
    if values:
        session.connection().execute(insert(cast(Table, table.__table__)), list(values))
