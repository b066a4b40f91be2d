"""Tokens of ExportProject: signed addresses, each for one project at one revision, revoked by removing their row."""

from datetime import timedelta

from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.services import iterations, projects
from ownvision.store.tables import Image, Iteration, Project, ProjectExport, Region, Tag
from ownvision.store.tables.base import new_id, now

# Rounded up from `benchmarks/results/travel.csv`, two cores that others use too.
_START_MILLISECONDS, _IMAGE_MILLISECONDS, _ITERATION_MILLISECONDS = 500, 2, 250


def make(session: Session, project: Project, days: int) -> ProjectExport:
    """A token for a locked project as it is now.

    Raises:
        OwnVisionError: BadRequestExportWhileTraining.
    """
    if any(iteration.status == "Training" for iteration in iterations.all(session, project)):
        raise OwnVisionError(
            "BadRequestExportWhileTraining", "The project is being trained; wait until that ends, or cancel it."
        )
    export = snapshot(session, project, days)
    session.add(export)
    session.flush()
    return export


def snapshot(session: Session, project: Project, days: int) -> ProjectExport:
    """A project as it is now, not stored: its revision, and how much of it travels."""
    made = iterations.all(session, project)
    moment = now()
    return ProjectExport(
        id=new_id(),
        project_id=project.id,
        revision=project.revision,
        image_count=_travelling(session, project, Image),
        tag_count=session.scalar(select(func.count()).select_from(Tag).where(Tag.project_id == project.id)) or 0,
        region_count=_travelling(session, project, Region),
        iteration_count=sum(1 for iteration in made if iteration.status == iterations.COMPLETED),
        created=moment,
        expires=(moment + timedelta(days=days)).replace(microsecond=0),
    )


def estimate(export: ProjectExport) -> int:
    """Milliseconds that the import will take, about."""
    return (
        _START_MILLISECONDS
        + _IMAGE_MILLISECONDS * export.image_count
        + _ITERATION_MILLISECONDS * export.iteration_count
    )


def all(session: Session, project: Project) -> list[ProjectExport]:
    """A project's tokens, newest first; those that expired are listed as long as retention keeps them."""
    return list(
        session.scalars(
            select(ProjectExport)
            .where(ProjectExport.project_id == project.id)
            .order_by(ProjectExport.created.desc(), ProjectExport.id)
        )
    )


def revoke(session: Session, project: Project, export_id: str) -> None:
    """Make a token worthless, also to an import that is under way.

    Raises:
        OwnVisionError: NotFound.
    """
    gone = session.execute(
        delete(ProjectExport).where(ProjectExport.id == export_id, ProjectExport.project_id == project.id)
    )
    if gone.rowcount != 1:  # type: ignore[attr-defined]
        raise OwnVisionError("NotFound", f"There is no token {export_id} of project {project.id}.")


def valid(session: Session, export_id: str) -> ProjectExport | None:
    """A token's row, unless it was revoked, has expired, or its project is gone or still arriving."""
    export = session.get(ProjectExport, export_id)
    if export is None or export.expires <= now():
        return None
    project = session.get(Project, export.project_id)
    return None if project is None or project.status == projects.IMPORTING else export


def _travelling(session: Session, project: Project, table: type[Image] | type[Region]) -> int:
    covered = (
        select(Iteration.id)
        .where(
            Iteration.project_id == project.id,
            Iteration.status == iterations.COMPLETED,
            Iteration.revision >= table.since,
            Iteration.revision < table.until,
        )
        .exists()
    )
    travels = or_(table.until.is_(None), and_(table.until.is_not(None), covered))
    return session.scalar(select(func.count()).select_from(table).where(table.project_id == project.id, travels)) or 0
