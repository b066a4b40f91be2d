"""Erasing again what a restored backup brought back: by its key where it had one of its own, by its id elsewhere.

A project or account without a key is dead, whatever its rows say: they go. Of a living project, images, tags,
iterations, exports, stored predictions and takeouts go whose ids the journal of the key store names.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from ownvision.data_rights import scrubbing
from ownvision.jobs import rows
from ownvision.services import images as image_rules
from ownvision.services import iterations, predictions, tags
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.keys import JOURNAL, KeyStore
from ownvision.store.tables import Account, Blob, Export, Image, Iteration, Prediction, Project, Tag, Takeout

_PART = 500


def replay(components: Components, known: tuple[int, str] = (0, "")) -> Counter[str]:
    """Erase again, remove the bytes, and rewrite the database; doing it twice does no harm.

    Args:
        components: Of a restored installation that nobody uses yet.
        known: Length and SHA-256 of the journal when the backup's rows were read. What it named then was erased
            before, so a row of that id is one that was made anew, and stays.

    Returns:
        How many of each kind were erased again.
    """
    done: Counter[str] = Counter()
    done["project"] += _without_key(components, Project, components.keys.projects, _remove_project)
    done["account"] += _without_key(components, Account, components.keys.accounts, _remove_account)
    entries = _entries(components.keys, known)
    while part := list(islice(entries, _PART)):
        for kind, ids in _by_kind(part).items():
            with components.database.write() as session:
                done[kind] += _ERASE[kind](session, ids)
    while ledger.sweep(components.database, components.blobs.store):
        pass
    scrubbing.destroy_stray_keys(components.database, components.keys)
    scrubbing.scrub(components.database, components.settings.data)
    return +done


def _entries(keys: KeyStore, known: tuple[int, str]) -> Iterator[tuple[str, str]]:
    """(kind, id) that the journal names; the sweeper notes prefixes, which end in the id."""
    path = keys.folder / JOURNAL
    if not path.exists():
        return
    with path.open("rb") as file:
        size, sha256 = known
        digest, left = hashlib.sha256(), size
        while left and (part := file.read(min(left, 1 << 20))):
            digest.update(part)
            left -= len(part)
        if left or digest.hexdigest() != sha256:
            file.seek(0)  # another journal than then
        for line in file:
            kind, _, name = line.decode().strip().partition(" ")
            if kind in _ERASE and name:
                yield kind, name.rstrip("./").rpartition("/")[2]


def _by_kind(entries: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for kind, id in entries:
        kinds.setdefault(kind, []).append(id)
    return kinds


def _without_key(
    components: Components,
    table: type[Project] | type[Account],
    there: Callable[[], list[str]],
    remove: Callable[[Session, str], None],
) -> int:
    keys = set(there())
    with components.database.read() as session:
        dead = [id for id in session.scalars(select(table.id)) if id not in keys]
    for id in dead:
        with components.database.write() as session:
            remove(session, id)
    return len(dead)


def _remove_project(session: Session, id: str) -> None:
    project = session.get_one(Project, id)
    ledger.doom_project(session, id)
    ledger.doom_rows(session, project.account_id, id)
    session.delete(project)


def _remove_account(session: Session, id: str) -> None:
    prefixes = session.scalars(select(Blob.prefix).where(Blob.account_id == id, Blob.state != ledger.GONE)).all()
    ledger.doom(session, prefixes)
    ledger.doom_rows(session, id, id)
    session.delete(session.get_one(Account, id))


def _images(session: Session, ids: Sequence[str]) -> int:
    return sum(
        len(image_rules.delete_images(session, project, part, all_iterations=True))
        for project, part in _owned(session, Image, ids)
    )


def _tags(session: Session, ids: Sequence[str]) -> int:
    return _one_by_one(session, Tag, ids, lambda project, id: tags.delete(session, project, id))


def _iterations(session: Session, ids: Sequence[str]) -> int:
    # What is erased can't have stayed published.
    session.execute(update(Iteration).where(Iteration.id.in_(ids)).values(publish_name=None, publish_resource_id=None))
    return _one_by_one(session, Iteration, ids, lambda project, id: iterations.delete(session, project, id))


def _predictions(session: Session, ids: Sequence[str]) -> int:
    count = 0
    for project, part in _owned(session, Prediction, ids):
        predictions.delete(session, project, part)
        count += len(part)
    return count


def _exports(session: Session, ids: Sequence[str]) -> int:
    found = session.execute(
        select(Export.id, Export.archive_id, Iteration.project_id, Project.account_id)
        .join(Iteration, Iteration.id == Export.iteration_id)
        .join(Project, Project.id == Iteration.project_id)
        .where(Export.id.in_(ids))
    ).all()
    for id, archive_id, project_id, account_id in found:
        rows.cancel(session, [id])
        ledger.doom(session, [ledger.export_prefix(project_id, archive_id)])
        ledger.doom_rows(session, account_id, project_id)
    session.execute(delete(Export).where(Export.id.in_([row.id for row in found])))
    return len(found)


def _models(session: Session, ids: Sequence[str]) -> int:
    """Models that others took the place of since they had learned from what is erased: iterations go on without."""
    found = session.scalars(select(Iteration).where(Iteration.model_id.in_(ids))).all()
    for iteration in found:
        iteration.publish_name = iteration.publish_resource_id = None
        iteration.is_default = False
        iteration.status, iteration.error = "Failed", _MODEL_GONE
        _exports(session, session.scalars(select(Export.id).where(Export.iteration_id == iteration.id)).all())
        ledger.doom(session, [ledger.iteration_prefix(iteration.project_id, iteration.model_id)])
    session.flush()
    return len(found)


def _archives(session: Session, ids: Sequence[str]) -> int:
    return _exports(session, session.scalars(select(Export.id).where(Export.archive_id.in_(ids))).all())


_MODEL_GONE = "This model, from a backup, had learned from images that are erased, and was replaced since. Train again."


def _takeouts(session: Session, ids: Sequence[str]) -> int:
    found = session.scalars(select(Takeout).where(Takeout.id.in_(ids))).all()
    for takeout in found:
        rows.cancel(session, [takeout.id])
        owned = Blob.kind == "takeout", Blob.prefix.like(f"%/{takeout.id}/")
        ledger.doom(session, session.scalars(select(Blob.prefix).where(*owned)).all())
        ledger.doom_rows(session, takeout.account_id, takeout.project_id or takeout.account_id)
        session.delete(takeout)
    return len(found)


# By the kind that the ledger names, as the journal has it.
_ERASE: dict[str, Callable[[Session, Sequence[str]], int]] = {
    "image": _images,
    "tag": _tags,
    "iteration": _iterations,
    "model": _models,
    "archive": _archives,
    "prediction": _predictions,
    "export": _exports,
    "takeout": _takeouts,
}


def _one_by_one(
    session: Session, table: type[Tag] | type[Iteration], ids: Sequence[str], erase: Callable[[Project, str], None]
) -> int:
    count = 0
    for project, part in _owned(session, table, ids):
        for id in part:
            erase(project, id)
        count += len(part)
    return count


def _owned(
    session: Session, table: type[Image] | type[Tag] | type[Iteration] | type[Prediction], ids: Sequence[str]
) -> Iterator[tuple[Project, list[str]]]:
    """The projects that have rows of these ids, at their next revision."""
    found = session.execute(select(table.project_id, table.id).where(table.id.in_(ids))).all()
    for project_id in sorted({row.project_id for row in found}):
        project = session.get_one(Project, project_id, with_for_update=True)
        project.revision += 1
        yield project, [row.id for row in found if row.project_id == project_id]
