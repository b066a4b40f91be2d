"""The archive of a project at a token's revision, made as it is read: no transaction is open while bytes stream.

What was made after that revision is left out; what was erased since is missing, and the last member counts it.
"""

import base64
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Row, Select, select
from sqlalchemy.orm import Session

from ownvision.services import iterations, projects
from ownvision.services.components import Components
from ownvision.services.fitting import MODEL
from ownvision.services.travel import tar
from ownvision.services.travel.contents import (
    FORMAT,
    JSON_BYTES,
    PAGE,
    SCORED,
    TEXT,
    Counts,
    CountsMember,
    FrozenTag,
    ImageRow,
    ImagesMember,
    IterationMember,
    LineageRow,
    LinkRow,
    ProjectMember,
    RegionRow,
    ScoredRow,
    ScoresMember,
    TagRow,
    TagsMember,
    TrialMember,
)
from ownvision.store import ledger
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.keys import KeyMissing
from ownvision.store.tables import (
    Image,
    ImageMetadata,
    ImageTag,
    Iteration,
    IterationTag,
    Lineage,
    Project,
    ProjectExport,
    Region,
    ScoredImage,
    Tag,
)
from ownvision.store.tables.base import Base

_CHUNK = 256 * 1024  # small members leave together
ABSENT = (BlobMissing, BlobDamaged, KeyMissing)
_ROOM = JSON_BYTES // 4
_FIRST = (16, 64)  # rows of the first pages: pictures are read and sent while those of the next are put together


class Withdrawn(Exception):
    """The token was revoked, or the project or an iteration of it deleted, while its archive was being read."""


def stream(components: Components, export: ProjectExport) -> Iterator[bytes]:
    """The archive, in parts of about 256 KiB or one picture.

    Raises:
        Withdrawn: It can't be finished; what was read so far lacks its end.
    """
    waiting = bytearray()
    for part in members(Departure(components, export)):
        waiting += part
        if len(waiting) >= _CHUNK:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting) + tar.END


def _columns(table: type[Base]) -> Select[Any]:
    """Plain rows of a table: nothing here changes one, and entities cost more."""
    return select(*table.__table__.columns)


def members(leaving: "Departure") -> Iterator[bytes]:
    """The archive's members, without its end.

    Raises:
        Withdrawn: As `stream`.
    """
    with leaving.components.database.read() as session:
        leaving.begin(session)
    yield _json("project.json", leaving.head)
    yield _json("tags.json", leaving.tags)
    number = 0
    for images, rows in leaving.pages():
        for start, end in parts(rows):
            yield _json(f"images/{number:06}.json", ImagesMember.model_construct(images=list(rows[start:end])))
            number += 1
            for image, row in zip(images[start:end], rows[start:end], strict=True):
                yield _picture(leaving, image, row)
    for iteration in leaving.learned:
        yield from _iteration(leaving, iteration)
    yield _json("counts.json", CountsMember(sent=leaving.sent, missing=missing(leaving.head.counts, leaving.sent)))


def _picture(leaving: "Departure", image: Row[Any], row: ImageRow) -> bytes:
    try:
        data = leaving.components.blobs.read(ledger.image_prefix(image.project_id, image.id) + "original")
    except ABSENT:
        return tar.member(f"images/{image.seq}.missing", b"")
    leaving.sent.images += 1
    leaving.sent.regions += len(row.regions)
    return tar.member(f"images/{image.seq}", data)


def _iteration(leaving: "Departure", row: Iteration) -> Iterator[bytes]:
    model = None
    if row.origin is None:
        try:
            model = leaving.components.blobs.read(ledger.iteration_prefix(row.project_id, row.model_id) + MODEL)
        except ABSENT:
            model = None
    with leaving.components.database.read() as session:
        newest = session.get(Iteration, row.id)
        told = None if newest is None else leaving.told(session, newest)
    if newest is None or told is None:
        return
    if newest.model_id != row.model_id:  # it was fitted anew meanwhile
        yield from _iteration(leaving, newest)
        return
    if model is None and row.origin is None:
        return
    yield _json(f"iterations/{row.number}.json", told)
    if model is not None:
        yield tar.member(f"iterations/{row.number}.onnx", model)
    for number, page in enumerate(leaving.scores(row)):
        yield _json(f"iterations/{row.number}-{number:06}.json", page)
    leaving.sent.iterations += 1


def missing(promised: Counts, sent: Counts) -> Counts:
    """What of a promise did not come."""
    came = sent.model_dump()
    return Counts(**{name: max(0, count - came[name]) for name, count in promised.model_dump().items()})


def revoked(session: Session, export: ProjectExport) -> bool:
    """Whether a token is gone; asked for every page: an archive ends where its token is revoked."""
    return session.get(ProjectExport, export.id) is None


def _image(_: Row[Any], /, **values: Any) -> ImageRow:
    return ImageRow.model_construct(**values)


def _region(_: Row[Any], /, **values: Any) -> RegionRow:
    return RegionRow.model_construct(**values)


