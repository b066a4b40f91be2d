"""The job behind a training: gather the frozen images, fit, write the model, record its scores.

Everything is computed before the last transaction, which makes the model live, completes the iteration and ends the job
together. If images were erased from all iterations meanwhile, what was computed from them is thrown away.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from ownvision.domains import CLASSIFICATION, DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.inference import load
from ownvision.jobs import rows
from ownvision.learning import pixels
from ownvision.learning.backbones import BACKBONES
from ownvision.learning.curve import Point, thinned
from ownvision.learning.evaluate import Detections
from ownvision.learning.search import Trial
from ownvision.services import bases, embedding, notices, outputs
from ownvision.services.components import Components
from ownvision.services.frozen import Frozen, freeze, left_out
from ownvision.store import ledger
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.database import insert_all
from ownvision.store.tables import Iteration, Lineage, Project, ScoredImage
from ownvision.store.tables.base import now

if TYPE_CHECKING:
    from ownvision.learning.classify import ClassifierFit

MODEL = "model.onnx"
# Share of the work, as progress shows it, that is reading and embedding the images.
_GATHERING = 0.7
_REPORT_SECONDS = 0.5
_PART = 2_000


# Which families of candidates a training tries beside quick training: `learning.search_classifier`. A detector begins
# with its base at once; so it has no such family.
_FAMILIES: dict[str, tuple[str, ...]] = {"Regular": ("base",), "Advanced": ("base", "looks", "fine-tuning")}
# What `reservedBudgetInHours` counts, in seconds.
BUDGET_UNIT = 3_600.0


@dataclass(frozen=True)
class Fitted:
    """A model, rows of `ScoredImage` but for the iteration's id, and what was tried (`Trial.shape`)."""

    model: bytes
    scored: list[dict[str, Any]]
    search: list[dict[str, Any]] | None


@dataclass(frozen=True)
class _Work:
    """A training under way: what it learns from, who is told, and how many seconds of its budget are left."""

    components: Components
    claim: rows.Claim
    iteration: Iteration
    frozen: Frozen
    base: bases.Base | None
    report: "_Reporter"
    seconds: float

    @property
    def quick_share(self) -> float:
        """Share of the work, as progress shows it, that is quick training."""
        return 1.0 if self.iteration.training_type == "Regular" else 0.1

    def searching(self, share: float) -> None:
        """Report a search."""
        self.report(self.quick_share + (1 - self.quick_share) * share)


@dataclass(frozen=True)
class Trained:
    """A model and the scores it was measured by.

    Attributes:
        model: ONNX.
        scored: Rows of `ScoredImage` but for the iteration's id.
        erased: How many images of the iteration had been erased when the others were gathered.
        left_out: Ids of restricted images, which were not learned from.
        search: What was tried, as `Trial.shape` gives it; None: nothing beside quick training.
    """

    model: bytes
    scored: list[dict[str, Any]]
    erased: int
    left_out: list[str]
    search: list[dict[str, Any]] | None = None


def run(components: Components, claim: rows.Claim) -> None:
    """Job: train the iteration that is the claim's subject.

    Raises:
        Stale: The job is no longer this worker's.
        Cancelled: It was asked to stop, or its iteration is gone.
        OwnVisionError: It can't be trained; the message is for the person.
    """
    begun = time.monotonic()
    while True:
        trained = fit(components, claim, "Training", begun=begun)
        prefix = ledger.iteration_prefix(claim.project_id, claim.subject)
        outputs.write(components, claim, prefix, "iteration", MODEL, trained.model)
        if record_scores(components, claim, claim.subject, trained) and _complete(
            components, claim, prefix, trained, time.monotonic() - begun
        ):
            return


