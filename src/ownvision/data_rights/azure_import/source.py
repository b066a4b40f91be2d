"""A copied resource as what a takeout is written from; it reads the work folder and asks nobody.

What differs between two iterations becomes intervals of revisions: the first trained iteration saw revision 1, the next
one 2, and the workspace is the last. What a project here can't hold (a picture twice in the workspace, a box outside
its picture, a tag without a box in a detection project) is left out and noted.
"""

import base64
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ownvision.data_rights.azure_import import answers
from ownvision.data_rights.azure_import.answers import Shape
from ownvision.data_rights.azure_import.work import Fetched, Work, unpacked
from ownvision.data_rights.takeout.contents import (
    ExportRow,
    ExtraMember,
    IterationExtra,
    KeptImageRow,
    KeptRegionRow,
    PredictionRow,
    SuggestionRow,
)
from ownvision.data_rights.takeout.source import Exported, Learned, Missing, Picture, Stored
from ownvision.domains import CLASSIFICATION, DETECTION, DOMAINS, GENERAL
from ownvision.errors import OwnVisionError
from ownvision.services import exports, predictions, projects, regions, tags
from ownvision.services.regions import Box
from ownvision.services.travel.contents import (
    FORMAT,
    SCORED,
    Counts,
    FrozenTag,
    IterationMember,
    LinkRow,
    ProjectMember,
    ScoredRow,
    ScoresMember,
    TagRow,
    TagsMember,
)

PIPELINE = "Custom Vision"
_GENERAL = {CLASSIFICATION: GENERAL, DETECTION: "da2e3a8a-40a5-4171-82f4-58522f70fbc1"}
_BATCH = 256
_CHUNK = 2**20
_NOWHERE = "0" * 64
_ABSENT = Fetched("", 0, 0, 0, "", "It was not fetched.")


@dataclass(frozen=True)
class Carried:
    """What an image carries in the revisions `first` to `last`: tag → when; (tag, box, n-th alike) → (id, when)."""

    first: int
    last: int
    tags: dict[str, str]
    boxes: dict[tuple[str, tuple[float, ...], int], tuple[str, str]]
    metadata: dict[str, str]


class AzureSource:
    """What was fetched of a resource.

    Args:
        work: The work folder, whose projects are fetched.
        origin: The resource's endpoint.
        made: When it was fetched.
    """

    def __init__(self, work: Work, origin: str, made: datetime) -> None:
        self._work = work
        self.origin, self.made = origin, made
        ids = [str(row[0]) for row in work.rows("SELECT id FROM projects ORDER BY place")]
        self.scope: Literal["account", "project"] = "project" if len(ids) == 1 else "account"
        self.total = int(work.one("SELECT COUNT(*) FROM pictures"))
        self._projects = [AzureProject(work, id) for id in ids]

    @property
    def notes(self) -> list[str]:
        """What was left out or changed, for the person."""
        return [f"{project.head.name}: {note}" for project in self._projects for note in project.notes]

    def account(self) -> Shape | None:
        """Nothing: the API does not give it."""
        return None

    def audit(self) -> Iterator[Shape]:
        """None."""
        return iter(())

    def receipts(self) -> Iterator[Shape]:
        """None."""
        return iter(())

    def projects(self) -> Iterator["AzureProject"]:
        """The projects, oldest first."""
        return iter(self._projects)


@dataclass
class _Notes:
    found: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        return [text.format(n=n) for text, n in sorted(self.found.items()) if n]