@dataclass
class Departure:
    """A project at one revision, as it travels; every method opens and ends its own transactions.

    Args:
        components: Of this installation.
        export: The revision, its moment and what was there then; it need not be stored, if `withdrawn` does not ask.
        withdrawn: Whether to stop.
        image, region: Make a row that travels, of a stored one and the values that always travel.
    """

    components: Components
    export: ProjectExport
    withdrawn: Callable[[Session, ProjectExport], bool] = revoked
    image: Callable[..., ImageRow] = _image
    region: Callable[..., RegionRow] = _region
    sent: Counts = field(default_factory=lambda: Counts(images=0, tags=0, regions=0, iterations=0))

    def begin(self, session: Session) -> Project:
        """What is read first, in one transaction: project, tags and iterations.

        Raises:
            Withdrawn: It is no longer to travel, or no longer there.
        """
        project = self._project(session)
        self.learned = self._iterations(session)
        self.numbers = {row.id: row.number for row in self.learned}
        self.revisions = sorted({self.export.revision, *(row.revision for row in self.learned)})
        self.detection = projects.is_detection(project)
        self.head, self.tags = self._head(project), self._tags(session, self.learned)
        self.living = {row.id for row in self.tags.tags}
        return project

    def _project(self, session: Session) -> Project:
        project = session.get(Project, self.export.project_id)
        if project is None or self.withdrawn(session, self.export):
            raise Withdrawn
        return project

    def _iterations(self, session: Session) -> list[Iteration]:
        found = session.scalars(
            select(Iteration)
            .where(
                Iteration.project_id == self.export.project_id,
                Iteration.status == iterations.COMPLETED,
                Iteration.created <= self.export.created,
            )
            .order_by(Iteration.number)
        )
        return list(found)

    def _head(self, project: Project) -> ProjectMember:
        return ProjectMember(
            format=FORMAT,
            revision=self.export.revision,
            name=project.name,
            description=project.description,
            domain_id=project.domain_id,
            classification_type=project.classification_type,
            target_export_platforms=project.target_export_platforms,
            augmentation=project.augmentation,
            counts=self._promised(),
        )

    def _promised(self) -> Counts:
        row = self.export
        return Counts(
            images=row.image_count, tags=row.tag_count, regions=row.region_count, iterations=row.iteration_count
        )

    def _tags(self, session: Session, learned: Sequence[Iteration]) -> TagsMember:
        mine = session.scalars(
            select(Tag)
            .where(Tag.project_id == self.export.project_id, Tag.created <= self.export.created)
            .order_by(Tag.created, Tag.id)
        )
        rows = [
            TagRow(id=tag.id, name=tag.name, description=tag.description, type=tag.type, created=tag.created)
            for tag in mine
        ]
        self.sent.tags = len(rows)
        frozen = session.scalars(
            select(IterationTag.tag_id)
            .join(Iteration, Iteration.id == IterationTag.iteration_id)
            .where(Iteration.project_id == self.export.project_id, Iteration.created <= self.export.created)
            .distinct()
        )
        return TagsMember(tags=rows, former=sorted(set(frozen) - {row.id for row in rows}) if learned else [])

    def pages(self) -> Iterator[tuple[Sequence[Row[Any]], Sequence[ImageRow]]]:
        """Images by `seq`, up to `PAGE` at once: as they are stored, and as they travel."""
        after = -1
        for most in chain(_FIRST, repeat(PAGE)):
            with self.components.database.read() as session:
                self._project(session)
                found = list(
                    session.execute(
                        _columns(Image)
                        .where(
                            Image.project_id == self.export.project_id,
                            Image.seq > after,
                            Image.since <= self.export.revision,
                        )
                        .order_by(Image.seq)
                        .limit(most)
                    )
                )
                page = [image for image in found if self._covered(image)]
                rows = self._rows(session, page)
            if not found:
                return
            after = found[-1].seq
            yield page, rows

    def _rows(self, session: Session, images: Sequence[Row[Any]]) -> list[ImageRow]:
        seqs = [image.seq for image in images]
        metadata: dict[int, dict[str, str]] = defaultdict(dict)
        for pair in session.execute(
            _columns(ImageMetadata).where(ImageMetadata.image_seq.in_(seqs)).order_by(ImageMetadata.key)
        ):
            metadata[pair.image_seq][pair.key] = pair.value
        boxes: dict[int, list[RegionRow]] = defaultdict(list)
        for box in session.execute(_columns(Region).where(Region.image_seq.in_(seqs)).order_by(Region.seq)):
            if self._covered(box):
                boxes[box.image_seq].append(
                    self.region(
                        box,
                        tag=box.tag_id,
                        box=(box.left, box.top, box.width, box.height),
                        created=box.created,
                        since=box.since,
                        until=self._until(box.until, box.tag_id in self.living),
                    )
                )
        links: dict[int, list[LinkRow]] = defaultdict(list)
        for link in session.execute(_columns(ImageTag).where(ImageTag.image_seq.in_(seqs)).order_by(ImageTag.id)):
            if self._covered(link):
                # A box that was erased since takes its tag along, as it does in the workspace.
                boxed = not self.detection or any(
                    box.tag == link.tag_id and box.until is None for box in boxes[link.image_seq]
                )
                links[link.image_seq].append(
                    LinkRow.model_construct(
                        tag=link.tag_id,
                        created=link.created,
                        since=link.since,
                        until=self._until(link.until, link.tag_id in self.living and boxed),
                    )
                )
        return [
            self.image(
                image,
                seq=image.seq,
                sha256=image.sha256,
                size=image.size,
                width=image.width,
                height=image.height,
                format=image.format,
                file_name=image.file_name and image.file_name[:TEXT],
                created=image.created,
                since=image.since,
                until=self._until(image.until, True),
                metadata=metadata[image.seq],
                tags=links[image.seq],
                regions=boxes[image.seq],
            )
            for image in images
        ]

    def _covered(self, row: Row[Any]) -> bool:
        """Whether the exported revision, or an iteration that travels, sees a row."""
        place = bisect_left(self.revisions, row.since)
        return place < len(self.revisions) and (row.until is None or row.until > self.revisions[place])

    def _until(self, until: int | None, stays: bool) -> int | None:
        """Where an interval ends in the copy, whose workspace is the exported revision.

        A row of that workspace whose tag was deleted since, and that an iteration of that revision keeps, ends with the
        next.
        """
        if until is not None and until <= self.export.revision:
            return until
        return None if stays else self.export.revision + 1

    def told(self, session: Session, row: Iteration) -> IterationMember | None:
        """An iteration as it travels; None: it was deleted meanwhile."""
        self._project(session)
        return None if session.get(Iteration, row.id) is None else _told(session, row, self.numbers)

    def scores(self, row: Iteration) -> Iterator[ScoresMember]:
        """Pages of an iteration's scores, then of its lineage.

        Raises:
            Withdrawn: Also where the iteration was deleted, or its model replaced: half of its scores are out.
        """
        last, erased = -1, ""
        while True:
            with self.components.database.read() as session:
                self._project(session)
                newest = session.get(Iteration, row.id)
                if newest is None or newest.model_id != row.model_id:
                    raise Withdrawn
                found = session.execute(
                    select(ScoredImage, Image.seq)
                    .outerjoin(Image, Image.id == ScoredImage.image_id)
                    .where(
                        ScoredImage.iteration_id == row.id,
                        ScoredImage.model_id == row.model_id,
                        ScoredImage.id > last,
                    )
                    .order_by(ScoredImage.id)
                    .limit(SCORED)
                ).all()
            if not found:
                break
            last = found[-1].ScoredImage.id
            yield ScoresMember(
                scored=[
                    ScoredRow(
                        image=seq,
                        fold=scored.fold,
                        scores=base64.b64encode(scored.scores).decode(),
                        truth=base64.b64encode(scored.truth).decode(),
                    )
                    for scored, seq in found
                ]
            )
        while True:
            with self.components.database.read() as session:
                gone = list(
                    session.scalars(
                        select(Lineage)
                        .where(Lineage.iteration_id == row.id, Lineage.image_id > erased)
                        .order_by(Lineage.image_id)
                        .limit(SCORED)
                    )
                )
            if not gone:
                return
            erased = gone[-1].image_id
            yield ScoresMember(
                erased=[LineageRow(image=one.image_id, receipt=one.receipt, unlearned=one.unlearned) for one in gone]
            )


