"""Legal holds: while there is one, nothing of its project or account is erased, by nobody and by no rule."""

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.store.tables import LegalHold


def check(session: Session, account_id: str, project_id: str | None) -> None:
    """See that something may be erased; asked before anything changes.

    Args:
        session: The transaction that is to erase.
        account_id: Whose it is.
        project_id: Of which project; None: the whole account goes, so no project may be held either.

    Raises:
        OwnVisionError: BadRequestOperationNotSupported, naming the hold.
    """
    held = select(LegalHold).where(LegalHold.account_id == account_id).order_by(LegalHold.created).limit(1)
    if project_id is not None:
        held = held.where(or_(LegalHold.project_id.is_(None), LegalHold.project_id == project_id))
    hold = session.scalar(held)
    if hold is not None:
        what = "this account" if hold.project_id is None else f"project {hold.project_id}"
        raise OwnVisionError(
            "BadRequestOperationNotSupported",
            f"There is a legal hold on {what} since {hold.created:%Y-%m-%d} (hold {hold.id}): nothing of it is erased "
            "until the hold is lifted.",
        )
