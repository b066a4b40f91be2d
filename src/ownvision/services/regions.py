"""Regions: tagged boxes on images of detection projects."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.limits import Limits
from ownvision.services import coverage, images, projects
from ownvision.services.images import RegionView, region_view
from ownvision.store.tables import Image, ImageTag, Project, Region, Tag
from ownvision.store.tables.base import new_id, now

# A box may stand out of the picture by so much: rounding in the sender's floats.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Box:
    """A region to be made: left, top, width, height relative to the upright picture."""

    tag_id: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class RegionEntry:
    """A box for an image that is there already."""

    image_id: str
    box: Box


def clipped(box: Box) -> Box:
    """The box inside the picture; up to 1e-4 over the edge is taken for rounding.

    Raises:
        OwnVisionError: BadRequestImageRegions, for what is no box in the picture.
    """
    values = (box.left, box.top, box.width, box.height)
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise _no_box(box, "its numbers must be finite")
    if box.width <= 0 or box.height <= 0:
        raise _no_box(box, "width and height must be above 0")
    right, bottom = box.left + box.width, box.top + box.height
    if min(box.left, box.top) < -_ROUNDING or max(right, bottom) > 1 + _ROUNDING:
        raise _no_box(box, "it must lie inside the picture: left, top ≥ 0 and left + width, top + height ≤ 1")
    left, top = max(box.left, 0.0), max(box.top, 0.0)
    inside = Box(box.tag_id, left, top, min(right, 1.0) - left, min(bottom, 1.0) - top)
    if inside.width <= 0 or inside.height <= 0:
        raise _no_box(box, "nothing of it lies inside the picture")
    return inside


def _no_box(box: Box, why: str) -> OwnVisionError:
    shown = f"left {box.left}, top {box.top}, width {box.width}, height {box.height}"
    return OwnVisionError("BadRequestImageRegions", f"The region ({shown}) can't be used: {why}. Nothing was changed.")


def check_detection(project: Project) -> None:
    """Refuse regions in a classification project.

    Raises:
        OwnVisionError: BadRequestImageRegions.
    """
    if not projects.is_detection(project):
        raise OwnVisionError(
            "BadRequestImageRegions", "Regions belong to detection projects; this one classifies whole images."
        )


def place(
    session: Session, project: Project, image: Image, boxes: Iterable[Box], tag_rows: dict[str, Tag], carried: set[str]
) -> list[Region]:
    """Put boxes on an image of a locked project; `carried` are the tags it has, and is kept up to date."""
    rows = []
    for box in boxes:
        if box.tag_id not in carried:
            images.link(session, project, image, tag_rows[box.tag_id])
            carried.add(box.tag_id)
        rows.append(
            Region(
                id=new_id(),
                created=now(),
                project_id=project.id,
                image_seq=image.seq,
                tag_id=box.tag_id,
                left=box.left,
                top=box.top,
                width=box.width,
                height=box.height,
                since=project.revision,
            )
        )
    session.add_all(rows)
    return rows


def add(
    session: Session, project: Project, entries: Sequence[RegionEntry], limits: Limits
) -> tuple[list[tuple[str, RegionView]], list[RegionEntry], list[RegionEntry]]:
    """Add regions to images of a locked project: (created with image id, duplicated, exceeded).

    Raises:
        OwnVisionError: BadRequestImageRegions, NotFoundImage, NotFoundTag.
    """
    check_detection(project)
    boxes = [clipped(entry.box) for entry in entries]
    found = images.live(session, project, (entry.image_id for entry in entries))
    tag_rows = images.known_tags(session, project, (entry.box.tag_id for entry in entries))
    seqs = [image.seq for image in found.values()]
    present: dict[int, set[Box]] = defaultdict(set)
    carried: dict[int, set[str]] = defaultdict(set)
    for region in session.scalars(select(Region).where(Region.image_seq.in_(seqs), Region.until.is_(None))):
        present[region.image_seq].add(Box(region.tag_id, region.left, region.top, region.width, region.height))
    for link in session.scalars(select(ImageTag).where(ImageTag.image_seq.in_(seqs), ImageTag.until.is_(None))):
        carried[link.image_seq].add(link.tag_id)
    created: list[tuple[str, Region]] = []
    duplicated: list[RegionEntry] = []
    exceeded: list[RegionEntry] = []
    for entry, box in zip(entries, boxes, strict=True):
        image = found[entry.image_id]
        if box in present[image.seq]:
            duplicated.append(entry)
        elif len(present[image.seq]) >= limits.regions_per_image or (
            box.tag_id not in carried[image.seq] and len(carried[image.seq]) >= limits.tags_per_image
        ):
            exceeded.append(entry)
        else:
            present[image.seq].add(box)
            (row,) = place(session, project, image, [box], tag_rows, carried[image.seq])
            created.append((image.id, row))
    session.flush()
    return [(image_id, region_view(row, None)) for image_id, row in created], duplicated, exceeded


def remove(session: Session, project: Project, region_ids: Sequence[str]) -> None:
    """Delete regions of a locked project; an image loses a tag with the last region that carried it.

    Raises:
        OwnVisionError: BadRequestInvalidIds, when an id is no region of the workspace.
    """
    rows = list(
        session.scalars(
            select(Region).where(Region.id.in_(region_ids), Region.project_id == project.id, Region.until.is_(None))
        )
    )
    unknown = set(region_ids) - {row.id for row in rows}
    if unknown:
        raise OwnVisionError(
            "BadRequestInvalidIds", f"{min(unknown)} is no region of this project; nothing was deleted."
        )
    for row in rows:
        row.until = project.revision
    session.flush()
    seqs = {row.image_seq for row in rows}
    held = {
        (row[0], row[1])
        for row in session.execute(
            select(Region.image_seq, Region.tag_id).where(Region.image_seq.in_(seqs), Region.until.is_(None))
        )
    }
    tag_rows = {tag.id: tag for tag in session.scalars(select(Tag).where(Tag.project_id == project.id))}
    touched = {row.tag_id for row in rows}
    for link in session.scalars(
        select(ImageTag).where(ImageTag.image_seq.in_(seqs), ImageTag.until.is_(None), ImageTag.tag_id.in_(touched))
    ):
        if (link.image_seq, link.tag_id) not in held:
            link.until = project.revision
            tag_rows[link.tag_id].image_count -= 1
    session.flush()
    images.refresh_tagged(session, project, session.scalars(select(Image).where(Image.seq.in_(seqs))))
    coverage.release(session, project.id)
