"""The import job: an archive becomes a project, picture by picture, each checked as an upload is.

Nothing of the archive is believed: it may come from anybody. It is read once, as it comes; what it holds is committed
by up to 256 images. An attempt that was killed leaves a project that the next one empties before it begins.
"""

import os
import re
import shutil
import time
from array import array
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.learning import pixels
from ownvision.limits import TIERS
from ownvision.services import accounts, coverage, images, intake, outputs, projects, regions, tags
from ownvision.services.components import Components
from ownvision.services.embedding import ensure_embedding
from ownvision.services.images import valid_at
from ownvision.services.regions import Box
from ownvision.services.travel import learned, source, tar
from ownvision.services.travel.contents import (
    FORMAT,
    JSON_BYTES,
    PROJECT_BYTES,
    Counts,
    CountsMember,
    ImageRow,
    ImagesMember,
    Interval,
    ProjectMember,
    RegionRow,
    TagsMember,
)
from ownvision.store import ledger
from ownvision.store.database import insert_all
from ownvision.store.tables import (
    Image,
    ImageMetadata,
    ImageTag,
    Iteration,
    IterationTag,
    Job,
    Lineage,
    Project,
    Region,
    Tag,
)
from ownvision.store.tables.base import new_id, now

KIND = "import"
M = TypeVar("M", bound=BaseModel)
_REPORT_SECONDS = 0.5
# Bytes of pictures that wait for a thread, and of one commit: what a slow line brings within the ledger's lease.
# Those that one thread takes at once: handing over has its price.
_TOGETHER = 256 * 2**10
_IN_FLIGHT, _COMMIT = 32 * 2**20, 64 * 2**20
_COMMITS = 4  # under way while the next is read; of their images only rows are in memory
_ITERATION = re.compile(r"iterations/(\d{1,10})\.json")
_WHY = {
    "ErrorImageFormat": "is no picture, or is cut off",
    "ErrorImageDimensions": "is larger or longer than pictures may be here",
    "ErrorImageSize": "has more bytes than pictures may have here",
    "ErrorStorage": "can't be written: the disk is full, or fails",
}


def start(components: Components, account_id: str, base_url: str, token: str, name: str | None) -> Project:
    """Make the project that a token's archive is to become, and queue the job that fills it.

    Args:
        components: Of this installation.
        account_id: Whose project it will be.
        base_url: The address this installation was called by.
        token: Of ExportProject, here or elsewhere.
        name: The project's name; None: the exported one's. A taken one becomes "name (1)".

    Raises:
        OwnVisionError: BadRequestInvalidImportToken, BadRequestProject…, BadRequestExceedProjectLimit.
    """
    payload = source.recognised(components, base_url, token)
    head = _head(components, payload)
    limits = components.settings.limits
    with components.database.write() as session:
        project = projects.create(
            session,
            components.keys,
            accounts.get(session, account_id),
            name=name or head.name,
            description=head.description,
            domain_id=head.domain_id,
            classification_type=head.classification_type,
            target_export_platforms=head.target_export_platforms,
            limits=limits,
        )
        wished = {"settings": {"imageProcessingSettings": {"augmentationMethods": head.augmentation}}}
        projects.update(session, project, wished, limits)
        project.status = projects.IMPORTING
        rows.enqueue(
            session,
            kind=KIND,
            account_id=account_id,
            project_id=project.id,
            subject=project.id,
            lane=rows.QUICK,
            payload=payload,
        )
    return project


def run(components: Components, claim: rows.Claim) -> None:
    """Job: fill the project that is the claim's subject.

    Raises:
        Stale: The job is no longer this worker's.
        Cancelled: It was asked to stop.
        OwnVisionError: The archive can't be imported; the message is for the person.
    """
    with components.database.write() as session:
        outputs.hold(session, claim)
        empty(session, project_of(session, claim))
    try:
        with closing(source.apart(components, claim.payload)) as chunks, ExitStack() as stack:
            archive, is_own = tar.Archive(chunks), source.is_own(claim.payload)
            Arrival(components, claim, archive, stack, examine=_as_told if is_own else _verify).run()
    except tar.Damaged as error:
        raise failure(str(error)) from None
    except IntegrityError:
        raise failure("It says the same thing twice, such as one picture as two images.") from None


