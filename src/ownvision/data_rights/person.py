"""A person's request: find what concerns one person, look at it, restrict it, erase it; in all projects of an account.

A search keeps nothing: whoever asked gives back the ids of what to act on. What is found by likeness looks like the
given picture as a whole; it is not a recognition of faces, and somebody must look before anything is done.
"""

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.orm import Session

from ownvision.data_rights import erasure, lineage
from ownvision.data_rights.who import Who
from ownvision.domains import DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.learning import pixels
from ownvision.learning.backbones import BACKBONES
from ownvision.services import forgetting, projects
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.keys import KeyMissing
from ownvision.store.tables import Image, ImageMetadata, Iteration, Prediction, Project, Receipt, Suggestion
from ownvision.store.tables.base import now

MOST = 10_000  # images and predictions that one request may act on
LEAST_LIKE = 0.9
IMAGE, PREDICTION = "image", "prediction"
BY_NAME, BY_METADATA, BY_BYTES, BY_LIKENESS = "fileName", "metadata", "bytes", "likeness"
_PART = 500
_PAGE = 1_000
_CHUNK = 16  # originals that lie in memory together
_ABSENT = (BlobMissing, BlobDamaged, KeyMissing)
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Search:
    """What to look for; what meets any of it is found.

    Attributes:
        file_name: A part of the original file name, or a pattern with * and ?; in any case of its letters.
        metadata: Pairs of key and value; a value may be a pattern too.
        sha256: Of a picture's exact bytes, hexadecimal.
        picture: An encoded picture: its exact bytes are looked for, and what looks like it.
        like: How like it, 0 to 1: a copy that was scaled or compressed again has 0.98 and more.
        project_ids: In these projects only; empty: in all.
        take: How many at most.
    """

    file_name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    sha256: str | None = None
    picture: bytes | None = None
    like: float = LEAST_LIKE
    project_ids: Sequence[str] = ()
    take: int = 100


@dataclass
class Found:
    """An image or stored prediction, why it was found and where it is.

    Attributes:
        kind: image | prediction.
        row: Its row.
        by: Why it was found.
        likeness: To the picture that was given, -1 to 1; None when it was found otherwise.
        workspace: Whether an image is in the workspace.
        iterations: The iterations whose revision has the image, or that made the prediction.
    """

    kind: str
    row: Image | Prediction
    by: list[str]
    likeness: float | None = None
    workspace: bool = False
    iterations: list[Iteration] = field(default_factory=list)


def find(
    components: Components, account_id: str, search: Search, progress: Callable[[int], None] = lambda _: None
) -> list[Found]:
    """What meets any of what is looked for: first what meets it exactly, then the most like the picture.

    Memory does not grow with the number of images. Features of pictures that have none yet are computed and not kept.

    Args:
        components: The installation.
        account_id: Whose projects.
        search: What for.
        progress: Told how many pictures were compared so far.

    Raises:
        OwnVisionError: BadRequestRequiredParamIsNull, when nothing is looked for; NotFoundProject;
            BadRequestImageFormat for a picture that is none.
    """
    if not (search.file_name or search.metadata or search.sha256 or search.picture):
        raise OwnVisionError(
            "BadRequestRequiredParamIsNull",
            "Say what to look for: fileName, metadata, sha256 or a picture.",
        )
    with components.database.read() as session:
        within = _projects(session, account_id, search.project_ids)
        reasons = _exact(session, [row.id for row in within], search)
    scores: dict[tuple[str, str], float] = {}
    if search.picture is not None:
        scores = _alike(components, within, search, progress)
        for key in scores:
            reasons[key].append(BY_LIKENESS)
    order = sorted(reasons, key=lambda key: (reasons[key] == [BY_LIKENESS], -scores.get(key, 0.0)))[: search.take]
    with components.database.read() as session:
        found = look(session, account_id, _ids(order, IMAGE), _ids(order, PREDICTION))
    there = {(one.kind, one.row.id): one for one in found}
    for key, one in there.items():
        one.by, one.likeness = reasons[key], scores.get(key)
    return [there[key] for key in order if key in there]


