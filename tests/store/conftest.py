"""A store in a temporary folder: SQLite, files and keys, as an installation has them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ownvision.store.blobs.local import LocalBlobs
from ownvision.store.blobs.sealed import SealedBlobs
from ownvision.store.database import Database
from ownvision.store.keys import KeyStore
from tests import databases

ACCOUNT = "a0000000-0000-4000-8000-000000000000"
PROJECT = "b0000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Store:
    """Where bytes and rows go, and the folder that they are in."""

    folder: Path
    database: Database
    keys: KeyStore
    local: LocalBlobs
    sealed: SealedBlobs


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    keys = KeyStore(tmp_path / "keys")
    keys.create_account(ACCOUNT)
    keys.create_project(ACCOUNT, PROJECT)
    local = LocalBlobs(tmp_path / "objects")
    database = Database(f"sqlite:///{tmp_path / 'ownvision.db'}")
    databases.migrate(database)
    yield Store(tmp_path, database, keys, local, SealedBlobs(local, keys))
    database.close()
