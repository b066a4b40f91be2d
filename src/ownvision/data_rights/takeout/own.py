"""This installation as the source of a takeout. Transactions are short; none is open while bytes stream."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select, tuple_
from sqlalchemy.orm import Session

from ownvision.data_rights.takeout.contents import (
    ExportRow,
    ExtraMember,
    IterationExtra,
    KeptImageRow,
    KeptRegionRow,
    PredictionRow,
    RuleRow,
    SuggestionRow,
)
from ownvision.data_rights.takeout.source import Exported, Learned, Missing, Picture, Scope, Shape, Stored
from ownvision.services import accounts, exports, iterations, performance, projects, tags
from ownvision.services.components import Components
from ownvision.services.fitting import MODEL
from ownvision.services.images import ImageView, RegionView
from ownvision.services.suggestions import Suggested
from ownvision.services.travel import leaving, tokens
from ownvision.services.travel.contents import ImageRow, LinkRow, TagsMember
from ownvision.store import ledger
from ownvision.store.tables import (
    AuditEvent,
    Draft,
    Export,
    Image,
    Iteration,
    IterationTag,
    LegalHold,
    Prediction,
    Project,
    ProjectExport,
    Receipt,
    RetentionRule,
    Suggestion,
)
from ownvision.wire import shapes
from ownvision.wire.values import seconds
from ownvision.wire.versions import LATEST, Version

_PAGE = 256
_STEP = 1 << 20
_Selection = Mapping[str, frozenset[str]] | None


@dataclass(frozen=True)
class _Asker:
    """Shows things in the newest form; addresses are paths, which the writer replaces."""

    components: Components
    version: Version = LATEST
    base_url: str = ""

    def uri(self, path: str) -> str:
        return path


class Own:
    """An account, or one project of it.

    Args:
        components: Of this installation.
        account_id: Whose.
        project_id: Which project; None: all of the account.
        made: The moment.
        selection: Ids of the ``images`` and ``predictions`` that alone are taken out, without what learned from them;
            empty: everything.

    Raises:
        OwnVisionError: NotFoundProject.
    """

    def __init__(
        self,
        components: Components,
        account_id: str,
        project_id: str | None,
        made: datetime,
        selection: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._components = components
        self._account_id = account_id
        self._project_id = project_id
        self._selection = {kind: frozenset(ids) for kind, ids in selection.items()} or None
        self.scope: Scope = "selection" if selection else "account" if project_id is None else "project"
        self.origin = f"OwnVision {version('ownvision')}"
        self.made = made
        with components.database.read() as session:
            if project_id is None:
                found = reversed(projects.all(session, account_id))
            else:
                found = reversed([projects.get(session, account_id, project_id)])
            self._projects = [row.id for row in found if row.status == projects.SUCCEEDED and row.closed is None]
            if self._selection is not None:
                there = _projects_of(session, self._selection)
                self._projects = [id for id in self._projects if id in there]
            self.total = sum(
                session.scalar(select(func.count()).select_from(table).where(table.project_id.in_(self._projects))) or 0
                for table in (Image, Prediction)
            )

    def account(self) -> Shape | None:
        """See `Source.account`; a selection is handed to whom it concerns, who needs no keys."""
        if self.scope != "account":
            return None
        with self._components.database.read() as session:
            account = accounts.get(session, self._account_id)
            shape = accounts.info(session, self._components.keys, account)
            rules = session.scalars(_of(RetentionRule, self._account_id).order_by(RetentionRule.id))
            holds = session.scalars(_of(LegalHold, self._account_id).order_by(LegalHold.created, LegalHold.id))
            return {
                **shape,
                "rules": [{"projectId": rule.project_id, "kind": rule.kind, "days": rule.days} for rule in rules],
                "holds": [
                    {
                        "id": hold.id,
                        "projectId": hold.project_id,
                        "reason": hold.reason,
                        "created": seconds(hold.created),
                    }
                    for hold in holds
                ],
            }

    def audit(self) -> Iterator[Shape]:
        """See `Source.audit`; a selection has none: it is the account's."""
        if self.scope == "selection":
            return
        last = 0
        while True:
            with self._components.database.read() as session:
                query = _of(AuditEvent, self._account_id).where(AuditEvent.seq > last)
                if self._project_id is not None:
                    query = query.where(AuditEvent.project_id == self._project_id)
                page = list(session.scalars(query.order_by(AuditEvent.seq).limit(_PAGE)))
            if not page:
                return
            last = page[-1].seq
            yield from map(_event, page)

    def receipts(self) -> Iterator[Shape]:
        """See `Source.receipts`; a project's takeout has none: they are of the account."""
        if self.scope != "account":
            return
        number = 0
        while True:
            with self._components.database.read() as session:
                query = _of(Receipt, self._account_id).where(Receipt.number > number).order_by(Receipt.number)
                page = list(session.scalars(query.limit(_PAGE)))
            if not page:
                return
            number = page[-1].number
            yield from map(_receipt, page)

    def projects(self) -> Iterator["OwnProject"]:
        """See `Source.projects`; one that was deleted meanwhile is left out."""
        for id in self._projects:
            project = _begun(self._components, id, self._selection)
            if project is not None:
                yield project
            elif self._project_id is not None:
                raise leaving.Withdrawn


