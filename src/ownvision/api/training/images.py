"""Images: found, counted, taken in, described, deleted."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Annotated, Any

from fastapi import Body, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ownvision.api import fetch, models, uploads
from ownvision.api.parameters import (
    Filter,
    Flag,
    ForIteration,
    ImageIds,
    OrderBy,
    ProjectId,
    Skip,
    TaggingStatus,
    TagIds,
    Take,
    at_most,
    given,
    page,
)
from ownvision.api.receipted import receipted
from ownvision.api.routes import Call, TheCall, operation, training
from ownvision.api.spool import Spool
from ownvision.api.wire import Json, empty
from ownvision.data_rights import erasure
from ownvision.errors import OwnVisionError
from ownvision.services import images, intake, projects
from ownvision.services.intake import Added, Picture
from ownvision.wire import shapes

router = training("images")
_NONE: list[Any] = []
_FETCHES = 8  # at once, of one batch


def _found(call: Call, project_id: str, take: int, skip: int, order_by: str, **wanted: Any) -> Json:
    at_most(wanted.get("tag_ids", []), call.limits.batch_tags, "tags")
    page(take, call.limits.page)
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        views = images.find(session, project, newest=order_by == "Newest", take=take, skip=skip, **wanted)
        return call.json([shapes.image(call, view) for view in views])


def _count(call: Call, project_id: str, **wanted: Any) -> Json:
    at_most(wanted.get("tag_ids", []), call.limits.batch_tags, "tags")
    with call.database.read() as session:
        return call.json(images.count(session, projects.get(session, call.account_id, project_id), **wanted))


@operation(router, "GET", "/projects/{projectId}/images", list[models.Image])
def get_images(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: ForIteration,
    tag_ids: TagIds = _NONE,
    tagging_status: TaggingStatus = "All",
    filter: Filter = None,
    order_by: OrderBy = "Newest",
    take: Take = 50,
    skip: Skip = 0,
) -> Json:
    """Get images for a given project iteration or workspace."""
    return _found(
        call,
        project_id,
        take,
        skip,
        order_by,
        iteration_id=iteration_id,
        tag_ids=tag_ids,
        tagging_status=tagging_status,
        filter=filter,
    )


@operation(router, "GET", "/projects/{projectId}/images/count", int)
def get_image_count(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: ForIteration,
    tagging_status: TaggingStatus = "All",
    filter: Filter = None,
    tag_ids: TagIds = _NONE,
) -> Json:
    """Get the number of images."""
    return _count(
        call, project_id, iteration_id=iteration_id, tagging_status=tagging_status, filter=filter, tag_ids=tag_ids
    )


@operation(router, "GET", "/projects/{projectId}/images/id", list[models.Image])
def get_images_by_ids(
    call: TheCall, project_id: ProjectId, iteration_id: ForIteration, image_ids: ImageIds = _NONE
) -> Json:
    """Get images by id for a given project iteration."""
    at_most(image_ids, call.limits.batch_ids, "images")
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        return call.json(
            [shapes.image(call, view) for view in images.by_ids(session, project, image_ids, iteration_id)]
        )


@operation(router, "GET", "/projects/{projectId}/images/tagged", list[models.Image])
def get_tagged_images(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: ForIteration,
    tag_ids: TagIds = _NONE,
    order_by: OrderBy = "Newest",
    take: Take = 50,
    skip: Skip = 0,
) -> Json:
    """Get tagged images for a given project iteration."""
    wanted = {"iteration_id": iteration_id, "tag_ids": tag_ids, "tagging_status": images.TAGGED}
    return _found(call, project_id, take, skip, order_by, **wanted)


@operation(router, "GET", "/projects/{projectId}/images/tagged/count", int)
def get_tagged_image_count(
    call: TheCall, project_id: ProjectId, iteration_id: ForIteration, tag_ids: TagIds = _NONE
) -> Json:
    """Gets the number of images tagged with the provided {tagIds}."""
    return _count(call, project_id, iteration_id=iteration_id, tag_ids=tag_ids, tagging_status=images.TAGGED)


@operation(router, "GET", "/projects/{projectId}/images/untagged", list[models.Image])
def get_untagged_images(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: ForIteration,
    order_by: OrderBy = "Newest",
    take: Take = 50,
    skip: Skip = 0,
) -> Json:
    """Get untagged images for a given project iteration."""
    wanted = {"iteration_id": iteration_id, "tagging_status": images.UNTAGGED}
    return _found(call, project_id, take, skip, order_by, **wanted)


@operation(router, "GET", "/projects/{projectId}/images/untagged/count", int)
def get_untagged_image_count(call: TheCall, project_id: ProjectId, iteration_id: ForIteration) -> Json:
    """Gets the number of untagged images."""
    return _count(call, project_id, iteration_id=iteration_id, tagging_status=images.UNTAGGED)


def _summary(call: Call, results: list[Added]) -> Json:
    shape = shapes.added(call, results)
    return call.json(shape, 200 if shape["isBatchSuccessful"] else call.version.partial)


async def _add(
    call: Call, project_id: str, pictures: list[Picture], tag_ids: list[str], metadata: dict[str, str] | None
) -> Json:
    def work() -> Json:
        results = intake.add_images(
            call.components,
            call.account_id,
            project_id,
            call.caller.key_id,
            pictures,
            tag_ids=tag_ids,
            metadata=metadata,
        )
        return _summary(call, results)

    return await run_in_threadpool(work)


@operation(
    router,
    "POST",
    "/projects/{projectId}/images",
    models.ImageCreateSummary,
    status=(200, 207),
    body=uploads.PICTURES_BODY,
)
async def create_images_from_data(
    call: TheCall, request: Request, project_id: ProjectId, tag_ids: TagIds = _NONE
) -> Json:
    """Add the provided images to the set of training images."""
    at_most(tag_ids, call.limits.batch_tags, "tags")
    with Spool(call.components.settings.data) as spool:
        pictures = await uploads.pictures(request, call, spool, call.limits.training_image_bytes)
        return await _add(call, project_id, pictures, tag_ids, None)


@operation(
    router,
    "POST",
    "/projects/{projectId}/images/files",
    models.ImageCreateSummary,
    status=(200, 207),
    body=uploads.FILES_BODY,
)
async def create_images_from_files(call: TheCall, request: Request, project_id: ProjectId) -> Json:
    """Add the provided batch of images to the set of training images."""
    with Spool(call.components.settings.data) as spool:
        batch, pictures = await uploads.files(request, call, spool)
        return await _add(call, project_id, pictures, batch.tag_ids or [], batch.metadata)


async def _all(fetches: Iterable[Coroutine[Any, Any, Picture]]) -> list[Picture]:
    """What these give, in order; when one fails, the others have ended before its error goes on."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in fetches]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