def look(session: Session, account_id: str, image_ids: Sequence[str], prediction_ids: Sequence[str]) -> list[Found]:
    """Images and predictions of an account by their ids, and where each is; what is not there is left out."""
    found: list[Found] = []
    for part in _parts(image_ids):
        rows = session.scalars(select(Image).where(Image.id.in_(part), _mine(Image, account_id)))
        images = {row.id: Found(IMAGE, row, [], workspace=row.until is None) for row in rows}
        covering = (
            select(Image.id, Iteration)
            .join(Iteration, Iteration.project_id == Image.project_id)
            .where(
                Image.id.in_(list(images)),
                Image.since <= Iteration.revision,
                or_(Image.until.is_(None), Image.until > Iteration.revision),
            )
            .order_by(Iteration.number)
        )
        for image_id, iteration in session.execute(covering):
            images[image_id].iterations.append(iteration)
        found += images.values()
    for part in _parts(prediction_ids):
        made = select(Prediction, Iteration).join(Iteration, Iteration.id == Prediction.iteration_id)
        for row, iteration in session.execute(made.where(Prediction.id.in_(part), _mine(Prediction, account_id))):
            found.append(Found(PREDICTION, row, [], iterations=[iteration]))
    return found


def learned(session: Session, account_id: str, image_ids: Sequence[str]) -> list[dict[str, Any]]:
    """The models that learned from images, with their names."""
    return [
        {**one.record(), "name": one.iteration.name, "publishName": one.iteration.publish_name}
        for one in lineage.learned_from(session, account_id, image_ids)
    ]


def restrict(session: Session, who: Who, image_ids: Sequence[str], *, restricted: bool) -> int:
    """Restrict images (GDPR, article 18), or lift that: kept and shown, but neither learned from nor suggested for.

    A training under way begins anew without them. What a model has learned already, it has: erase, or train again.

    Returns:
        How many were not so before.

    Raises:
        OwnVisionError: BadRequestInvalidIds, for an id that is no image of this account: nothing is changed then.
    """
    changed = 0
    for project_id, ids in _by_project(session, Image, who.account_id, image_ids).items():
        project = projects.get(session, who.account_id, project_id, lock=True)
        for part in _parts(ids):
            other = Image.restricted.is_(None) if restricted else Image.restricted.is_not(None)
            done = session.execute(
                update(Image).where(Image.id.in_(part), other).values(restricted=now() if restricted else None)
            )
            changed += done.rowcount  # type: ignore[attr-defined]
            forgetting.forget(session, project.id)
            if restricted:
                seqs = select(Image.seq).where(Image.id.in_(part))
                session.execute(
                    delete(Suggestion)
                    .where(Suggestion.image_seq.in_(seqs))
                    .execution_options(synchronize_session=False)
                )
        if restricted:
            ledger.doom_rows(session, who.account_id, project.id)
    return changed


def erase(
    session: Session, who: Who, image_ids: Sequence[str], prediction_ids: Sequence[str], *, confirmed: int
) -> Receipt:
    """Erase images everywhere, and stored predictions, under one receipt that names the models that learned from them.

    Args:
        session: A write transaction; after its commit `erasure.after_commit` must follow.
        who: Whose they are, and who asks.
        image_ids: From workspace and all iterations.
        prediction_ids: Stored predictions.
        confirmed: How many there are, typed back.

    Raises:
        OwnVisionError: BadRequestInvalid, when another number was typed; BadRequestInvalidIds,
            BadRequestOperationNotSupported (legal hold): nothing is erased then.
    """
    images = _by_project(session, Image, who.account_id, image_ids)
    stored = _by_project(session, Prediction, who.account_id, prediction_ids)
    number = sum(len(ids) for of in (images, stored) for ids in of.values())
    if confirmed != number or not number:
        raise OwnVisionError(
            "BadRequestInvalid",
            f"confirm is {confirmed}, but these are {number} images and predictions; nothing was erased.",
        )
    return erasure.erase_selection(session, who, images, stored)


def owned(
    session: Session, account_id: str, image_ids: Sequence[str], prediction_ids: Sequence[str]
) -> dict[str, list[str]]:
    """A selection as a takeout's row has it, once every id is known to be this account's.

    Raises:
        OwnVisionError: BadRequestInvalidIds; BadRequestRequiredParamIsNull, when there is none.
    """
    if not image_ids and not prediction_ids:
        raise OwnVisionError("BadRequestRequiredParamIsNull", "Say which images or predictions.")
    images = _by_project(session, Image, account_id, image_ids)
    stored = _by_project(session, Prediction, account_id, prediction_ids)
    return {
        "images": [id for ids in images.values() for id in ids],
        "predictions": [id for ids in stored.values() for id in ids],
    }


