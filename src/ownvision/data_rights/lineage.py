"""What each model learned from, image by image, and which models learned from an image, whether it is there or erased.

An iteration learned from the images of its revision that carry a tag it was trained on, but for those that were
restricted when it was fitted. Of an image that was erased since, the random id and the receipt stay.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from ownvision.services import iterations
from ownvision.services.images import valid_at
from ownvision.store.tables import Export, Image, ImageTag, Iteration, IterationTag, Lineage, Project

_PART = 500


@dataclass(frozen=True)
class Entry:
    """An image that an iteration learned from.

    Attributes:
        image_id: Random; of an erased image nothing else is left.
        receipt: Of its erasure; None while it is there.
        unlearned: Since when the iteration's model is one that was fitted without it.
    """

    image_id: str
    receipt: str | None = None
    unlearned: datetime | None = None

    def shape(self) -> dict[str, Any]:
        """As the API and the commands show it."""
        unlearned = None
        if self.unlearned is not None:
            unlearned = f"{self.unlearned.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
        return {"imageId": self.image_id, "receipt": self.receipt, "unlearned": unlearned}


@dataclass(frozen=True)
class ImageSet:
    """Exactly what an iteration was trained on: ids of images that are there, and those erased since."""

    images: list[str]
    erased: list[Entry]


@dataclass
class Learned:
    """An iteration that learned from images that were asked for.

    Attributes:
        iteration: The iteration, with its name and publish name.
        images: From how many of them its model has learned.
        unlearned: From how many it had, before it was fitted anew without them.
        erased: Whether they are erased; else some are there.
        exports: Archives of its model.
    """

    iteration: Iteration
    images: int = 0
    unlearned: int = 0
    erased: bool = False
    exports: list[Export] = field(default_factory=list)

    def shape(self) -> dict[str, Any]:
        """As the API and the commands show it to the owner, with names."""
        return {
            "iterationId": self.iteration.id,
            "name": self.iteration.name,
            "publishName": self.iteration.publish_name,
            "images": self.images,
            "unlearned": self.unlearned,
            "exports": [
                {"id": one.id, "platform": one.platform, "flavor": one.flavor or None, "status": one.status}
                for one in self.exports
            ],
        }

    def record(self) -> dict[str, Any]:
        """What a receipt says of it: ids and counts, no names."""
        return {
            "iterationId": self.iteration.id,
            "projectId": self.iteration.project_id,
            "images": self.images,
            "published": self.iteration.publish_name is not None,
            "exports": len(self.exports),
        }


def image_set(session: Session, iteration: Iteration) -> ImageSet:
    """The exact set of images that an iteration learned from; `entries` reads it page by page."""
    return ImageSet(
        list(session.scalars(_there(iteration).order_by(Image.seq))),
        [_entry(row) for row in session.scalars(_erased(iteration))],
    )


def counts(session: Session, iteration: Iteration) -> tuple[int, int]:
    """How many images an iteration learned from: those that are there, those erased since."""
    return (
        session.scalar(select(func.count()).select_from(_there(iteration).subquery())) or 0,
        session.scalar(select(func.count()).where(Lineage.iteration_id == iteration.id)) or 0,
    )


def entries(session: Session, iteration: Iteration, skip: int, take: int) -> list[Entry]:
    """A page of what an iteration learned from: first what was erased, by id, then what is there, as it was added."""
    page = [_entry(row) for row in session.scalars(_erased(iteration).offset(skip).limit(take))]
    if len(page) < take:
        _, erased = counts(session, iteration)
        there = _there(iteration).order_by(Image.seq).offset(max(0, skip - erased)).limit(take - len(page))
        page += [Entry(image_id) for image_id in session.scalars(there)]
    return page


def learned_from(
    session: Session, account_id: str, image_ids: Iterable[str], project_id: str | None = None
) -> list[Learned]:
    """The iterations, with their publish names and exports, whose models learned from images.

    Args:
        session: Of a transaction.
        account_id: Whose iterations; others' are not looked at.
        image_ids: Images that are there, or were erased.
        project_id: Of this project only.

    Returns:
        By project and number, newest first; what is trained at the moment has not learned yet.
    """
    mine = _of(account_id, project_id)
    ids = list(dict.fromkeys(image_ids))
    learned: dict[str, int] = defaultdict(int)
    unlearned: dict[str, int] = defaultdict(int)
    for start in range(0, len(ids), _PART):
        part = ids[start : start + _PART]
        chosen = Image.id.in_(part)
        found = _learned_counts(session, mine, chosen)
        _take_off_left_out(session, mine, chosen, found)
        for iteration_id, number in found.items():
            learned[iteration_id] += number
        erased = select(Lineage.iteration_id, Lineage.unlearned.is_(None)).join(Iteration).where(mine)
        for iteration_id, still in session.execute(erased.where(Lineage.image_id.in_(part))):
            (learned if still else unlearned)[iteration_id] += 1
    return _described(session, learned, unlearned)


def learned_by(session: Session, project: Project, receipt_id: str) -> list[Learned]:
    """The iterations whose models learned from what one erasure removed everywhere, newest first."""
    still = (
        select(Lineage.iteration_id, func.count()).where(Lineage.receipt == receipt_id).group_by(Lineage.iteration_id)
    )
    found = session.execute(still.join(Iteration).where(_of(project.account_id, project.id)))
    learned = _described(session, {row[0]: row[1] for row in found}, {})
    for one in learned:
        one.erased = True
    return learned


def held_by(session: Session, project: Project) -> list[Learned]:
    """The iterations that still hold what a locked project's transaction took from the workspace, newest first."""
    mine = _of(project.account_id, project.id)
    taken = and_(Image.project_id == project.id, Image.until == project.revision)
    learned = _learned_counts(session, mine, taken)
    if learned:
        _take_off_left_out(session, mine, taken, learned)
    return _described(session, learned, {})


