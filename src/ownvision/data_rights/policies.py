"""What becomes of models that learned from images which are erased: a choice of each project's.

It is carried out in the very transaction that erases, whoever asked for it; fitting anew is left to a job.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from ownvision.data_rights import holds, lineage, receipts
from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.services import iterations
from ownvision.store import ledger
from ownvision.store.tables import Iteration, IterationTag, Job, Lineage, Project, Receipt

KEEP, RETRAIN, UNPUBLISH, DELETE = "keep", "retrain", "unpublish", "delete"
# What became of a model, as its iteration and the receipt say it; HOLDS: the image was deleted from the workspace only.
KEPT, PENDING, REFITTED, UNPUBLISHED, FAILED = "kept", "pending", "refitted", "unpublished", "failed"
DELETED, HOLDS = "deleted", "holds"
REFIT = "refit"
_FIRST = -1  # before trainings that wait: a published model is to forget


def choose(project: Project, policy: str) -> None:
    """Set a locked project's policy, for erasures from now on.

    Raises:
        OwnVisionError: BadRequest, when there is no such policy.
    """
    wanted = policy.strip().lower()
    if wanted not in POLICIES:
        raise OwnVisionError("BadRequest", f"policy is {', '.join(POLICIES)}; {policy!r} is none of them.")
    project.erasure_policy = wanted


def apply(session: Session, project: Project, receipt: Receipt) -> None:
    """Carry out a locked project's policy, and say in the receipt which models had learned from what it erased.

    Called once the images are gone from their iterations. Images that were deleted from the workspace only, and that
    iterations therefore hold, are named there too.

    Args:
        session: The transaction that erases.
        project: Whose images they were.
        receipt: Of the erasure.
    """
    learned = [*lineage.learned_by(session, project, receipt.id), *lineage.held_by(session, project)]
    told = [one.record() for one in learned]
    for record, one in zip(told, learned, strict=True):
        outcome = POLICIES[project.erasure_policy] if one.erased else _holds
        record["outcome"] = outcome(session, project, one.iteration)
    receipt.learned = [*receipt.learned, *told]
    session.flush()


def refit(session: Session, project: Project, iteration_id: str) -> Job:
    """Fit an iteration's model anew without the erased images it learned from, whatever the project's policy.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained; BadRequestTrainingNotNeeded, when it has
            learned from nothing that was erased; BadRequestTrainingValidationFailed, when too few images are left;
            BadRequestOperationNotSupported (legal hold: the old model would be erased).
    """
    holds.check(session, project.account_id, project.id)
    iteration = iterations.trained(session, project, iteration_id)
    if not iteration.erased_count:
        raise OwnVisionError(
            "BadRequestTrainingNotNeeded", f"{iteration.name} has learned from no image that was erased."
        )
    if not _fittable(session, iteration):
        raise OwnVisionError(
            "BadRequestTrainingValidationFailed",
            f"Not enough images for training: a tag of {iteration.name} has none left, or its model is not here.",
        )
    return queue(session, project, iteration)


def unlearn(session: Session, model_ids: Sequence[str]) -> int:
    """Replace models again that a restored backup brought back; until then they answer, as they did the first time.

    Args:
        session: A write transaction, in which what they had learned from is erased already.
        model_ids: Ids in the prefixes that the journal names as `ledger.MODEL`.

    Returns:
        How many are there, and are to be fitted anew or can't be and are unpublished.
    """
    found = list(session.scalars(select(Iteration).where(Iteration.model_id.in_(model_ids))))
    for iteration in found:
        project = session.get_one(Project, iteration.project_id, with_for_update=True)
        _retrain(session, project, iteration)
    return len(found)


def settle(session: Session, iteration: Iteration, ids: Sequence[str], outcome: str) -> None:
    """Say in those receipts that are not signed yet what became of an iteration's model."""
    for receipt in session.scalars(select(Receipt).where(Receipt.id.in_(ids), Receipt.state == receipts.OPEN)):
        receipt.learned = [
            {**one, "outcome": outcome} if one["iterationId"] == iteration.id else one for one in receipt.learned
        ]


def give_up(session: Session, iteration: Iteration) -> str:
    """The model can't be fitted anew: nobody is to be answered by it."""
    _withdraw(session, iteration)
    iteration.unlearning = FAILED
    settle(session, iteration, ledger.arrived(session, iteration.project_id, iteration.id), FAILED)
    return FAILED


def queue(session: Session, project: Project, iteration: Iteration) -> Job:
    """Queue the job that fits an iteration's model anew; open receipts of what it has learned from wait for it."""
    payload: dict[str, Any] = {"augmentation": dict(project.augmentation)}
    trained = session.scalar(
        select(Job.payload)
        .where(Job.kind.in_(("train", REFIT)), Job.subject == iteration.id)
        .order_by(Job.created.desc())
        .limit(1)
    )
    iteration.unlearning = PENDING
    waiting = select(Receipt.id).where(Receipt.id.in_(_pending_receipts(iteration.id)), Receipt.state == receipts.OPEN)
    ledger.wait_for(session, project.account_id, project.id, iteration.id, session.scalars(waiting).all())
    return rows.enqueue(
        session,
        kind=REFIT,
        account_id=project.account_id,
        project_id=project.id,
        subject=iteration.id,
        lane=rows.TRAINING,
        priority=_FIRST,
        payload=payload if trained is None else dict(trained),
    )


def _keep(session: Session, project: Project, iteration: Iteration) -> str:
    if iteration.unlearning != PENDING:  # by an earlier policy: it will forget these too
        iteration.unlearning = KEPT
    return iteration.unlearning


def _retrain(session: Session, project: Project, iteration: Iteration) -> str:
    if iteration.origin is not None:
        return _keep(session, project, iteration)
    if not _fittable(session, iteration):
        return give_up(session, iteration)
    queue(session, project, iteration)
    return PENDING


def _unpublish(session: Session, project: Project, iteration: Iteration) -> str:
    _withdraw(session, iteration)
    iteration.unlearning = UNPUBLISHED
    return UNPUBLISHED


def _delete(session: Session, project: Project, iteration: Iteration) -> str:
    _withdraw(session, iteration)
    iterations.delete(session, project, iteration.id)
    return DELETED


def _holds(session: Session, project: Project, iteration: Iteration) -> str:
    return HOLDS


POLICIES: dict[str, Callable[[Session, Project, Iteration], str]] = {
    KEEP: _keep,
    RETRAIN: _retrain,
    UNPUBLISH: _unpublish,
    DELETE: _delete,
}


def _withdraw(session: Session, iteration: Iteration) -> None:
    if iteration.publish_name is not None or iteration.is_default:
        iterations.withdraw(session, iteration)


def _pending_receipts(iteration_id: str) -> Select[str]:
    """Receipts of the images that an iteration's model still has learned from."""
    return select(Lineage.receipt).where(Lineage.iteration_id == iteration_id, Lineage.unlearned.is_(None)).distinct()


def _fittable(session: Session, iteration: Iteration) -> bool:
    """Whether each tag has an image left; whether these are enough, the job sees."""
    bare = select(func.count()).where(
        IterationTag.iteration_id == iteration.id, IterationTag.position.is_not(None), IterationTag.image_count < 1
    )
    return iteration.origin is None and not session.scalar(bare)
