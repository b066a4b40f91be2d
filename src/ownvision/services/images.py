"""Images: find, count, tag, describe, delete. Reading knows the workspace and every iteration's revision."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import InstrumentedAttribute

from ownvision.errors import OwnVisionError
from ownvision.limits import Limits
from ownvision.services import coverage, forgetting, metadata_filter, projects, tags
from ownvision.services.erasing import erase_everywhere
from ownvision.store import ledger
from ownvision.store.tables import Image, ImageMetadata, ImageTag, Iteration, IterationTag, Project, Region, Tag
from ownvision.store.tables.base import now

ALL, TAGGED, UNTAGGED = "All", "Tagged", "Untagged"
# Up to so many rows, gathering and sorting the images of several tags is faster than walking all images in order.
_FEW_ROWS = 5_000


@dataclass(frozen=True)
class RegionView:
    """A region as the API shows it; left, top, width, height relative, 0 to 1."""

    id: str
    tag_id: str
    tag_name: str | None
    left: float
    top: float
    width: float
    height: float
    created: datetime


@dataclass(frozen=True)
class ImageView:
    """An image with what it carries in the workspace or in an iteration."""

    image: Image
    tags: list[tuple[str, str | None, datetime]] = field(default_factory=list)  # (tag id, name, created)
    regions: list[RegionView] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


def revision_of(session: Session, project: Project, iteration_id: str | None) -> int | None:
    """The revision an iteration froze; None for the workspace.

    Raises:
        OwnVisionError: NotFoundIteration.
    """
    if iteration_id is None:
        return None
    revision = session.scalar(
        select(Iteration.revision).where(Iteration.id == iteration_id, Iteration.project_id == project.id)
    )
    if revision is None:
        raise OwnVisionError("NotFoundIteration", f"There is no iteration {iteration_id} in project {project.id}.")
    return revision


def valid_at(table: type[Image] | type[ImageTag] | type[Region], revision: int | None) -> ColumnElement[bool]:
    """The condition under which a row belongs to the workspace (None) or to a revision."""
    if revision is None:
        return table.until.is_(None)
    return and_(table.since <= revision, or_(table.until.is_(None), table.until > revision))


def find(
    session: Session,
    project: Project,
    *,
    iteration_id: str | None = None,
    tagging_status: str = ALL,
    tag_ids: Sequence[str] = (),
    filter: str | None = None,
    newest: bool = True,
    take: int = 50,
    skip: int = 0,
) -> list[ImageView]:
    """One page of images; `tag_ids` means any of them.

    A page near the end is read from the end: the cost is that of the nearer end, not of `skip`.

    Raises:
        OwnVisionError: NotFoundIteration; BadRequest for a `$filter` that can't be read.
    """
    revision = revision_of(session, project, iteration_id)
    query = _matching(session, project, revision, tagging_status, tag_ids, filter)
    descending = newest
    if skip > 2 * take:
        total = count(
            session,
            project,
            iteration_id=iteration_id,
            tagging_status=tagging_status,
            tag_ids=tag_ids,
            filter=filter,
        )
        if skip >= total:
            return []
        from_end = max(total - skip - take, 0)
        if from_end < skip:
            take, skip, descending = min(take, total - skip), from_end, not newest
    order = Image.seq.desc() if descending else Image.seq.asc()
    rows = list(session.scalars(query.order_by(order).offset(skip).limit(take)))
    if descending != newest:
        rows.reverse()
    return views(session, project, rows, revision, tags.names(session, project, iteration_id))


def count(
    session: Session,
    project: Project,
    *,
    iteration_id: str | None = None,
    tagging_status: str = ALL,
    tag_ids: Sequence[str] = (),
    filter: str | None = None,
) -> int:
    """How many images `find` would page through; from kept counts where there are any.

    Raises:
        OwnVisionError: as `find`.
    """
    revision = revision_of(session, project, iteration_id)
    if filter is None and tagging_status == UNTAGGED and tag_ids:
        return 0
    if filter is None:
        kept = _kept_count(session, project, iteration_id, tagging_status, tag_ids)
        if kept is not None:
            return kept
    if filter is None and tag_ids:
        tagged = select(func.count(ImageTag.image_seq.distinct())).where(
            ImageTag.tag_id.in_(tag_ids), ImageTag.project_id == project.id, valid_at(ImageTag, revision)
        )
        return session.scalar(tagged) or 0
    query = _matching(session, project, revision, tagging_status, tag_ids, filter)
    return session.scalar(select(func.count()).select_from(query.with_only_columns(Image.seq).subquery())) or 0


def _kept_count(
    session: Session, project: Project, iteration_id: str | None, tagging_status: str, tag_ids: Sequence[str]
) -> int | None:
    if len(set(tag_ids)) > 1:
        return None
    if len(set(tag_ids)) == 1:
        if iteration_id is None:
            query = select(Tag.image_count).where(Tag.id == tag_ids[0], Tag.project_id == project.id)
        else:
            query = select(IterationTag.image_count).where(
                IterationTag.iteration_id == iteration_id, IterationTag.tag_id == tag_ids[0]
            )
        return session.scalar(query) or 0
    total, tagged = project.image_count, project.tagged_count
    if iteration_id is not None:
        total, tagged = session.execute(
            select(Iteration.image_count, Iteration.tagged_count).where(Iteration.id == iteration_id)
        ).one()
    return {ALL: total, TAGGED: tagged, UNTAGGED: total - tagged}[tagging_status]


def _matching(
    session: Session,
    project: Project,
    revision: int | None,
    tagging_status: str,
    tag_ids: Sequence[str],
    filter: str | None,
) -> Select[Any]:
    query = select(Image).where(Image.project_id == project.id, valid_at(Image, revision))
    carries = select(ImageTag.id).where(ImageTag.image_seq == Image.seq, valid_at(ImageTag, revision))
    if tag_ids:
        query = query.where(_any_tag(session, project, revision, tag_ids))
    if tagging_status == TAGGED and not tag_ids:
        query = query.where(Image.tagged.is_(True) if revision is None else carries.exists())
    elif tagging_status == UNTAGGED:
        query = query.where(Image.tagged.is_(False) if revision is None else ~carries.exists())
    if filter is not None:
        query = query.where(metadata_filter.condition(filter, project.id))
    return query


def _any_tag(session: Session, project: Project, revision: int | None, tag_ids: Sequence[str]) -> ColumnElement[bool]:
    of_tags = (
        ImageTag.tag_id.in_(tag_ids),
        ImageTag.project_id == project.id,
        valid_at(ImageTag, revision),
    )
    rows = (
        session.scalar(
            select(func.count()).select_from(select(ImageTag.id).where(*of_tags).limit(_FEW_ROWS + 1).subquery())
        )
        or 0
    )
    if rows <= _FEW_ROWS:
        return Image.seq.in_(select(ImageTag.image_seq).where(*of_tags))
    return select(ImageTag.id).where(ImageTag.image_seq == Image.seq, *of_tags).exists()


def by_ids(
    session: Session, project: Project, image_ids: Sequence[str], iteration_id: str | None = None
) -> list[ImageView]:
    """The images of those ids that are in the workspace or iteration, in the order asked for.

    Raises:
        OwnVisionError: NotFoundIteration.
    """
    revision = revision_of(session, project, iteration_id)
    rows = session.scalars(
        select(Image).where(Image.id.in_(image_ids), Image.project_id == project.id, valid_at(Image, revision))
    )
    found = {image.id: image for image in rows}
    ordered = [found[id] for id in dict.fromkeys(image_ids) if id in found]
    return views(session, project, ordered, revision, tags.names(session, project, iteration_id))


def views(
    session: Session,
    project: Project,
    images: Sequence[Image],
    revision: int | None,
    names: Mapping[str, str],
) -> list[ImageView]:
    """Images with the tags, regions and metadata they carry at a revision: three queries however many there are."""
    seqs = [image.seq for image in images]
    tags_of: dict[int, list[tuple[str, str | None, datetime]]] = defaultdict(list)
    regions_of: dict[int, list[RegionView]] = defaultdict(list)
    metadata_of: dict[int, dict[str, str]] = defaultdict(dict)
    if seqs:
        for link in session.scalars(
            select(ImageTag).where(ImageTag.image_seq.in_(seqs), valid_at(ImageTag, revision)).order_by(ImageTag.id)
        ):
            tags_of[link.image_seq].append((link.tag_id, names.get(link.tag_id), link.created))
        if projects.is_detection(project):
            for region in session.scalars(
                select(Region).where(Region.image_seq.in_(seqs), valid_at(Region, revision)).order_by(Region.seq)
            ):
                regions_of[region.image_seq].append(region_view(region, names.get(region.tag_id)))
        for pair in session.scalars(
            select(ImageMetadata).where(ImageMetadata.image_seq.in_(seqs)).order_by(ImageMetadata.key)
        ):
            metadata_of[pair.image_seq][pair.key] = pair.value
    return [ImageView(image, tags_of[image.seq], regions_of[image.seq], metadata_of[image.seq]) for image in images]


def region_view(region: Region, tag_name: str | None) -> RegionView:
    """A region row as it is shown."""
    return RegionView(
        region.id, region.tag_id, tag_name, region.left, region.top, region.width, region.height, region.created
    )


def check_metadata(metadata: Mapping[str, str], limits: Limits) -> None:
    """Refuse metadata beyond the limits.

    Raises:
        OwnVisionError: BadRequestImageMetadataKey, BadRequestImageMetadataValue.
    """
    if len(metadata) > limits.metadata_pairs:
        raise OwnVisionError(
            "BadRequestImageMetadataKey", f"An image takes {limits.metadata_pairs} metadata pairs, not {len(metadata)}."
        )
    for key, value in metadata.items():
        if not key or len(key) > limits.metadata_key:
            raise OwnVisionError(
                "BadRequestImageMetadataKey", f"A metadata key has 1 to {limits.metadata_key} characters."
            )
        if not isinstance(value, str) or len(value) > limits.metadata_value:
            raise OwnVisionError(
                "BadRequestImageMetadataValue",
                f"The value of metadata {key!r} must be a text of at most {limits.metadata_value} characters.",
            )


def set_metadata(session: Session, image: Image, metadata: Mapping[str, str]) -> None:
    """Replace an image's metadata."""
    session.execute(delete(ImageMetadata).where(ImageMetadata.image_seq == image.seq))
    session.add_all(
        ImageMetadata(image_seq=image.seq, project_id=image.project_id, key=key, value=value)
        for key, value in metadata.items()
    )


