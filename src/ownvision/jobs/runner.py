"""One job in a process of its own: memory returns when it ends, and killing it is safe."""

import logging
import os
import sys
import threading

from ownvision.jobs import rows
from ownvision.jobs.handlers import HANDLERS, ON_FAILED
from ownvision.jobs.parent import die_with_parent
from ownvision.services.components import Components, open_components
from ownvision.settings import Settings

log = logging.getLogger("ownvision.jobs")


def run(components: Components, claim: rows.Claim) -> None:
    """Run a claimed job to its end; whatever happens, its row says so afterwards."""
    try:
        HANDLERS[claim.kind](components, claim)
    except rows.Stale:
        log.warning("job %s was taken up by another worker; this one gives it up", claim.job_id)
    except rows.Cancelled:
        _give_up(components, claim, "Cancelled.", rows.CANCELLED)
    except Exception as error:
        log.exception("job %s (%s) failed", claim.job_id, claim.kind)
        _give_up(components, claim, _sentence(error), rows.FAILED)


def _give_up(components: Components, claim: rows.Claim, reason: str, state: str) -> None:
    try:
        with components.database.write() as session:
            rows.fail(session, claim, reason, state)
            ON_FAILED[claim.kind](session, claim.subject, reason)
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


def main() -> None:
    """Entry of the subprocess: ``python -m ownvision.jobs.runner JOB TOKEN``."""
    die_with_parent()
    os.nice(5)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    components = open_components(Settings())
    try:
        claim = rows.load(components.database, sys.argv[1], int(sys.argv[2]))
    except rows.Stale:
        return
    threading.Thread(target=_keep_lease, args=(components, claim), daemon=True, name="lease").start()
    run(components, claim)
    components.database.close()


if __name__ == "__main__":
    main()