class AzureProject:
    """One project that was fetched."""

    def __init__(self, work: Work, id: str) -> None:
        self._work, self._id = work, id
        self.shape: Shape = json.loads(work.one("SELECT shape FROM projects WHERE id = ?", id))
        # Addresses of storage hold signatures that open it.
        self.shape["settings"] = {name: one for name, one in self.shape["settings"].items() if not name.endswith("Uri")}
        self._told = answers.one(answers.Project, self.shape)
        kinds = {**json.loads(work.one("SELECT value FROM facts WHERE name = 'domains'") or "{}")}
        self._kind = kinds.get(self._told.settings.domain_id) or _kind_here(self._told.settings.domain_id)
        self.detection = self._kind == DETECTION
        self._iterations = list(
            work.rows(
                "SELECT id, number, revision, shape, performance FROM iterations WHERE project = ? ORDER BY number", id
            )
        )
        self._numbers = {row[0]: row[1] for row in self._iterations if row[2] is not None}
        self._last = 1 + len(self._numbers)  # the workspace's revision
        self._tags = [(answers.one(answers.Tag, shape), shape) for shape in self._shapes_of_tags("")]
        # As the workspace calls them, or else the last iteration that has them.
        self._names = {
            str(tag): str(json.loads(shape)["name"])
            for tag, shape in work.rows(
                "SELECT t.id, t.shape FROM tags t LEFT JOIN iterations i ON i.id = t.iteration WHERE t.project = ? "
                "ORDER BY COALESCE(i.number, 1 << 40)",
                id,
            )
        }
        self._living = {row.id for row, _ in self._tags}
        frozen = work.rows("SELECT DISTINCT id FROM tags WHERE project = ? AND iteration != ''", id)
        measured = (json.loads(row[4]) for row in self._iterations if row[4] is not None)
        self._former = {
            *(str(row[0]) for row in frozen),
            *(tag.id for one in measured if one is not None for tag in _figures(one).per_tag_performance),
        } - self._living
        self._notes = _Notes()
        self._merged = self._same_pictures()
        self._dropped = {row for rows in self._merged.values() for row in rows}
        counts = self._counted()
        self.notes = self._notes.lines()
        self.head = self._head(counts)

    def _shapes_of_tags(self, iteration: str) -> list[Shape]:
        found = self._work.rows(
            "SELECT shape FROM tags WHERE project = ? AND iteration = ? ORDER BY place", self._id, iteration
        )
        return [json.loads(row[0]) for row in found]

    def _same_pictures(self) -> dict[int, list[int]]:
        """Images of the workspace whose bytes another one has: the first's row → rows of the others."""
        found = self._work.rows(
            "SELECT p.sha256, i.row FROM images i JOIN pictures p ON p.project = i.project AND p.id = i.id "
            "WHERE i.project = ?1 AND i.live AND p.why IS NULL AND p.sha256 IN ("
            "SELECT q.sha256 FROM images j JOIN pictures q ON q.project = j.project AND q.id = j.id "
            "WHERE j.project = ?1 AND j.live AND q.why IS NULL GROUP BY q.sha256 HAVING COUNT(*) > 1) "
            "ORDER BY p.sha256, i.seq",
            self._id,
        )
        groups: dict[str, list[int]] = {}
        for sha256, row in found:
            groups.setdefault(sha256, []).append(row)
        return {rows[0]: rows[1:] for rows in groups.values()}

    def _counted(self) -> Counts:
        """How much there will be; reads all that images carry once, and notes what is left out."""
        images = boxes = 0
        for picture in self.images(self._notes.found):
            images += 1
            boxes += len(picture.row.regions)
        same = "{n} images of the workspace have the very bytes of another; they became one, with the tags of both"
        self._notes.found[same] = len(self._dropped)
        lost = self._work.one(
            "SELECT COUNT(*) FROM predictions p WHERE p.project = ? AND NOT EXISTS (SELECT 1 FROM iterations i "
            "WHERE i.id = p.iteration AND i.revision IS NOT NULL)",
            self._id,
        )
        self._notes.found[
            "{n} stored predictions are of an iteration that was deleted: they lie in the archive, and are not restored"
        ] = lost
        return Counts(images=images, tags=len(self._tags), regions=boxes, iterations=len(self._numbers))

    def _head(self, counts: Counts) -> ProjectMember:
        settings = self._told.settings
        bag = (settings.image_processing_settings or answers.Processing()).augmentation_methods or {}
        return ProjectMember(
            format=FORMAT,
            revision=self._last,
            name=self._told.name,
            description=self._told.description or "",
            domain_id=self._domain(settings.domain_id),
            classification_type=_classifier(settings.classification_type),
            target_export_platforms=[
                name for name in settings.target_export_platforms or () if name in projects.EXPORT_PLATFORMS
            ],
            augmentation={name: bag.get(name, True) for name in projects.AUGMENTATIONS},
            counts=counts,
        )

    def _domain(self, id: str | None) -> str:
        """A domain that is here: that one, or the general one of its kind."""
        here = DOMAINS.get(id or "")
        return here.id if here is not None and here.type == self._kind else _GENERAL[self._kind]

    # --- tags

    def tags(self) -> Sequence[Shape]:
        """The workspace's tags."""
        return [shape for _, shape in self._tags]

    def tag_rows(self) -> TagsMember:
        """The same for a restore; when a tag was made the API does not say, so it is as old as its project."""
        rows = [
            TagRow(id=row.id, name=row.name, description=row.description, type=_type(row), created=self._told.created)
            for row, _ in self._tags
        ]
        return TagsMember(tags=rows, former=sorted(self._former))

    # --- images

    def images(self, notes: Counter[str] | None = None) -> Iterator[Picture]:
        """All images of the workspace, and those that only iterations still have, oldest first."""
        notes = Counter() if notes is None else notes
        for batch in self._batches():
            for row, id, seq, created, shape in batch:
                carried = self._held(row, notes)
                if carried:
                    picture = self._work.fetched(self._id, id) or _ABSENT
                    kept = self._kept(id, seq, created, carried, picture)
                    shown = self._shown(json.loads(shape), kept, carried[-1])
                    yield Picture(shown, kept, self._reader(id, picture), kept.until is None)

    def _batches(self) -> Iterator[list[tuple[int, str, int, str, str]]]:
        after = 0
        while True:
            batch: list[Any] = list(
                self._work.rows(
                    "SELECT row, id, seq, created, shape FROM images WHERE project = ? AND seq > ? "
                    "ORDER BY seq LIMIT ?",
                    self._id,
                    after,
                    _BATCH,
                )
            )
            if not batch:
                return
            yield batch
            after = batch[-1][2]

    def _held(self, row: int, notes: Counter[str]) -> list[Carried]:
        """What an image carries; nothing where another one stands for it."""
        carried = self._carried(row, notes)
        others = self._merged.get(row)
        if others is not None:
            carried[-1] = self._joined(carried[-1], [self._carried(other, Counter())[-1] for other in others])
        if row in self._dropped:  # from the workspace; iterations keep theirs
            return [
                Carried(one.first, min(one.last, self._last - 1), one.tags, one.boxes, one.metadata)
                for one in carried
                if one.first < self._last
            ]
        return carried

    def _kept(self, id: str, seq: int, created: str, carried: Sequence[Carried], picture: Fetched) -> KeptImageRow:
        return KeptImageRow(
            id=id,
            seq=seq,
            sha256=picture.sha256 or _NOWHERE,
            size=picture.size,
            width=picture.width,
            height=picture.height,
            format=picture.format,
            file_name=None,
            created=datetime.fromisoformat(created),
            since=carried[0].first,
            until=self._until(carried[-1].last),
            metadata=carried[-1].metadata,
            path=None,
            tags=[
                LinkRow(tag=tag, created=answers.moment(when), since=first, until=self._until(last))
                for tag, first, last, when in _runs(carried, lambda one: one.tags)
            ],
            regions=_boxes(carried, self._until),
        )

    def _shown(self, told: Shape, kept: KeptImageRow, last: Carried) -> Shape:
        """The image as the API shows it, with what was kept of it."""
        shape = {key: value for key, value in told.items() if key not in ("tags", "regions", "metadata")}
        shape |= {"id": kept.id, "width": kept.width, "height": kept.height}
        if last.tags:
            shape["tags"] = [
                {"tagId": tag, "tagName": self._names.get(tag, tag), "created": when} for tag, when in last.tags.items()
            ]
        if last.boxes:
            shape["regions"] = [
                {
                    "regionId": id,
                    "tagName": self._names.get(tag, tag),
                    "created": when,
                    "tagId": tag,
                    **dict(zip(("left", "top", "width", "height"), sides, strict=True)),
                }
                for (tag, sides, _), (id, when) in last.boxes.items()
            ]
        return {**shape, "metadata": last.metadata} if last.metadata else shape

    def _until(self, last: int) -> int | None:
        return None if last == self._last else last + 1

    def _carried(self, row: int, notes: Counter[str]) -> list[Carried]:
        found = self._work.rows("SELECT first, last, content FROM carried WHERE image = ? ORDER BY first", row)
        return [self._read(first, last, json.loads(content), notes) for first, last, content in found]

    def _read(self, first: int, last: int, content: Shape, notes: Counter[str]) -> Carried:
        boxes = self._read_boxes(content["regions"], notes) if self.detection else {}
        known = self._living if last == self._last else self._living | self._former
        strange = [tag for tag, _ in content["tags"] if tag not in known]
        if strange and last != self._last:
            self._former.update(strange)
        if self.detection:
            boxed = {tag: when for (tag, *_), (_, when) in reversed(boxes.items())}
            told = dict(content["tags"])
            carried = {tag: when for tag, when in {**told, **boxed}.items() if tag in boxed} | {
                tag: when for tag, when in told.items() if tag in boxed
            }
            notes["{n} times an image carried a tag without a box; a detection project here has none"] += len(
                told.keys() - boxed.keys()
            )
        else:
            carried = dict(content["tags"])
        if last == self._last:  # a tag that was deleted while the images were listed
            boxes = {key: value for key, value in boxes.items() if key[0] in known}
            carried = {tag: when for tag, when in carried.items() if tag in known}
        return Carried(first, last, carried, boxes, content["metadata"])

    def _read_boxes(
        self, told: Sequence[Sequence[Any]], notes: Counter[str]
    ) -> dict[tuple[str, tuple[float, ...], int], tuple[str, str]]:
        found: dict[tuple[str, tuple[float, ...], int], tuple[str, str]] = {}
        alike: Counter[tuple[str, tuple[float, ...]]] = Counter()
        for id, tag, when, *sides in told:
            try:
                regions.clipped(Box(tag, *sides))
            except OwnVisionError:
                notes["{n} boxes lie outside their picture, or have no size, and were left out"] += 1
                continue
            alike[tag, tuple(sides)] += 1
            found[tag, tuple(sides), alike[tag, tuple(sides)]] = (id, when)
        return found

    def _joined(self, first: Carried, others: Sequence[Carried]) -> Carried:
        """What one image carries that stands for several; one tag where a project takes only one."""
        tags, boxes, metadata = dict(first.tags), dict(first.boxes), dict(first.metadata)
        for one in others:
            if not (tags and self._told.settings.classification_type == "Multiclass"):
                tags = {**one.tags, **tags}
            boxes = {**one.boxes, **boxes}
            metadata = {**one.metadata, **metadata}
        return Carried(first.first, first.last, tags, boxes, metadata)

    def _reader(self, id: str, picture: Fetched) -> Callable[[], bytes]:
        def read() -> bytes:
            if picture.why is not None:
                raise Missing(id)
            return self._work.read_picture(self._id, id, picture.sha256)

        return read

    # --- iterations

    def iterations(self) -> Iterator[Learned]:
        """All iterations by number."""
        for id, number, revision, shape, performance in self._iterations:
            yield self._learned(id, number, revision, json.loads(shape), json.loads(performance or "null"))

    def _learned(self, id: str, number: int, revision: int | None, shape: Shape, performance: Shape | None) -> Learned:
        told = answers.one(answers.Iteration, shape)
        if revision is None:
            return Learned(number=number, shape=shape)
        own = self._shapes_of_tags(id)
        measured = _figures(performance or {"perTagPerformance": []})
        figures, known = measured.model_dump(by_alias=True), _frozen(own, measured)
        places = {tag.position: tag.id for tag in known if tag.position is not None}
        trained = [places[position] for position in sorted(places)]
        base = told.custom_base_model_info
        row = IterationMember(
            number=number,
            name=told.name,
            created=told.created,
            last_modified=told.last_modified,
            trained_at=told.trained_at,
            revision=revision,
            domain_id=self._domain(told.domain_id),
            classification_type=_classifier(told.classification_type),
            training_type=told.training_type if told.training_type in ("Regular", "Advanced") else "Regular",
            reserved_budget_in_hours=told.reserved_budget_in_hours or 0,
            training_seconds=60.0 * (told.training_time_in_minutes or 0),
            selected_tags=trained,
            custom_base=None if base is None else self._numbers.get(base.iteration_id),
            pipeline=PIPELINE,
            tags=known,
            performance=figures,
        )
        return Learned(
            number=number,
            shape=shape,
            tags=own,
            performance=figures,
            performances=lambda: self._performances(id),
            row=row,
            extra=IterationExtra(number=number, id=id),
            scores=lambda: self._scores(id, trained),
            exports=lambda: self._exports(id, number, told.trained_at or told.created),
        )

    def _performances(self, id: str) -> Iterator[Shape]:
        for (shape,) in self._work.rows("SELECT shape FROM scores WHERE iteration = ? ORDER BY place", id):
            yield unpacked(shape)

    def _scores(self, id: str, trained: Sequence[str]) -> Iterator[ScoresMember]:
        """What an iteration said of each image, as figures beside the truth."""
        places = {tag: place for place, tag in enumerate(trained)}
        rows = self._work.rows(
            "SELECT s.shape, i.row, i.seq FROM scores s LEFT JOIN images i ON i.project = ? AND i.id = s.image "
            "WHERE s.iteration = ? ORDER BY s.place",
            self._id,
            id,
        )
        while page := list(islice(rows, SCORED)):
            yield ScoresMember(
                scored=[
                    self._scored(answers.one(answers.ImagePerformance, unpacked(shape)), places, row, seq)
                    for shape, row, seq in page
                ]
            )

    def _scored(
        self,
        told: answers.ImagePerformance,
        places: dict[str, int],
        row: int | None,
        seq: int | None,
    ) -> ScoredRow:
        scores, truth = (_detected if self.detection else _classified)(told, places)
        # One that stands for another only in the workspace has its place in the iteration still.
        first = "SELECT MIN(first) FROM carried WHERE image = ?"
        gone = row is None or (row in self._dropped and self._work.one(first, row) == self._last)
        return ScoredRow(
            image=None if gone else seq,
            fold=0,
            scores=base64.b64encode(scores.tobytes()).decode(),
            truth=base64.b64encode(truth.tobytes()).decode(),
        )

    def _exports(self, id: str, number: int, created: datetime) -> Iterator[Exported]:
        found = list(self._work.rows("SELECT place, shape, sha256 FROM exports WHERE iteration = ? ORDER BY place", id))
        taken = set()
        for place, shape, sha256 in found:
            told = answers.one(answers.Export, json.loads(shape))
            flavor = told.flavor or ""
            if (told.platform, flavor) in taken:
                continue
            taken.add((told.platform, flavor))
            row = ExportRow(
                id=str(uuid.uuid5(uuid.UUID(id), f"{told.platform}/{flavor}")),
                number=number,
                platform=told.platform,
                flavor=flavor,
                created=created,
                sha256=sha256,
            )
            done = told.status == "Done" and exports.is_nameable(told.platform, flavor)
            chunks = self._archive(id, place, sha256) if done else None
            yield Exported(json.loads(shape), row, chunks)

    def _archive(self, id: str, place: int, sha256: str | None) -> Callable[[], Iterator[bytes]]:
        def chunks() -> Iterator[bytes]:
            path = self._work.archive_path(id, place)
            if sha256 is None or not path.is_file():
                raise Missing(id)
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    yield chunk
            if digest.hexdigest() != sha256:
                raise Missing(id)

        return chunks

    # --- predictions

    def predictions(self) -> Iterator[Stored]:
        """Stored predictions, oldest first."""
        rows = self._work.rows("SELECT id, shape FROM predictions WHERE project = ? ORDER BY created, row", self._id)
        known = self._living | self._former
        kinds = {id: json.loads(shape).get("classificationType") for id, _, _, shape, _ in self._iterations}
        for id, shape in rows:
            raw = unpacked(shape)
            told = answers.one(answers.Stored, raw)
            picture = self._work.fetched(self._id, id) or _ABSENT
            found = _predicted([one for one in told.predictions if one.tag_id in known])
            yield Stored(
                raw,
                PredictionRow(
                    id=id,
                    number=self._numbers.get(told.iteration, 0),  # 0: there is none
                    domain_id=self._domain(told.domain),
                    application=told.application,
                    created=told.created,
                    uncertainty=predictions.doubt(found, exclusive=kinds.get(told.iteration) == "Multiclass"),
                    predictions=found,
                    sha256=picture.sha256,
                    width=picture.width,
                    height=picture.height,
                    size=picture.size,
                    format=picture.format,
                ),
                self._reader(id, picture),
            )

    def suggestions(self) -> Iterator[tuple[Shape, SuggestionRow]]:
        """None: they are worth nothing without the model that made them."""
        return iter(())

    def extra(self) -> ExtraMember:
        """What travel leaves out of the project itself."""
        return ExtraMember(
            id=self._id,
            created=self._told.created,
            last_modified=self._told.last_modified,
            iterations_made=max((row[1] for row in self._iterations), default=0),
            predictions=self._work.one("SELECT COUNT(*) FROM predictions WHERE project = ?", self._id),
        )


