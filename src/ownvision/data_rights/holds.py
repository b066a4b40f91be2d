"""Legal holds: while there is one, nothing of its project or account is erased, by nobody and by no rule.

An erasure that was committed before the hold was placed goes on: its rows are gone, and its files follow.
"""

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.store.tables import Account, LegalHold

LONGEST_REASON = 500  # characters


def place(session: Session, account_id: str, project_id: str | None, reason: str) -> LegalHold:
    """Hold a project, or (None) a whole account, until it is lifted.

    Raises:
        OwnVisionError: BadRequestInvalid, for a reason that is empty or too long.
    """
    if not reason.strip() or len(reason) > LONGEST_REASON:
        raise OwnVisionError("BadRequestInvalid", f"A hold needs a reason of 1 to {LONGEST_REASON} characters.")
    # Erasures under way share this row (`check`): they are committed before the hold, or see it (PostgreSQL).
    session.scalar(select(Account.id).where(Account.id == account_id).with_for_update())
    hold = LegalHold(account_id=account_id, project_id=project_id, reason=reason.strip())
    session.add(hold)
    session.flush()
    return hold


def all(session: Session, account_id: str, project_id: str | None) -> list[LegalHold]:
    """The holds on a project, its account's among them; without a project every hold in the account. Oldest first."""
    found = select(LegalHold).where(LegalHold.account_id == account_id).order_by(LegalHold.created, LegalHold.id)
    if project_id is not None:
        found = found.where(or_(LegalHold.project_id.is_(None), LegalHold.project_id == project_id))
    return list(session.scalars(found))


def lift(session: Session, account_id: str, project_id: str | None, hold_id: str) -> None:
    """Lift a hold of an account, or (with `project_id`) one on that project itself.

    Raises:
        OwnVisionError: NotFound.
    """
    hold = session.get(LegalHold, hold_id)
    if hold is None or hold.account_id != account_id or project_id not in (None, hold.project_id):
        where = "this account" if project_id is None else f"project {project_id} itself"
        raise OwnVisionError("NotFound", f"There is no hold {hold_id} on {where}.")
    session.delete(hold)
    session.flush()


def on(session: Session, account_id: str, project_id: str | None) -> LegalHold | None:
    """The oldest hold on a project, or on an account's own data; None: there is none."""
    found = all(session, account_id, project_id)
    return next((hold for hold in found if hold.project_id in (None, project_id)), None)


def check(session: Session, account_id: str, project_id: str | None) -> None:
    """See that something may be erased; asked before anything changes.

    Args:
        session: The transaction that is to erase.
        account_id: Whose it is.
        project_id: Of which project; None: the whole account goes, so no project may be held either.

    Raises:
        OwnVisionError: BadRequestOperationNotSupported, naming the hold.
    """
    session.scalar(select(Account.id).where(Account.id == account_id).with_for_update(read=True))
    hold = next(iter(all(session, account_id, project_id)), None)
    if hold is not None:
        what = "this account" if hold.project_id is None else f"project {hold.project_id}"
        raise OwnVisionError(
            "BadRequestOperationNotSupported",
            f"There is a legal hold on {what} since {hold.created:%Y-%m-%d} (hold {hold.id}): nothing of it is erased "
            "until the hold is lifted.",
        )
