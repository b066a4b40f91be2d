"""What goes with a project or an account, before it is erased: counts and bytes by kind."""

from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from ownvision.services.components import Components
from ownvision.store import ledger, tally
from ownvision.store.tables import (
    ApiKey,
    AuditEvent,
    Blob,
    Draft,
    Export,
    Image,
    ImageMetadata,
    ImageTag,
    Iteration,
    Job,
    LegalHold,
    Notification,
    Prediction,
    Project,
    ProjectExport,
    Region,
    RetentionRule,
    ScoredImage,
    Suggestion,
    Tag,
    Takeout,
)
from ownvision.store.tally import Tally

_OF_PROJECT: tuple[tuple[str, Any], ...] = (
    ("images", Image),
    ("metadata", ImageMetadata),
    ("imageTags", ImageTag),
    ("regions", Region),
    ("tags", Tag),
    ("drafts", Draft),
    ("predictions", Prediction),
    ("projectTokens", ProjectExport),
    ("notifications", Notification),
    ("jobs", Job),
)
_OF_ITERATION: tuple[tuple[str, Any], ...] = (("scores", ScoredImage), ("suggestions", Suggestion), ("exports", Export))
_OF_ACCOUNT: tuple[tuple[str, Any], ...] = (
    ("keys", ApiKey),
    ("takeouts", Takeout),
    ("rules", RetentionRule),
    ("auditEvents", AuditEvent),
)


def of_project(session: Session, components: Components, project: Project) -> Tally:
    """What goes with one project.

    The bytes of pictures are those of the originals; what was made from them (smaller copies, features) goes too.
    """
    found = _of_projects(session, components, Project.id == project.id)
    takeouts = select(func.count()).where(Takeout.project_id == project.id)
    return _with(found, "takeouts", session.scalar(takeouts) or 0)


def of_account(session: Session, components: Components, account_id: str) -> Tally:
    """What goes with an account: its projects, and what is its own."""
    found = _of_projects(session, components, Project.account_id == account_id)
    for kind, table in _OF_ACCOUNT:
        found = _with(found, kind, session.scalar(select(func.count()).where(table.account_id == account_id)) or 0)
    return _with(found, "accounts", 1)


def held(session: Session, account_id: str, project_id: str | None) -> bool:
    """Whether a legal hold stands in the way."""
    mine = select(LegalHold.id).where(LegalHold.account_id == account_id)
    if project_id is not None:
        mine = mine.where(LegalHold.project_id.is_(None) | (LegalHold.project_id == project_id))
    return session.scalar(mine.limit(1)) is not None


def published(session: Session, project: Project) -> list[str]:
    """Publish names in use, which stand in the way of deleting a project."""
    names = select(Iteration.publish_name).where(
        Iteration.project_id == project.id, Iteration.publish_name.is_not(None)
    )
    return [name for name in session.scalars(names) if name is not None]


def _of_projects(session: Session, components: Components, chosen: ColumnElement[bool]) -> Tally:
    mine = list(session.scalars(select(Project.id).where(chosen, Project.closed.is_(None))))
    found: Tally = {}
    for project_id in mine:
        found = _with(found, "projects", 1)
        for kind, table in _OF_PROJECT:
            number = session.scalar(select(func.count()).where(table.project_id == project_id)) or 0
            size = 0
            if table in (Image, Prediction):
                size = session.scalar(select(func.sum(table.size)).where(table.project_id == project_id)) or 0
            found = _with(found, kind, number, size)
        named = select(func.count(Image.file_name)).where(Image.project_id == project_id)
        found = _with(found, "fileNames", session.scalar(named) or 0)
        iterations = list(session.scalars(select(Iteration.id).where(Iteration.project_id == project_id)))
        found = _with(found, "iterations", len(iterations))
        for kind, table in _OF_ITERATION:
            counted = select(func.count()).where(table.iteration_id.in_(iterations))
            found = _with(found, kind, session.scalar(counted) or 0)
        found = tally.merged(found, _models_and_archives(session, components, project_id))
    return found


def _models_and_archives(session: Session, components: Components, project_id: str) -> Tally:
    below = (Blob.prefix > f"{project_id}/") & (Blob.prefix < f"{project_id}0")
    few = select(Blob.prefix).where(
        below,
        Blob.project_id == project_id,
        Blob.state == ledger.LIVE,
        Blob.kind.in_(("iteration", "export", "takeout")),
    )
    files = []
    for prefix in session.scalars(few):
        for key, size in components.blobs.list(prefix):
            files.append((key, key.removeprefix(prefix), size))
    return tally.of_files(files)


def _with(found: Tally, kind: str, number: int, size: int = 0) -> Tally:
    return tally.add(found, kind, number, size) if number or size else found