def _projects(session: Session, account_id: str, project_ids: Sequence[str]) -> list[Project]:
    if project_ids:
        return [projects.get(session, account_id, project_id) for project_id in dict.fromkeys(project_ids)]
    return projects.all(session, account_id)


def _mine(table: type[Image] | type[Prediction], account_id: str) -> ColumnElement[bool]:
    return table.project_id.in_(select(Project.id).where(Project.account_id == account_id, Project.closed.is_(None)))


def _by_project(
    session: Session, table: type[Image] | type[Prediction], account_id: str, ids: Sequence[str]
) -> dict[str, list[str]]:
    """Ids by their project, in the order given.

    Raises:
        OwnVisionError: BadRequestInvalidIds, BadRequestExceededBatchSize.
    """
    if len(ids) > MOST:
        raise OwnVisionError("BadRequestExceededBatchSize", f"At most {MOST} at once; these are {len(ids)}.")
    where: dict[str, str] = {}
    for part in _parts(ids):
        for id, project_id in session.execute(
            select(table.id, table.project_id).where(table.id.in_(part), _mine(table, account_id))
        ):
            where[id] = project_id
    by_project: dict[str, list[str]] = defaultdict(list)
    for id in dict.fromkeys(ids):
        if id not in where:
            raise OwnVisionError(
                "BadRequestInvalidIds", f"{id} is no {_word(table)} of this account; nothing was changed."
            )
        by_project[where[id]].append(id)
    return dict(by_project)


def _word(table: type[Image] | type[Prediction]) -> str:
    return "image" if table is Image else "stored prediction"


def _exact(session: Session, project_ids: Sequence[str], search: Search) -> defaultdict[tuple[str, str], list[str]]:
    """Why each image and prediction was found that meets a criterion exactly; as many as were asked for of each."""
    reasons: defaultdict[tuple[str, str], list[str]] = defaultdict(list)

    def note(kind: str, by: str, table: type[Image] | type[Prediction], *conditions: ColumnElement[bool]) -> None:
        query = select(table.id).where(table.project_id.in_(project_ids), *conditions).limit(search.take)
        for id in session.scalars(query):
            reasons[kind, id].append(by)

    if search.file_name:
        note(IMAGE, BY_NAME, Image, _matches(Image.file_name, search.file_name, anywhere=True))
    for key, value in search.metadata.items():
        pair = select(ImageMetadata.image_seq).where(
            ImageMetadata.project_id.in_(project_ids),
            ImageMetadata.key == key,
            _matches(ImageMetadata.value, value, anywhere=False),
        )
        note(IMAGE, BY_METADATA, Image, Image.seq.in_(pair))
    hashes = {search.sha256.lower()} if search.sha256 else set()
    if search.picture is not None:
        hashes.add(hashlib.sha256(search.picture).hexdigest())
    if hashes:
        note(IMAGE, BY_BYTES, Image, Image.sha256.in_(hashes))
        note(PREDICTION, BY_BYTES, Prediction, Prediction.sha256.in_(hashes))
    return reasons


def _matches(column: Any, pattern: str, *, anywhere: bool) -> ColumnElement[bool]:
    """A pattern with * and ?; without either, a part of the text, or the whole of it."""
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    wild = escaped.replace("*", "%").replace("?", "_")
    if wild == escaped and anywhere:
        wild = f"%{wild}%"
    # Both: databases lower letters beyond A to Z as they please.
    return or_(column.like(wild, escape="\\"), func.lower(column).like(wild.lower(), escape="\\"))


def _alike(
    components: Components, within: Sequence[Project], search: Search, progress: Callable[[int], None]
) -> dict[tuple[str, str], float]:
    """The most like pictures, of at least the wanted likeness."""
    compare = _Comparer(components, search.picture or b"")
    best: list[tuple[float, str, str]] = []
    seen = 0
    for project in within:
        pictures = _pictures(components, project)
        while page := list(islice(pictures, _CHUNK)):
            for score, (kind, id) in compare(project, page):
                if score >= search.like:
                    # Of the account's every picture only as many are held as are asked for.
                    (heapq.heappush if len(best) < search.take else heapq.heappushpop)(best, (score, kind, id))
            seen += len(page)
            progress(seen)
    return {(kind, id): score for score, kind, id in best}


