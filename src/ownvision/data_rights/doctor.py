"""The doctor: every row against every file and every byte against its seal, in both directions. It changes nothing."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

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
)
from ownvision.store.tables.base import now

# What must lie under a live prefix of each kind.
_FILES = {"image": "original", "prediction": "original", "iteration": "model.onnx", "export": "archive.zip"}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: what kind of thing, where, and what it means."""

    kind: str
    where: str
    message: str


def doctor(components: Components) -> Iterator[Finding]:
    """Examine an installation, serving or not; nothing found means nothing is lost, orphaned or damaged."""
    with components.database.read() as session:
        yield from _database(session, components)
        yield from _keys(session, components)
        yield from _leases(session)
        yield from _counts(session)
        yield from _owners(session)
        rows = {row.prefix: (row.kind, row.state) for row in session.scalars(select(Blob))}
        hashes = {
            ledger.image_prefix(row.project_id, row.id): row.sha256
            for row in session.execute(select(Image.id, Image.project_id, Image.sha256))
        }
        hashes |= {
            ledger.prediction_prefix(row.project_id, row.id): row.sha256
            for row in session.execute(select(Prediction.id, Prediction.project_id, Prediction.sha256))
        }
    yield from _files(components, rows, hashes)


def _database(session: Session, components: Components) -> Iterator[Finding]:
    if components.database.is_sqlite:
        for (answer,) in session.execute(text("PRAGMA integrity_check")):
            if answer != "ok":
                yield Finding("database damaged", "ownvision.db", answer)
        for table, *_ in session.execute(text("PRAGMA foreign_key_check")):
            yield Finding("row without owner", str(table), "A row points to one that is not there.")


def _keys(session: Session, components: Components) -> Iterator[Finding]:
    for kind, there, rows in (
        ("project", components.keys.projects(), set(session.scalars(select(Project.id)))),
        ("account", components.keys.accounts(), set(session.scalars(select(Account.id)))),
    ):
        for id in sorted(set(there) - rows):
            yield Finding("stray key", id, f"There is a key of {kind} {id}, but no such {kind}; the worker removes it.")
        for id in sorted(rows - set(there)):
            yield Finding("key missing", id, f"The key of {kind} {id} is gone: nothing of it can be read.")


def _leases(session: Session) -> Iterator[Finding]:
    moment = now()
    for prefix in session.scalars(select(Blob.prefix).where(Blob.state == ledger.PENDING, Blob.due <= moment)):
        yield Finding("stale lease", prefix, "An upload was given up; a running worker removes what is left of it.")
    for job in session.scalars(select(Job).where(Job.state == "running", Job.lease_until <= moment)):
        yield Finding("stale lease", job.id, f"The worker of this {job.kind} job is gone; a running one takes it up.")
    training = select(Job.subject).where(Job.kind == "train", Job.state.in_(("queued", "running")))
    for iteration in session.scalars(
        select(Iteration).where(Iteration.status == "Training", Iteration.id.not_in(training))
    ):
        yield Finding("stuck", iteration.id, f"{iteration.name} is Training, but no job trains it.")


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


def _owners(session: Session) -> Iterator[Finding]:
    """Rows that promise bytes, without a live row of the ledger."""
    live = set(session.scalars(select(Blob.prefix).where(Blob.state == ledger.LIVE)))
    promised = [
        *(ledger.image_prefix(row.project_id, row.id) for row in session.execute(select(Image.id, Image.project_id))),
        *(
            ledger.prediction_prefix(row.project_id, row.id)
            for row in session.execute(select(Prediction.id, Prediction.project_id))
        ),
        *(
            ledger.iteration_prefix(row.project_id, row.id)
            for row in session.execute(
                select(Iteration.id, Iteration.project_id).where(Iteration.status == "Completed")
            )
        ),
        *(
            ledger.export_prefix(row.project_id, row.id)
            for row in session.execute(
                select(Export.id, Iteration.project_id)
                .join(Iteration, Iteration.id == Export.iteration_id)
                .where(Export.status == "Done")
            )
        ),
    ]
    for prefix in promised:
        if prefix not in live:
            yield Finding("row without file", prefix, "A row promises bytes that the ledger does not know as live.")
    for prefix in sorted(live - set(promised)):
        yield Finding("file without row", prefix, "The ledger keeps bytes that no row needs.")


def _files(components: Components, rows: dict[str, tuple[str, str]], hashes: dict[str, str]) -> Iterator[Finding]:
    seen: set[str] = set()
    for key, _ in components.blobs.list():
        prefix, _, name = key.rpartition("/")
        kind, state = rows.get(f"{prefix}/", ("", ""))
        if not state:
            yield Finding("file without row", key, "No row of the ledger owns this file.")
            continue
        if state != ledger.LIVE:
            continue  # being written, or about to be removed
        seen.add(key)
        try:
            data = components.blobs.read(key)
        except BlobMissing:
            continue  # removed while we looked
        except (BlobDamaged, KeyMissing) as error:
            yield Finding("damaged", key, str(error))
            continue
        if name == "original" and hashlib.sha256(data).hexdigest() != hashes.get(f"{prefix}/"):
            yield Finding("damaged", key, "These are not the bytes that were uploaded.")
    for prefix, (kind, state) in sorted(rows.items()):
        if state == ledger.LIVE and prefix + _FILES[kind] not in seen:
            yield Finding("row without file", prefix + _FILES[kind], "The ledger knows this file as live; it is gone.")