def fit(
    components: Components, claim: rows.Claim, status: str, least: int = 0, *, begun: float | None = None
) -> Trained:
    """Learn what an iteration is to know, from the images that are there and may be used.

    Args:
        components: Where they are.
        claim: Of the job; its subject is the iteration.
        status: What the iteration's must be, else nobody waits for it any more.
        least: How many images each tag must have.
        begun: Since when its budget is being spent (`time.monotonic`); None: from now on.

    Raises:
        Stale: The job is no longer this worker's.
        Cancelled: It was asked to stop, or its iteration is gone.
        OwnVisionError: It can't be trained; the message is for the person.
    """
    report, since = _Reporter(components, claim), time.monotonic() if begun is None else begun
    while True:
        with components.database.read() as session:
            iteration = session.get(Iteration, claim.subject)
            if iteration is None or iteration.status != status:
                raise rows.Cancelled(claim.job_id)
            erased = _erased(session, iteration.id)
            frozen = freeze(session, iteration)
            base = bases.find(components, session, iteration)
        if not frozen.images:
            raise OwnVisionError("BadRequestTrainingValidationFailed", "Not enough images for training: none is left.")
        if frozen.labels.sum(axis=0).min() < least:
            raise OwnVisionError(
                "BadRequestTrainingValidationFailed",
                f"Not enough images for training: a tag has fewer than the {least} that each needs.",
            )
        learn = _classifier if DOMAINS[iteration.domain_id].type == CLASSIFICATION else _detector
        seconds = iteration.reserved_budget_in_hours * BUDGET_UNIT - (time.monotonic() - since)
        try:
            fitted = learn(_Work(components, claim, iteration, frozen, base, report, seconds))
        except embedding.Unreadable as error:
            with components.database.read() as session:
                if _erased(session, iteration.id) != erased:
                    continue
            raise OwnVisionError(
                "ErrorFeaturizationServiceUnavailable",
                f"Image {error.image_id} can't be read; delete it, upload it anew and train again.",
            ) from None
        return Trained(fitted.model, fitted.scored, erased, frozen.left_out, fitted.search)


def record_scores(components: Components, claim: rows.Claim, model_id: str, trained: Trained) -> bool:
    """Write a model's scores in parts, so that no writer waits long; they count once the iteration has the model.

    Args:
        components: Where the database is.
        claim: Of the job; its subject is the iteration. What earlier attempts left is removed first.
        model_id: The model that the scores are of.
        trained: It, and its scores.

    Returns:
        False when an image was erased meanwhile: then all must be done anew, and no row may name it.

    Raises:
        Stale: The job is no longer this worker's.
        Cancelled: It was asked to stop, or its iteration is gone.
    """
    while remove_scores(components, claim, model_id):
        pass
    for start in range(0, len(trained.scored), _PART):
        ids = {"iteration_id": claim.subject, "model_id": model_id}
        part = [{**row, **ids} for row in trained.scored[start : start + _PART]]
        with components.database.write() as session:
            session.get(Project, claim.project_id, with_for_update=True)  # nobody erases meanwhile (PostgreSQL)
            outputs.hold(session, claim)
            if session.get(Iteration, claim.subject) is None:
                raise rows.Cancelled(claim.job_id)
            if _erased(session, claim.subject) != trained.erased:
                return False
            insert_all(session, ScoredImage, part)
    return True


def remove_scores(components: Components, claim: rows.Claim, model_id: str) -> int:
    """Remove a part of a model's scores; returns how many they were.

    Raises:
        Stale: The job is no longer this worker's.
        Cancelled: It was asked to stop.
    """
    with components.database.write() as session:
        outputs.hold(session, claim)
        some = select(ScoredImage.id).where(ScoredImage.iteration_id == claim.subject, ScoredImage.model_id == model_id)
        gone = session.execute(
            delete(ScoredImage)
            .where(ScoredImage.id.in_(some.limit(_PART)))
            .execution_options(synchronize_session=False)
        )
        return int(gone.rowcount)  # type: ignore[attr-defined]


def settle(session: Session, iteration: Iteration, trained: Trained) -> bool:
    """Note that the iteration's model has learned from nothing that was erased or is restricted.

    Returns:
        False, and nothing noted, when images were erased or restricted since they were gathered: then all must be done
        anew.
    """
    if _erased(session, iteration.id) != trained.erased or left_out(session, iteration) != trained.left_out:
        return False
    iteration.left_out, iteration.erased_count, iteration.search = trained.left_out, 0, trained.search
    session.execute(
        update(Lineage)
        .where(Lineage.iteration_id == iteration.id, Lineage.unlearned.is_(None))
        .values(unlearned=now())
        .execution_options(synchronize_session=False)
    )
    return True


def failed(session: Session, project_id: str, iteration_id: str, reason: str) -> None:
    """Record that a training has failed, and that nothing of it is kept, also where its iteration was deleted."""
    iteration = session.get(Iteration, iteration_id)
    if iteration is None:
        ledger.doom(session, [ledger.iteration_prefix(project_id, iteration_id)])
    elif iteration.status == "Training":
        iteration.status, iteration.error, iteration.last_modified = "Failed", reason, now()
        notices.training_ended(session, iteration)
        session.execute(delete(ScoredImage).where(ScoredImage.iteration_id == iteration_id))
        ledger.doom(session, [ledger.iteration_prefix(project_id, iteration_id)])


