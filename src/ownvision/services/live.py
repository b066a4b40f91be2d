"""Live learning: one process of the worker keeps the drafts of all projects that it is switched on for.

What is to be done follows from the rows alone (`drafts.lives`): a draft whose revision is not its workspace's is due.
So no request queues or waits for anything, a hundred changes are one fit, and after a crash it goes on by itself. The
process keeps embeddings in memory, sealed files of which would take most of the time to read, and ends when nothing
has been due for a while.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ownvision.domains import DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.learning import evaluate, uncertainty
from ownvision.learning.backbones import BACKBONES
from ownvision.services import drafts, embedding, fitting, training
from ownvision.services.components import Components
from ownvision.services.drafts import Live, Suggested
from ownvision.services.frozen import Frozen, at_revision
from ownvision.services.performance import THRESHOLD
from ownvision.store import ledger
from ownvision.store.database import Database
from ownvision.store.tables import Draft, Image, Project, Tag
from ownvision.store.tables.base import now

log = logging.getLogger("ownvision.live")

POLL_SECONDS = 0.05
# A fit begins when nothing has changed for so long, or when the changes have not stopped for `PATIENCE_SECONDS`.
QUIET_SECONDS = 0.25
PATIENCE_SECONDS = 2.0
IDLE_SECONDS = 600.0
_LOOK_SECONDS = 0.1  # between looks at whether a fit is still wanted
_MOST_BYTES = 256 * 2**20  # of embeddings in memory: about 20,000 images
_MOST_IMAGES = 100_000  # that a draft suggests something for
_MOST_TAGS = 5  # that it suggests for one image
_PART = 1_024
_UNEXPECTED = "An unexpected error stopped it; the service's log says more. It is tried again after the next change."


Look = Callable[[bool], None]


class Superseded(Exception):
    """What is being learned is of the past: something newer is to be learned first."""


class Features:
    """Embeddings in memory, by project and image; what is not among the images asked for last is let go.

    Args:
        components: Where the others are read, or made.
        most: Bytes at most; beyond, embeddings are read each time.
    """

    def __init__(self, components: Components, most: int = _MOST_BYTES) -> None:
        self._components, self._most, self._size = components, most, 0
        self._held: dict[tuple[str, str], dict[str, embedding.Embeddings]] = {}

    def gather(
        self, project_id: str, backbone: str, image_ids: Sequence[str], progress: Callable[[float], None]
    ) -> embedding.Embeddings:
        """float16 [N, D] of images, in the order given.

        Raises:
            Unreadable: One can't be had (`embedding.gather`).
        """
        key = (project_id, BACKBONES[backbone].version)
        held = self._held[key] = self._held.pop(key, {})  # the last one, as the latest used
        made = np.empty((len(image_ids), BACKBONES[backbone].feature_dim), np.float16)
        missing = [row for row, image_id in enumerate(image_ids) if image_id not in held]
        for start in range(0, len(missing), _PART):
            part = missing[start : start + _PART]
            prefixes = [ledger.image_prefix(project_id, image_ids[row]) for row in part]
            made[part] = embedding.gather(self._components, backbone, prefixes, progress)
            while self._size + made[part].nbytes > self._most and len(self._held) > 1:
                oldest = next(iter(self._held))
                self._drop(oldest, list(self._held[oldest]))
            for row in part:
                if self._size + made[row].nbytes <= self._most:
                    held[image_ids[row]] = made[row].copy()
                    self._size += made[row].nbytes
        for row, image_id in enumerate(image_ids):
            if image_id in held:
                made[row] = held[image_id]
        return made

    def keep(self, project_id: str, backbone: str, image_ids: Iterable[str]) -> None:
        """Of this project hold nothing but these images' embeddings by this backbone."""
        wanted, key = set(image_ids), (project_id, BACKBONES[backbone].version)
        for one, held in list(self._held.items()):
            if one[0] == project_id:
                self._drop(one, [id for id in held if one != key or id not in wanted])

    def keep_projects(self, project_ids: Iterable[str]) -> None:
        """Hold nothing of any other project."""
        wanted = set(project_ids)
        for key, held in list(self._held.items()):
            if key[0] not in wanted:
                self._drop(key, list(held))

    def _drop(self, key: tuple[str, str], image_ids: Sequence[str]) -> None:
        held = self._held[key]
        for image_id in image_ids:
            self._size -= held.pop(image_id).nbytes
        if not held:
            del self._held[key]


@dataclass(frozen=True)
class _Seen:
    """What one look found to learn from."""

    live: Live
    backbone: str
    classification_type: str
    frozen: Frozen
    untagged: list[tuple[int, str]]  # (seq, id)
    refusal: str | None  # why it is too little


