"""Empty databases of the newest schema for tests: migrated once, then copied, which takes no time."""

import tempfile
from functools import cache
from pathlib import Path

from ownvision.settings import Settings
from ownvision.store.database import Database


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        database = Database(f"sqlite:///{path}")
        database.migrate()
        database.scrub()
        database.close()
        return path.read_bytes()


def migrate(database: Database) -> None:
    """As `Database.migrate`, of a database that is not there yet."""
    place(Path(str(database.engine.url.database)))
    assert database.is_migrated()


def prepare(settings: Settings) -> None:
    """Put an empty database where a service is about to start for the first time."""
    settings.data.mkdir(parents=True, exist_ok=True)
    place(settings.data / "ownvision.db")


def place(path: Path) -> None:
    """Put an empty database at a path where there is none."""
    if not path.exists():
        path.write_bytes(_empty())
