"""What each kind of job does, and what its failure means for the thing it is about."""

from collections.abc import Callable

from sqlalchemy.orm import Session

from ownvision.data_rights import closing, refit, takeouts
from ownvision.data_rights.takeout import restoring
from ownvision.jobs.rows import Claim
from ownvision.services import embedding, exports, fitting, preflight
from ownvision.services.components import Components
from ownvision.services.travel import arriving
from ownvision.store.tables import Job


def _nothing(session: Session, project_id: str, subject: str, reason: str) -> None:
    """The job's row says all: training makes embeddings that are missing, a preflight can be asked for again."""


HANDLERS: dict[str, Callable[[Components, Claim], None]] = {
    "train": fitting.run,
    "embed": embedding.embed,
    "examine": preflight.run,
    "export": exports.run,
    "import": arriving.run,
    "restore": restoring.run,
    "takeout": takeouts.run,
    "refit": refit.run,
    closing.KIND: closing.run,
}
ON_FAILED: dict[str, Callable[[Session, str, str, str], None]] = {
    "train": fitting.failed,
    "embed": _nothing,
    "examine": _nothing,
    "export": exports.failed,
    "import": arriving.failed,
    "restore": restoring.failed,
    "takeout": takeouts.failed,
    "refit": refit.failed,
    closing.KIND: closing.failed,
}


def on_failed(session: Session, job: Job, reason: str) -> None:
    """Tell the thing a job was about that it has failed."""
    ON_FAILED[job.kind](session, job.project_id or "", job.subject, reason)
