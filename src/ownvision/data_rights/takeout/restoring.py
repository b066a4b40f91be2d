"""A takeout becomes projects again: the same images, iterations, scores and models, to the last bit.

`check` looks at an archive without changing anything, `start` makes its projects and one job for each, `run` is that
job. What comes is believed as little as what an upload brings (`services.travel.arriving`).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ownvision.data_rights import retention
from ownvision.data_rights.takeout.contents import (
    ExportRow,
    ExtraMember,
    KeptImageRow,
    KeptImagesMember,
    PredictionRow,
    PredictionsMember,
    SuggestionRow,
    SuggestionsMember,
)
from ownvision.data_rights.takeout.reading import Archive, Reader, parsed
from ownvision.domains import DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.learning import pixels
from ownvision.services import accounts, drafts, exports, outputs, projects
from ownvision.services.components import Components
from ownvision.services.travel import arriving
from ownvision.services.travel.arriving import Arrival, Ids
from ownvision.services.travel.contents import (
    JSON_BYTES,
    PROJECT_BYTES,
    CountsMember,
    ImageRow,
    ProjectMember,
    RegionRow,
    most_model_bytes,
)
from ownvision.services.travel.tar import Damaged
from ownvision.store import ledger
from ownvision.store.keys import KeyStore
from ownvision.store.tables import (
    Account,
    ApiKey,
    Blob,
    Export,
    Image,
    Iteration,
    Job,
    Prediction,
    Project,
    Suggestion,
)

KIND = "restore"
_ANY_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OWN_ID = re.compile(rb'"id":"([0-9a-f-]{36})"')
_POLICIES = ("keep", "retrain", "unpublish", "delete")
# What is pending elsewhere is not at work here.
_UNLEARNING = ("kept", "refitted", "unpublished", "failed")
_SIDES = ("left", "top", "width", "height")


def opened(path: Path, stack: ExitStack) -> Archive:
    """A takeout to be restored, looked at as far as can be without reading its pictures.

    Raises:
        OwnVisionError: BadRequestInvalid: it is none, or not whole; nothing was changed.
    """
    try:
        archive = Archive.of(stack.enter_context(Reader(path)))
        _check(archive)
    except Damaged as error:
        raise _refused(path, error) from None
    return archive


def _refused(path: Path, error: Damaged) -> OwnVisionError:
    return OwnVisionError("BadRequestInvalid", f"{path.name} can't be imported: {error} Nothing was changed.")


def _check(archive: Archive) -> None:
    """See that what the manifest counts is what the projects say."""
    told: dict[str, int] = {}
    for project, folder in zip(archive.manifest.projects, archive.folders(), strict=True):
        counts = archive.member(f"{folder}restore/counts.json", CountsMember, PROJECT_BYTES).sent.model_dump()
        if counts != project.get("counts"):
            raise Damaged(f"Its manifest counts other things in {folder} than are there.")
        told["images"] = told.get("images", 0) + counts["images"]
        told["projects"] = told.get("projects", 0) + 1
    if any(archive.manifest.counts.get(kind, 0) != count for kind, count in told.items()):
        raise Damaged("Its manifest counts other things than are there.")


@dataclass(frozen=True)
class Coming:
    """A project that is being restored."""

    project_id: str
    job_id: str
    name: str


def start(components: Components, account_id: str, path: Path, archive: Archive) -> list[Coming]:
    """Make the projects of an archive, and queue the jobs that fill them.

    Raises:
        OwnVisionError: BadRequestInvalid, BadRequestProject…, BadRequestExceedProjectLimit: nothing was changed.
    """
    try:
        heads = [(folder, *_heads(archive, folder)) for folder in archive.folders()]
        erased = _Journal(components.keys)
        kept = {folder: erased.knows_none_of(_ids(archive, folder)) for folder, _, _ in heads}
    except Damaged as error:
        raise _refused(path, error) from None
    with components.database.write() as session:
        account = accounts.get(session, account_id)
        return [
            _begin(components, session, account, path, archive, folder, head, extra.id if kept[folder] else None)
            for folder, head, extra in heads
        ]


def _heads(archive: Archive, folder: str) -> tuple[ProjectMember, ExtraMember]:
    return (
        archive.member(f"{folder}restore/project.json", ProjectMember, PROJECT_BYTES),
        archive.member(f"{folder}restore/extra.json", ExtraMember, JSON_BYTES),
    )


def _begin(
    components: Components,
    session: Session,
    account: Account,
    path: Path,
    archive: Archive,
    folder: str,
    head: ProjectMember,
    wished: str | None,
) -> Coming:
    limits = components.settings.limits
    project = projects.draft(
        session,
        account,
        name=head.name,
        description=head.description,
        domain_id=head.domain_id,
        classification_type=head.classification_type,
        target_export_platforms=head.target_export_platforms,
        limits=limits,
    )
    keep = wished is not None and _is_free(components, session, wished)
    project.id = wished if keep and wished is not None else project.id
    project.status = projects.IMPORTING
    projects.add(session, components.keys, project)
    changes = {"settings": {"imageProcessingSettings": {"augmentationMethods": head.augmentation}}}
    projects.update(session, project, changes, limits)
    job = rows.enqueue(
        session,
        kind=KIND,
        account_id=account.id,
        project_id=project.id,
        subject=project.id,
        lane=rows.QUICK,
        payload={
            "path": str(path.absolute()),
            "folder": folder,
            "keep": keep,
            "files": archive.manifest.files_sha256,
        },
    )
    return Coming(project.id, job.id, project.name)


def _is_free(components: Components, session: Session, id: str) -> bool:
    return (
        session.get(Project, id) is None
        and session.scalar(select(Blob.prefix).where(Blob.project_id == id).limit(1)) is None
        and id not in components.keys.projects()
    )


class _Journal:
    """The ids of what was erased here: importing such a thing again is the person's own act, and gives new ids."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys
        self._empty = next(keys.erased(), None) is None

    def knows_none_of(self, ids: Iterator[bytes]) -> bool:
        if self._empty:
            return True
        wanted = {UUID(id.decode()).bytes for id in ids}
        return not any(
            UUID(id.decode()).bytes in wanted
            for _, line in self._keys.erased()
            for id in _ANY_ID.findall(line.encode())
        )