def update_metadata(
    session: Session, project: Project, image_ids: Sequence[str], metadata: Mapping[str, str], limits: Limits
) -> list[tuple[str, str, dict[str, str] | None]]:
    """Merge pairs into the metadata of images; one (image id, status, metadata) each.

    Raises:
        OwnVisionError: BadRequestImageMetadataKey, BadRequestImageMetadataValue.
    """
    check_metadata(metadata, limits)
    results: list[tuple[str, str, dict[str, str] | None]] = []
    found = {view.image.id: view for view in by_ids(session, project, image_ids)}
    overwritten = False
    for image_id in dict.fromkeys(image_ids):
        view = found.get(image_id)
        if view is None:
            results.append((image_id, "ErrorImageNotFound", None))
            continue
        merged = {**view.metadata, **metadata}
        if len(merged) > limits.metadata_pairs:
            results.append((image_id, "ErrorLimitExceed", None))
            continue
        set_metadata(session, view.image, merged)
        overwritten = overwritten or bool(view.metadata)
        results.append((image_id, "OK", merged))
    if overwritten:
        ledger.doom_rows(session, project.account_id, project.id)
    return results


def live(session: Session, project: Project, image_ids: Iterable[str]) -> dict[str, Image]:
    """Workspace images by id.

    Raises:
        OwnVisionError: NotFoundImage, naming the first id that is not there.
    """
    wanted = list(dict.fromkeys(image_ids))
    rows = session.scalars(
        select(Image).where(Image.id.in_(wanted), Image.project_id == project.id, Image.until.is_(None))
    )
    found = {image.id: image for image in rows}
    for image_id in wanted:
        if image_id not in found:
            raise OwnVisionError("NotFoundImage", f"There is no image {image_id} in the workspace of this project.")
    return found