def failed(session: Session, project_id: str, subject: str, reason: str) -> None:
    """Record that an import has failed: the project stays to be seen and deleted, without what had arrived."""
    project = session.get(Project, project_id)
    if project is not None and project.closed is None and project.status == projects.IMPORTING:
        empty(session, project)
        project.status, project.last_modified = projects.FAILED, now()
    for job in session.scalars(select(Job).where(Job.kind == KIND, Job.subject == subject)):
        job.payload = {}  # the address is of no more use


def failure(why: str) -> OwnVisionError:
    """That an import has failed, and why."""
    return OwnVisionError(
        "ErrorProjectImportRequestFailed", f"The project could not be imported, and nothing of it was kept. {why}"
    )


def _head(components: Components, payload: Mapping[str, Any]) -> ProjectMember:
    """What the archive says of itself; only its beginning is read."""
    try:
        with closing(source.chunks(components, payload, components.settings.url_timeout)) as chunks:
            data = tar.Archive(chunks).read("project.json", PROJECT_BYTES)
        head = ProjectMember.model_validate_json(data)
    except (tar.Damaged, ValidationError):
        raise source.refused("what is behind it is no project of OwnVision.") from None
    if head.format != FORMAT:
        raise source.refused("a newer version of OwnVision made it; update this one.")
    return head


def project_of(session: Session, claim: rows.Claim) -> Project:
    """The project that is arriving, locked.

    Raises:
        Stale: It was deleted.
    """
    project = session.get(Project, claim.project_id, with_for_update=True)
    if project is None:
        raise rows.Stale(claim.job_id)
    return project


def empty(session: Session, project: Project) -> None:
    """Remove all that an import has brought; bytes that a killed attempt had only reserved go too."""
    gone = [
        session.execute(delete(table).where(table.project_id == project.id)).rowcount  # type: ignore[attr-defined]
        for table in (Iteration, Image, Tag)
    ]
    ledger.doom_project(session, project.id)
    if any(gone):
        ledger.doom_rows(session, project.account_id, project.id)
    project.revision = project.image_count = project.tagged_count = project.iterations_made = 0
    session.flush()


def _as_told(row: ImageRow) -> Callable[[bytes], pixels.ImageInfo]:
    """Our own store's pictures were decoded when they came, and are sealed: their hash says that they are those."""
    return lambda _: pixels.ImageInfo(row.width, row.height, row.format)


def _verify(_: ImageRow) -> Callable[[bytes], pixels.ImageInfo]:
    return pixels.verify


class Archive(Protocol):
    """What is read member by member, in the one order of `contents`."""

    def name(self) -> str:
        """The name of the member that comes next. Raises `tar.Damaged`."""

    def read(self, name: str, most: int) -> bytes:
        """The bytes of the next member, which must be of that name and size. Raises `tar.Damaged`."""

    def end(self) -> None:
        """See that nothing follows. Raises `tar.Damaged`."""


class Ids:
    """What things are called here: anew, so that the same archive can come twice.

    Args:
        project_id: Whose they are.
    """

    def __init__(self, project_id: str) -> None:
        self.project_id = project_id

    def image(self, row: ImageRow) -> str:
        """An image's id."""
        return ledger.new_image_id(self.project_id)

    def region(self, row: RegionRow) -> str:
        """A box's id."""
        return new_id()

    def other(self, id: str) -> str:
        """The id of a tag or anything else, by the one it had."""
        return new_id()

    def iteration(self, number: int) -> str:
        """An iteration's id."""
        return new_id()


@dataclass
class _Batch:
    """Images that are committed together; `ids` and `missing` are those they get here, or would have got."""

    reserved: "Future[None]"
    rows: list[ImageRow] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    kept: "list[Future[list[intake.Kept]]]" = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass
class Arrival:
    """One attempt.

    Args:
        components: Of this installation.
        claim: The job.
        archive: What it brings.
        stack: Ends the threads.
        examine: What sees whether the bytes of an image are a picture.
        ids: What things are called here; None: anew.
    """

    components: Components
    claim: rows.Claim
    archive: Archive
    stack: ExitStack
    examine: Callable[[ImageRow], Callable[[bytes], pixels.ImageInfo]]
    ids: Ids | None = None
    tags: dict[str, str] = field(default_factory=dict)  # id there → id here
    living: set[str] = field(default_factory=set)  # ids there, of the workspace's tags
    # Of all images that arrived, ascending: `seq` there and the 16 bytes of the id here. 24 bytes an image.
    seqs: "array[int]" = field(default_factory=lambda: array("q"))
    places: bytearray = field(default_factory=bytearray)
    erased: set[int] = field(default_factory=set)  # `seq` there of images whose bytes did not come
    got: Counts = field(default_factory=lambda: Counts(images=0, tags=0, regions=0, iterations=0))
    numbers: dict[int, str] = field(default_factory=dict)  # iterations: number → id here
    last: int = 0  # revision of the copy
    in_flight: "deque[tuple[int, Future[list[intake.Kept]]]]" = field(default_factory=deque)
    flying: int = 0  # bytes of `in_flight`
    finishing: "deque[Future[None]]" = field(default_factory=deque)
    said: float = 0.0

    def run(self) -> None:
        threads = os.cpu_count() or 2
        self.names = self.ids or Ids(self.claim.project_id)
        self.checkers = self.stack.enter_context(ThreadPoolExecutor(threads, "arriving"))
        self.reserver = self.stack.enter_context(ThreadPoolExecutor(1, "reserving"))
        self.finisher = self.stack.enter_context(ThreadPoolExecutor(1, "committing"))
        with self.components.database.read() as session:
            project = project_of(session, self.claim)
            self.detection = projects.is_detection(project)
            self.tier = TIERS[accounts.get(session, project.account_id).tier]
        self.head = self.member("project.json", ProjectMember, PROJECT_BYTES)
        if self.head.format != FORMAT:
            raise tar.Damaged("A newer version of OwnVision made it; update this one.")
        self.last = self.head.revision
        self._tags(self.member("tags.json", TagsMember, JSON_BYTES))
        page = 0
        while self.archive.name() == f"images/{page:06}.json":
            self._page(page)
            page += 1
        self._finished()
        while found := _ITERATION.fullmatch(self.archive.name()):
            learned.take(self, int(found[1]))
        told = self.member("counts.json", CountsMember, PROJECT_BYTES)
        if told.sent != self.got:
            raise tar.Damaged(f"It says that it holds {_shown(told.sent)}, but {_shown(self.got)} came.")
        self.bring_more()
        self.archive.end()
        self._succeed(told.missing)

    def read_page(self, name: str) -> Sequence[ImageRow]:
        """A page of images."""
        return self.member(name, ImagesMember, JSON_BYTES).images

    def columns(self, row: ImageRow) -> dict[str, Any]:
        """What an image's row has beside what always travels."""
        return {"uploaded_by": None}

    def bring_more(self) -> None:
        """What comes after the counts: nothing travels beyond them."""

    def settle(self, session: Session, project: Project) -> None:
        """The last of what came, in the transaction that makes the project a whole one: nothing."""

    def member(self, name: str, model: type[M], most: int) -> M:
        try:
            return model.model_validate_json(self.archive.read(name, most))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"][:6])
            raise tar.Damaged(f"{name} can't be read: {where:.80}: {first['msg']:.200}.") from None

    def count(self, kind: str, more: int = 1) -> None:
        """Count what came; more than was promised is refused with the next commit, so that no archive is endless."""
        came = getattr(self.got, kind) + more
        promised = getattr(self.head.counts, kind)
        if came + (len(self.erased) if kind == "images" else 0) > promised:
            raise tar.Damaged(f"It holds more than the {promised} {kind} that it promised.")
        setattr(self.got, kind, came)

    def report(self) -> None:
        """Renew the lease, and stop where that is asked for."""
        if time.monotonic() - self.said >= _REPORT_SECONDS:
            whole = self.head.counts.images + 50 * self.head.counts.iterations + 1
            share = (self.got.images + 50 * self.got.iterations) / whole
            rows.heartbeat(self.components.database, self.claim, min(share, 0.99), self.components.settings.job_lease)
            self.said = time.monotonic()

    def written(self, change: Callable[[Session, Project], None]) -> None:
        """One write transaction of this attempt; none once another worker has the job."""
        with self.components.database.write() as session:
            outputs.hold(session, self.claim)
            change(session, project_of(session, self.claim))

    def image_id(self, seq: int) -> str | None:
        """The id here of an image there; None of one that was erased before it came."""
        place = bisect_left(self.seqs, seq)
        if place < len(self.seqs) and self.seqs[place] == seq:
            return str(UUID(bytes=bytes(self.places[16 * place : 16 * place + 16])))
        if seq in self.erased:
            return None
        raise tar.Damaged(f"It names an image {seq} that it does not hold.")

    def _tags(self, member: TagsMember) -> None:
        self.count("tags", len(member.tags))
        there = [*(row.id for row in member.tags), *member.former]
        if len(set(there)) != len(there):
            raise tar.Damaged("It names a tag twice.")
        self.living = {row.id for row in member.tags}
        self.tags = {id: self.names.other(id) for id in there}

        def make(session: Session, project: Project) -> None:
            for row in member.tags:
                view = tags.create(
                    session, project, row.name, row.description, row.type, self.components.settings.limits, self.tier
                )
                tag = session.get_one(Tag, view.id)
                tag.id, tag.created = self.tags[row.id], row.created
                session.flush()

        self.written(make)

    def _page(self, number: int) -> None:
        for part in _parts(self.read_page(f"images/{number:06}.json")):
            self.check_room()
            self._store(part)
            self.report()

    def _store(self, part: Sequence[ImageRow]) -> None:
        """Read, check and write the pictures of one commit while those before may still be under way."""
        project_id = self.claim.project_id
        ids = [self.names.image(row) for row in part]
        entries = [(ledger.image_prefix(project_id, id), "image", self.claim.account_id, project_id) for id in ids]
        reserved = self.reserver.submit(ledger.reserve, self.components.database, entries)
        batch = _Batch(reserved)
        pictures: list[tuple[str, bytes, ImageRow]] = []
        size = 0
        for row, id in zip(part, ids, strict=True):
            self._check(row)
            if self.archive.name() == f"images/{row.seq}.missing":
                self.archive.read(f"images/{row.seq}.missing", 0)
                self.erased.add(row.seq)
                batch.missing.append(id)
                continue
            data = self.archive.read(f"images/{row.seq}", self.components.settings.limits.training_image_bytes)
            self.seqs.append(row.seq)
            self.places += bytes.fromhex(id.replace("-", ""))
            batch.rows.append(row)
            batch.ids.append(id)
            pictures.append((id, data, row))
            size += len(data)
            if size >= _TOGETHER:
                self._check_bytes(batch, pictures)
                pictures, size = [], 0
        self._check_bytes(batch, pictures)
        self.count("images", len(batch.rows))
        self.count("regions", sum(len(row.regions) for row in batch.rows))
        self._finished(but=_COMMITS)
        self.finishing.append(self.finisher.submit(self._commit, batch))

    def _check_bytes(self, batch: _Batch, pictures: Sequence[tuple[str, bytes, ImageRow]]) -> None:
        """Hand pictures to a thread; waits while too many bytes wait for theirs."""
        size = sum(len(data) for _, data, _ in pictures)
        while self.in_flight and (self.flying + size > _IN_FLIGHT or self.in_flight[0][1].done()):
            done, oldest = self.in_flight.popleft()
            oldest.result()
            self.flying -= done
        self.flying += size
        future = self.checkers.submit(self._keep, pictures, batch.reserved)
        self.in_flight.append((size, future))
        batch.kept.append(future)

    def _keep(self, pictures: Sequence[tuple[str, bytes, ImageRow]], reserved: "Future[None]") -> list[intake.Kept]:
        project_id = self.claim.project_id
        return [
            intake.keep(self.components, project_id, id, data, examine=self.examine(row), reserved=reserved.result)
            for id, data, row in pictures
        ]

    def _finished(self, but: int = 0) -> None:
        """Wait for all commits but so many."""
        while len(self.finishing) > but:
            self.finishing.popleft().result()

    def check_room(self) -> None:
        settings = self.components.settings
        if shutil.disk_usage(settings.data).free < settings.min_free_bytes:
            raise failure("The server's disk is nearly full; ask its operator to make room.")

    def _check(self, row: ImageRow) -> None:
        """See that an image and all it carries may be in a project here."""
        limits = self.components.settings.limits
        if (self.seqs and row.seq <= self.seqs[-1]) or row.seq in self.erased:
            raise tar.Damaged(f"Image {row.seq} is out of its order.")
        images.check_metadata(row.metadata, limits)
        for one in (row, *row.tags, *row.regions):
            self._check_interval(one)
        for tag in [*(link.tag for link in row.tags), *(box.tag for box in row.regions)]:
            if tag not in self.tags:
                raise tar.Damaged(f"Image {row.seq} carries a tag {tag} that is not among the project's.")
        live = [link.tag for link in row.tags if link.until is None]
        boxed = [box.tag for box in row.regions if box.until is None]
        if row.until is not None and (live or boxed):
            raise tar.Damaged(f"Image {row.seq} left the workspace, but its tags did not.")
        if not {*live, *boxed} <= self.living:
            raise tar.Damaged(f"Image {row.seq} carries a tag in the workspace that the workspace does not have.")
        if len(set(live)) != len(live):
            raise tar.Damaged(f"Image {row.seq} carries a tag twice.")
        if len(live) > limits.tags_per_image or len(boxed) > limits.regions_per_image:
            raise tar.Damaged(f"Image {row.seq} carries more tags or regions than an image may here.")
        if row.regions and not self.detection:
            raise tar.Damaged(f"Image {row.seq} has regions, but the project classifies whole images.")
        if self.detection and set(live) != set(boxed):
            raise tar.Damaged(f"Image {row.seq} carries other tags than its regions.")

    def _check_interval(self, one: Interval) -> None:
        """`until` may be one beyond the exported revision: it ended right after (`leaving`)."""
        if one.since > self.head.revision or not (one.until is None or one.since < one.until <= self.head.revision + 1):
            raise tar.Damaged(f"Its revisions {one.since} to {one.until} are none of the project's.")
        self.last = max(self.last, one.until or 0)

    def _commit(self, batch: _Batch) -> None:
        """Make the pictures of a batch durable, then images of the project."""
        batch.reserved.result()
        kept = [one for future in batch.kept for one in future.result()]
        for row, one in zip(batch.rows, kept, strict=True):
            if one.status != intake.OK:
                raise tar.Damaged(f"Image {row.seq} {_WHY[one.status]}.")
            if (one.sha256, one.size) != (row.sha256, row.size):
                raise tar.Damaged(f"Image {row.seq} is not the picture that it should be.")
        self.components.blobs.sync()
        self.written(lambda session, project: self._insert(session, project, batch, kept))

    def _insert(self, session: Session, project: Project, batch: _Batch, kept: Sequence[intake.Kept]) -> None:
        infos = [one.info for one in kept if one.info is not None]
        made = [
            {
                "id": id,
                "project_id": project.id,
                "sha256": row.sha256,
                "width": info.width,
                "height": info.height,
                "size": row.size,
                "format": info.format,
                "file_name": row.file_name,
                **self.columns(row),
                "created": row.created,
                "tagged": any(link.until is None for link in row.tags),
                "since": row.since,
                "until": row.until,
            }
            for row, id, info in zip(batch.rows, batch.ids, infos, strict=True)
        ]
        prefixes = [ledger.image_prefix(project.id, id) for id in batch.ids]
        ledger.make_live(session, prefixes)
        ledger.doom(session, [ledger.image_prefix(project.id, id) for id in batch.missing])
        if not made:
            return
        insert_all(session, Image, made)
        found = session.execute(select(Image.id, Image.seq).where(Image.id.in_(batch.ids)))
        seqs = {image.id: image.seq for image in found}
        placed = [(seqs[id], row) for row, id in zip(batch.rows, batch.ids, strict=True)]
        for table, values in self._carried(project.id, placed):
            insert_all(session, table, values)
        there = [row for row in batch.rows if row.until is None]
        project.image_count += len(there)
        project.tagged_count += sum(1 for one in made if one["tagged"])
        quota = self.tier.images_per_project
        if quota is not None and project.image_count > quota:
            raise failure(f"This tier allows {quota} images per project, and it has more.")
        live = Counter(link.tag for row in batch.rows for link in row.tags if link.until is None)
        for tag, count in live.items():
            session.execute(update(Tag).where(Tag.id == self.tags[tag]).values(image_count=Tag.image_count + count))

    def _carried(
        self, project_id: str, placed: Sequence[tuple[int, ImageRow]]
    ) -> Iterator[tuple[type[ImageTag] | type[Region] | type[ImageMetadata], list[dict[str, Any]]]]:
        yield (
            ImageTag,
            [
                {
                    "project_id": project_id,
                    "image_seq": seq,
                    "tag_id": self.tags[link.tag],
                    "created": link.created,
                    "since": link.since,
                    "until": link.until,
                }
                for seq, row in placed
                for link in row.tags
            ],
        )
        yield (
            Region,
            [
                {
                    **vars(_inside(Box(self.tags[box.tag], *box.box))),
                    "id": self.names.region(box),
                    "project_id": project_id,
                    "image_seq": seq,
                    "created": box.created,
                    "since": box.since,
                    "until": box.until,
                }
                for seq, row in placed
                for box in row.regions
            ],
        )
        yield (
            ImageMetadata,
            [
                {"image_seq": seq, "project_id": project_id, "key": key, "value": value}
                for seq, row in placed
                for key, value in row.metadata.items()
            ],
        )

    def _succeed(self, missing: Counts) -> None:
        with self.components.database.read() as session:
            counted = [_recounted(session, id) for id in self.numbers.values()]

        def finish(session: Session, project: Project) -> None:
            for table, key, values in (change for changes in counted for change in changes):
                session.execute(update(table).where(*key).values(**values))
            coverage.release(session, project.id)  # images of an iteration that did not come
            project.revision = self.last
            project.iterations_made = max(self.numbers, default=0)
            project.status, project.last_modified = projects.SUCCEEDED, now()
            self.settle(session, project)
            ensure_embedding(session, project)
            result = {"arrived": self.got.model_dump(), "missing": missing.model_dump()}
            session.get_one(Job, self.claim.job_id).payload = result
            rows.finish(session, self.claim)

        self.written(finish)