def _projects_of(session: Session, selection: Mapping[str, frozenset[str]]) -> set[str]:
    found: set[str] = set()
    for kind, table in (("images", Image), ("predictions", Prediction)):
        ids = sorted(selection.get(kind, ()))
        for start in range(0, len(ids), _PAGE):
            part = ids[start : start + _PAGE]
            found.update(session.scalars(select(table.project_id).where(table.id.in_(part)).distinct()))
    return found


def _of(table: Any, account_id: str) -> Any:
    return select(table).where(table.account_id == account_id)


def _event(row: AuditEvent) -> Shape:
    return {
        "at": seconds(row.at),
        "actor": row.actor,
        "action": row.action,
        "operation": row.operation,
        "projectId": row.project_id,
        "target": row.target,
        "count": row.count,
        "requestId": row.request_id,
    }


def _receipt(row: Receipt) -> Shape:
    return {
        "id": row.id,
        "number": row.number,
        "state": row.state,
        "operation": row.operation,
        "keyId": row.key_id,
        "subjects": row.subjects,
        "erased": row.erased,
        "kept": row.kept,
        "asked": seconds(row.asked),
        "signed": None if row.signed is None else seconds(row.signed),
        "statement": row.statement,
        "signature": row.signature,
    }


def _image(image: Row[Any], /, **values: Any) -> ImageRow:
    return KeptImageRow.model_construct(
        id=image.id, path=None, uploaded_by=image.uploaded_by, restricted=image.restricted, **values
    )


def _region(box: Row[Any], /, **values: Any) -> KeptRegionRow:
    return KeptRegionRow.model_construct(id=box.id, **values)


def _never(session: Session, export: ProjectExport) -> bool:
    return False


def _begun(components: Components, project_id: str, selection: _Selection) -> "OwnProject | None":
    with components.database.read() as session:
        project = session.get(Project, project_id)
        if project is None or project.closed is not None:
            return None
        return OwnProject(components, session, project, selection)


