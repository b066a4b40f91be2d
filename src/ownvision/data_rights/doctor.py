"""The doctor: every row against every file and every byte against its seal, in both directions. It changes nothing."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from ownvision.data_rights.azure_import import work
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.keys import KeyMissing
from ownvision.store.tables import (
    Account,
    Blob,
    Export,
    Image,
    ImageTag,
    Iteration,
    Job,
    Prediction,
    Project,
    Tag,
    Takeout,
)
from ownvision.store.tables.base import now

# What must lie under a live prefix of each kind.
FILES = {
    "image": "original",
    "prediction": "original",
    "iteration": "model.onnx",
    "export": "archive.zip",
    "takeout": "archive.zip",
}
_STEP = 2**20


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: what kind of thing, where, and what it means."""

    kind: str
    where: str
    message: str


def doctor(components: Components) -> Iterator[Finding]:
    """Examine an installation, serving or not; nothing found means nothing is lost, orphaned or damaged.

    What is on its way out with a closed project or account is passed over.
    """
    with components.database.read() as session:
        closed = _closed(session)
    for finding in _examined(components):
        if finding.kind == "stray key" or finding.where.partition("/")[0] not in closed:
            yield finding


def _examined(components: Components) -> Iterator[Finding]:
    with components.database.read() as session:
        yield from _database(session, components)
    yield from _keys(components)
    with components.database.read() as session:
        yield from _leases(session)
        yield from _counts(session)
        yield from owners(session)
    yield from _files(components)
    yield from _imports(components)


def _closed(session: Session) -> set[str]:
    """Ids of closed projects and accounts, and of what a closed project's rows are known by here."""
    projects = select(Project.id).where(Project.closed.is_not(None))
    iterations = select(Iteration.id).where(Iteration.project_id.in_(projects))
    inside = (
        projects,
        select(Account.id).where(Account.closed.is_not(None)),
        select(Tag.id).where(Tag.project_id.in_(projects)),
        iterations,
        select(Export.id).where(Export.iteration_id.in_(iterations)),
    )
    return {id for query in inside for id in session.scalars(query)}


def _database(session: Session, components: Components) -> Iterator[Finding]:
    if components.database.is_sqlite:
        for (answer,) in session.execute(text("PRAGMA integrity_check")):
            if answer != "ok":
                yield Finding("database damaged", "ownvision.db", answer)
        for table, *_ in session.execute(text("PRAGMA foreign_key_check")):
            yield Finding("row without owner", str(table), "A row points to one that is not there.")


def _keys(components: Components) -> Iterator[Finding]:
    keys = components.keys
    # Under the write lock nobody is between making a key and committing what it is for.
    with components.database.write() as session:
        kinds = (
            ("project", set(keys.projects()), set(session.scalars(select(Project.id).where(Project.closed.is_(None))))),
            ("account", set(keys.accounts()), set(session.scalars(select(Account.id).where(Account.closed.is_(None))))),
        )
    for kind, there, rows in kinds:
        for id in sorted(there - rows):
            yield Finding("stray key", id, f"There is a key of {kind} {id}, but no such {kind}; the worker removes it.")
        for id in sorted(rows - there):
            yield Finding("key missing", id, f"The key of {kind} {id} is gone: nothing of it can be read.")
        for id in sorted(rows & there):
            try:
                (keys.project_key if kind == "project" else keys.account_key)(id)
            except KeyMissing as error:
                yield Finding("key missing", id, f"The key of {kind} {id} can't be used: {error}")
    for name in keys.strangers():
        yield Finding("stray key", name, "This file in the folder of keys is nobody's key; remove it.")


def _leases(session: Session) -> Iterator[Finding]:
    moment = now()
    for prefix in session.scalars(select(Blob.prefix).where(Blob.state == ledger.PENDING, Blob.due <= moment)):
        yield Finding("stale lease", prefix, "An upload was given up; a running worker removes what is left of it.")
    for job in session.scalars(select(Job).where(Job.state == "running", Job.lease_until <= moment)):
        yield Finding("stale lease", job.id, f"The worker of this {job.kind} job is gone; a running one takes it up.")
    for row, kind, waiting, name in (
        (Iteration, "train", "Training", Iteration.name),
        (Export, "export", "Exporting", Export.platform),
        (Project, "import", "Importing", Project.name),
    ):
        at_work = select(Job.subject).where(Job.kind == kind, Job.state.in_(("queued", "running")))
        for id, called in session.execute(select(row.id, name).where(row.status == waiting, row.id.not_in(at_work))):
            yield Finding("stuck", id, f"{called} is {waiting}, but no job is at it.")


