"""An account with something of everything, for the tests of takeouts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from ownvision.data_rights.takeout import restoring, writer
from ownvision.data_rights.takeout.own import Own
from ownvision.learning import pixels
from ownvision.services import accounts, drafts, exports, images, intake, iterations, predictions, projects
from ownvision.services.components import Components
from ownvision.services.intake import Picture
from ownvision.services.regions import Box
from ownvision.store.tables import Project, RetentionRule
from ownvision.store.tables.base import new_id, now
from tests.services import trained as t

NAMES = ("Vögel 🐦.png", "a/b\\c.png", "../../etc/passwd", "CON.png", "x.png", "X.PNG", "x.jpg", "..", "a\u202egnp.exe")


def account_of(house: Components) -> str:
    with house.database.read() as session:
        return accounts.all(session)[0].id


def change(house: Components, project: Project, action: Callable[[Session, Project], Any]) -> Any:
    with house.database.write() as session:
        return action(session, projects.lock(session, project.account_id, project.id))


def now_of(house: Components, project_id: str) -> Project:
    with house.database.read() as session:
        return projects.get(session, account_of(house), project_id)


def named(house: Components, project: Project, tags: Sequence[str], names: Sequence[str], first: int) -> None:
    batch = [
        Picture(
            str(number),
            lambda number=number: t.coloured(0, first + number),  # type: ignore[misc]
            file_name=name,
            tag_ids=tags,
        )
        for number, name in enumerate(names)
    ]
    added = intake.add_images(house, project.account_id, project.id, None, batch, metadata={"ort": "Köln", "n": ""})
    assert all(one.status == intake.OK for one in added), added


def predicted(house: Components, project: Project, iteration_id: str, data: bytes) -> str:
    """The id of a stored prediction."""
    with house.database.read() as session:
        iteration = iterations.get(session, project, iteration_id)
        tags = iterations.learned_tags(session, iteration_id)
    found, info = predictions.predict(house, iteration, tags, data)
    assert isinstance(info, pixels.ImageInfo)
    return predictions.store(house, project.account_id, project, iteration, data, info, found, new_id(), "app").id


def classifier(house: Components) -> Project:
    """Two iterations, published, exported and default; a negative tag, untagged images, one erased everywhere."""
    project = t.make_project(house, "Farben: rot/blau?", "Multilabel")
    ids = t.fill(house, project, {"red": 7, "blue": 6})
    t.upload(
        house, project, [t.coloured(2, seed) for seed in range(5)], [t.make_tag(house, project, "nichts", "Negative")]
    )
    named(house, project, [ids["red"]], NAMES, 100)
    first = t.train(house, project)
    with house.database.read() as session:
        found = images.find(session, project, newest=False)
    change(house, project, lambda s, p: images.delete_images(s, p, [found[0].image.id], all_iterations=True))
    change(house, project, lambda s, p: images.delete_images(s, p, [found[1].image.id], all_iterations=False))
    t.upload(house, project, [t.coloured(3, seed) for seed in range(3)], [])
    second = t.train(house, project, force=True)
    with house.database.write() as session:
        row = projects.get(session, project.account_id, project.id, lock=True)
        account = accounts.get(session, project.account_id)
        iterations.publish(session, row, first.id, "alt", account.prediction_resource_id, False, house.settings.limits)
        iterations.update(session, row, second.id, name=None, default=True, limits=house.settings.limits)
        exports.start(session, row, first.id, "ONNX", None)
        session.add(RetentionRule(account_id=row.account_id, project_id=row.id, kind="predictions", days=90))
        row.erasure_policy = "unpublish"
        drafts.switch_on(session, row)
    t.work(house)
    predicted(house, project, first.id, t.coloured(1, 77))
    return now_of(house, project.id)


def detector(house: Components) -> Project:
    """Boxes, untagged images, hostile names; not trained: that takes minutes."""
    project = t.make_project(house, "con", domain_id=t.DETECTION)
    tags = [t.make_tag(house, project, name) for name in ("red", "blue")]
    for seed in range(4):
        boxes = [Box(tags[colour], *t.place(seed, colour)) for colour in range(seed % 3)]
        t.upload(house, project, [t.squares(seed)], [], boxes)
    return now_of(house, project.id)


def written(house: Components, path: Path, project_id: str | None = None) -> writer.Told:
    """A takeout as a file."""
    told = writer.Told()
    source = Own(house, account_of(house), project_id, now())
    with path.open("wb") as file:
        for part in writer.stream(source, path.parent, told):
            file.write(part)
    return told


def restored(house: Components, path: Path) -> list[Project]:
    """The projects of a takeout, restored to the end."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        archive = restoring.opened(path, stack)
        coming = restoring.start(house, account_of(house), path, archive)
    t.work(house)
    return [now_of(house, one.project_id) for one in coming]