class OwnProject:
    """One project at one revision.

    Args:
        components: Of this installation.
        session: Of the transaction whose view of the project it has.
        project: Which.
        selection: Ids of images and predictions that alone are of interest; None: everything is.
    """

    def __init__(self, components: Components, session: Session, project: Project, selection: _Selection) -> None:
        self._components = components
        self._asker = _Asker(components)
        self._id = project.id
        self._selection = selection
        export = tokens.snapshot(session, project, days=1)
        self._leaving = leaving.Departure(components, export, _never, _image, _region)
        self._leaving.begin(session)
        self._project = project
        self._live = session.get(Draft, project.id) is not None
        self._made = [(row.id, row.number) for row in reversed(iterations.all(session, project))]
        self._numbers = dict(self._made)
        self._tags = tags.all(session, project)
        rules = session.scalars(select(RetentionRule).where(RetentionRule.project_id == project.id))
        self._rules = [RuleRow(kind=rule.kind, days=rule.days) for rule in rules]
        self.shape = shapes.project(self._asker, project, projects.thumbnail_image(session, project))
        self.detection = projects.is_detection(project)
        self.head = self._leaving.head

    def tags(self) -> Sequence[Shape]:
        """See `ProjectSource.tags`."""
        order = {row.id: place for place, row in enumerate(self._leaving.tags.tags)}
        views = sorted(self._tags, key=lambda view: order.get(view.id, len(order)))
        return [shapes.tag(view, LATEST) for view in views]

    def tag_rows(self) -> TagsMember:
        """See `ProjectSource.tag_rows`."""
        return self._leaving.tags

    def images(self) -> Iterator[Picture]:
        """See `ProjectSource.images`."""
        living = {view.id: view.name for view in self._tags}
        frozen = cache(self._frozen_names)
        for images, rows in self._leaving.pages():
            for image, row in zip(images, rows, strict=True):
                if not self._wanted("images", image.id):
                    continue
                here = row.until is None
                revision = None if here else self._last_seen(row)
                names = living if here else frozen(revision)
                shape = shapes.image(self._asker, _view(image, row, revision, names))
                yield Picture(shape, row, _reader(self._components, "image", self._id, image.id), here)  # type: ignore[arg-type]

    def _wanted(self, kind: str, id: str) -> bool:
        return self._selection is None or id in self._selection.get(kind, ())

    def _last_seen(self, row: ImageRow) -> int:
        """The last revision of an iteration that has an image which the workspace no longer has."""
        assert row.until is not None
        return max(one for one in self._leaving.revisions if row.since <= one < row.until)

    def _frozen_names(self, revision: int) -> dict[str, str]:
        ids = [row.id for row in self._leaving.learned if row.revision == revision]
        with self._components.database.read() as session:
            found = session.execute(
                select(IterationTag.tag_id, IterationTag.name).where(IterationTag.iteration_id.in_(ids))
            )
            return {row.tag_id: row.name for row in found}

    def iterations(self) -> Iterator[Learned]:
        """See `ProjectSource.iterations`; one that was deleted meanwhile is left out."""
        learned = {row.id: row for row in self._leaving.learned}
        for id, number in self._made if self._selection is None else ():
            with self._components.database.read() as session:
                row = session.get(Iteration, id)
                if row is not None:
                    found = self._learned(session, row, number, learned.get(id))
            if row is not None:
                yield found

    def _learned(self, session: Session, row: Iteration, number: int, travels: Iteration | None) -> Learned:
        frozen = [shapes.tag(view, LATEST) for view in tags.all(session, self._project, row.id)]
        shape = shapes.iteration(row, LATEST)
        if travels is None or row.status != iterations.COMPLETED:
            return Learned(number, shape, frozen)
        return Learned(
            number,
            shape,
            frozen,
            performance=shapes.performance(performance.of_iteration(session, self._project, row.id), LATEST),
            performances=lambda: self._performances(row.id),
            model=None if row.origin is not None else _chunks(self._components, "iteration", self._id, row.model_id),
            row=self._leaving.told(session, row),
            extra=IterationExtra(
                number=number,
                id=row.id,
                publish_name=row.publish_name,
                publish_resource_id=row.publish_resource_id,
                is_default=row.is_default,
                unlearning=row.unlearning,
            ),
            scores=lambda: self._leaving.scores(row),
            exports=lambda: self._exports(row.id, number),
        )

    def _performances(self, iteration_id: str) -> Iterator[Shape]:
        after = -1
        while True:
            with self._components.database.read() as session:
                if session.get(Iteration, iteration_id) is None:
                    return
                page = performance.following(session, self._project, iteration_id, after, _PAGE)
            if not page:
                return
            after = page[-1][0].image.seq
            for view, predicted in page:
                yield shapes.image_performance(self._asker, view, predicted)

    def _exports(self, iteration_id: str, number: int) -> Iterator[Exported]:
        with self._components.database.read() as session:
            query = select(Export).where(Export.iteration_id == iteration_id).order_by(Export.created, Export.id)
            found = list(session.scalars(query))
        for row in found:
            yield Exported(
                shapes.export(self._asker, row, self._id),
                ExportRow(id=row.id, number=number, platform=row.platform, flavor=row.flavor, created=row.created),
                _chunks(self._components, "export", self._id, row.archive_id) if row.status == exports.DONE else None,
            )

    def predictions(self) -> Iterator[Stored]:
        """See `ProjectSource.predictions`."""
        known = cache(self._known)
        for row in self._pages(Prediction, (Prediction.created, Prediction.id)):
            if row.iteration_id not in self._numbers or not self._wanted("predictions", row.id):
                continue
            yield Stored(
                shapes.stored_prediction(self._asker, row, known(row.iteration_id)),
                PredictionRow.model_construct(
                    id=row.id,
                    number=self._numbers[row.iteration_id],
                    domain_id=row.domain_id,
                    application=row.application,
                    created=row.created,
                    uncertainty=row.uncertainty,
                    predictions=row.predictions,
                    sha256=row.sha256,
                    width=row.width,
                    height=row.height,
                    size=row.size,
                    format=row.format,
                    path=None,
                ),
                _reader(self._components, "prediction", self._id, row.id),
            )

    def suggestions(self) -> Iterator[tuple[Shape, SuggestionRow]]:
        """See `ProjectSource.suggestions`."""
        if self._selection is not None:
            return
        known = cache(self._known)
        for row in self._pages(Suggestion, (Suggestion.image_seq, Suggestion.iteration_id)):
            number = self._numbers.get(row.iteration_id)
            with self._components.database.read() as session:
                image = session.scalar(select(Image).where(Image.seq == row.image_seq, Image.until.is_(None)))
            if image is None or number is None:
                continue
            suggested = Suggested(image, row, known(row.iteration_id))
            yield (
                shapes.stored_suggestion(self._asker, suggested, self._project.domain_id),
                SuggestionRow.model_construct(
                    image=row.image_seq,
                    number=number,
                    created=row.created,
                    uncertainty=row.uncertainty,
                    predictions=row.predictions,
                ),
            )

    def _known(self, iteration_id: str) -> Mapping[str, IterationTag]:
        with self._components.database.read() as session:
            found = session.scalars(select(IterationTag).where(IterationTag.iteration_id == iteration_id))
            return {tag.tag_id: tag for tag in found}

    def _pages(self, table: Any, by: tuple[Any, Any]) -> Iterator[Any]:
        """Rows of the project in the order of two columns, each page in a transaction of its own."""
        last: tuple[Any, Any] | None = None
        while True:
            beyond: list[ColumnElement[bool]] = [] if last is None else [tuple_(*by) > tuple_(*last)]
            with self._components.database.read() as session:
                query = select(table).where(table.project_id == self._id, *beyond).order_by(*by).limit(_PAGE)
                page = list(session.scalars(query))
            if not page:
                return
            last = (getattr(page[-1], by[0].key), getattr(page[-1], by[1].key))
            yield from page

    def extra(self) -> ExtraMember:
        """See `ProjectSource.extra`."""
        row = self._project
        return ExtraMember(
            id=row.id,
            created=row.created,
            last_modified=row.last_modified,
            iterations_made=row.iterations_made,
            erasure_policy=row.erasure_policy,
            live_learning=self._live,
            rules=self._rules,
        )


