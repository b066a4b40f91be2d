"""Erase images from every iteration: rows, bytes, scores. What stays is lineage (iteration, image id, receipt)."""

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from ownvision.services import coverage
from ownvision.store import ledger, tally
from ownvision.store.tables import Image, ImageTag, Iteration, IterationTag, Lineage, Project, ScoredImage
from ownvision.store.tables.base import new_id


def erase_everywhere(session: Session, project: Project, chosen: ColumnElement[bool]) -> list[str]:
    """Delete the rows of images in a locked project and doom their bytes, also where iterations cover them.

    The scored pairs of probability and truth stay without their image, so that an iteration's figures don't move.

    Returns:
        The erased images' ids.
    """
    images = session.execute(select(Image.seq, Image.id, Image.since, Image.until).where(chosen)).all()
    if not images:
        return []
    receipt = ledger.receipt_of(session) or new_id()
    learned: dict[str, set[str]] = {}  # by iteration; a base is older than what went on from it
    mine = select(Iteration).where(Iteration.project_id == project.id).order_by(Iteration.number)
    for iteration in session.scalars(mine):
        inherited = learned.get((iteration.custom_base_model or {}).get("iterationId", ""), set())
        seen = [
            (seq, image_id)
            for seq, image_id, since, until in images
            if since <= iteration.revision and (until is None or until > iteration.revision)
        ]
        if seen or inherited:
            learned[iteration.id] = _forget(session, iteration, dict(seen), inherited, receipt)
    ids = [image_id for _, image_id, _, _ in images]
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        detached = session.execute(update(ScoredImage).where(ScoredImage.image_id.in_(part)).values(image_id=None))
        tally.count(session, "scoresDetached", detached.rowcount)  # type: ignore[attr-defined]
    coverage.remove(session, [seq for seq, _, _, _ in images])
    ledger.doom(session, [ledger.image_prefix(project.id, image_id) for image_id in ids])
    session.flush()
    session.expire_all()
    return ids


def _forget(
    session: Session, iteration: Iteration, images: dict[int, str], inherited: set[str], receipt: str
) -> set[str]:
    """What an iteration keeps of images that are erased: lower counts, and lineage of those it learned from.

    Args:
        session: A write transaction.
        iteration: Of a locked project.
        images: That its revision has, by `seq`.
        inherited: Ids of those that the iteration which it went on from has learned from.
        receipt: Of the erasure.

    Returns:
        Ids of those that it has learned from.
    """
    learned = {images[seq] for seq in _lower_counts(session, iteration, list(images))} if images else set()
    if iteration.status == "Completed":
        learned = learned - set(iteration.left_out) | inherited
        iteration.erased_count += len(learned)
        if learned and iteration.unlearning != "pending":
            iteration.unlearning = "kept"
        if iteration.left_out:
            iteration.left_out = [image_id for image_id in iteration.left_out if image_id not in images.values()]
    learned |= inherited
    session.add_all(Lineage(iteration_id=iteration.id, image_id=image_id, receipt=receipt) for image_id in learned)
    return learned


def _lower_counts(session: Session, iteration: Iteration, seqs: list[int]) -> set[int]:
    """Returns those of the images that carry a tag which the iteration was trained on."""
    trained = set(
        session.scalars(
            select(IterationTag.tag_id).where(
                IterationTag.iteration_id == iteration.id, IterationTag.position.is_not(None)
            )
        )
    )
    tagged: set[int] = set()
    learned: set[int] = set()
    for start in range(0, len(seqs), 500):
        links = session.execute(
            select(ImageTag.tag_id, ImageTag.image_seq).where(
                ImageTag.image_seq.in_(seqs[start : start + 500]),
                ImageTag.since <= iteration.revision,
                func.coalesce(ImageTag.until, iteration.revision + 1) > iteration.revision,
            )
        ).all()
        tagged.update(seq for _, seq in links)
        learned.update(seq for tag_id, seq in links if tag_id in trained)
        for tag_id in {tag_id for tag_id, _ in links}:
            lost = sum(1 for other, _ in links if other == tag_id)
            session.execute(
                update(IterationTag)
                .where(IterationTag.iteration_id == iteration.id, IterationTag.tag_id == tag_id)
                .values(image_count=IterationTag.image_count - lost)
            )
    iteration.image_count -= len(seqs)
    iteration.tagged_count -= len(tagged)
    return learned
