"""The job that fits a model anew without the images that were erased, and puts it in the old one's place.

The frozen revision lacks the erased images' rows, so what `fitting` learns from is exactly the rest: for a classifier
this is exact unlearning. The new model and its scores are written under the job's id while the old one answers;
one short transaction puts it in the old one's place, whose scores then go in parts; the receipts wait for that. If it
can't be fitted, nobody is to be answered by the old one: it is unpublished.
"""

import time
from dataclasses import replace
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from ownvision.data_rights import holds, policies, receipts
from ownvision.domains import CLASSIFICATION, DOMAINS
from ownvision.jobs import rows
from ownvision.services import exports, fitting, outputs, training
from ownvision.services.components import Components
from ownvision.services.fitting import MODEL, Trained
from ownvision.store import audit, ledger, tally
from ownvision.store.tables import Iteration, Project, Receipt, ScoredImage, Suggestion
from ownvision.store.tables.base import now

_PART = 2_000
_CLEARED = {"receipts", "suggestions"}


def run(components: Components, claim: rows.Claim) -> None:
    """Job: fit the model of the iteration that is the claim's subject anew.

    Raises:
        Stale: The job is no longer this worker's.
        Cancelled: It was asked to stop, or its iteration is gone.
        OwnVisionError: It can't be fitted, or a legal hold keeps the old model; the message is for the person.
    """
    begun = time.monotonic()
    with components.database.read() as session:
        iteration = session.get(Iteration, claim.subject)
        if iteration is None:
            raise rows.Cancelled(claim.job_id)
    if iteration.model_id != claim.job_id:  # else an earlier attempt got that far
        _replace(components, claim, iteration, begun)
    act = audit.current()
    with audit.acting(None if act is None else replace(act, upkeep=act.upkeep | _CLEARED)):  # the swap was the event
        while not _cleared(components, claim):
            pass


def failed(session: Session, project_id: str, iteration_id: str, reason: str) -> None:
    """The model could not be fitted anew: nothing of the new one is kept, and the old one is unpublished.

    Where it was, and only the old one's rows were still to go, they go now.
    """
    outputs.release(session, project_id, [iteration_id])
    iteration = session.get(Iteration, iteration_id)
    if iteration is None:
        return
    _remove_rows(session, iteration, None)
    if iteration.unlearning == policies.PENDING:
        policies.give_up(session, iteration)
    elif iteration.unlearning == policies.REFITTED:
        _arrive(session, iteration)


def _replace(components: Components, claim: rows.Claim, iteration: Iteration, begun: float) -> None:
    limits = components.settings.limits
    classifier = DOMAINS[iteration.domain_id].type == CLASSIFICATION
    least = limits.classification_images_per_tag if classifier else limits.detection_images_per_tag
    while True:
        trained = fitting.fit(components, claim, "Completed", least)
        prefix = ledger.iteration_prefix(claim.project_id, claim.job_id)
        outputs.write(components, claim, prefix, "iteration", MODEL, trained.model)
        staged = fitting.record_scores(components, claim, claim.job_id, trained)
        if staged and _swap(components, claim, trained, time.monotonic() - begun):
            return


def _swap(components: Components, claim: rows.Claim, trained: Trained, seconds: float) -> bool:
    """The new model takes the old one's place; False when images went or were restricted meanwhile: all anew."""
    with components.database.write() as session:
        project = session.get(Project, claim.project_id, with_for_update=True)
        outputs.hold(session, claim)
        iteration = session.get(Iteration, claim.subject)
        if iteration is None or project is None:
            raise rows.Cancelled(claim.job_id)
        holds.check(session, project.account_id, project.id)
        if not fitting.settle(session, iteration, trained):
            return False
        waited = ledger.awaiting(session, project.id, iteration.id)
        ledger.make_live(session, [ledger.iteration_prefix(project.id, claim.job_id)])
        ledger.doom_replaced(session, ledger.MODEL, ledger.iteration_prefix(project.id, iteration.model_id))
        iteration.model_id, iteration.unlearning = claim.job_id, policies.REFITTED
        iteration.trained_at = iteration.last_modified = now()
        iteration.training_seconds = seconds
        iteration.pipeline = training.pipeline(iteration.domain_id, claim.payload.get("augmentation") or {})
        exports.remake(session, project, iteration.id, waited)
    return True


def _cleared(components: Components, claim: rows.Claim) -> bool:
    """Remove a part of what the old model said; with the last of it the job ends. Returns whether it did."""
    with components.database.write() as session:
        session.get(Project, claim.project_id, with_for_update=True)
        outputs.hold(session, claim)
        iteration = session.get(Iteration, claim.subject)
        if iteration is None:
            raise rows.Cancelled(claim.job_id)
        waited = ledger.awaiting(session, claim.project_id, iteration.id)
        gone = _remove_rows(session, iteration, _PART)
        if waited and gone:
            receipts.record(session, session.get_one(Receipt, waited[0]))
        if gone:
            return False
        rows.finish(session, claim)
        session.flush()
        if iteration.unlearning == policies.PENDING:  # more was erased since: for the next one, as are the receipts
            policies.queue(session, session.get_one(Project, claim.project_id), iteration)
        else:
            _arrive(session, iteration)
    return True


def _arrive(session: Session, iteration: Iteration) -> None:
    project = session.get_one(Project, iteration.project_id)
    waited = ledger.arrived(session, project.id, iteration.id)
    ledger.doom_rows(session, project.account_id, project.id)
    policies.settle(session, iteration, waited, policies.REFITTED)


def _remove_rows(session: Session, iteration: Iteration, most: int | None) -> int:
    """Remove scores of models that are not the iteration's, which may hold what is left of erased images; and its
    older suggestions.

    Args:
        session: A write transaction.
        iteration: Whose.
        most: How many of each; None: all.
    """
    old: tuple[tuple[str, type[ScoredImage | Suggestion], Any, Any], ...] = (
        ("scores", ScoredImage, ScoredImage.id, ScoredImage.model_id != iteration.model_id),
        (
            "suggestions",
            Suggestion,
            Suggestion.image_seq,
            Suggestion.created < (iteration.trained_at or iteration.created),
        ),
    )
    total = 0
    for kind, table, key, condition in old:
        mine = table.iteration_id == iteration.id
        some = select(key).where(mine, condition).limit(most)
        gone = session.execute(delete(table).where(mine, key.in_(some)).execution_options(synchronize_session=False))
        tally.count(session, kind, gone.rowcount)  # type: ignore[attr-defined]
        total += int(gone.rowcount)  # type: ignore[attr-defined]
    return total
