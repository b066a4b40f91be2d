"""Smart labelling: suggested tags and regions of images that nobody tagged yet, and region proposals."""

from ownvision.api import models
from ownvision.api.parameters import ImageId, ImageIds, ProjectId, QueriedIteration, at_most, given
from ownvision.api.routes import TheCall, operation, training
from ownvision.api.wire import Json
from ownvision.services import projects, proposals, suggestions
from ownvision.wire import shapes

router = training("suggestions")


@operation(router, "POST", "/projects/{projectId}/tagsandregions/suggestions", list[models.SuggestedTagAndRegion])
def suggest_tags_and_regions(
    call: TheCall, project_id: ProjectId, iteration_id: QueriedIteration, image_ids: ImageIds
) -> Json:
    """Suggest tags and regions for an array/batch of untagged images."""
    at_most(given(image_ids, "imageIds"), call.limits.batch_images, "images")
    found = suggestions.suggest(call.components, call.account_id, project_id, iteration_id, image_ids)
    return call.json([shapes.suggestion(one, call.version) for one in found])


@operation(router, "POST", "/projects/{projectId}/images/suggested", models.SuggestedTagAndRegionQuery)
def query_suggested_images(
    call: TheCall, project_id: ProjectId, iteration_id: QueriedIteration, query: models.SuggestedTagAndRegionQueryToken
) -> Json:
    """Get untagged images whose suggested tags match given tags."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        token, found = suggestions.query(session, project, iteration_id, query.model_dump(by_alias=True), call.limits)
        results = [shapes.stored_suggestion(call, one, project.domain_id) for one in found]
    return call.json({"token": token, "results": results})


@operation(router, "POST", "/projects/{projectId}/images/suggested/count", dict[str, int])
def query_suggested_image_count(
    call: TheCall, project_id: ProjectId, iteration_id: QueriedIteration, query: models.TagFilter
) -> Json:
    """Get count of images whose suggested tags match given tags with at least the given probability."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        counts = suggestions.count(session, project, iteration_id, query.tag_ids or [], query.threshold or 0.0)
    return call.json(counts)


@operation(router, "POST", "/projects/{projectId}/images/{imageId}/regionproposals", models.ImageRegionProposal)
def get_image_region_proposals(call: TheCall, project_id: ProjectId, image_id: ImageId) -> Json:
    """Get region proposals for an image."""
    found = proposals.propose(call.components, call.account_id, project_id, image_id)
    return call.json(shapes.region_proposals(project_id, image_id, found.boxes.tolist(), found.confidences.tolist()))
