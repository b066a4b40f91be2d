"""Region proposals: where in an image of a detection project something could be, before anything was trained."""

from typing import TYPE_CHECKING

from ownvision.errors import OwnVisionError
from ownvision.learning import pixels
from ownvision.services import images, projects
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.keys import KeyMissing

if TYPE_CHECKING:
    from ownvision.learning.propose import Proposals


def propose(components: Components, account_id: str, project_id: str, image_id: str) -> "Proposals":
    """25 boxes for an image of the workspace, best first; found outside any transaction.

    Raises:
        OwnVisionError: NotFoundProject, NotFoundImage; BadRequestOperationNotSupported in a classification project
            or for a restricted image;
            ErrorRegionProposal when the image's bytes can't be read.
    """
    from ownvision.learning.propose import propose as found  # 40 MB that a service without need of it need not hold

    with components.database.read() as session:
        project = projects.get(session, account_id, project_id)
        if not projects.is_detection(project):
            raise OwnVisionError("BadRequestOperationNotSupported", "Only detection projects have regions.")
        image = images.live(session, project, [image_id])[image_id]
        if image.restricted is not None:
            raise OwnVisionError(
                "BadRequestOperationNotSupported",
                f"Image {image_id} is restricted: nothing is suggested for it until that is lifted.",
            )
    try:
        data = components.blobs.read(ledger.image_prefix(project_id, image_id) + "original")
        return found(data, components.settings.threads)
    except (BlobMissing, BlobDamaged, KeyMissing, pixels.BadImage):
        raise OwnVisionError(
            "ErrorRegionProposal", f"Image {image_id} can't be read; `ownvision doctor` says why."
        ) from None
