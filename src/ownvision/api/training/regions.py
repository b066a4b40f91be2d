"""Tags and regions on images."""

from starlette.responses import Response

from ownvision.api import models
from ownvision.api.parameters import ImageIds, ProjectId, RegionIds, TagIds, at_most, given
from ownvision.api.receipted import receipted
from ownvision.api.routes import TheCall, operation, training
from ownvision.api.uploads import box
from ownvision.api.wire import Json, empty
from ownvision.data_rights import erasure
from ownvision.services import images, projects, regions
from ownvision.wire import shapes

router = training("image tags and regions")


@operation(router, "POST", "/projects/{projectId}/images/tags", models.ImageTagCreateSummary)
def create_image_tags(call: TheCall, project_id: ProjectId, batch: models.ImageTagCreateBatch) -> Json:
    """Associate a set of images with a set of tags."""
    entries = given(batch.tags, "tags")
    at_most(entries, call.limits.batch_image_tags, "image tags")
    pairs = [(entry.image_id, entry.tag_id) for entry in entries]
    with call.database.write() as session:
        project = projects.lock(session, call.account_id, project_id)
        created, duplicated, exceeded = images.add_tags(session, project, pairs, call.limits)

    def shape(found: list[tuple[str, str]]) -> list[shapes.Shape]:
        return [{"imageId": image_id, "tagId": tag_id} for image_id, tag_id in found]

    return call.json({"created": shape(created), "duplicated": shape(duplicated), "exceeded": shape(exceeded)})


@operation(router, "DELETE", "/projects/{projectId}/images/tags", None, status=(204,))
def delete_image_tags(call: TheCall, project_id: ProjectId, image_ids: ImageIds, tag_ids: TagIds) -> Response:
    """Remove a set of tags from a set of images."""
    at_most(given(image_ids, "imageIds"), call.limits.batch_untag_images, "images")
    at_most(given(tag_ids, "tagIds"), call.limits.batch_tags, "tags")
    with call.database.write() as session:
        receipt = erasure.erase_image_tags(session, call.who, project_id, image_ids, tag_ids)
    return receipted(call, receipt, empty())


@operation(router, "POST", "/projects/{projectId}/images/regions", models.ImageRegionCreateSummary, status=(200, 207))
def create_image_regions(call: TheCall, project_id: ProjectId, batch: models.ImageRegionCreateBatch) -> Json:
    """Create a set of image regions."""
    wanted = given(batch.regions, "regions")
    at_most(wanted, call.limits.batch_regions, "regions")
    entries = [regions.RegionEntry(item.image_id, box(item)) for item in wanted]
    with call.database.write() as session:
        project = projects.lock(session, call.account_id, project_id)
        created, duplicated, exceeded = regions.add(session, project, entries, call.limits)
    answer = {
        "created": [{"imageId": image_id, **shapes.region(view, named=False)} for image_id, view in created],
        "duplicated": [shapes.region_entry(entry) for entry in duplicated],
        "exceeded": [shapes.region_entry(entry) for entry in exceeded],
    }
    return call.json(answer, call.version.partial if duplicated or exceeded else 200)


@operation(router, "DELETE", "/projects/{projectId}/images/regions", None, status=(204,))
def delete_image_regions(call: TheCall, project_id: ProjectId, region_ids: RegionIds) -> Response:
    """Delete a set of image regions."""
    at_most(given(region_ids, "regionIds"), call.limits.batch_regions, "regions")
    with call.database.write() as session:
        receipt = erasure.erase_regions(session, call.who, project_id, region_ids)
    return receipted(call, receipt, empty())
