"""What no iteration covers any more, goes.

A closed row (`until` set) is covered by an iteration of its project whose revision r has ``since <= r < until``. Called
with every change that closes rows, and when an iteration goes.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from ownvision.jobs import rows
from ownvision.store import ledger, tally
from ownvision.store.tables import Image, ImageMetadata, ImageTag, Iteration, Job, Region, Suggestion

_PART = 500


def release(session: Session, project_id: str) -> int:
    """Delete the closed images, image-tags and regions that no iteration covers, and doom the images' bytes.

    Returns:
        How many images went.
    """
    session.flush()
    for kind, table in (("imageTags", ImageTag), ("regions", Region)):
        gone = session.execute(
            delete(table).where(*_uncovered(table, project_id)).execution_options(synchronize_session=False)
        )
        tally.count(session, kind, gone.rowcount)  # type: ignore[attr-defined]
    found = session.execute(select(Image.seq, Image.id).where(*_uncovered(Image, project_id))).all()
    if found:
        remove(session, [seq for seq, _ in found])
        ledger.doom(session, [ledger.image_prefix(project_id, image_id) for _, image_id in found])
    session.expire_all()
    return len(found)


def remove(session: Session, seqs: Sequence[int]) -> None:
    """Delete the rows of images with all that hangs on them, counted by kind; their bytes are the caller's to doom."""
    for start in range(0, len(seqs), _PART):
        part = seqs[start : start + _PART]
        _forget_preflights(session, part)
        named = select(func.count(Image.file_name)).where(Image.seq.in_(part))
        tally.count(session, "fileNames", session.scalar(named) or 0)
        for kind, table in (
            ("imageTags", ImageTag),
            ("regions", Region),
            ("metadata", ImageMetadata),
            ("suggestions", Suggestion),
        ):
            hanging = session.execute(
                delete(table).where(table.image_seq.in_(part)).execution_options(synchronize_session=False)
            )
            tally.count(session, kind, hanging.rowcount)  # type: ignore[attr-defined]
        gone = session.execute(delete(Image).where(Image.seq.in_(part)).execution_options(synchronize_session=False))
        tally.count(session, "images", gone.rowcount)  # type: ignore[attr-defined]


def _forget_preflights(session: Session, seqs: Sequence[int]) -> None:
    """A preflight names images: what it found goes with the first of them; one under way begins anew."""
    owners = session.scalars(select(Image.project_id).where(Image.seq.in_(seqs)).distinct()).all()
    for project_id in owners:
        rows.again(session, "examine", project_id)
    session.execute(
        update(Job)
        .where(Job.kind == "examine", Job.project_id.in_(owners), Job.result.is_not(None))
        .values(result=None)
        .execution_options(synchronize_session=False)
    )


def _uncovered(table: type[Image] | type[ImageTag] | type[Region], project_id: str) -> tuple[ColumnElement[bool], ...]:
    covering = select(Iteration.id).where(
        Iteration.project_id == project_id, Iteration.revision >= table.since, Iteration.revision < table.until
    )
    return table.project_id == project_id, table.until.is_not(None), ~covering.exists()