def _view(image: Row[Any], row: ImageRow, revision: int | None, names: Mapping[str, str]) -> ImageView:
    """An image as the API would show it in the workspace (revision None) or at a revision."""

    def there(one: LinkRow | Any) -> bool:
        if revision is None:
            return one.until is None
        return bool(one.since <= revision and (one.until is None or one.until > revision))

    return ImageView(
        image,  # type: ignore[arg-type] # a row has the columns of an entity
        [(link.tag, names.get(link.tag), link.created) for link in row.tags if there(link)],
        [
            RegionView(box.id, box.tag, names.get(box.tag), *box.box, box.created)  # type: ignore[attr-defined]
            for box in row.regions
            if there(box)
        ],
        row.metadata,
    )


_PLACES: Mapping[str, tuple[Callable[[str, str], str], str]] = {
    "image": (ledger.image_prefix, "original"),
    "prediction": (ledger.prediction_prefix, "original"),
    "iteration": (ledger.iteration_prefix, MODEL),
    "export": (ledger.export_prefix, exports.ARCHIVE),
}


def _place(kind: str, project_id: str, id: str) -> str:
    prefix, name = _PLACES[kind]
    return prefix(project_id, id) + name


def _reader(components: Components, kind: str, project_id: str, id: str) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return components.blobs.read(_place(kind, project_id, id))
        except leaving.ABSENT:
            raise Missing(id) from None

    return read


def _chunks(components: Components, kind: str, project_id: str, id: str) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        key, start = _place(kind, project_id, id), 0
        try:
            while part := components.blobs.read_range(key, start, start + _STEP):
                yield part
                start += len(part)
        except leaving.ABSENT:
            raise Missing(id) from None

    return chunks
