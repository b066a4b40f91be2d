"""The parts a service is assembled from; opened once per process."""

import os
from dataclasses import dataclass

from ownvision import domains
from ownvision.inference import ModelCache
from ownvision.settings import Settings
from ownvision.store import heap
from ownvision.store.blobs.local import LocalBlobs
from ownvision.store.blobs.sealed import SealedBlobs
from ownvision.store.database import Database
from ownvision.store.keys import KeyStore


@dataclass(frozen=True)
class Components:
    """Settings, rows, bytes, keys and loaded models."""

    settings: Settings
    database: Database
    blobs: SealedBlobs
    keys: KeyStore
    models: ModelCache


def open_components(settings: Settings) -> Components:
    """Open the data folder (made when missing, readable by its owner only); the database is not migrated here."""
    heap.keep_freed()
    settings.data.mkdir(parents=True, exist_ok=True)
    os.chmod(settings.data, 0o700)
    domains.open_weights(settings.weights_folder)
    keys = KeyStore(settings.data / "keys")
    return Components(
        settings=settings,
        database=Database(settings.sqlalchemy_url),
        blobs=SealedBlobs(LocalBlobs(settings.data / "objects"), keys),
        keys=keys,
        models=ModelCache(settings.models_cached, settings.threads),
    )