def _recounted(session: Session, iteration_id: str) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """An iteration's kept counts, of what arrived: images may have been erased since the archive was begun."""
    row = session.get_one(Iteration, iteration_id)
    of_image = (Image.project_id == row.project_id, valid_at(Image, row.revision))
    of_link = (ImageTag.project_id == row.project_id, valid_at(ImageTag, row.revision))
    per_tag = session.execute(
        select(ImageTag.tag_id, func.count(ImageTag.image_seq.distinct())).where(*of_link).group_by(ImageTag.tag_id)
    )
    counts = {found[0]: found[1] for found in per_tag}
    whole: dict[str, Any] = {
        "image_count": session.scalar(select(func.count()).select_from(Image).where(*of_image)) or 0,
        "tagged_count": session.scalar(select(func.count(ImageTag.image_seq.distinct())).where(*of_link)) or 0,
    }
    still = (Lineage.iteration_id == row.id, Lineage.unlearned.is_(None))
    whole["erased_count"] = session.scalar(select(func.count()).select_from(Lineage).where(*still)) or 0
    if whole["erased_count"]:
        whole["unlearning"] = "kept"
    frozen = session.scalars(select(IterationTag.tag_id).where(IterationTag.iteration_id == row.id))
    return [
        (Iteration, (Iteration.id == row.id,), whole),
        *(
            (
                IterationTag,
                (IterationTag.iteration_id == row.id, IterationTag.tag_id == tag_id),
                {"image_count": counts.get(tag_id, 0)},
            )
            for tag_id in frozen
        ),
    ]


def _inside(box: Box) -> Box:
    """The box as it came, where it is one; a sender's rounding is mended.

    Raises:
        OwnVisionError: BadRequestImageRegions.
    """
    if 0 <= box.left < box.left + box.width <= 1 and 0 <= box.top < box.top + box.height <= 1:
        return box
    clipped = regions.clipped(box)
    pairs = ((box.left, clipped.left), (box.top, clipped.top), (box.width, clipped.width), (box.height, clipped.height))
    return box if all(abs(one - other) < 1e-12 for one, other in pairs) else clipped


def _parts(found: Sequence[ImageRow]) -> Iterator[Sequence[ImageRow]]:
    """A page cut into what one commit takes."""
    start, size = 0, 0
    for place, row in enumerate(found):
        if size and size + row.size > _COMMIT:
            yield found[start:place]
            start, size = place, 0
        size += row.size
    if found:
        yield found[start:]


def _shown(counts: Counts) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.model_dump().items())