def _ids(archive: Archive, folder: str) -> Iterator[bytes]:
    """The ids of a project and all that it holds."""
    at = f"{folder}restore/"
    single = [f"{at}extra.json", f"{at}tags.json"]
    for name in (*single, *_numbered(archive, f"{at}images/"), *_numbered(archive, f"{at}predictions/")):
        yield from _OWN_ID.findall(archive.read(name, JSON_BYTES))


def _numbered(archive: Archive, folder: str) -> Iterator[str]:
    number = 0
    while archive.reader.has(name := f"{folder}{number:06}.json"):
        yield name
        number += 1


def run(components: Components, claim: rows.Claim) -> None:
    """Job: fill the project that is the claim's subject.

    Raises:
        Stale: The job is no longer this worker's.
        Cancelled: It was asked to stop.
        OwnVisionError: The archive can't be restored; the message is for the person.
    """
    try:
        with Reader(Path(claim.payload["path"])) as reader:
            archive = Archive.of(reader)
            if archive.manifest.files_sha256 != claim.payload["files"]:
                raise Damaged("It was replaced while it was imported.")
            _attempts(components, claim, archive)
    except Damaged as error:
        raise arriving.failure(str(error)) from None
    except IntegrityError:
        raise arriving.failure("It says the same thing twice, such as one picture as two images.") from None
    except OSError as error:
        raise arriving.failure(f"The file can't be read: {error.strerror}.") from None


def _attempts(components: Components, claim: rows.Claim, archive: Archive) -> None:
    """With the ids that things had; with new ones, where something here is called by one of them."""
    folder = claim.payload["folder"]
    extra = archive.member(f"{folder}restore/extra.json", ExtraMember, JSON_BYTES)
    named: list[Ids] = [Ids(claim.project_id)]
    if claim.payload["keep"]:
        named.insert(0, _Kept(claim.project_id, {row.number: row.id for row in extra.iterations}))
    for ids in named:
        _clean(components, claim)
        try:
            with ExitStack() as stack:
                members = _Members(archive, folder)
                _Return(
                    components, claim, members, stack, lambda _: pixels.inspect, ids, source=archive, extra=extra
                ).run()
                return
        except IntegrityError:
            if ids is named[-1]:
                raise