def _pictures(components: Components, project: Project) -> Iterator[tuple[str, str]]:
    """(kind, id) of all that has a picture in a project; no transaction is open between two pages."""
    after = 0
    while True:
        with components.database.read() as session:
            found = session.execute(
                select(Image.seq, Image.id)
                .where(Image.project_id == project.id, Image.seq > after)
                .order_by(Image.seq)
                .limit(_PAGE)
            ).all()
        yield from ((IMAGE, row.id) for row in found)
        if len(found) < _PAGE:
            break
        after = found[-1].seq
    last = ""
    while True:
        with components.database.read() as session:
            ids = list(
                session.scalars(
                    select(Prediction.id)
                    .where(Prediction.project_id == project.id, Prediction.id > last)
                    .order_by(Prediction.id)
                    .limit(_PAGE)
                )
            )
        yield from ((PREDICTION, id) for id in ids)
        if len(ids) < _PAGE:
            break
        last = ids[-1]


class _Comparer:
    """Likeness of stored pictures to a given one: the cosine of their features by the same backbone.

    Raises:
        OwnVisionError: BadRequestImageFormat.
    """

    def __init__(self, components: Components, picture: bytes) -> None:
        self._components, self._picture = components, picture
        self._embedders: dict[str, Callable[[Sequence[bytes]], NDArray[np.float32]]] = {}
        self._wanted: dict[str, Vector] = {}
        try:
            pixels.inspect(picture)
            self._given(next(iter(BACKBONES)))
        except pixels.BadImage as error:
            raise OwnVisionError("BadRequestImageFormat", f"The picture can't be read: {error}") from None

    def __call__(self, project: Project, page: Iterable[tuple[str, str]]) -> Iterator[tuple[float, tuple[str, str]]]:
        """(likeness, picture) of those that can be read."""
        missing = []
        for picture in page:
            prefix = _prefix(project.id, picture)
            kept = self._kept(prefix, project) if picture[0] == IMAGE else None
            if kept is None:
                missing.append((picture, prefix))
            else:
                yield _cosine(self._given(kept[0]), kept[1]), picture
        originals = []
        for picture, prefix in missing:
            with suppress(*_ABSENT):  # erased meanwhile, or damaged
                originals.append((picture, self._components.blobs.read(prefix + "original")))
        own = DOMAINS[project.domain_id].backbone
        backbone = own if own in BACKBONES else next(iter(BACKBONES))  # its weights may be gone; the person is not
        for picture, vector in self._vectors(backbone, originals):
            yield _cosine(self._given(backbone), vector), picture

    def _kept(self, prefix: str, project: Project) -> tuple[str, Vector] | None:
        """Features that lie beside an image already, by whichever backbone."""
        first = DOMAINS[project.domain_id].backbone
        for backbone in sorted(BACKBONES, key=lambda name: name != first):
            name = f"{prefix}embedding-{BACKBONES[backbone].version}"
            with suppress(*_ABSENT):
                return backbone, np.frombuffer(self._components.blobs.read(name), "<f2").astype(np.float32)
        return None

    def _vectors(
        self, backbone: str, originals: Sequence[tuple[tuple[str, str], bytes]]
    ) -> list[tuple[tuple[str, str], Vector]]:
        if not originals:
            return []
        try:
            vectors = self._embed(backbone)([data for _, data in originals])
        except pixels.BadImage:
            halves = [[one] for one in originals] if len(originals) > 1 else []
            return [pair for half in halves for pair in self._vectors(backbone, half)]
        return [(picture, vector) for (picture, _), vector in zip(originals, vectors, strict=True)]

    def _given(self, backbone: str) -> Vector:
        if backbone not in self._wanted:
            self._wanted[backbone] = self._embed(backbone)([self._picture])[0]
        return self._wanted[backbone]

    def _embed(self, backbone: str) -> Callable[[Sequence[bytes]], NDArray[np.float32]]:
        if backbone not in self._embedders:
            from ownvision.learning.classify import Embedder  # large, and few requests need it

            self._embedders[backbone] = Embedder(backbone, self._components.settings.threads)
        return self._embedders[backbone]


def _prefix(project_id: str, picture: tuple[str, str]) -> str:
    kind, id = picture
    return (ledger.image_prefix if kind == IMAGE else ledger.prediction_prefix)(project_id, id)


def _cosine(left: Vector, right: Vector) -> float:
    length = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / length if length else 0.0


def _ids(keys: Iterable[tuple[str, str]], kind: str) -> list[str]:
    return [id for of, id in keys if of == kind]


def _parts(items: Sequence[str]) -> Iterator[Sequence[str]]:
    return (items[start : start + _PART] for start in range(0, len(items), _PART))