def refresh(components: Components, live: Live, features: Features, look: Look = lambda scored: None) -> bool:
    """Learn a project's workspace as it is, and keep what that says: first the score, then the suggestions.

    Args:
        components: Of the installation.
        live: The project, as it was found to be due.
        features: Embeddings in memory.
        look: Called now and then, with whether the score is kept already; may raise `Superseded`.

    Returns:
        Whether the draft learned; False: it says why not.

    Raises:
        Superseded: By `look`, or something was erased meanwhile: nothing that knew it is kept.
    """
    with components.database.read() as session:
        seen = _seen(session, live, components)
    features.keep(live.project_id, seen.backbone, [*(image.id for image in seen.frozen.images), *_ids(seen.untagged)])
    if seen.refusal is not None:
        _record(components.database, seen.live, drafts.WAITING, reason=seen.refusal)
        return False
    try:
        vectors = features.gather(
            live.project_id, seen.backbone, [image.id for image in seen.frozen.images], lambda _: look(False)
        )
        fitted = fitting.fit_head(seen.backbone, seen.classification_type, vectors, seen.frozen, lambda _: look(False))
    except embedding.Unreadable as error:
        _record(
            components.database,
            seen.live,
            drafts.FAILED,
            reason=f"Image {error.image_id} can't be read; delete it and upload it anew.",
        )
        return False
    except OwnVisionError as error:
        _record(components.database, seen.live, drafts.WAITING, reason=error.message)
        return False
    exclusive = seen.classification_type == "Multiclass"
    score = _score(seen.frozen, fitted.out_of_fold, fitted.folds, exclusive=exclusive)
    _record(components.database, seen.live, drafts.LEARNED, score=score)
    suggested = _suggested(seen, features, fitted.head.probabilities, look, exclusive=exclusive)
    _change(components.database, seen.live, {"suggested": suggested.packed(), "complete": True})
    return True


def _ids(pairs: Iterable[tuple[int, str]]) -> list[str]:
    return [image_id for _, image_id in pairs]


def _seen(session: Session, live: Live, components: Components) -> _Seen:
    project = session.get(Project, live.project_id)
    forgotten = session.scalar(select(Draft.forgotten).where(Draft.project_id == live.project_id))
    if project is None or forgotten is None:
        raise Superseded
    limits = components.settings.limits
    tags = list(session.scalars(select(Tag).where(Tag.project_id == project.id)))
    there = training.usable(session, project, tags)
    # In the order of a training (`training.start`), so that the same data gives the same model.
    chosen = sorted(
        (tag for tag in tags if there[tag.id] >= limits.classification_images_per_tag), key=lambda tag: tag.name
    )
    refusal = None
    try:
        training.check_enough(session, project, chosen, there, limits)
    except OwnVisionError as error:
        refusal = error.message
    untagged = session.execute(
        select(Image.seq, Image.id)
        .where(
            Image.project_id == project.id,
            Image.until.is_(None),
            Image.tagged.is_(False),
            Image.restricted.is_(None),
        )
        .order_by(Image.seq)
        .limit(_MOST_IMAGES)
    )
    return _Seen(
        Live(
            project.id,
            project.revision,
            drafts.basis(project.domain_id, project.classification_type),
            forgotten,
            behind=True,
            complete=False,
        ),
        DOMAINS[project.domain_id].backbone,
        project.classification_type,
        at_revision(session, project.id, project.revision, {tag.id: tag.type for tag in chosen}),
        [(row.seq, row.id) for row in untagged],
        refusal,
    )


def _score(
    frozen: Frozen, scores: NDArray[np.float32], folds: NDArray[np.int64], *, exclusive: bool
) -> dict[str, object]:
    """Of images by models that had not seen them, at the default threshold; accuracy is of whole images."""
    truth = frozen.labels
    measured = evaluate.classification(scores, truth, THRESHOLD, folds)
    right = scores.argmax(1) == truth.argmax(1) if exclusive else ((scores >= THRESHOLD) == truth).all(1)
    return {
        "images": len(truth),
        "accuracy": float(right.mean()),
        "precision": measured.precision,
        "precisionStdDeviation": measured.precision_std,
        "recall": measured.recall,
        "recallStdDeviation": measured.recall_std,
        "averagePrecision": measured.average_precision,
        "perTag": {
            tag_id: {
                "images": int(truth[:, column].sum()),
                "precision": one.precision,
                "recall": one.recall,
                "averagePrecision": one.average_precision,
            }
            for column, (tag_id, one) in enumerate(zip(frozen.tag_ids, measured.per_tag, strict=True))
        },
    }


def _suggested(
    seen: _Seen,
    features: Features,
    probabilities: Callable[[embedding.Embeddings], NDArray[np.float32]],
    look: Look,
    *,
    exclusive: bool,
) -> Suggested:
    tags = min(_MOST_TAGS, len(seen.frozen.tag_ids))
    seqs: list[int] = []
    doubts, best, shares = [np.empty(0, np.float32)], [np.empty((0, tags), np.int16)], [np.empty((0, tags), np.float32)]
    for start in range(0, len(seen.untagged), _PART):
        look(True)
        part, vectors = _readable(seen, features, seen.untagged[start : start + _PART], look)
        if not part:
            continue
        said = probabilities(vectors)
        order = np.argsort(-said, axis=1, kind="stable")[:, :tags]
        seqs += [seq for seq, _ in part]
        doubts.append(uncertainty.of_each(said, exclusive=exclusive).astype(np.float32))
        best.append(order.astype(np.int16))
        shares.append(np.take_along_axis(said, order, 1))
    return Suggested(
        seen.frozen.tag_ids,
        np.array(seqs, np.int64),
        np.concatenate(doubts),
        np.concatenate(best),
        np.concatenate(shares),
    )


