"""Small real trainings for the tests of what comes after them: coloured pictures, jobs run in this process."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from sqlalchemy.orm import Session

from ownvision.data_rights import closing, erasure
from ownvision.data_rights.who import OPERATOR, Who
from ownvision.jobs import rows, runner
from ownvision.limits import Tier
from ownvision.services import accounts, intake, iterations, projects, tags, training
from ownvision.services.components import Components, open_components
from ownvision.services.intake import Picture
from ownvision.services.regions import Box
from ownvision.settings import Settings
from ownvision.store import ledger
from ownvision.store.tables import Iteration, Project, Receipt
from tests import databases

COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"
GENERAL = "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
DETECTION = "a27d5ca5-bb19-49d8-a70a-fec086c47f5b"
COLOURS = ((220, 40, 40), (40, 60, 220), (40, 200, 60), (230, 210, 40))


def coloured(colour: int, seed: int) -> bytes:
    """A picture of one colour with some noise; colour and seed make its bytes."""
    noise = np.random.default_rng(1_000 * colour + seed).integers(-30, 30, (48, 48, 3))
    pixels = np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def open_house(folder: Path, **settings: Any) -> Components:
    """An installation with its first account."""
    house = open_components(Settings(data=folder, **settings))
    databases.migrate(house.database)
    accounts.first_start(house)
    return house


def make_project(house: Components, name: str, kind: str = "Multiclass", domain_id: str = COMPACT) -> Project:
    """A project of the first account."""
    with house.database.write() as session:
        return projects.create(
            session,
            house.keys,
            accounts.all(session)[0],
            name=name,
            description=None,
            domain_id=domain_id,
            classification_type=kind,
            target_export_platforms=[],
            limits=house.settings.limits,
        )


def make_tag(house: Components, project: Project, name: str, type: str | None = None) -> str:
    """A tag's id."""
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        return tags.create(session, locked, name, None, type, house.settings.limits, Tier()).id


def upload(
    house: Components, project: Project, pictures: Sequence[bytes], tag_ids: Sequence[str], boxes: Sequence[Box] = ()
) -> list[str]:
    """Ids of the images."""
    batch = [
        Picture(source=str(number), read=lambda data=data: data, boxes=boxes)  # type: ignore[misc]
        for number, data in enumerate(pictures)
    ]
    added = intake.add_images(house, project.account_id, project.id, None, batch, tag_ids=tag_ids)
    return [one.view.image.id for one in added if one.view is not None]


def fill(house: Components, project: Project, counts: Mapping[str, int]) -> dict[str, str]:
    """Tags by name, each with so many pictures of its own colour."""
    made = {}
    for colour, (name, count) in enumerate(counts.items()):
        made[name] = make_tag(house, project, name)
        if count:
            upload(house, project, [coloured(colour, seed) for seed in range(count)], [made[name]])
    return made


def place(seed: int, colour: int) -> tuple[float, float, float, float]:
    """Where `squares` puts the square of a colour: the first in the left half, the second in the right."""
    left, top, side = np.random.default_rng(10 * seed + colour).uniform((0.02, 0.05, 0.25), (0.15, 0.5, 0.35))
    return float(left + colour / 2), float(top), float(side), float(side)


def squares(seed: int) -> bytes:
    """Grey noise of 160 × 160 pixels with a red and a blue square."""
    pixels = np.random.default_rng(seed).integers(90, 170, (160, 160, 3)).astype(np.uint8)
    for colour in range(2):
        left, top, width, height = (round(160 * side) for side in place(seed, colour))
        pixels[top : top + height, left : left + width] = COLOURS[colour]
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def start_in(session: Session, house: Components, project: Project, **wishes: Any) -> Iteration:
    """A training queued in the caller's transaction."""
    given: dict[str, Any] = {
        "training_type": None,
        "budget_hours": 0,
        "force": False,
        "selected_tags": [],
        "custom_base": None,
        "limits": house.settings.limits,
        "tier": Tier(),
        "email": None,
        **wishes,
    }
    return training.start(session, project, **given)


def start(house: Components, project: Project, **wishes: Any) -> Iteration:
    """A queued training."""
    with house.database.write() as session:
        return start_in(session, house, projects.get(session, project.account_id, project.id, lock=True), **wishes)


def claim(house: Components, lane: str = rows.TRAINING) -> rows.Claim:
    """The lane's next job."""
    found = rows.claim(house.database, lane, 60.0)
    assert found is not None
    return found


def work(house: Components) -> None:
    """Run every queued job to its end."""
    for lane in rows.LANES:
        while (next_job := rows.claim(house.database, lane, 60.0)) is not None:
            runner.run(house, next_job)


def train(house: Components, project: Project, **wishes: Any) -> Iteration:
    """A finished training."""
    iteration = start(house, project, **wishes)
    work(house)
    with house.database.read() as session:
        return iterations.get(session, project, iteration.id)


def close(house: Components, project: Project) -> Receipt:
    """Delete a project; its key is destroyed, its rows and bytes are a job's to remove (`work`)."""
    with house.database.write() as session:
        receipt = erasure.erase_project(session, Who(project.account_id, OPERATOR), project.id)
    erasure.after_commit(house, receipt)
    return receipt


def erase(house: Components, project: Project) -> Receipt:
    """Delete a project with all that it holds."""
    receipt = close(house, project)
    closing.empty(house, project.id)
    return receipt


def files(house: Components) -> set[str]:
    """Keys of all objects, once the sweeper is done."""
    while ledger.sweep(house.database, house.blobs):
        pass
    return {key for key, _ in house.blobs.list()}