@operation(router, "POST", "/projects/{projectId}/images/urls", models.ImageCreateSummary, status=(200, 207))
async def create_images_from_urls(call: TheCall, project_id: ProjectId, batch: models.ImageUrlCreateBatch) -> Json:
    """Add the provided images urls to the set of training images."""
    entries = given(batch.images, "images", "BadRequestImageBatch")
    at_most(entries, call.limits.batch_images, "images")
    uploads.check_room(call)
    turns = asyncio.Semaphore(_FETCHES)
    with Spool(call.components.settings.data) as spool:

        async def picture(entry: models.ImageUrlCreateEntry) -> Picture:
            common: dict[str, Any] = {"tag_ids": entry.tag_ids or [], "boxes": uploads.boxes(entry)}
            try:
                async with turns:
                    data = await fetch.fetch(call, entry.url, call.limits.training_image_bytes)
                return Picture(entry.url, spool.keep(data), intake.OK, fetch.file_name(entry.url), **common)
            except fetch.FetchFailed as error:
                return Picture(entry.url, None, "ErrorImageSize" if error.too_large else "ErrorSource", **common)

        pictures = await _all(picture(entry) for entry in entries)
        return await _add(call, project_id, pictures, batch.tag_ids or [], batch.metadata)


@operation(router, "POST", "/projects/{projectId}/images/predictions", models.ImageCreateSummary, status=(200, 207))
def create_images_from_predictions(call: TheCall, project_id: ProjectId, batch: models.ImageIdCreateBatch) -> Json:
    """Add the specified predicted images to the set of training images."""
    entries = given(batch.images, "images", "BadRequestPredictionIdsMissing")
    at_most(entries, call.limits.batch_images, "predictions", "BadRequestPredictionIdsExceededCount")
    results = intake.add_from_predictions(
        call.components,
        call.account_id,
        project_id,
        call.caller.key_id,
        [(entry.id, entry.tag_ids or [], uploads.boxes(entry)) for entry in entries],
        tag_ids=batch.tag_ids or [],
        metadata=batch.metadata,
    )
    return _summary(call, results)


@operation(router, "DELETE", "/projects/{projectId}/images", None, status=(204, 202))
def delete_images(
    call: TheCall,
    project_id: ProjectId,
    image_ids: ImageIds = _NONE,
    all_images: Annotated[Flag, Query(alias="allImages")] = False,
    all_iterations: Annotated[Flag, Query(alias="allIterations")] = False,
) -> Response:
    """Delete images from the set of training images."""
    if all_images and image_ids:
        raise OwnVisionError("BadRequest", "Give either imageIds or allImages, not both.")
    if not all_images:
        at_most(given(image_ids, "imageIds (or allImages)"), call.limits.batch_ids, "images")
    with call.database.write() as session:
        receipt = erasure.erase_images(
            session, call.who, project_id, None if all_images else image_ids, all_iterations=all_iterations
        )
    return receipted(call, receipt, empty(call.version.begun if all_images or all_iterations else 204))


@operation(
    router,
    "POST",
    "/projects/{projectId}/images/metadata",
    models.ImageMetadataUpdateSummary,
    status=(200, 207),
)
def update_image_metadata(
    call: TheCall, project_id: ProjectId, image_ids: ImageIds, metadata: Annotated[dict[str, str], Body()]
) -> Json:
    """Update metadata of images."""
    at_most(given(image_ids, "imageIds"), call.limits.batch_ids, "images")
    with call.database.write() as session:
        project = projects.get(session, call.account_id, project_id, lock=True)
        results = images.update_metadata(session, project, image_ids, metadata, call.limits)
    entries = []
    for image_id, status, pairs in results:
        entries.append({"imageId": image_id, "status": status} | ({} if pairs is None else {"metadata": pairs}))
    fine = all(status == intake.OK for _, status, _ in results)
    return call.json({"isBatchSuccessful": fine, "images": entries}, 200 if fine else call.version.partial)
