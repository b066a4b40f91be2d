"""Erasing: one function for each kind of thing, used by the API, the commands and the rules of retention alike.

Each asks for legal holds and refuses what must be refused before anything changes, and opens a receipt in its own
transaction. After the commit, `after_commit` does what must not happen before it.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ownvision.data_rights import closing, holds, policies, receipts, scrubbing, takeouts
from ownvision.data_rights.who import Who
from ownvision.services import accounts, exports, images, iterations, predictions, projects, regions, tags
from ownvision.services.components import Components
from ownvision.store import ledger, tally
from ownvision.store.tables import Image, ImageTag, Lineage, Project, Receipt, Region

_PART = 500
_NAMED = 1_000  # ids of images that a receipt lists; all are in the journal


def erase_images(
    session: Session, who: Who, project_id: str, image_ids: Sequence[str] | None, *, all_iterations: bool
) -> Receipt:
    """Erase images (None: all) from the workspace, or with `all_iterations` from everywhere.

    Raises:
        OwnVisionError: NotFoundProject, BadRequestInvalidIds, BadRequestOperationNotSupported (legal hold).
    """
    project = _begin(session, who, project_id)
    everything = image_ids is None
    chosen = _ids_of(session, project, all_iterations) if image_ids is None else list(dict.fromkeys(image_ids))
    subjects = {"images": chosen} if len(chosen) <= _NAMED else {"imagesOf": [project.id]}
    receipt = receipts.begin(session, who.account_id, "DeleteImages", who.key_id, subjects)
    images.delete_images(session, project, None if everything else chosen, all_iterations=all_iterations)
    policies.apply(session, project, receipt)
    _keep_covered(session, receipt, chosen)
    _keep_learned(session, receipt, project)
    return _end(session, receipt, project)


def erase_image_tags(
    session: Session, who: Who, project_id: str, image_ids: Sequence[str], tag_ids: Sequence[str]
) -> Receipt:
    """Take tags off images of the workspace; in detection their regions go too.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundImage, NotFoundTag, BadRequestOperationNotSupported (legal hold).
    """
    project = _begin(session, who, project_id)
    subjects = {"images": list(dict.fromkeys(image_ids)), "tags": list(dict.fromkeys(tag_ids))}
    receipt = receipts.begin(session, who.account_id, "DeleteImageTags", who.key_id, subjects)
    images.remove_tags(session, project, image_ids, tag_ids)
    _keep_learned(session, receipt, project)
    return _end(session, receipt, project)


def erase_regions(session: Session, who: Who, project_id: str, region_ids: Sequence[str]) -> Receipt:
    """Erase regions of the workspace.

    Raises:
        OwnVisionError: NotFoundProject, BadRequestInvalidIds, BadRequestOperationNotSupported (legal hold).
    """
    project = _begin(session, who, project_id)
    subjects = {"regions": list(dict.fromkeys(region_ids))}
    receipt = receipts.begin(session, who.account_id, "DeleteImageRegions", who.key_id, subjects)
    regions.remove(session, project, region_ids)
    _keep_learned(session, receipt, project)
    return _end(session, receipt, project)


def erase_tag(session: Session, who: Who, project_id: str, tag_id: str) -> Receipt:
    """Erase a tag from the workspace, with its regions; iterations keep the tag they learned.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundTag, BadRequestOperationNotSupported (legal hold).
    """
    project = _begin(session, who, project_id)
    receipt = receipts.begin(session, who.account_id, "DeleteTag", who.key_id, {"tags": [tag_id]})
    tags.delete(session, project, tag_id)
    learned = len(iterations.that_learned(session, project, tag_id))
    if learned:
        receipts.keep(receipt, "iterationTags", learned, "Iterations keep the tags that they learned.")
    _keep_learned(session, receipt, project)
    return _end(session, receipt, project)


def erase_iteration(session: Session, who: Who, project_id: str, iteration_id: str) -> Receipt:
    """Erase an iteration with its model, scores, exports, stored predictions, and what only it still covered.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundIteration, BadRequestWorkspaceNotDeletable,
            BadRequestIterationIsPublished, BadRequestOperationNotSupported (legal hold).
    """
    project = _locked(session, who, project_id)
    receipt = receipts.begin(session, who.account_id, "DeleteIteration", who.key_id, {"iterations": [iteration_id]})
    iterations.delete(session, project, iteration_id)
    return _end(session, receipt, project)


def erase_export(session: Session, who: Who, project_id: str, iteration_id: str, export_id: str) -> Receipt:
    """Erase one export; one that is being made is cancelled.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundIteration, NotFound, BadRequestOperationNotSupported (legal hold).
    """
    project = _locked(session, who, project_id)
    receipt = receipts.begin(session, who.account_id, "DeleteExport", who.key_id, {"exports": [export_id]})
    exports.delete(session, project, iteration_id, export_id)
    return _end(session, receipt, project)


def erase_predictions(session: Session, who: Who, project_id: str, ids: Sequence[str]) -> Receipt:
    """Erase stored predictions with their pictures; ids that are not there are passed over.

    Raises:
        OwnVisionError: NotFoundProject, BadRequestPredictionIdsMissing, BadRequestOperationNotSupported (legal hold).
    """
    project = _locked(session, who, project_id)
    subjects = {"predictions": list(dict.fromkeys(ids))}
    receipt = receipts.begin(session, who.account_id, "DeletePrediction", who.key_id, subjects)
    predictions.delete(session, project, ids)
    return _end(session, receipt, project)


def erase_selection(
    session: Session, who: Who, image_ids: Mapping[str, Sequence[str]], prediction_ids: Mapping[str, Sequence[str]]
) -> Receipt:
    """Erase images everywhere and stored predictions, of several projects, under one receipt.

    Args:
        session: The transaction.
        who: Whose they are, and who asks.
        image_ids: By project.
        prediction_ids: By project.

    Raises:
        OwnVisionError: NotFoundProject, BadRequestInvalidIds, BadRequestOperationNotSupported (legal hold).
    """
    touched = [
        (_begin if project_id in image_ids else _locked)(session, who, project_id)
        for project_id in sorted({*image_ids, *prediction_ids})
    ]
    everything = {
        "images": [id for ids in image_ids.values() for id in ids],
        "predictions": [id for ids in prediction_ids.values() for id in ids],
    }
    subjects = {kind: ids for kind, ids in everything.items() if ids}
    receipt = receipts.begin(session, who.account_id, "ErasePerson", who.key_id, subjects)
    for project in touched:
        if project.id in image_ids:
            images.delete_images(session, project, image_ids[project.id], all_iterations=True)
            policies.apply(session, project, receipt)
        if project.id in prediction_ids:
            predictions.delete(session, project, prediction_ids[project.id])
    _keep_covered(session, receipt, everything["images"])
    return _end(session, receipt, *touched)


def erase_project(session: Session, who: Who, project_id: str) -> Receipt:
    """Close a project: from the commit on nobody sees it, and a job removes what it holds.

    Raises:
        OwnVisionError: NotFoundProject, BadRequestIterationIsPublished, BadRequestOperationNotSupported (legal hold).
    """
    project = projects.to_delete(session, who.account_id, project_id)
    holds.check(session, who.account_id, project_id)
    projects.check_unpublished(session, project)
    receipt = receipts.begin(session, who.account_id, "DeleteProject", who.key_id, {"projects": [project_id]})
    _remove_takeouts(session, who.account_id, project_id)
    projects.close(session, project)
    closing.enqueue(session, who.account_id, project_id)
    return receipts.record(session, receipt)


def erase_account(session: Session, who: Who) -> Receipt:
    """Close an account with all its projects: its keys open nothing from the commit on, and a job removes the rest.

    Published iterations do not stand in the way: whoever could ask them held a key of this account.

    Raises:
        OwnVisionError: NotFoundApimSubscription, BadRequestOperationNotSupported (legal hold).
    """
    account = accounts.get(session, who.account_id)
    holds.check(session, account.id, None)
    mine = select(Project.id).where(Project.account_id == account.id, Project.closed.is_(None)).order_by(Project.id)
    subjects = {"accounts": [account.id], "projects": list(session.scalars(mine))}
    receipt = receipts.begin(session, account.id, "DeleteAccount", who.key_id, subjects)
    accounts.close(session, account)
    closing.enqueue(session, account.id, account.id)
    receipts.keep(receipt, "receipts", receipt.number, "The account's receipts, this one too, are the proof.")
    return receipts.record(session, receipt)


def after_commit(components: Components, receipt: Receipt) -> None:
    """What must follow an erasure's commit at once: keys destroyed, loaded models forgotten.

    After a crash before it the worker does the same. Every caller of the functions above calls it.
    """
    subjects = receipt.subjects
    owners = [(ledger.ACCOUNT, id) for id in subjects.get("accounts", ())]
    if owners or receipt.operation == "DeleteProject":
        owners += [(ledger.PROJECT, id) for id in subjects["projects"]]
    scrubbing.destroy(components.keys, owners)
    predictions.forget_erased(components)


def _begin(session: Session, who: Who, project_id: str) -> Project:
    """The project, at its next revision, where nothing holds it."""
    project = projects.lock(session, who.account_id, project_id)
    holds.check(session, who.account_id, project_id)
    return project


def _locked(session: Session, who: Who, project_id: str) -> Project:
    """The project as it is, where nothing holds it: its workspace does not change."""
    project = projects.get(session, who.account_id, project_id, lock=True)
    holds.check(session, who.account_id, project_id)
    return project


def _end(session: Session, receipt: Receipt, *touched: Project) -> Receipt:
    for project in touched:
        _after(session, receipt, project)
    return receipts.record(session, receipt)


def _after(session: Session, receipt: Receipt, project: Project) -> None:
    if tally.counted(session):
        # Archives made before hold what is erased; whoever wants one makes another.
        _remove_takeouts(session, project.account_id, project.id)
        ledger.doom_rows(session, project.account_id, project.id)


def _keep_learned(session: Session, receipt: Receipt, project: Project) -> None:
    """Say how many tags and regions have left the workspace only."""
    for kind, table in (("imageTags", ImageTag), ("regions", Region)):
        closed = select(func.count()).where(table.project_id == project.id, table.until == project.revision)
        still = session.scalar(closed)
        if still:
            receipts.keep(receipt, kind, still, "Iterations were trained with them, and keep them until they go.")


def _ids_of(session: Session, project: Project, all_iterations: bool) -> list[str]:
    mine = select(Image.id).where(Image.project_id == project.id)
    return list(session.scalars(mine if all_iterations else mine.where(Image.until.is_(None))))


def _keep_covered(session: Session, receipt: Receipt, ids: Sequence[str]) -> None:
    """Say what iterations still have, and what stays of erased images so that iterations' figures don't move."""
    covered = lineage = 0
    for start in range(0, len(ids), _PART):
        part = ids[start : start + _PART]
        covered += session.scalar(select(func.count()).select_from(Image).where(Image.id.in_(part))) or 0
        learned = select(func.count(Lineage.image_id.distinct())).where(Lineage.image_id.in_(part))
        lineage += session.scalar(learned) or 0
    if covered:
        receipts.keep(
            receipt,
            "images",
            covered,
            "Iterations were trained on them. They go with those iterations, or by DeleteImages with allIterations.",
        )
    if lineage:
        receipts.keep(receipt, "lineage", lineage, "Ids of images, so that it is known what iterations learned from.")
    detached = tally.counted(session).get("scoresDetached", 0)
    if detached:
        receipts.keep(
            receipt,
            "scores",
            detached,
            "Pairs of probability and truth, without their image, so that iterations' figures do not move.",
        )


def _remove_takeouts(session: Session, account_id: str, project_id: str) -> None:
    """Archives that were made before hold what is erased, and go; those that are being made begin anew."""
    tally.count(session, "takeouts", len(takeouts.doom_holding(session, account_id, project_id)))
