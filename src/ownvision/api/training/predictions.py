"""Quick test, and the stored predictions."""

from typing import Annotated

from fastapi import Query, Request
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ownvision.api import models, predicting, uploads
from ownvision.api.parameters import Flag, ForIteration, PredictionIds, ProjectId, at_most, given
from ownvision.api.receipted import receipted
from ownvision.api.routes import TheCall, operation, training
from ownvision.api.spool import Spool
from ownvision.api.wire import Json, empty
from ownvision.data_rights import erasure
from ownvision.services import predictions, projects
from ownvision.store.tables import IterationTag
from ownvision.wire import shapes

router = training("predictions")


@operation(
    router,
    "POST",
    "/projects/{projectId}/quicktest/image",
    models.ImagePrediction,
    body=uploads.PICTURES_BODY,
)
async def quick_test_image(
    call: TheCall,
    request: Request,
    project_id: ProjectId,
    iteration_id: ForIteration,
    store: Annotated[Flag, Query()] = True,
) -> Json:
    """Quick test an image."""
    with Spool(call.components.settings.data) as spool:
        data = await uploads.one_picture(request, call, spool, call.limits.training_image_bytes)
    return await run_in_threadpool(predicting.quick_test, call, project_id, iteration_id, data, store=store)


@operation(router, "POST", "/projects/{projectId}/quicktest/url", models.ImagePrediction)
async def quick_test_image_url(
    call: TheCall,
    project_id: ProjectId,
    image_url: models.ImageUrl,
    iteration_id: ForIteration,
    store: Annotated[Flag, Query()] = True,
) -> Json:
    """Quick test an image url."""
    data = await predicting.fetched(call, image_url.url, call.limits.training_image_bytes)
    return await run_in_threadpool(predicting.quick_test, call, project_id, iteration_id, data, store=store)


@operation(router, "POST", "/projects/{projectId}/predictions/query", models.PredictionQueryResult)
def query_predictions(call: TheCall, project_id: ProjectId, query: models.PredictionQueryToken) -> Json:
    """Get images that were sent to your prediction endpoint."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        token, rows = predictions.query(session, project, query.model_dump(by_alias=True), call.limits)
        of_iterations = {row.iteration_id for row in rows}
        tags: dict[str, dict[str, IterationTag]] = {iteration_id: {} for iteration_id in of_iterations}
        for tag in session.scalars(select(IterationTag).where(IterationTag.iteration_id.in_(of_iterations))):
            tags[tag.iteration_id][tag.tag_id] = tag
        results = [shapes.stored_prediction(call, row, tags[row.iteration_id]) for row in rows]
    return call.json(call.version.show("PredictionQueryResult", {"token": token, "results": results}))


@operation(router, "DELETE", "/projects/{projectId}/predictions", None, status=(204,))
def delete_prediction(call: TheCall, project_id: ProjectId, ids: PredictionIds) -> Response:
    """Delete a set of predicted images and their associated prediction results."""
    limit = call.limits.batch_predictions
    at_most(given(ids, "ids", "BadRequestPredictionIdsMissing"), limit, "ids", "BadRequestPredictionIdsExceededCount")
    with call.database.write() as session:
        receipt = erasure.erase_predictions(session, call.who, project_id, ids)
    return receipted(call, receipt, empty())