def _clean(components: Components, claim: rows.Claim) -> None:
    """Remove what an earlier attempt left, bytes too, so that the ids it had can be given again."""
    with components.database.write() as session:
        outputs.hold(session, claim)
        arriving.empty(session, arriving.project_of(session, claim))
    components.blobs.delete_prefix(f"{claim.project_id}/")
    with components.database.write() as session:
        outputs.hold(session, claim)
        mine = Blob.project_id == claim.project_id, Blob.kind != ledger.ROWS
        session.execute(delete(Blob).where(*mine))


def failed(session: Session, project_id: str, subject: str, reason: str) -> None:
    """Record that a restore has failed: the project stays to be seen and deleted, without what had arrived."""
    arriving.failed(session, project_id, subject, reason)
    for job in session.scalars(select(Job).where(Job.kind == KIND, Job.subject == subject)):
        job.payload = {}  # the name of a file says something of its owner


class _Kept(Ids):
    """Things are called as they were."""

    def __init__(self, project_id: str, iterations: Mapping[int, str]) -> None:
        super().__init__(project_id)
        self._iterations = iterations

    def image(self, row: ImageRow) -> str:
        return row.id if isinstance(row, KeptImageRow) else super().image(row)

    def region(self, row: RegionRow) -> str:
        return str(getattr(row, "id", None) or super().region(row))

    def other(self, id: str) -> str:
        return id

    def iteration(self, number: int) -> str:
        return self._iterations.get(number) or super().iteration(number)


class _Members:
    """One project of an archive, as `services.travel` reads it.

    Args:
        archive: Whole.
        folder: The project's.
    """

    def __init__(self, archive: Archive, folder: str) -> None:
        self._archive = archive
        self._folder = folder
        self._pictures: dict[str, tuple[str, str]] = {}  # of the page read last: member → place, hash
        self._names = self._order()
        self._next = next(self._names, None)

    def name(self) -> str:
        """See `arriving.Archive`."""
        if self._next is None:
            raise Damaged("It ends before it is complete.")
        return self._next

    def read(self, name: str, most: int) -> bytes:
        """See `arriving.Archive`."""
        if self.name() != name:
            raise Damaged(f"{name} should come where {self._next!r} is.")
        data = self._read(name, most)
        self._next = next(self._names, None)
        return data

    def end(self) -> None:
        """See `arriving.Archive`."""
        if self._next is not None:
            raise Damaged(f"{self._next!r} is there, where nothing should be.")

    def _read(self, name: str, most: int) -> bytes:
        if name.endswith(".missing"):
            return b""
        if name in self._pictures:
            place, sha256 = self._pictures[name]
            if self._archive.sha256(self._folder + place) != sha256:
                raise Damaged(f"{place!r} is listed with another SHA-256.")
            return self._archive.reader.read(self._folder + place, most)  # its hash is taken when it is kept
        if name.endswith(".onnx"):
            number = name.removeprefix("iterations/").removesuffix(".onnx")
            return self._archive.read(f"{self._folder}iterations/{number}/model.onnx", most)
        data = self._archive.read(f"{self._folder}restore/{name}", most)
        if name.startswith("images/"):
            self._pictures = dict(_pictures(data))
        return data

    def _order(self) -> Iterator[str]:
        at = f"{self._folder}restore/"
        yield from ("project.json", "tags.json")
        for name in _numbered(self._archive, f"{at}images/"):
            yield name.removeprefix(at)
            yield from self._pictures
        for number in self._iterations():
            yield f"iterations/{number}.json"
            if self._archive.reader.has(f"{self._folder}iterations/{number}/model.onnx"):
                yield f"iterations/{number}.onnx"
            yield from (name.removeprefix(at) for name in _numbered(self._archive, f"{at}iterations/{number}-"))
        yield "counts.json"

    def _iterations(self) -> list[int]:
        name = f"{self._folder}restore/extra.json"
        return [row.number for row in self._archive.member(name, ExtraMember, JSON_BYTES).iterations]


def _pictures(page: bytes) -> Iterator[tuple[str, tuple[str, str]]]:
    """The members that follow a page of images; what is wrong with the page is said where it is taken apart."""
    try:
        for row in json.loads(page)["images"]:
            seq, place, sha256 = row["seq"], row["path"], row["sha256"]
            yield (f"images/{seq}.missing", ("", "")) if place is None else (f"images/{seq}", (str(place), str(sha256)))
    except (ValueError, KeyError, TypeError):
        return


