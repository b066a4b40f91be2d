"""The job that fits a model anew without the images that were erased, and puts it in the old one's place.

The frozen revision lacks the erased images' rows, so what `fitting` learns from is exactly the rest: for a classifier
this is exact unlearning. The new model is written under the job's id while the old one answers; one transaction swaps
model, scores and lineage. If it can't be fitted, nobody is to be answered by the old one: it is unpublished.
"""

import time

from sqlalchemy import delete
from sqlalchemy.orm import Session

from ownvision.data_rights import holds, policies, receipts
from ownvision.domains import CLASSIFICATION, DOMAINS
from ownvision.jobs import rows
from ownvision.services import exports, fitting, outputs, training
from ownvision.services.components import Components
from ownvision.services.fitting import MODEL, Trained
from ownvision.store import ledger, tally
from ownvision.store.database import insert_all
from ownvision.store.tables import Iteration, Project, Receipt, ScoredImage, Suggestion
from ownvision.store.tables.base import now


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
    limits = components.settings.limits
    classifier = DOMAINS[iteration.domain_id].type == CLASSIFICATION
    least = limits.classification_images_per_tag if classifier else limits.detection_images_per_tag
    while True:
        trained = fitting.fit(components, claim, "Completed", least)
        prefix = ledger.iteration_prefix(claim.project_id, claim.job_id)
        outputs.write(components, claim, prefix, "iteration", MODEL, trained.model)
        if _swap(components, claim, trained, time.monotonic() - begun):
            return


def failed(session: Session, project_id: str, iteration_id: str, reason: str) -> None:
    """The model could not be fitted anew: nothing of the new one is kept, and the old one is unpublished."""
    outputs.release(session, project_id, [iteration_id])
    iteration = session.get(Iteration, iteration_id)
    if iteration is not None and iteration.unlearning == policies.PENDING:
        policies.give_up(session, iteration)


def _swap(components: Components, claim: rows.Claim, trained: Trained, seconds: float) -> bool:
    """The last transaction; False when images were erased or restricted meanwhile: then all must be done anew."""
    with components.database.write() as session:
        project = session.get(Project, claim.project_id, with_for_update=True)
        outputs.hold(session, claim)
        iteration = session.get(Iteration, claim.subject)
        if iteration is None or project is None:
            raise rows.Cancelled(claim.job_id)
        holds.check(session, project.account_id, project.id)
        if not fitting.settle(session, iteration, trained):
            return False
        waited = ledger.arrived(session, project.id, iteration.id)
        ledger.make_live(session, [ledger.iteration_prefix(project.id, claim.job_id)])
        ledger.doom_replaced(session, ledger.MODEL, ledger.iteration_prefix(project.id, iteration.model_id))
        iteration.model_id, iteration.unlearning = claim.job_id, policies.REFITTED
        iteration.trained_at = iteration.last_modified = now()
        iteration.training_seconds = seconds
        iteration.pipeline = training.pipeline(iteration.domain_id, claim.payload.get("augmentation") or {})
        _replace_rows(session, iteration, trained)
        ledger.doom_rows(session, project.account_id, project.id)
        exports.remake(session, project, iteration.id, waited)
        policies.settle(session, iteration, waited, policies.REFITTED)
        if waited:
            receipts.record(session, session.get_one(Receipt, waited[0]))
        rows.finish(session, claim)
    return True


def _replace_rows(session: Session, iteration: Iteration, trained: Trained) -> None:
    """The new model's scores for the old one's, which also hold what is left of erased images; its suggestions go."""
    for kind, table in (("scores", ScoredImage), ("suggestions", Suggestion)):
        gone = session.execute(
            delete(table).where(table.iteration_id == iteration.id).execution_options(synchronize_session=False)
        )
        tally.count(session, kind, gone.rowcount)  # type: ignore[attr-defined]
    session.flush()
    insert_all(session, ScoredImage, [{**row, "iteration_id": iteration.id} for row in trained.scored])
