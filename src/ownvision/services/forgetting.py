"""What live learning has learned goes with what it learned it from."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from ownvision.store import tally
from ownvision.store.tables import Draft


def forget(session: Session, project_id: str) -> None:
    """Empty a project's draft: called wherever an image, a tag or a link of the two leaves the workspace, or an image
    may no longer be learned from.

    A fit under way is thrown away when it ends, since `forgotten` is another number then; the next one begins soon.
    """
    nothing = {"revision": None, "basis": None, "outcome": None, "reason": None, "learned": None, "score": None}
    gone = session.execute(
        update(Draft)
        .where(Draft.project_id == project_id, Draft.outcome.is_not(None))
        .values(**nothing, complete=False, suggested=None)
        .execution_options(synchronize_session=False)
    )
    tally.count(session, "drafts", gone.rowcount)  # type: ignore[attr-defined]
    session.execute(
        update(Draft)
        .where(Draft.project_id == project_id)
        .values(forgotten=Draft.forgotten + 1)
        .execution_options(synchronize_session=False)
    )