class _Reporter:
    """Notes in the job's row how far a training is, twice a second; raises when it is to stop, as `rows.heartbeat`."""

    def __init__(self, components: Components, claim: rows.Claim) -> None:
        self._components, self._claim = components, claim
        self._said = 0.0
        self._curve: list[Point] = []

    def __call__(self, share: float) -> None:
        if time.monotonic() - self._said >= _REPORT_SECONDS:
            rows.heartbeat(
                self._components.database,
                self._claim,
                min(share, 0.99),
                self._components.settings.job_lease,
                [(point.step, point.steps, point.loss, point.hold_out) for point in self._curve],
            )
            self._said = time.monotonic()

    def watch(self, point: Point) -> None:
        """A look at the training, told with the next report."""
        self._curve = thinned([*self._curve, point])


def fit_head(
    backbone: str,
    classification_type: str,
    vectors: embedding.Embeddings,
    frozen: Frozen,
    progress: Callable[[float], None],
) -> "ClassifierFit":
    """A classifier's head from embeddings: what a training learns, and what a draft does.

    Args:
        backbone: Whose embeddings they are.
        classification_type: Multiclass or Multilabel.
        vectors: [N, D], of the images of `frozen`, in their order.
        frozen: What is to be learned.
        progress: Told the share done, 0 to 1.

    Raises:
        OwnVisionError: BadRequestTrainingValidationFailed, when there is nothing to tell apart.
    """
    from ownvision.learning import classify

    try:
        return classify.fit(
            vectors,
            frozen.labels,
            multilabel=classification_type == "Multilabel",
            keys=[bytes.fromhex(image.sha256) for image in frozen.images],
            blocks=BACKBONES[backbone].blocks,
            negative=frozen.negative,
            progress=progress,
        )
    except ValueError as error:
        raise OwnVisionError("BadRequestTrainingValidationFailed", f"Not enough images for training: {error}") from None


def _classifier(work: _Work) -> Fitted:
    from ownvision.learning import search_classifier

    begun, frozen, share = time.monotonic(), work.frozen, work.quick_share
    backbone = DOMAINS[work.iteration.domain_id].backbone
    vectors = embedding.gather(
        work.components, backbone, frozen.prefixes, lambda done: work.report(share * _GATHERING * done)
    )
    quick = fit_head(
        backbone,
        work.iteration.classification_type,
        vectors,
        frozen,
        lambda done: work.report(share * (_GATHERING + (1 - _GATHERING) * done)),
    )
    task = search_classifier.Task(
        reads=[partial(original, work.components, prefix) for prefix in frozen.prefixes],
        labels=frozen.labels,
        keys=[bytes.fromhex(image.sha256) for image in frozen.images],
        tag_ids=frozen.tag_ids,
        multilabel=work.iteration.classification_type == "Multilabel",
        negative=frozen.negative,
        backbone=backbone,
        others=_others(work.iteration),
        augmentation=work.claim.payload.get("augmentation") or {},
        base=None if work.base is None else work.base.model,
        unseen=None if work.base is None else work.base.unseen(frozen),
    )
    found = search_classifier.improve(
        task,
        quick,
        seconds=_left(work, begun),
        families=_FAMILIES[work.iteration.training_type],
        report=work.searching,
        watch=work.report.watch,
    )
    scores = np.ascontiguousarray(found.out_of_fold, "<f4")
    truth = np.ascontiguousarray(frozen.labels, np.uint8)
    scored = [
        {
            "image_id": frozen.images[row].id,
            "fold": int(quick.folds[row]),
            "scores": scores[row].tobytes(),
            "truth": truth[row].tobytes(),
        }
        for row in np.flatnonzero(found.measured)
    ]
    trials = found.trials
    if work.base is not None and work.base.model is None:
        trials.append(Trial("going on from the base iteration", None, 0.0, False, f"not tried: {work.base.reason}"))
    return Fitted(found.model, scored, _told(trials))


def _others(iteration: Iteration) -> list[str]:
    """Further backbones that a search may use: none where the model is to stay compact."""
    domain = DOMAINS[iteration.domain_id]
    if domain.exportable:
        return []
    taken = {domain.backbone, *BACKBONES[domain.backbone].parts}
    free = [one for one in BACKBONES.values() if not taken & {one.name, *one.parts}]
    return [one.name for one in free if domain.type == CLASSIFICATION or one.kind == "efficientnet_lite"]


def _left(work: _Work, begun: float) -> float:
    # A base is tried with every training; without a budget, it may take what it takes.
    return work.seconds - (time.monotonic() - begun) if work.iteration.training_type == "Advanced" else math.inf


def _told(trials: Sequence[Trial]) -> list[dict[str, Any]] | None:
    return [trial.shape() for trial in trials] if len(trials) > 1 else None


