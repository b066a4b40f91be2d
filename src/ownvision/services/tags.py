"""Tags of a workspace, and of an iteration as it saw them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.limits import Limits, Tier
from ownvision.services import coverage, forgetting, projects
from ownvision.store import ledger, tally
from ownvision.store.tables import Image, ImageTag, Iteration, IterationTag, Project, Region, Tag
from ownvision.store.tables.base import new_id

REGULAR, NEGATIVE, GENERAL_PRODUCT = "Regular", "Negative", "GeneralProduct"
TYPES = (REGULAR, NEGATIVE, GENERAL_PRODUCT)


@dataclass(frozen=True)
class TagView:
    """A tag as the API shows it."""

    id: str
    name: str
    description: str | None
    type: str
    image_count: int


def all(session: Session, project: Project, iteration_id: str | None = None) -> list[TagView]:
    """Tags of the workspace, or of an iteration as it was trained, in the order of their ids.

    Raises:
        OwnVisionError: NotFoundIteration.
    """
    if iteration_id is None:
        rows = session.scalars(select(Tag).where(Tag.project_id == project.id).order_by(Tag.id))
        return [TagView(tag.id, tag.name, tag.description, tag.type, tag.image_count) for tag in rows]
    _check_iteration(session, project, iteration_id)
    frozen = session.scalars(
        select(IterationTag).where(IterationTag.iteration_id == iteration_id).order_by(IterationTag.tag_id)
    )
    return [TagView(tag.tag_id, tag.name, tag.description, tag.type, tag.image_count) for tag in frozen]


def names(session: Session, project: Project, iteration_id: str | None = None) -> dict[str, str]:
    """Tag names by id, of the workspace or of an iteration."""
    return {tag.id: tag.name for tag in all(session, project, iteration_id)}


def get(session: Session, project: Project, tag_id: str, iteration_id: str | None = None) -> TagView:
    """One tag.

    Raises:
        OwnVisionError: NotFoundTag, NotFoundIteration.
    """
    for tag in all(session, project, iteration_id):
        if tag.id == tag_id:
            return tag
    raise OwnVisionError("NotFoundTag", f"There is no tag {tag_id} in project {project.id}.")


def create(
    session: Session, project: Project, name: str, description: str | None, type: str | None, limits: Limits, tier: Tier
) -> TagView:
    """A new tag in a project locked by `projects.lock`.

    Raises:
        OwnVisionError: BadRequestTag…, BadRequestMultipleNegativeTag, BadRequestExceedTagPerProjectLimit, ….
    """
    quota = tier.tags_per_project
    made = session.scalar(select(func.count()).select_from(Tag).where(Tag.project_id == project.id)) or 0
    if quota is not None and made >= quota:
        raise OwnVisionError("BadRequestExceedTagPerProjectLimit", f"This tier allows {quota} tags per project.")
    _check_name(session, project, name, limits, None)
    _check_description(description, limits)
    tag = Tag(
        id=new_id(),
        project_id=project.id,
        name=name,
        description=description or None,
        type=_type(session, project, type, None),
    )
    session.add(tag)
    session.flush()
    return TagView(tag.id, tag.name, tag.description, tag.type, 0)


def update_tag(session: Session, project: Project, tag_id: str, changes: Mapping[str, Any], limits: Limits) -> TagView:
    """Rename, describe or retype a tag of a locked project; what `changes` (wire names) leaves out stays.

    Raises:
        OwnVisionError: NotFoundTag, BadRequestTag….
    """
    tag = _row(session, project, tag_id)
    if changes.get("name") is not None and changes["name"] != tag.name:
        _check_name(session, project, changes["name"], limits, tag.id)
        tag.name = changes["name"]
    if "description" in changes:
        _check_description(changes["description"], limits)
        tag.description = changes["description"] or None
    if changes.get("type") is not None:
        wanted = _type(session, project, changes["type"], tag.id)
        if wanted == NEGATIVE and tag.type != NEGATIVE and _shares_images(session, tag):
            raise OwnVisionError(
                "BadRequestNegativeAndRegularTagOnSameImage",
                f"Images tagged {tag.name!r} carry other tags too; a Negative tag must stand alone.",
            )
        tag.type = wanted
    session.flush()
    return TagView(tag.id, tag.name, tag.description, tag.type, tag.image_count)


def delete(session: Session, project: Project, tag_id: str) -> None:
    """Delete a tag of a locked project: it leaves all images of the workspace, with its regions.

    Trained iterations keep their own copy.

    Raises:
        OwnVisionError: NotFoundTag.
    """
    tag = _row(session, project, tag_id)
    for table in (ImageTag, Region):
        session.execute(
            update(table)
            .where(table.project_id == project.id, table.tag_id == tag.id, table.until.is_(None))
            .values(until=project.revision)
        )
    orphaned = (
        select(ImageTag.image_seq)
        .where(ImageTag.tag_id == tag.id, ImageTag.until == project.revision)
        .scalar_subquery()
    )
    still_tagged = select(ImageTag.id).where(ImageTag.image_seq == Image.seq, ImageTag.until.is_(None)).exists()
    untagged = session.execute(
        update(Image)
        .where(Image.seq.in_(orphaned), Image.until.is_(None), Image.tagged, ~still_tagged)
        .values(tagged=False)
        .execution_options(synchronize_session=False)
    )
    project.tagged_count -= untagged.rowcount  # type: ignore[attr-defined]
    session.delete(tag)
    tally.count(session, "tags", 1)
    ledger.doom_tag(session, project.account_id, project.id, tag.id)
    session.flush()
    forgetting.forget(session, project.id)
    coverage.release(session, project.id)


def _check_iteration(session: Session, project: Project, iteration_id: str) -> None:
    found = session.scalar(select(Iteration.id).where(Iteration.id == iteration_id, Iteration.project_id == project.id))
    if found is None:
        raise OwnVisionError("NotFoundIteration", f"There is no iteration {iteration_id} in project {project.id}.")


def _row(session: Session, project: Project, tag_id: str) -> Tag:
    tag = session.scalar(select(Tag).where(Tag.id == tag_id, Tag.project_id == project.id))
    if tag is None:
        raise OwnVisionError("NotFoundTag", f"There is no tag {tag_id} in project {project.id}.")
    return tag


def _check_name(session: Session, project: Project, name: str, limits: Limits, own_id: str | None) -> None:
    if not name.strip() or len(name) > limits.name_characters or "\n" in name:
        raise OwnVisionError("BadRequestTagName", f"A tag needs a name of 1 to {limits.name_characters} characters.")
    taken = session.scalar(select(Tag.id).where(Tag.project_id == project.id, Tag.name == name))
    if taken not in (None, own_id):
        raise OwnVisionError("BadRequestTagNameNotUnique", f"Another tag of this project is named {name!r}.")


def _check_description(description: str | None, limits: Limits) -> None:
    if description and len(description) > limits.description_characters:
        raise OwnVisionError(
            "BadRequestTagDescription", f"A description may have {limits.description_characters} characters."
        )


def _type(session: Session, project: Project, wanted: str | None, own_id: str | None) -> str:
    type = next((name for name in TYPES if name.lower() == (wanted or REGULAR).lower()), None)
    if type is None:
        raise OwnVisionError("BadRequestTagType", f"A tag's type is {', '.join(TYPES)}, not {wanted!r}.")
    if type == REGULAR:
        return type
    detection = projects.is_detection(project)
    if type == NEGATIVE and detection:
        raise OwnVisionError(
            "BadRequestDetectionTrainingNotAllowNegativeTag",
            "A detection project has no Negative tag: a detector learns from regions only.",
        )
    if type == GENERAL_PRODUCT and not detection:
        raise OwnVisionError("BadRequestTagType", "GeneralProduct tags belong to detection projects.")
    other = session.scalar(
        select(Tag.id).where(Tag.project_id == project.id, Tag.type == type, Tag.id != (own_id or ""))
    )
    if other is not None:
        raise OwnVisionError(f"BadRequestMultiple{type}Tag", f"This project has a {type} tag already.")
    return type


def _shares_images(session: Session, tag: Tag) -> bool:
    mine = select(ImageTag.image_seq).where(ImageTag.tag_id == tag.id, ImageTag.until.is_(None))
    return (
        session.scalar(
            select(ImageTag.id)
            .where(ImageTag.image_seq.in_(mine), ImageTag.until.is_(None), ImageTag.tag_id != tag.id)
            .limit(1)
        )
        is not None
    )
