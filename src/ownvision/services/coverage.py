"""What no iteration covers any more, goes.

A closed row (`until` set) is covered by an iteration of its project whose revision r has ``since <= r < until``. Called
with every change that closes rows, and when an iteration goes.
"""

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from ownvision.store import ledger
from ownvision.store.tables import Image, ImageTag, Iteration, Region


def release(session: Session, project_id: str) -> int:
    """Delete the closed images, image-tags and regions that no iteration covers, and doom the images' bytes.

    Returns:
        How many images went.
    """
    session.flush()
    for table in (ImageTag, Region):
        session.execute(
            delete(table).where(*_uncovered(table, project_id)).execution_options(synchronize_session=False)
        )
    ids = list(session.scalars(select(Image.id).where(*_uncovered(Image, project_id))))
    if ids:
        session.execute(
            delete(Image).where(*_uncovered(Image, project_id)).execution_options(synchronize_session=False)
        )
        ledger.doom(session, [ledger.image_prefix(project_id, image_id) for image_id in ids])
    session.expire_all()
    return len(ids)


def _uncovered(table: type[Image] | type[ImageTag] | type[Region], project_id: str) -> tuple[ColumnElement[bool], ...]:
    covering = select(Iteration.id).where(
        Iteration.project_id == project_id, Iteration.revision >= table.since, Iteration.revision < table.until
    )
    return table.project_id == project_id, table.until.is_not(None), ~covering.exists()