def _told(session: Session, row: Iteration, numbers: dict[str, int]) -> IterationMember:
    frozen = session.scalars(
        select(IterationTag).where(IterationTag.iteration_id == row.id).order_by(IterationTag.tag_id)
    )
    base = row.custom_base_model or {}
    return IterationMember(
        number=row.number,
        name=row.name,
        created=row.created,
        last_modified=row.last_modified,
        trained_at=row.trained_at,
        revision=row.revision,
        domain_id=row.domain_id,
        classification_type=row.classification_type,
        training_type=row.training_type,
        reserved_budget_in_hours=row.reserved_budget_in_hours,
        training_seconds=row.training_seconds,
        selected_tags=row.selected_tags,
        custom_base=numbers.get(base.get("iterationId", "")),
        pipeline=row.pipeline,
        left_out=sorted(session.scalars(select(Image.seq).where(Image.id.in_(row.left_out)))),
        tags=[
            FrozenTag(id=tag.tag_id, position=tag.position, name=tag.name, description=tag.description, type=tag.type)
            for tag in frozen
        ],
        search=None if row.search is None else [TrialMember(**trial) for trial in row.search],
        performance=None if row.origin is None else row.origin["performance"],
    )


def parts(rows: Sequence[ImageRow]) -> Iterator[tuple[int, int]]:
    """Where a page is cut, so that a member keeps its size however many boxes the images have."""
    start, size = 0, 0
    for place, row in enumerate(rows):
        # What a box or tag takes as JSON, and what an image takes at most beside them.
        needed = 300 * (len(row.regions) + len(row.tags)) + 16_384
        if size and size + needed > _ROOM:
            yield start, place
            start, size = place, 0
        size += needed
    if rows:
        yield start, len(rows)


def _json(name: str, content: BaseModel) -> bytes:
    return tar.member(name, content.model_dump_json().encode())
