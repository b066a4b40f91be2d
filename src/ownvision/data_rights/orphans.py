"""What names what is no more, jobs and messages and their errors: it goes before the database is rewritten."""

import re

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from ownvision.jobs import rows
from ownvision.store.database import Database
from ownvision.store.tables import Account, Export, Image, Iteration, Job, Notification, Prediction, Project, Takeout

_SUBJECTS = (Iteration.id, Export.id, Takeout.id, Project.id, Account.id)
_NAMED = (("iterationId", Iteration.id), ("exportId", Export.id))

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PICTURES = {"image": Image.id, "prediction": Prediction.id}
_PICTURE = re.compile(rf"\b({'|'.join(_PICTURES)}) ({_UUID})", re.IGNORECASE)
_ERASED = "(erased)"


def forget(database: Database) -> int:
    """Remove what is over and about nothing that is there; returns how much it was."""
    with database.write() as session:
        return _forget_jobs(session) + _forget_messages(session) + _forget_errors(session)


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


def _forget_errors(session: Session) -> int:
    """A job or training that has failed says of which picture; once that is erased, it does not."""
    count = 0
    failed: list[Job | Iteration] = [
        *session.scalars(select(Job).where(_names_one(Job.error))),
        *session.scalars(select(Iteration).where(_names_one(Iteration.error))),
    ]
    for row in failed:
        told = _PICTURE.sub(lambda found: _told(session, found), row.error or "")
        count += told != row.error
        row.error = told
    session.flush()
    return count


def _names_one(error: InstrumentedAttribute[str | None]) -> ColumnElement[bool]:
    return or_(*(error.ilike(f"%{noun} ________-____-%") for noun in _PICTURES))


def _told(session: Session, found: re.Match[str]) -> str:
    noun, id = found.groups()
    column = _PICTURES[noun.lower()]
    there = session.scalar(select(column).where(column == id.lower()).limit(1))
    return f"{noun} {_ERASED}" if there is None else found.group()