def _of(account_id: str, project_id: str | None) -> ColumnElement[bool]:
    mine = select(Project.id).where(Project.account_id == account_id)
    if project_id is not None:
        mine = mine.where(Project.id == project_id)
    return and_(Iteration.project_id.in_(mine), Iteration.status == iterations.COMPLETED)


def _seen(table: type[Image] | type[ImageTag]) -> ColumnElement[bool]:
    return and_(table.since <= Iteration.revision, or_(table.until.is_(None), table.until > Iteration.revision))


def _pairs(mine: ColumnElement[bool], chosen: ColumnElement[bool]) -> Select[str, str]:
    """(iteration, image) where the iteration's revision has the image with a tag that the iteration was trained on."""
    return (
        select(Iteration.id, Image.id)
        .select_from(Image)
        .join(ImageTag, ImageTag.image_seq == Image.seq)
        .join(Iteration, Iteration.project_id == Image.project_id)
        .join(IterationTag, and_(IterationTag.iteration_id == Iteration.id, IterationTag.tag_id == ImageTag.tag_id))
        .where(mine, chosen, IterationTag.position.is_not(None), _seen(Image), _seen(ImageTag))
        .distinct()
    )


def _learned_counts(session: Session, mine: ColumnElement[bool], chosen: ColumnElement[bool]) -> dict[str, int]:
    pairs = _pairs(mine, chosen).subquery()
    rows = session.execute(select(pairs.c[0], func.count()).group_by(pairs.c[0]))
    return {row[0]: row[1] for row in rows}


def _take_off_left_out(
    session: Session, mine: ColumnElement[bool], chosen: ColumnElement[bool], learned: dict[str, int]
) -> None:
    """Images that an iteration saw without learning from them; there are few."""
    rows = session.execute(select(Iteration.id, Iteration.left_out).where(mine, Iteration.id.in_(list(learned))))
    left_out = {row.id: set(row.left_out) for row in rows if row.left_out}
    every = sorted(set().union(*left_out.values()))
    for start in range(0, len(every), _PART):
        pairs = _pairs(mine, and_(chosen, Image.id.in_(every[start : start + _PART])))
        for iteration_id, image_id in session.execute(pairs):
            learned[iteration_id] -= image_id in left_out.get(iteration_id, ())


def _described(session: Session, learned: dict[str, int], unlearned: dict[str, int]) -> list[Learned]:
    ids = sorted({iteration_id for found in (learned, unlearned) for iteration_id, number in found.items() if number})
    described: dict[str, Learned] = {}
    for start in range(0, len(ids), _PART):
        part = ids[start : start + _PART]
        for row in session.scalars(select(Iteration).where(Iteration.id.in_(part))):
            described[row.id] = Learned(row, learned.get(row.id, 0), unlearned.get(row.id, 0))
        for export in session.scalars(select(Export).where(Export.iteration_id.in_(part)).order_by(Export.created)):
            described[export.iteration_id].exports.append(export)
    return sorted(described.values(), key=lambda one: (one.iteration.project_id, -one.iteration.number))


def _there(iteration: Iteration) -> Select[str]:
    trained = select(IterationTag.tag_id).where(
        IterationTag.iteration_id == iteration.id, IterationTag.position.is_not(None)
    )
    tagged = select(ImageTag.image_seq).where(
        ImageTag.project_id == iteration.project_id,
        ImageTag.tag_id.in_(trained),
        valid_at(ImageTag, iteration.revision),
    )
    there = select(Image.id).where(
        Image.project_id == iteration.project_id, valid_at(Image, iteration.revision), Image.seq.in_(tagged)
    )
    if iteration.status != iterations.COMPLETED:
        return there.where(Image.restricted.is_(None))
    return there.where(Image.id.not_in(iteration.left_out)) if iteration.left_out else there


def _erased(iteration: Iteration) -> Select[Lineage]:
    return select(Lineage).where(Lineage.iteration_id == iteration.id).order_by(Lineage.image_id)


def _entry(row: Lineage) -> Entry:
    return Entry(row.image_id, row.receipt, row.unlearned)
