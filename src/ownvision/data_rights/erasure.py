"""Erasing: one function for each kind of thing, used by the API, the commands and the rules of retention alike.

Each asks for legal holds and refuses what must be refused before anything changes, and opens a receipt in its own
transaction. After the commit, `after_commit` does what must not happen before it.
"""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from ownvision.data_rights.who import Who
from ownvision.services.components import Components
from ownvision.store.tables import Receipt


def erase_images(
    session: Session, who: Who, project_id: str, image_ids: Sequence[str] | None, *, all_iterations: bool
) -> Receipt:
    """Erase images (None: all) from the workspace, or with `all_iterations` from everywhere.

    Raises:
        OwnVisionError: NotFoundProject, BadRequestInvalidIds, BadRequestOperationNotSupported (legal hold).
    """
    raise NotImplementedError


def erase_image_tags(
    session: Session, who: Who, project_id: str, image_ids: Sequence[str], tag_ids: Sequence[str]
) -> Receipt:
    """Take tags off images of the workspace; in detection their regions go too.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundImage, NotFoundTag, BadRequestOperationNotSupported (legal hold).
    """
    raise NotImplementedError


def erase_regions(session: Session, who: Who, project_id: str, region_ids: Sequence[str]) -> Receipt:
    """Erase regions of the workspace.

    Raises:
        OwnVisionError: NotFoundProject, BadRequestInvalidIds, BadRequestOperationNotSupported (legal hold).
    """
    raise NotImplementedError


def erase_tag(session: Session, who: Who, project_id: str, tag_id: str) -> Receipt:
    """Erase a tag from the workspace, with its regions; iterations keep the tag they learned.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundTag, BadRequestOperationNotSupported (legal hold).
    """
    raise NotImplementedError


def erase_iteration(session: Session, who: Who, project_id: str, iteration_id: str) -> Receipt:
    """Erase an iteration with its model, scores, exports, stored predictions, and what only it still covered.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundIteration, BadRequestWorkspaceNotDeletable,
            BadRequestIterationIsPublished, BadRequestOperationNotSupported (legal hold).
    """
    raise NotImplementedError


def erase_export(session: Session, who: Who, project_id: str, iteration_id: str, export_id: str) -> Receipt:
    """Erase one export; one that is being made is cancelled.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundIteration, NotFound, BadRequestOperationNotSupported (legal hold).
    """
    raise NotImplementedError


def erase_predictions(session: Session, who: Who, project_id: str, ids: Sequence[str]) -> Receipt:
    """Erase stored predictions with their pictures; ids that are not there are passed over.

    Raises:
        OwnVisionError: NotFoundProject, BadRequestPredictionIdsMissing, BadRequestOperationNotSupported (legal hold).
    """
    raise NotImplementedError


def erase_project(session: Session, who: Who, project_id: str) -> Receipt:
    """Close a project: from the commit on nobody sees it, and a job removes what it holds.

    Raises:
        OwnVisionError: NotFoundProject, BadRequestIterationIsPublished, BadRequestOperationNotSupported (legal hold).
    """
    raise NotImplementedError


def erase_account(session: Session, who: Who) -> Receipt:
    """Close an account with all its projects: its keys open nothing from the commit on, and a job removes the rest.

    Published iterations do not stand in the way: whoever could ask them held a key of this account.

    Raises:
        OwnVisionError: NotFoundApimSubscription, BadRequestOperationNotSupported (legal hold).
    """
    raise NotImplementedError


def after_commit(components: Components, receipt: Receipt) -> None:
    """What must follow an erasure's commit at once: keys destroyed, loaded models forgotten.

    After a crash before it the worker does the same. Every caller of the functions above calls it.
    """
    raise NotImplementedError
