"""One job in a process of its own: memory returns when it ends, and killing it is safe."""

import logging
import os
import threading

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from ownvision.data_rights import audit
from ownvision.jobs import rows
from ownvision.jobs.handlers import HANDLERS, ON_FAILED
from ownvision.services.components import Components, open_components
from ownvision.settings import Settings
from ownvision.store.audit import acting
from ownvision.store.tables import Job

log = logging.getLogger("ownvision.jobs")
# Requests come first, then the training that somebody waits for.
_NICE = {
    "train": 5,
    "refit": 5,
    "import": 5,
    "restore": 5,
    "takeout": 10,
    "export": 10,
    "examine": 10,
    "embed": 10,
    "erase": 10,
}


def run(components: Components, claim: rows.Claim) -> None:
    """Run a claimed job to its end; whatever happens, its row says so afterwards."""
    with acting(audit.of_job(claim.kind, claim.account_id, claim.asked_by, claim.project_id, claim.subject)):
        _run(components, claim)


def _run(components: Components, claim: rows.Claim) -> None:
    try:
        HANDLERS[claim.kind](components, claim)
    except rows.Stale:
        log.warning("job %s was taken up by another worker; this one gives it up", claim.job_id)
    except rows.Cancelled:
        _give_up(components, claim, "Cancelled.", rows.CANCELLED)
    except Exception as error:
        if _unwanted(components, claim):  # what it worked on may be gone already
            _give_up(components, claim, "Cancelled.", rows.CANCELLED)
            return
        log.exception("job %s (%s) failed", claim.job_id, claim.kind)
        _give_up(components, claim, _sentence(error), rows.FAILED)


def _unwanted(components: Components, claim: rows.Claim) -> bool:
    with components.database.read() as session:
        return bool(session.scalar(select(Job.cancel_requested).where(rows.held_by(claim))))


def _give_up(components: Components, claim: rows.Claim, reason: str, state: str) -> None:
    try:
        with components.database.write() as session:
            rows.fail(session, claim, reason, state)
            ON_FAILED[claim.kind](session, claim.project_id, claim.subject, reason)
    except rows.Stale:
        log.warning("job %s was taken up by another worker", claim.job_id)


def _sentence(error: Exception) -> str:
    message = getattr(error, "message", None)
    return message or f"An unexpected error stopped it ({type(error).__name__}); the service's log says more."


def _keep_lease(components: Components, claim: rows.Claim) -> None:
    lease = components.settings.job_lease
    rest = threading.Event()
    while not rest.wait(lease / 4):
        try:
            rows.heartbeat(components.database, claim, None, lease)
        except rows.Cancelled:
            continue  # the job's own thread asks too, and stops where it is safe
        except rows.Stale:
            os._exit(3)
        except SQLAlchemyError as error:
            log.warning("the lease of job %s was not renewed: %s", claim.job_id, error)


def main(settings: Settings, claim: rows.Claim) -> None:
    """All of a job's process: open the parts anew, keep the lease, run the job."""
    os.nice(_NICE[claim.kind])
    components = open_components(settings)
    threading.Thread(target=_keep_lease, args=(components, claim), daemon=True, name="lease").start()
    run(components, claim)
    components.database.close()