def known_tags(session: Session, project: Project, tag_ids: Iterable[str]) -> dict[str, Tag]:
    """Workspace tags by id.

    Raises:
        OwnVisionError: NotFoundTag, naming the first id that is not there.
    """
    wanted = list(dict.fromkeys(tag_ids))
    found = {tag.id: tag for tag in session.scalars(select(Tag).where(Tag.project_id == project.id))}
    for tag_id in wanted:
        if tag_id not in found:
            raise OwnVisionError("NotFoundTag", f"There is no tag {tag_id} in this project.")
    return found


def link(session: Session, project: Project, image: Image, tag: Tag) -> ImageTag:
    """Tag an image of a locked project, with all counts; the caller knows that it does not carry the tag yet."""
    row = ImageTag(
        project_id=project.id, image_seq=image.seq, tag_id=tag.id, created=now(), since=project.revision, until=None
    )
    session.add(row)
    tag.image_count += 1
    if not image.tagged:
        image.tagged = True
        project.tagged_count += 1
    return row


def add_tags(
    session: Session, project: Project, entries: Sequence[tuple[str, str]], limits: Limits
) -> tuple[list[tuple[str, str]], list[tuple[str, str]], list[tuple[str, str]]]:
    """Tag images of a locked classification project: (created, duplicated, exceeded) pairs of (image id, tag id).

    Raises:
        OwnVisionError: NotFoundImage, NotFoundTag, BadRequestImageTags (detection),
            BadRequestNegativeAndRegularTagOnSameImage.
    """
    if projects.is_detection(project):
        raise OwnVisionError(
            "BadRequestImageTags", "In a detection project tags belong to regions: use CreateImageRegions."
        )
    found = live(session, project, (image_id for image_id, _ in entries))
    tag_rows = known_tags(session, project, (tag_id for _, tag_id in entries))
    carried: dict[int, set[str]] = defaultdict(set)
    for seq, tag_id in session.execute(
        select(ImageTag.image_seq, ImageTag.tag_id).where(
            ImageTag.image_seq.in_([image.seq for image in found.values()]), ImageTag.until.is_(None)
        )
    ):
        carried[seq].add(tag_id)
    created: list[tuple[str, str]] = []
    duplicated: list[tuple[str, str]] = []
    exceeded: list[tuple[str, str]] = []
    for image_id, tag_id in entries:
        image, tag = found[image_id], tag_rows[tag_id]
        has = carried[image.seq]
        if tag_id in has:
            duplicated.append((image_id, tag_id))
        elif len(has) >= limits.tags_per_image:
            exceeded.append((image_id, tag_id))
        else:
            link(session, project, image, tag)
            has.add(tag_id)
            created.append((image_id, tag_id))
    for image in found.values():
        if mixes_negative({tag_rows[tag_id].type for tag_id in carried[image.seq]}, len(carried[image.seq])):
            raise OwnVisionError(
                "BadRequestNegativeAndRegularTagOnSameImage",
                f"Image {image.id} would carry the Negative tag together with another; nothing was changed.",
            )
    session.flush()
    return created, duplicated, exceeded


