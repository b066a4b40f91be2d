"""What a training learns from: the images, tags and regions of the revision that its iteration froze."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from ownvision.services.images import valid_at
from ownvision.services.tags import NEGATIVE
from ownvision.store import ledger
from ownvision.store.tables import Image, ImageTag, Iteration, IterationTag, Region


@dataclass(frozen=True)
class FrozenImage:
    """An image that carries at least one of the tags to learn.

    Attributes:
        id: The image's.
        sha256: Of its bytes, hexadecimal.
        tags: Positions of its tags among those to learn.
        boxes: (position, left, top, width, height), relative to the upright picture.
    """

    id: str
    sha256: str
    tags: list[int]
    boxes: list[tuple[int, float, float, float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    """A training set; `tag_ids` are in the order of their positions, `images` in that of their SHA-256.

    Attributes:
        project_id: Whose.
        tag_ids: What is learned.
        images: From what.
        left_out: Ids of restricted images, which are not learned from; sorted.
        negative: Position of the Negative tag, which images unlike all others are given.
    """

    project_id: str
    tag_ids: list[str]
    images: list[FrozenImage]
    left_out: list[str] = field(default_factory=list)
    negative: int | None = None

    @property
    def prefixes(self) -> list[str]:
        """Where each image's bytes lie."""
        return [ledger.image_prefix(self.project_id, image.id) for image in self.images]

    @cached_property
    def labels(self) -> NDArray[np.bool_]:
        """bool [N, T]: which image carries which tag."""
        labels = np.zeros((len(self.images), len(self.tag_ids)), bool)
        for row, image in enumerate(self.images):
            labels[row, image.tags] = True
        return labels


def freeze(session: Session, iteration: Iteration) -> Frozen:
    """The training set of an iteration; images without any of its trained tags, and restricted ones, are left out."""
    trained = session.scalars(
        select(IterationTag)
        .where(IterationTag.iteration_id == iteration.id, IterationTag.position.is_not(None))
        .order_by(IterationTag.position)
    )
    return at_revision(session, iteration.project_id, iteration.revision, {tag.tag_id: tag.type for tag in trained})


def at_revision(session: Session, project_id: str, revision: int, tags: Mapping[str, str]) -> Frozen:
    """What is to be learned of these tags (their types by their ids), in this order, from a project at a revision."""
    tag_ids = list(tags)
    positions = {tag_id: position for position, tag_id in enumerate(tag_ids)}
    tags_of: dict[int, list[int]] = defaultdict(list)
    for seq, tag_id in session.execute(
        select(ImageTag.image_seq, ImageTag.tag_id)
        .where(
            ImageTag.project_id == project_id,
            ImageTag.tag_id.in_(tag_ids),
            valid_at(ImageTag, revision),
        )
        .order_by(ImageTag.id)
    ):
        tags_of[seq].append(positions[tag_id])
    boxes_of: dict[int, list[tuple[int, float, float, float, float]]] = defaultdict(list)
    for region in session.execute(
        select(Region.image_seq, Region.tag_id, Region.left, Region.top, Region.width, Region.height)
        .where(
            Region.project_id == project_id,
            Region.tag_id.in_(tag_ids),
            valid_at(Region, revision),
        )
        .order_by(Region.left, Region.top, Region.width, Region.height, Region.seq)
    ):
        box = (positions[region.tag_id], region.left, region.top, region.width, region.height)
        boxes_of[region.image_seq].append(box)
    found = session.execute(
        select(Image.seq, Image.id, Image.sha256, Image.restricted).where(
            Image.project_id == project_id, valid_at(Image, revision)
        )
    ).all()
    images = [
        FrozenImage(image_id, sha256, tags_of[seq], boxes_of.get(seq, []))
        for seq, image_id, sha256, restricted in found
        if seq in tags_of and restricted is None
    ]
    left_out = sorted(row.id for row in found if row.seq in tags_of and row.restricted is not None)
    negative = next((position for position, type in enumerate(tags.values()) if type == NEGATIVE), None)
    return Frozen(project_id, tag_ids, sorted(images, key=lambda image: image.sha256), left_out, negative)


def left_out(session: Session, iteration: Iteration) -> list[str]:
    """Ids of the restricted images that `freeze` leaves out now, sorted."""
    trained = select(IterationTag.tag_id).where(
        IterationTag.iteration_id == iteration.id, IterationTag.position.is_not(None)
    )
    tagged = exists().where(
        ImageTag.image_seq == Image.seq, ImageTag.tag_id.in_(trained), valid_at(ImageTag, iteration.revision)
    )
    found = select(Image.id).where(
        Image.project_id == iteration.project_id,
        Image.restricted.is_not(None),
        valid_at(Image, iteration.revision),
        tagged,
    )
    return sorted(session.scalars(found))
