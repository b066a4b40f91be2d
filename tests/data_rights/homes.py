"""A small installation with something of every kind, for the tests of what is kept and what is left."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from ownvision.data_rights import erasure, receipts, scrubbing, signing
from ownvision.data_rights.who import OPERATOR, Who
from ownvision.learning import pixels
from ownvision.services import accounts, exports, intake, predictions, projects, webhooks
from ownvision.services.components import Components
from ownvision.services.intake import Picture
from ownvision.services.webhooks import Webhook
from ownvision.store import ledger
from ownvision.store.tables import Image, Iteration, Project, Receipt
from ownvision.store.tables.base import new_id
from tests.services import trained as t


@dataclass
class Home:
    """An installation and what is in it."""

    house: Components
    project: Project
    tags: dict[str, str] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    iteration: str = ""
    export: str = ""
    prediction: str = ""

    @property
    def data(self) -> Path:
        return self.house.settings.data


def move_in(folder: Path) -> Home:
    """A trained project with an export, a stored prediction and a webhook."""
    house = t.open_house(folder)
    home = Home(house, t.make_project(house, "Herbarium of Ada"))
    home.tags = t.fill(house, home.project, {"oak of Ada": 6, "elm": 6})
    home.iteration = t.train(house, home.project).id
    with house.database.write() as session:
        project = projects.get(session, home.project.account_id, home.project.id, lock=True)
        home.export = exports.start(session, project, home.iteration, "ONNX", None).id
        secret = base64.b64encode(b"secret of Ada, 32 bytes of it...").decode()
        webhooks.keep(session, house.keys, project, Webhook("http://127.0.0.1/ada", f"whsec_{secret}"))
        home.images = list(session.scalars(select(Image.id).order_by(Image.seq)))
    t.work(house)
    home.prediction = predict(home, t.coloured(0, 900))
    return home


def predict(home: Home, picture: bytes) -> str:
    """A stored prediction's id."""
    with home.house.database.read() as session:
        iteration = session.get_one(Iteration, home.iteration)
    id = new_id()
    info = pixels.inspect(picture)
    predictions.store(
        home.house, home.project.account_id, home.project, iteration, picture, info, [], id, "Ada's application"
    )
    return id


def another_account(house: Components, name: str) -> tuple[str, Project]:
    """An account with a project and a picture; its id and the project."""
    with house.database.write() as session:
        account = accounts.create(session, house.keys, user_name=name, email=f"{name}@example.org", tier="Unlimited")
        project = projects.create(
            session,
            house.keys,
            account,
            name=f"Garden of {name}",
            description=None,
            domain_id=t.COMPACT,
            classification_type="Multiclass",
            target_export_platforms=[],
            limits=house.settings.limits,
        )
    picture = t.coloured(3, int(hashlib.sha256(name.encode()).hexdigest()[:4], 16))
    intake.add_images(house, account.id, project.id, None, [Picture(f"{name}.png", lambda: picture)])
    return account.id, project


def who(home: Home) -> Who:
    return Who(home.project.account_id, OPERATOR)


def _erase(home: Home, what: Callable[[Session], Receipt]) -> Receipt:
    with home.house.database.write() as session:
        receipt = what(session)
    erasure.after_commit(home.house, receipt)
    return receipt


def erase_image(home: Home, image_id: str) -> Receipt:
    """From all iterations."""
    return _erase(
        home, lambda session: erasure.erase_images(session, who(home), home.project.id, [image_id], all_iterations=True)
    )


def erase_tag(home: Home, tag_id: str) -> Receipt:
    return _erase(home, lambda session: erasure.erase_tag(session, who(home), home.project.id, tag_id))


def erase_prediction(home: Home, prediction_id: str) -> Receipt:
    return _erase(home, lambda session: erasure.erase_predictions(session, who(home), home.project.id, [prediction_id]))


def erase_iteration(home: Home, iteration_id: str) -> Receipt:
    return _erase(home, lambda session: erasure.erase_iteration(session, who(home), home.project.id, iteration_id))


def erase_export(home: Home, export_id: str) -> Receipt:
    return _erase(
        home, lambda session: erasure.erase_export(session, who(home), home.project.id, home.iteration, export_id)
    )


def erase_project(home: Home, project: Project) -> Receipt:
    return _erase(home, lambda session: erasure.erase_project(session, Who(project.account_id, OPERATOR), project.id))


def erase_account(home: Home, account_id: str) -> Receipt:
    return _erase(home, lambda session: erasure.erase_account(session, Who(account_id, OPERATOR)))


def settle(house: Components) -> None:
    """What the worker does after erasures, at once."""
    t.work(house)
    while ledger.sweep(house.database, house.blobs, erased=house.keys.journal):
        pass
    scrubbing.destroy_stray_keys(house.database, house.keys)
    receipts.settle(house.database)
    assert scrubbing.scrub(house.database, house.settings.data)
    signing.sign(house.database, house.keys, scrubbing.scrubbed(house.settings.data))