def _counts(session: Session) -> Iterator[Finding]:
    for project in session.scalars(select(Project)):
        mine = (Image.project_id == project.id, Image.until.is_(None))
        total = session.scalar(select(func.count()).select_from(Image).where(*mine))
        tagged = session.scalar(select(func.count()).select_from(Image).where(*mine, Image.tagged))
        if (total, tagged) != (project.image_count, project.tagged_count):
            yield Finding(
                "wrong count",
                project.id,
                f"Kept: {project.image_count} images, {project.tagged_count} tagged. Counted: {total} and {tagged}.",
            )
    carried = (
        select(func.count()).where(ImageTag.tag_id == Tag.id, ImageTag.until.is_(None)).correlate(Tag).scalar_subquery()
    )
    for tag_id, kept, counted in session.execute(select(Tag.id, Tag.image_count, carried)):
        if kept != counted:
            yield Finding("wrong count", tag_id, f"The tag's image count is kept as {kept}; it is on {counted} images.")


def owners(session: Session) -> Iterator[Finding]:
    """Rows that promise bytes, without a live row of the ledger."""
    live = set(session.scalars(select(Blob.prefix).where(Blob.state == ledger.LIVE)))
    promised = [
        *(ledger.image_prefix(row.project_id, row.id) for row in session.execute(select(Image.id, Image.project_id))),
        *(
            ledger.prediction_prefix(row.project_id, row.id)
            for row in session.execute(select(Prediction.id, Prediction.project_id))
        ),
        *(
            ledger.iteration_prefix(row.project_id, row.model_id)
            for row in session.execute(
                select(Iteration.model_id, Iteration.project_id).where(
                    Iteration.status == "Completed", Iteration.origin.is_(None)
                )
            )
        ),
        *(
            ledger.export_prefix(row.project_id, row.archive_id)
            for row in session.execute(
                select(Export.archive_id, Iteration.project_id)
                .join(Iteration, Iteration.id == Export.iteration_id)
                .where(Export.status == "Done")
            )
        ),
        *(
            ledger.takeout_prefix(row.project_id or row.account_id, row.id)
            for row in session.scalars(select(Takeout).where(Takeout.status == "Done"))
        ),
    ]
    for prefix in promised:
        if prefix not in live:
            yield Finding("row without file", prefix, "A row promises bytes that the ledger does not know as live.")
    for prefix in sorted(live - set(promised)):
        yield Finding("file without row", prefix, "The ledger keeps bytes that no row needs.")


def _files(components: Components) -> Iterator[Finding]:
    """Every file against the ledger and its seal, then every live row of the ledger against its file."""
    for key, _ in components.blobs.list():
        prefix = ledger.prefix_of(key)
        name = key.removeprefix(prefix)
        # Asked after the file was seen: its row is committed before it, so a service at work causes no false alarm.
        state, sha256 = _ledger(components, prefix, name)
        if state is None:
            if components.blobs.exists(key):
                yield Finding("file without row", key, "No row of the ledger owns this file.")
        elif state == ledger.LIVE:  # others are being written, or about to be removed
            wrong = _wrong_with(components, key, sha256)
            if wrong and _ledger(components, prefix, name)[0] == ledger.LIVE:
                yield Finding("damaged", key, wrong)
    with components.database.read() as session:
        live = session.execute(select(Blob.prefix, Blob.kind).where(Blob.state == ledger.LIVE)).all()
    for prefix, kind in sorted((row.prefix, row.kind) for row in live):
        key = prefix + FILES[kind]
        if not components.blobs.exists(key) and _ledger(components, prefix, "")[0] == ledger.LIVE:
            yield Finding("row without file", key, "The ledger knows this file as live; it is gone.")


def _imports(components: Components) -> Iterator[Finding]:
    data = components.settings.data
    for folder in work.abandoned(data):
        where = str(folder.relative_to(data))
        yield Finding(
            "unfinished import",
            where,
            "A copy was broken off, and what it had fetched lies here unencrypted: start its command again, or remove "
            f"the folder {where}.",
        )


def _ledger(components: Components, prefix: str, name: str) -> tuple[str | None, str | None]:
    """A prefix's state, None when no row owns it; and what its original's bytes must hash to."""
    with components.database.read() as session:
        blob = session.get(Blob, prefix)
        if blob is None:
            return None, None
        id = prefix.rstrip("./").rpartition("/")[2]
        if name != "original":
            return blob.state, None
        table = Image if blob.kind == "image" else Prediction
        return blob.state, session.scalar(select(table.sha256).where(table.id == id))


def _wrong_with(components: Components, key: str, sha256: str | None) -> str | None:
    digest, start = hashlib.sha256(), 0
    try:
        size = components.blobs.size(key)
        while start == 0 or start < size:  # an archive may be larger than memory
            digest.update(components.blobs.read_range(key, start, start + _STEP))
            start += _STEP
    except BlobMissing:
        return None  # removed while we looked; that it should be there is asked from the other side
    except (BlobDamaged, KeyMissing) as error:
        return str(error)
    if sha256 is not None and digest.hexdigest() != sha256:
        return "These are not the bytes that were uploaded."
    return None
