"""Jobs and messages about what is no more: they name it, so they go before the database is rewritten."""

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from ownvision.jobs import rows
from ownvision.store.database import Database
from ownvision.store.tables import Account, Export, Iteration, Job, Notification, Project, Takeout

_SUBJECTS = (Iteration.id, Export.id, Takeout.id, Project.id, Account.id)
_NAMED = (("iterationId", Iteration.id), ("exportId", Export.id))


def forget(database: Database) -> int:
    """Remove what is over and about nothing that is there; returns how much it was."""
    with database.write() as session:
        return _forget_jobs(session) + _forget_messages(session)


def _forget_jobs(session: Session) -> int:
    over = Job.state.not_in((rows.QUEUED, rows.RUNNING))
    gone = [Job.subject.not_in(select(column)) for column in _SUBJECTS]
    done = session.execute(delete(Job).where(over, *gone).execution_options(synchronize_session=False))
    return int(done.rowcount)  # type: ignore[attr-defined]


def _forget_messages(session: Session) -> int:
    count = 0
    for message in session.scalars(select(Notification)):
        for name, column in _NAMED:
            id = message.event.get(name)
            if id is not None and session.scalar(select(column).where(column == id)) is None:
                session.delete(message)
                count += 1
                break
    session.flush()
    return count