def _detector(work: _Work) -> Fitted:
    from ownvision.learning import detect, search_detector

    begun, frozen = time.monotonic(), work.frozen
    examples = [
        detect.Example(
            read=partial(original, work.components, prefix),
            boxes=np.array([box[1:] for box in image.boxes], np.float32).reshape(-1, 4),
            tags=np.array([box[0] for box in image.boxes], np.int64),
            key=bytes.fromhex(image.sha256),
        )
        for image, prefix in zip(frozen.images, frozen.prefixes, strict=True)
    ]
    task = search_detector.Task(
        examples,
        frozen.tag_ids,
        _detect,
        DOMAINS[work.iteration.domain_id].backbone,
        tiles=DOMAINS[work.iteration.domain_id].tiles,
        others=_others(work.iteration),
        augmentation=work.claim.payload.get("augmentation"),
        options={} if work.base is None or work.base.model is None else {"start_from": work.base.model},
    )
    try:
        quick = detect.fit(
            examples,
            frozen.tag_ids,
            predict=_detect,
            backbone=task.backbone,
            tiles=task.tiles,
            augmentation=task.augmentation,
            progress=lambda done: work.report(work.quick_share * done),  # raises when the job is to stop
            watch=work.report.watch,
            **task.options,
        )
        took = time.monotonic() - begun
        fitted, trials = (
            search_detector.improve(
                task,
                quick,
                quick_seconds=took,
                seconds=_left(work, begun),
                report=work.searching,
                watch=work.report.watch,
            )
            if work.iteration.training_type == "Advanced"
            else (quick, [])
        )
    except pixels.BadImage as error:
        raise OwnVisionError("ErrorFeaturizationServiceUnavailable", f"An image can't be read: {error}") from None
    except ValueError as error:
        raise OwnVisionError("BadRequestTrainingValidationFailed", f"Not enough images for training: {error}") from None
    kept, note = _honest(work, fitted.held_out)
    scored = []
    for row, said in zip(fitted.held_out, fitted.predictions, strict=True):
        if row not in kept:
            continue
        table = np.column_stack([said.tags, said.scores, said.boxes]).astype("<f4").reshape(-1, 6)
        truth = np.array(frozen.images[row].boxes, "<f4").reshape(-1, 5)
        scored.append(
            {
                "image_id": frozen.images[row].id,
                "fold": 0,
                "scores": table.tobytes(),
                "truth": truth.tobytes(),
            }
        )
    return Fitted(fitted.model, scored, _told([*trials, *note]))


def _honest(work: _Work, held_out: Sequence[int]) -> tuple[set[int], list[Trial]]:
    """The rows of a hold-out that tell how good a detector is: those that its base does not know, if there are any."""
    base = work.base
    if base is None:
        return set(held_out), []
    what = "starting from the base iteration's network"
    if base.model is None:
        return set(held_out), [Trial(what, None, 0.0, False, f"not done: {base.reason}")]
    unseen = base.unseen(work.frozen)
    kept = {row for row in held_out if unseen[row]}
    known = len(held_out) - len(kept)
    note = f"the base knows {known} of the {len(held_out)} images held out"
    if not kept:
        return set(held_out), [Trial(what, None, 0.0, True, f"{note}: the figures flatter")]
    return kept, [Trial(what, None, 0.0, True, f"{note}; these are left out of the figures" if known else note)]


def _detect(model: bytes, images: Iterable[bytes]) -> list[Detections]:
    loaded = load(model)
    return [found for image in images if isinstance(found := loaded.predict(image), Detections)]


def original(components: Components, prefix: str) -> bytes:
    """An image's file by its blob prefix.

    Raises:
        Unreadable: It is gone, or damaged.
    """
    try:
        return components.blobs.read(prefix + "original")
    except (BlobMissing, BlobDamaged):
        raise embedding.Unreadable(prefix) from None


def _erased(session: Session, iteration_id: str) -> int:
    return session.scalar(select(func.count()).select_from(Lineage).where(Lineage.iteration_id == iteration_id)) or 0


def _complete(components: Components, claim: rows.Claim, prefix: str, trained: Trained, seconds: float) -> bool:
    """The last transaction; False when it can't be: then all must be done anew."""
    with components.database.write() as session:
        session.get(Project, claim.project_id, with_for_update=True)  # nobody erases meanwhile (PostgreSQL)
        outputs.hold(session, claim)
        iteration = session.get(Iteration, claim.subject)
        if iteration is None:
            raise rows.Cancelled(claim.job_id)
        if not settle(session, iteration, trained):
            return False
        ledger.make_live(session, [prefix])
        moment = now()
        iteration.status, iteration.trained_at, iteration.last_modified = "Completed", moment, moment
        iteration.training_seconds = seconds
        notices.training_ended(session, iteration)
        rows.finish(session, claim)
    return True