def mixes_negative(types: set[str], count: int) -> bool:
    """Whether the Negative tag would stand beside another tag."""
    return tags.NEGATIVE in types and count > 1


def remove_tags(session: Session, project: Project, image_ids: Sequence[str], tag_ids: Sequence[str]) -> None:
    """Take tags off images of a locked project; in detection their regions go too.

    Raises:
        OwnVisionError: NotFoundImage, NotFoundTag.
    """
    found = live(session, project, image_ids)
    tag_rows = known_tags(session, project, tag_ids)
    seqs = [image.seq for image in found.values()]
    pairs = session.scalars(
        select(ImageTag).where(
            ImageTag.image_seq.in_(seqs), ImageTag.tag_id.in_(list(tag_ids)), ImageTag.until.is_(None)
        )
    )
    for row in pairs:
        row.until = project.revision
        tag_rows[row.tag_id].image_count -= 1
    session.execute(
        update(Region)
        .where(Region.image_seq.in_(seqs), Region.tag_id.in_(list(tag_ids)), Region.until.is_(None))
        .values(until=project.revision)
    )
    session.flush()
    refresh_tagged(session, project, found.values())
    forgetting.forget(session, project.id)
    coverage.release(session, project.id)


def refresh_tagged(session: Session, project: Project, images: Iterable[Image]) -> None:
    """Set `tagged` anew on images that may have lost their last tag."""
    tagged = [image for image in images if image.tagged]
    still = set(
        session.scalars(
            select(ImageTag.image_seq).where(
                ImageTag.image_seq.in_([image.seq for image in tagged]), ImageTag.until.is_(None)
            )
        )
    )
    for image in tagged:
        if image.seq not in still:
            image.tagged = False
            project.tagged_count -= 1
    session.flush()


