"""What each model learned from, and what becomes of it when that is erased."""

from typing import Annotated

from fastapi import Query
from pydantic import Field

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import IterationId, ProjectId, Skip, Take, at_most, given, page
from ownvision.api.routes import TheCall, operation, own
from ownvision.api.wire import Json
from ownvision.data_rights import lineage, policies
from ownvision.services import iterations, projects

router = own()
_POLICY = "/projects/{projectId}/erasure-policy"


class LearnedImage(Wire):
    """An image that an iteration was trained on; `receipt` and `unlearned` of one that was erased."""

    image_id: Guid
    receipt: Guid | None
    unlearned: str | None


class IterationLineage(Wire):
    """What an iteration was trained on: how many images are there, how many were erased, and a page of them."""

    iteration_id: Guid
    images: int
    erased: int
    erased_images: int
    unlearning: str | None
    entries: list[LearnedImage]


class ImagesToTrace(Wire):
    """Ids of images that are there, or were erased."""

    image_ids: Annotated[list[Guid], Field(default_factory=list)]


class LearnedExport(Wire):
    """An archive of a model."""

    id: Guid
    platform: str
    flavor: str | None
    status: str


class LearnedIteration(Wire):
    """An iteration whose model learned from such images."""

    iteration_id: Guid
    name: str
    publish_name: str | None
    images: int
    unlearned: int
    exports: list[LearnedExport]


class ErasurePolicy(Wire):
    """What becomes of a project's models when images that they learned from are erased."""

    policy: str


class Refit(Wire):
    """The job that fits a model anew."""

    job_id: Guid


@operation(router, "GET", "/projects/{projectId}/iterations/{iterationId}/lineage", IterationLineage)
def get_iteration_lineage(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: IterationId,
    take: Annotated[Take, Query()] = 50,
    skip: Annotated[Skip, Query()] = 0,
) -> Json:
    """What an iteration was trained on: first the erased images, with their receipts, then those that are there."""
    page(take, call.limits.page)
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        iteration = iterations.get(session, project, iteration_id)
        there, erased = lineage.counts(session, iteration)
        found = lineage.entries(session, iteration, skip, take)
    return Json(
        {
            "iterationId": iteration.id,
            "images": there,
            "erased": erased,
            "erasedImages": iteration.erased_count,
            "unlearning": iteration.unlearning,
            "entries": [entry.shape() for entry in found],
        }
    )


@operation(router, "POST", "/projects/{projectId}/lineage", list[LearnedIteration])
def trace_images(call: TheCall, project_id: ProjectId, images: ImagesToTrace) -> Json:
    """Which iterations, published names and exports learned from images: what their erasure would concern."""
    at_most(given(images.image_ids, "imageIds"), call.limits.batch_ids, "image ids")
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        learned = lineage.learned_from(session, call.account_id, images.image_ids, project.id)
    return Json([one.shape() for one in learned])


@operation(router, "POST", "/projects/{projectId}/iterations/{iterationId}/refit", Refit, status=(202,))
def refit_iteration(call: TheCall, project_id: ProjectId, iteration_id: IterationId) -> Json:
    """Train an iteration's model anew without the erased images it learned from; the old one answers until then."""
    with call.database.write() as session:
        project = projects.get(session, call.account_id, project_id, lock=True)
        job = policies.refit(session, project, iteration_id)
    return Json({"jobId": job.id}, 202)


@operation(router, "GET", _POLICY, ErasurePolicy)
def get_erasure_policy(call: TheCall, project_id: ProjectId) -> Json:
    """What becomes of a project's models when images that they learned from are erased."""
    with call.database.read() as session:
        return Json({"policy": projects.get(session, call.account_id, project_id).erasure_policy})


@operation(router, "PUT", _POLICY, ErasurePolicy)
def put_erasure_policy(call: TheCall, project_id: ProjectId, change: ErasurePolicy) -> Json:
    """Choose it, for erasures from now on: keep, retrain, unpublish or delete."""
    with call.database.write() as session:
        project = projects.get(session, call.account_id, project_id, lock=True)
        policies.choose(project, change.policy)
        return Json({"policy": project.erasure_policy})
