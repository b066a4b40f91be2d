"""The archive of a project at a token's revision, made as it is read: no transaction is open while bytes stream.

What was made after that revision is left out; what was erased since is missing, and the last member counts it.
"""

import base64
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
_ABSENT = (BlobMissing, BlobDamaged, KeyMissing)
_ROOM = JSON_BYTES // 4


class Withdrawn(Exception):
    """The token was revoked, or the project or an iteration of it deleted, while its archive was being read."""


def stream(components: Components, export: ProjectExport) -> Iterator[bytes]:
    """The archive, in parts of about 256 KiB or one picture.

    Raises:
        Withdrawn: It can't be finished; what was read so far lacks its end.
    """
    waiting = bytearray()
    for part in _Leaving(components, export).members():
        waiting += part
        if len(waiting) >= _CHUNK:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting) + tar.END


def _columns(table: type[Base]) -> Select[Any]:
    """Plain rows of a table: nothing here changes one, and entities cost more."""
    return select(*table.__table__.columns)


@dataclass
class _Leaving:
    components: Components
    export: ProjectExport
    tags: set[str] = field(default_factory=set)  # of the workspace, as they were told
    revisions: list[int] = field(default_factory=list)  # that travel, ascending
    sent: Counts = field(default_factory=lambda: Counts(images=0, tags=0, regions=0, iterations=0))

    def members(self) -> Iterator[bytes]:
        with self.components.database.read() as session:
            project = self._project(session)
            learned = self._iterations(session)
            self.revisions = sorted({self.export.revision, *(row.revision for row in learned)})
            head, tags = self._head(project), self._tags(session, learned)
        detection = projects.is_detection(project)
        yield _json("project.json", head)
        yield _json("tags.json", tags)
        yield from self._images(detection)
        numbers = {row.id: row.number for row in learned}
        for row in learned:
            yield from self._iteration(row, numbers)
        yield _json("counts.json", CountsMember(sent=self.sent, missing=self._missing()))

    def _project(self, session: Session) -> Project:
        """Asked for every page: an archive ends where its token is revoked."""
        project = session.get(Project, self.export.project_id)
        if project is None or session.get(ProjectExport, self.export.id) is None:
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

    def _missing(self) -> Counts:
        promised, sent = self._promised().model_dump(), self.sent.model_dump()
        return Counts(**{name: max(0, promised[name] - sent[name]) for name in promised})

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
        self.tags = {row.id for row in rows}
        self.sent.tags = len(rows)
        frozen = session.scalars(
            select(IterationTag.tag_id)
            .join(Iteration, Iteration.id == IterationTag.iteration_id)
            .where(Iteration.project_id == self.export.project_id, Iteration.created <= self.export.created)
            .distinct()
        )
        return TagsMember(tags=rows, former=sorted(set(frozen) - self.tags) if learned else [])

    def _images(self, detection: bool) -> Iterator[bytes]:
        after, number = -1, 0
        while True:
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
                        .limit(PAGE)
                    )
                )
                page = [image for image in found if self._covered(image)]
                rows = self._rows(session, page, detection)
            if not found:
                return
            after = found[-1].seq
            for start, end in _parts(rows):
                yield _json(f"images/{number:06}.json", ImagesMember.model_construct(images=list(rows[start:end])))
                number += 1
                for image, row in zip(page[start:end], rows[start:end], strict=True):
                    yield self._picture(image, row)

    def _picture(self, image: Row[Any], row: ImageRow) -> bytes:
        try:
            data = self.components.blobs.read(ledger.image_prefix(image.project_id, image.id) + "original")
        except _ABSENT:
            return tar.member(f"images/{image.seq}.missing", b"")
        self.sent.images += 1
        self.sent.regions += len(row.regions)
        return tar.member(f"images/{image.seq}", data)

    def _rows(self, session: Session, images: Sequence[Row[Any]], detection: bool) -> list[ImageRow]:
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
                    RegionRow.model_construct(
                        tag=box.tag_id,
                        box=(box.left, box.top, box.width, box.height),
                        created=box.created,
                        since=box.since,
                        until=self._until(box.until, box.tag_id in self.tags),
                    )
                )
        links: dict[int, list[LinkRow]] = defaultdict(list)
        for link in session.execute(_columns(ImageTag).where(ImageTag.image_seq.in_(seqs)).order_by(ImageTag.id)):
            if self._covered(link):
                # A box that was erased since takes its tag along, as it does in the workspace.
                boxed = not detection or any(
                    box.tag == link.tag_id and box.until is None for box in boxes[link.image_seq]
                )
                links[link.image_seq].append(
                    LinkRow.model_construct(
                        tag=link.tag_id,
                        created=link.created,
                        since=link.since,
                        until=self._until(link.until, link.tag_id in self.tags and boxed),
                    )
                )
        return [
            ImageRow.model_construct(
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

    def _iteration(self, row: Iteration, numbers: dict[str, int]) -> Iterator[bytes]:
        model = None
        if row.origin is None:
            try:
                model = self.components.blobs.read(ledger.iteration_prefix(row.project_id, row.id) + MODEL)
            except _ABSENT:
                return
        with self.components.database.read() as session:
            self._project(session)
            if session.get(Iteration, row.id) is None:
                return
            told = _told(session, row, numbers)
        yield _json(f"iterations/{row.number}.json", told)
        if model is not None:
            yield tar.member(f"iterations/{row.number}.onnx", model)
        for number, page in enumerate(self._scores(row)):
            yield _json(f"iterations/{row.number}-{number:06}.json", page)
        self.sent.iterations += 1

    def _scores(self, row: Iteration) -> Iterator[ScoresMember]:
        last, erased = -1, ""
        while True:
            with self.components.database.read() as session:
                self._project(session)
                if session.get(Iteration, row.id) is None:
                    raise Withdrawn  # half of its scores are out
                found = session.execute(
                    select(ScoredImage, Image.seq)
                    .outerjoin(Image, Image.id == ScoredImage.image_id)
                    .where(ScoredImage.iteration_id == row.id, ScoredImage.id > last)
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
            yield ScoresMember(erased=[LineageRow(image=one.image_id, receipt=one.receipt) for one in gone])


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
        performance=None if row.origin is None else row.origin["performance"],
        tags=[
            FrozenTag(id=tag.tag_id, position=tag.position, name=tag.name, description=tag.description, type=tag.type)
            for tag in frozen
        ],
    )


def _parts(rows: Sequence[ImageRow]) -> Iterator[tuple[int, int]]:
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
