"""`doctor --erased` over 100,000 objects, beside walking the same tree and asking each file's size."""

import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.results import Result, keep
from ownvision.data_rights.remains import remains
from ownvision.services import accounts, projects
from ownvision.services.components import Components, open_components
from ownvision.settings import Settings
from ownvision.store import ledger
from ownvision.store.database import insert_all
from ownvision.store.tables import Blob, Image
from ownvision.store.tables.base import now

OBJECTS, TURNS = 100_000, 5
COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"


def run() -> bool:
    """Objects a second, medians of five turns each."""
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path("build").absolute()) as name:
        house = open_components(Settings(data=Path(name) / "data"))
        house.database.migrate()
        _fill(house)
        house.database.scrub()  # as after an erasure
        walks, looks = [], []
        for _ in range(TURNS):
            begun = time.perf_counter()
            walked = _walk(house.settings.data / "objects")
            walks.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            found = list(remains(house))
            looks.append(time.perf_counter() - begun)
            if found or walked != OBJECTS:
                raise RuntimeError(f"{walked} objects, {found[:3]}")
        house.database.close()
    walk, look = statistics.median(walks), statistics.median(looks)
    return keep(
        "doctor",
        [
            Result(f"os.walk and stat of {OBJECTS} objects", OBJECTS / walk, "objects/s"),
            Result(f"doctor --erased over {OBJECTS} objects", OBJECTS / look, "objects/s", 50_000, most=False),
            Result("the ratio", look / walk, ""),
        ],
    )


def _walk(root: Path) -> int:
    return sum(
        1 for place, _, names in os.walk(root) for file in names if os.stat(os.path.join(place, file)).st_size >= 0
    )


def _fill(house: Components) -> None:
    account = accounts.first_start(house)
    with house.database.write() as session:
        project = projects.create(
            session,
            house.keys,
            account,
            name="Many",
            description=None,
            domain_id=COMPACT,
            classification_type=None,
            target_export_platforms=[],
            limits=house.settings.limits,
        )
        project.image_count = OBJECTS
    ids = [ledger.new_image_id(project.id) for _ in range(OBJECTS)]
    for id in ids:
        path = house.settings.data / "objects" / (ledger.image_prefix(project.id, id) + "original")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sealed")
    moment = now()
    with house.database.write() as session:
        insert_all(
            session,
            Blob,
            [
                {
                    "prefix": ledger.image_prefix(project.id, id),
                    "kind": "image",
                    "account_id": account.id,
                    "project_id": project.id,
                    "state": ledger.LIVE,
                }
                for id in ids
            ],
        )
        insert_all(
            session,
            Image,
            [
                {
                    "id": id,
                    "project_id": project.id,
                    "sha256": id.replace("-", "") * 2,
                    "width": 1,
                    "height": 1,
                    "size": 6,
                    "format": "PNG",
                    "created": moment,
                    "since": 1,
                }
                for id in ids
            ],
        )


if __name__ == "__main__":
    raise SystemExit(not run())