def _figures(shape: Shape) -> answers.Performance:
    return answers.one(answers.Performance, shape)


def _kind_here(domain_id: str) -> str:
    domain = DOMAINS.get(domain_id)
    return CLASSIFICATION if domain is None else domain.type


def _classifier(said: str | None) -> str:
    """``Multiclass`` or ``Multilabel``; a detection project has none, and old versions write another case."""
    return next((name for name in projects.CLASSIFIERS if name.lower() == (said or "").lower()), "Multilabel")


def _type(tag: answers.Tag) -> str:
    return tag.type if tag.type in tags.TYPES else tags.REGULAR


def _frozen(own: Sequence[Shape], performance: answers.Performance) -> list[FrozenTag]:
    """An iteration's tags; those that it was measured on have a place, in the order of its performance."""
    places = {one.id: place for place, one in enumerate(performance.per_tag_performance)}
    known = [answers.one(answers.Tag, shape) for shape in own]
    found = [
        FrozenTag(id=row.id, position=places.get(row.id), name=row.name, description=row.description, type=_type(row))
        for row in known
    ]
    there = {row.id for row in known}
    return found + [
        FrozenTag(id=one.id, position=places[one.id], name=one.name, description=None, type=tags.REGULAR)
        for one in performance.per_tag_performance
        if one.id not in there
    ]


