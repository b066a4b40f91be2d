"""A real installation in a temporary folder for tests of the rules: SQLite, files, keys."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from ownvision.services import accounts, projects
from ownvision.services.components import Components, open_components
from ownvision.services.intake import Picture
from ownvision.settings import Settings
from ownvision.store.tables import Account, Project
from tests import databases

CLASSIFICATION = "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
DETECTION = "da2e3a8a-40a5-4171-82f4-58522f70fbc1"


def png(seed: int, width: int = 32, height: int = 32) -> bytes:
    """A small picture of noise, different for each seed."""
    array = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def picture(seed: int, **fields: object) -> Picture:
    """One upload of a small picture."""
    data = png(seed)
    return Picture(source=f"{seed}.png", read=lambda: data, file_name=f"{seed}.png", **fields)  # type: ignore[arg-type]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    components = open_components(Settings(data=tmp_path / "data"))
    databases.migrate(components.database)
    yield components
    components.database.close()


@pytest.fixture
def account(house: Components) -> Account:
    return accounts.first_start(house)


@pytest.fixture
def make_project(house: Components, account: Account) -> Callable[..., Project]:
    def make(name: str = "Trees", domain_id: str = CLASSIFICATION, classification_type: str = "Multilabel") -> Project:
        with house.database.write() as session:
            return projects.create(
                session,
                house.keys,
                accounts.get(session, account.id),
                name=name,
                description=None,
                domain_id=domain_id,
                classification_type=classification_type,
                target_export_platforms=[],
                limits=house.settings.limits,
            )

    return make