def delete_images(
    session: Session, project: Project, image_ids: Sequence[str] | None, *, all_iterations: bool
) -> list[str]:
    """Delete images (None: all) of a locked project from the workspace, or from all iterations as well.

    From the workspace alone, iterations keep what they were trained on; what none of them covers goes at once.

    Returns:
        Ids of images that were erased everywhere by `all_iterations`.

    Raises:
        OwnVisionError: BadRequestInvalidIds, when an id is no image of this project.
    """
    chosen: ColumnElement[bool] = Image.project_id == project.id
    if image_ids is not None:
        chosen = and_(chosen, Image.id.in_(image_ids))
    if not all_iterations:
        chosen = and_(chosen, Image.until.is_(None))
    if image_ids is not None:
        known = set(session.scalars(select(Image.id).where(chosen)))
        unknown = [image_id for image_id in image_ids if image_id not in known]
        if unknown:
            raise OwnVisionError(
                "BadRequestInvalidIds", f"{unknown[0]} is no image of this project; nothing was deleted."
            )
    _leave_workspace(session, project, chosen)
    erased = erase_everywhere(session, project, chosen) if all_iterations else []
    forgetting.forget(session, project.id)
    coverage.release(session, project.id)
    return erased


def _leave_workspace(session: Session, project: Project, chosen: ColumnElement[bool]) -> None:
    leaving = select(Image.seq).where(chosen, Image.until.is_(None))
    per_tag = session.execute(
        select(ImageTag.tag_id, func.count())
        .where(ImageTag.image_seq.in_(leaving), ImageTag.until.is_(None))
        .group_by(ImageTag.tag_id)
    ).all()
    for tag_id, images in per_tag:
        session.execute(update(Tag).where(Tag.id == tag_id).values(image_count=Tag.image_count - images))
    project.tagged_count -= session.scalar(_count(leaving.where(Image.tagged))) or 0
    for table, key in ((ImageTag, ImageTag.image_seq), (Region, Region.image_seq)):
        _close(session, table, key.in_(leaving), project.revision)
    gone = session.execute(
        update(Image)
        .where(chosen, Image.until.is_(None))
        .values(until=project.revision, tagged=False)
        .execution_options(synchronize_session=False)
    )
    project.image_count -= gone.rowcount  # type: ignore[attr-defined]
    session.flush()
    session.expire_all()


def _count(query: Select[Any]) -> Select[Any]:
    return select(func.count()).select_from(query.subquery())


def _close(session: Session, table: type[ImageTag] | type[Region], where: ColumnElement[bool], revision: int) -> None:
    until: InstrumentedAttribute[int | None] = table.until
    session.execute(
        update(table).where(where, until.is_(None)).values(until=revision).execution_options(synchronize_session=False)
    )