@dataclass
class _Return(Arrival):
    """An arrival that brings all that a project had."""

    source: Archive = field(kw_only=True)
    extra: ExtraMember = field(kw_only=True)

    def read_page(self, name: str) -> Sequence[ImageRow]:
        page: KeptImagesMember = parsed(name, KeptImagesMember, self.archive.read(name, JSON_BYTES))
        return page.images

    def columns(self, row: ImageRow) -> dict[str, Any]:
        assert isinstance(row, KeptImageRow)
        known = row.uploaded_by if row.uploaded_by in self._keys() else None
        return {"uploaded_by": known, "restricted": row.restricted}

    def _keys(self) -> set[str]:
        if not hasattr(self, "_known_keys"):
            with self.components.database.read() as session:
                mine = select(ApiKey.id).where(ApiKey.account_id == self.claim.account_id)
                self._known_keys = set(session.scalars(mine))
        return self._known_keys

    def bring_more(self) -> None:
        at = self._at("restore/")
        predictions = suggestions = 0
        for name in _numbered(self.source, f"{at}predictions/"):
            page = self.source.member(name, PredictionsMember, JSON_BYTES).predictions
            predictions += len(page)
            self._predictions([row for row in page if row.number in self.numbers])
            self.report()
        for name in _numbered(self.source, f"{at}suggestions/"):
            found = self.source.member(name, SuggestionsMember, JSON_BYTES).suggestions
            suggestions += len(found)
            self._suggestions([row for row in found if row.number in self.numbers])
            self.report()
        if (predictions, suggestions) != (self.extra.predictions, self.extra.suggestions):
            raise Damaged("It holds other numbers of predictions or suggestions than it says.")
        for row in self.extra.exports:
            self._export(row)
            self.report()

    def _at(self, name: str) -> str:
        return f"{self.claim.payload['folder']}{name}"

    def _predictions(self, page: Sequence[PredictionRow]) -> None:
        if not page:
            return
        project_id, blobs = self.claim.project_id, self.components.blobs
        self.check_room()
        ids = [self.names.other(row.id) for row in page]
        prefixes = [ledger.prediction_prefix(project_id, id) for id in ids]
        entries = [(prefix, "prediction", self.claim.account_id, project_id) for prefix in prefixes]
        ledger.reserve(self.components.database, entries)
        values = []
        for id, prefix, row in zip(ids, prefixes, page, strict=True):
            data = self._stored(row)
            values.append(self._prediction(id, row))
            blobs.put_new(prefix + "original", data, durable=False)
        blobs.sync()

        def record(session: Session, _: Project) -> None:
            session.execute(insert(Prediction), values)
            ledger.make_live(session, prefixes)

        self.written(record)

    def _stored(self, row: PredictionRow) -> bytes:
        """The picture of a stored prediction."""
        limits = self.components.settings.limits
        most = max(limits.prediction_image_bytes, limits.training_image_bytes)  # a quick test takes more
        data = self.source.read(self._at(row.path or "?"), most)
        try:
            info = pixels.inspect(data)
        except pixels.BadImage as error:
            raise Damaged(f"The picture of prediction {row.id} can't be read: {error}") from None
        told = (row.width, row.height, row.format, row.size, row.sha256)
        if (info.width, info.height, info.format, len(data), self.source.sha256(self._at(row.path or "?"))) != told:
            raise Damaged(f"The picture of prediction {row.id} is not the one that it should be.")
        return data

    def _prediction(self, id: str, row: PredictionRow) -> dict[str, Any]:
        if row.domain_id not in DOMAINS:
            raise Damaged(f"Prediction {row.id} is of a domain that is not here.")
        return {
            "id": id,
            "project_id": self.claim.project_id,
            "iteration_id": self.numbers[row.number],
            "domain_id": row.domain_id,
            "application": row.application,
            "created": row.created,
            "uncertainty": row.uncertainty,
            "predictions": self._predicted(row.predictions),
            "sha256": row.sha256,
            "width": row.width,
            "height": row.height,
            "size": row.size,
            "format": row.format,
        }

    def _predicted(self, found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Predictions as they are stored, with the ids that their tags have here."""
        kept = []
        for one in found:
            box = one.get("boundingBox")
            numbers = [one.get("probability"), *(box.get(side) for side in _SIDES)] if box else [one.get("probability")]
            if one.get("tagId") not in self.tags or not all(isinstance(n, float) and math.isfinite(n) for n in numbers):
                raise Damaged("It has a stored prediction that is none.")
            shape: dict[str, Any] = {"probability": numbers[0], "tagId": self.tags[one["tagId"]]}
            kept.append({**shape, "boundingBox": dict(zip(_SIDES, numbers[1:], strict=True))} if box else shape)
        return kept

    def _suggestions(self, page: Sequence[SuggestionRow]) -> None:
        ids = [self.image_id(row.image) for row in page]
        if not ids:
            return

        def record(session: Session, project: Project) -> None:
            found = session.execute(select(Image.id, Image.seq).where(Image.id.in_(ids), Image.until.is_(None)))
            seqs = {image.id: image.seq for image in found}
            values = [
                {
                    "image_seq": seqs[id],
                    "iteration_id": self.numbers[row.number],
                    "project_id": project.id,
                    "created": row.created,
                    "uncertainty": row.uncertainty,
                    "predictions": self._predicted(row.predictions),
                }
                for id, row in zip(ids, page, strict=True)
                if id in seqs
            ]
            if values:
                session.execute(insert(Suggestion), values)

        self.written(record)

    def _export(self, row: ExportRow) -> None:
        if row.number not in self.numbers or not exports.is_nameable(row.platform, row.flavor):
            raise Damaged("It has an export that can't be one here.")
        place = self._at(row.path or "?")
        found = self.source.reader.place(place)
        if found is None or self.source.reader.size(found) > 2 * most_model_bytes():
            raise Damaged(f"The export {row.path!r} is missing, or too large.")
        self.check_room()
        id = self.names.other(row.id)
        prefix = ledger.export_prefix(self.claim.project_id, id)
        outputs.write_parts(
            self.components, self.claim, prefix, "export", exports.ARCHIVE, lambda: self.source.chunks(place)
        )

        def record(session: Session, _: Project) -> None:
            ledger.make_live(session, [prefix])
            session.add(
                Export(
                    id=id,
                    iteration_id=self.numbers[row.number],
                    platform=row.platform,
                    flavor=row.flavor,
                    status=exports.DONE,
                    created=row.created,
                )
            )

        self.written(record)

    def settle(self, session: Session, project: Project) -> None:
        told = self.extra
        if told.erasure_policy not in _POLICIES:
            raise Damaged(f"Its policy {told.erasure_policy!r} is not known here.")
        project.created, project.last_modified = told.created, told.last_modified
        project.iterations_made = max(project.iterations_made, told.iterations_made)
        project.erasure_policy = told.erasure_policy
        if told.live_learning:
            drafts.switch_on(session, project)
        target = session.get_one(Account, project.account_id).prediction_resource_id
        for extra in told.iterations:
            row = session.get_one(Iteration, self.numbers[extra.number])
            row.is_default = extra.is_default
            if row.erased_count and extra.unlearning in _UNLEARNING:
                row.unlearning = extra.unlearning
            if extra.publish_name is not None:
                row.publish_name, row.publish_resource_id = extra.publish_name, target
        session.flush()
        for rule in told.rules:
            retention.put(session, project.account_id, project.id, rule.kind, rule.days)


def keys_for(components: Components, account_id: str, archive: Archive) -> dict[tuple[str, str], str]:
    """The keys of the account that was taken out, by kind and slot, seen to be usable here.

    Raises:
        OwnVisionError: BadRequestInvalid: the archive has none; Conflict: another account here has one of them.
    """
    given = _keys_of(archive)
    with components.database.read() as session:
        accounts.check_keys(session, accounts.get(session, account_id), given)
    return given


def _keys_of(archive: Archive) -> dict[tuple[str, str], str]:
    try:
        told = json.loads(archive.read("account.json", JSON_BYTES))["Keys"]
        return {
            (kind, slot): str(told[f"{kind.capitalize()}Keys"][f"{slot.capitalize()}Key"])
            for kind in accounts.KINDS
            for slot in accounts.SLOTS
        }
    except (Damaged, ValueError, KeyError, TypeError):
        raise OwnVisionError(
            "BadRequestInvalid", "The archive holds no account with keys; import it without --with-keys."
        ) from None


def take_keys(components: Components, account_id: str, given: Mapping[tuple[str, str], str]) -> None:
    """Give an account the keys of the one that was taken out.

    Raises:
        OwnVisionError: BadRequestInvalid for what is no key; Conflict: another account here has one of them.
    """
    with components.database.write() as session:
        accounts.take_keys(session, components.keys, accounts.get(session, account_id), given)