def _runs(carried: Sequence[Carried], of: Callable[[Carried], dict[Any, Any]]) -> list[tuple[Any, int, int, Any]]:
    """(what, first, last, its value) of each unbroken run in which an image carries something."""
    done: list[tuple[Any, int, int, Any]] = []
    open_: dict[Any, tuple[int, int, Any]] = {}
    seen: dict[Any, int] = {}
    for one in carried:
        there = of(one)
        for key in there:
            seen.setdefault(key, len(seen))
        for key in [key for key, (_, last, _) in open_.items() if key not in there or last != one.first - 1]:
            done.append((key, *open_.pop(key)))
        for key, value in there.items():
            first = open_[key][0] if key in open_ else one.first
            open_[key] = (first, one.last, value)
    done += [(key, *run) for key, run in open_.items()]
    return sorted(done, key=lambda run: (run[1], seen[run[0]]))


def _boxes(carried: Sequence[Carried], until: Callable[[int], int | None]) -> list[KeptRegionRow]:
    """Boxes with their ids; one that came again, or a second of the same id, gets an id of its own."""
    runs = _runs(carried, lambda one: one.boxes)
    owns: dict[int, str] = {}
    taken: set[str] = set()
    # The newest first: the ids that the workspace shows are the ones to keep.
    for place, (_, first, _, (id, _)) in sorted(enumerate(runs), key=lambda one: -one[1][2]):
        owns[place] = id if id not in taken else str(uuid.uuid5(uuid.UUID(id), f"{first}/{len(taken)}"))
        taken.add(owns[place])
    return [
        KeptRegionRow(id=owns[place], tag=tag, box=sides, created=answers.moment(when), since=first, until=until(last))
        for place, ((tag, sides, _), first, last, (_, when)) in enumerate(runs)
    ]


def _predicted(told: Sequence[answers.Predicted]) -> list[dict[str, Any]]:
    return [
        {
            "probability": one.probability,
            "tagId": one.tag_id,
            **({} if one.bounding_box is None else {"boundingBox": one.bounding_box.model_dump()}),
        }
        for one in told
    ]


def _classified(
    told: answers.ImagePerformance, places: dict[str, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    scores, truth = np.zeros(len(places), "<f4"), np.zeros(len(places), np.uint8)
    for one in told.predictions:
        if one.tag_id in places:
            scores[places[one.tag_id]] = one.probability
    for tag in told.tags or ():
        if tag.tag_id in places:
            truth[places[tag.tag_id]] = 1
    return scores, truth


def _detected(
    told: answers.ImagePerformance, places: dict[str, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    scores = [
        (places[one.tag_id], one.probability, box.left, box.top, box.width, box.height)
        for one in told.predictions
        if one.tag_id in places and (box := one.bounding_box) is not None
    ]
    truth = [
        (places[box.tag_id], box.left, box.top, box.width, box.height)
        for box in told.regions or ()
        if box.tag_id in places
    ]
    return np.array(scores, "<f4").reshape(-1, 6), np.array(truth, "<f4").reshape(-1, 5)