def _readable(
    seen: _Seen, features: Features, part: Sequence[tuple[int, str]], look: Look
) -> tuple[list[tuple[int, str]], embedding.Embeddings]:
    """Those of some images that can be read, and their embeddings: for the others nothing is suggested."""
    left = list(part)
    while True:
        try:
            return left, features.gather(seen.live.project_id, seen.backbone, _ids(left), lambda _: look(True))
        except embedding.Unreadable as error:
            left = [one for one in left if one[1] != error.image_id]


def _record(
    database: Database, live: Live, outcome: str, *, score: dict[str, object] | None = None, reason: str | None = None
) -> None:
    """The draft is of what was seen; suggestions of the one before stay until the new ones are there."""
    learned = outcome == drafts.LEARNED
    values = {
        "revision": live.revision,
        "basis": live.basis,
        "outcome": outcome,
        "reason": reason,
        "learned": now(),
        "score": score,
        "complete": not learned,
    }
    _change(database, live, values if learned else {**values, "suggested": None})


def _change(database: Database, live: Live, values: dict[str, object]) -> None:
    with database.write() as session:
        changed = session.execute(
            update(Draft).where(Draft.project_id == live.project_id, Draft.forgotten == live.forgotten).values(**values)
        )
        if changed.rowcount != 1:  # type: ignore[attr-defined]
            raise Superseded  # something was erased, or live learning was switched off


@dataclass
class _Change:
    """A draft that is due, and since when."""

    since: float
    live: Live
    quiet: float  # since when nothing has changed

    def ready(self, moment: float) -> bool:
        return moment - self.quiet >= QUIET_SECONDS or self.impatient(moment)

    def impatient(self, moment: float) -> bool:
        """Whether it has been due for so long that it is learned though the changes go on."""
        return moment - self.since >= PATIENCE_SECONDS


@dataclass
class Follower:
    """Follows all live projects.

    Attributes:
        components: Of the installation.
        features: Embeddings in memory.
        changes: What is due, by project.
    """

    components: Components
    features: Features
    changes: dict[str, _Change] = field(default_factory=dict)

    def step(self) -> bool:
        """Look once, and learn one project if one is ready; returns whether anything is due."""
        self._look()
        moment = time.monotonic()
        ready = [one for one in self.changes.values() if one.ready(moment)]
        if ready:
            # What is behind comes before what only lacks suggestions.
            self._learn(min(ready, key=lambda one: (not one.live.behind, one.since)))
        return bool(self.changes)

    def _look(self) -> None:
        with self.components.database.read() as session:
            found = drafts.lives(session)
        moment = time.monotonic()
        self.features.keep_projects(live.project_id for live in found)
        due = {live.project_id: live for live in found if live.due}
        self.changes = {id: one for id, one in self.changes.items() if id in due}
        for id, live in due.items():
            one = self.changes.setdefault(id, _Change(moment, live, moment))
            if (one.live.revision, one.live.forgotten) != (live.revision, live.forgotten):
                one.quiet = moment
            one.live = live

    def _learn(self, change: _Change) -> None:
        live, patient = change.live, not change.impatient(time.monotonic())
        looked = time.monotonic()

        def look(scored: bool) -> None:
            nonlocal looked
            if time.monotonic() - looked < _LOOK_SECONDS:
                return
            self._look()
            looked = time.monotonic()
            if self._superseded(live, patient, scored):
                raise Superseded

        try:
            refresh(self.components, live, self.features, look)
        except Superseded:
            return
        except Exception:
            log.exception("the draft of project %s could not be made", live.project_id)
            with suppress(Superseded):
                _record(self.components.database, live, drafts.FAILED, reason=_UNEXPECTED)
        self.changes.pop(live.project_id, None)

    def _superseded(self, live: Live, patient: bool, scored: bool) -> bool:
        """Whether something comes first: a change of this project, or another's that waits for its score."""
        own = self.changes.get(live.project_id)
        if own is None or own.live.forgotten != live.forgotten:
            return True
        changed = (own.live.revision, own.live.basis) != (live.revision, live.basis)
        if scored or not live.behind:  # suggestions can wait
            return changed or any(one.live.behind for one in self.changes.values())
        return changed and patient


def due(database: Database) -> bool:
    """Whether there is anything to learn: one quick look."""
    with database.read() as session:
        return any(live.due for live in drafts.lives(session))


def follow(components: Components) -> None:
    """Keep the drafts of all live projects, until nothing has been due for `IDLE_SECONDS`."""
    follower = Follower(components, Features(components))
    busy = time.monotonic()
    while time.monotonic() - busy < IDLE_SECONDS:
        if follower.step():
            busy = time.monotonic()
        time.sleep(POLL_SECONDS)
