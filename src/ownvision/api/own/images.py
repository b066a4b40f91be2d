"""What is kept of an image beside what the original shows."""

from sqlalchemy import select

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import ImageId, ProjectId
from ownvision.api.routes import TheCall, operation, own
from ownvision.api.wire import Json
from ownvision.errors import OwnVisionError
from ownvision.services import projects
from ownvision.store.tables import ApiKey, Image

router = own()


class ImageRecord(Wire):
    """What is kept of an image beside what the original shows."""

    id: Guid
    file_name: str | None
    uploaded_by: str | None
    format: str
    size: int
    sha256: str


@operation(router, "GET", "/projects/{projectId}/images/{imageId}", ImageRecord)
def get_image_record(call: TheCall, project_id: ProjectId, image_id: ImageId) -> Json:
    """An image's original file name, which key uploaded it, and its hash."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        image = session.scalar(select(Image).where(Image.id == image_id, Image.project_id == project.id))
        if image is None:
            raise OwnVisionError("NotFoundImage", f"There is no image {image_id} in project {project.id}.")
        key = session.get(ApiKey, image.uploaded_by) if image.uploaded_by else None
        return Json(
            {
                "id": image.id,
                "fileName": image.file_name,
                "uploadedBy": None if key is None else f"{key.kind} {key.slot}",
                "format": image.format,
                "size": image.size,
                "sha256": image.sha256,
            }
        )
