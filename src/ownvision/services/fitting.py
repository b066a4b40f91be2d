"""The job behind a training: gather the frozen images, fit, write the model, record its scores.

Everything is computed before the last transaction, which makes the model live, completes the iteration and ends the job
together. If images were erased from all iterations meanwhile, what was computed from them is thrown away.
"""

import time
from collections.abc import Callable, Iterable
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
from ownvision.services import embedding, notices, outputs
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


Fitted = tuple[bytes, list[dict[str, Any]]]  # a model, and rows of `ScoredImage` but for the iteration's id


@dataclass(frozen=True)
class Trained:
    """A model and the scores it was measured by.

    Attributes:
        model: ONNX.
        scored: Rows of `ScoredImage` but for the iteration's id.
        erased: How many images of the iteration had been erased when the others were gathered.
        left_out: Ids of restricted images, which were not learned from.
    """

    model: bytes
    scored: list[dict[str, Any]]
    erased: int
    left_out: list[str]


def run(components: Components, claim: rows.Claim) -> None:
    """Job: train the iteration that is the claim's subject.

    Raises:
        Stale: The job is no longer this worker's.
        Cancelled: It was asked to stop, or its iteration is gone.
        OwnVisionError: It can't be trained; the message is for the person.
    """
    begun = time.monotonic()
    while True:
        trained = fit(components, claim, "Training")
        prefix = ledger.iteration_prefix(claim.project_id, claim.subject)
        outputs.write(components, claim, prefix, "iteration", MODEL, trained.model)
        if record_scores(components, claim, claim.subject, trained) and _complete(
            components, claim, prefix, trained, time.monotonic() - begun
        ):
            return


def fit(components: Components, claim: rows.Claim, status: str, least: int = 0) -> Trained:
    """Learn what an iteration is to know, from the images that are there and may be used.

    Args:
        components: Where they are.
        claim: Of the job; its subject is the iteration.
        status: What the iteration's must be, else nobody waits for it any more.
        least: How many images each tag must have.

    Raises:
        Stale: The job is no longer this worker's.
        Cancelled: It was asked to stop, or its iteration is gone.
        OwnVisionError: It can't be trained; the message is for the person.
    """
    report = _Reporter(components, claim)
    while True:
        with components.database.read() as session:
            iteration = session.get(Iteration, claim.subject)
            if iteration is None or iteration.status != status:
                raise rows.Cancelled(claim.job_id)
            erased = _erased(session, iteration.id)
            frozen = freeze(session, iteration)
        if not frozen.images:
            raise OwnVisionError("BadRequestTrainingValidationFailed", "Not enough images for training: none is left.")
        if frozen.labels.sum(axis=0).min() < least:
            raise OwnVisionError(
                "BadRequestTrainingValidationFailed",
                f"Not enough images for training: a tag has fewer than the {least} that each needs.",
            )
        learn = _classifier if DOMAINS[iteration.domain_id].type == CLASSIFICATION else _detector
        try:
            model, scored = learn(components, claim, iteration, frozen, report)
        except embedding.Unreadable as error:
            with components.database.read() as session:
                if _erased(session, iteration.id) != erased:
                    continue
            raise OwnVisionError(
                "ErrorFeaturizationServiceUnavailable",
                f"Image {error.image_id} can't be read; delete it, upload it anew and train again.",
            ) from None
        return Trained(model, scored, erased, frozen.left_out)


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
    iteration.left_out, iteration.erased_count = trained.left_out, 0
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


def _classifier(
    components: Components, claim: rows.Claim, iteration: Iteration, frozen: Frozen, report: Callable[[float], None]
) -> Fitted:
    from ownvision.learning import graph

    backbone = DOMAINS[iteration.domain_id].backbone
    vectors = embedding.gather(components, backbone, frozen.prefixes, lambda share: report(_GATHERING * share))
    fitted = fit_head(
        backbone,
        iteration.classification_type,
        vectors,
        frozen,
        lambda share: report(_GATHERING + (1 - _GATHERING) * share),
    )
    scores = np.ascontiguousarray(fitted.out_of_fold, "<f4")
    truth = np.ascontiguousarray(frozen.labels, np.uint8)
    return (
        graph.classifier(backbone, fitted.head, frozen.tag_ids),
        [
            {
                "image_id": image.id,
                "fold": int(fitted.folds[row]),
                "scores": scores[row].tobytes(),
                "truth": truth[row].tobytes(),
            }
            for row, image in enumerate(frozen.images)
        ],
    )


def _detector(
    components: Components, claim: rows.Claim, iteration: Iteration, frozen: Frozen, report: _Reporter
) -> Fitted:
    from ownvision.learning import detect

    examples = [
        detect.Example(
            read=partial(original, components, prefix),
            boxes=np.array([box[1:] for box in image.boxes], np.float32).reshape(-1, 4),
            tags=np.array([box[0] for box in image.boxes], np.int64),
            key=bytes.fromhex(image.sha256),
        )
        for image, prefix in zip(frozen.images, frozen.prefixes, strict=True)
    ]
    try:
        fitted = detect.fit(
            examples,
            frozen.tag_ids,
            predict=_detect,
            backbone=DOMAINS[iteration.domain_id].backbone,
            tiles=DOMAINS[iteration.domain_id].tiles,
            augmentation=claim.payload.get("augmentation"),
            progress=report,  # raises when the job is to stop
            watch=report.watch,
        )
    except pixels.BadImage as error:
        raise OwnVisionError("ErrorFeaturizationServiceUnavailable", f"An image can't be read: {error}") from None
    except ValueError as error:
        raise OwnVisionError("BadRequestTrainingValidationFailed", f"Not enough images for training: {error}") from None
    scored = []
    for row, said in zip(fitted.held_out, fitted.predictions, strict=True):
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
    return fitted.model, scored


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
