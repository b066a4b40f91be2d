"""The prediction API: by bytes or URL, stored or not; from v3.0 by published name, before by default iteration."""

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from ownvision.api import models, predicting, uploads
from ownvision.api.parameters import Application, ForIteration, ProjectId, PublishedName
from ownvision.api.routes import BASE, Call, PredictionRoute, TheCall, make_router, operation
from ownvision.api.spool import Spool
from ownvision.api.wire import Json
from ownvision.domains import CLASSIFICATION, DETECTION
from ownvision.wire.versions import PREDICTION

router = make_router(PredictionRoute, f"{BASE}{PREDICTION}", tag="prediction")
_CLASSIFY = "/{projectId}/classify/iterations/{publishedName}"
_DETECT = "/{projectId}/detect/iterations/{publishedName}"


async def _image(
    call: Call, request: Request, project: str, name: str, application: str | None, kind: str, store: bool
) -> Json:
    with Spool(call.components.settings.data) as spool:
        data = await uploads.one_picture(request, call, spool, call.limits.prediction_image_bytes)
    return await run_in_threadpool(
        predicting.published, call, project, name, kind, data, store=store, application=application
    )


async def _url(
    call: Call, url: models.ImageUrl, project: str, name: str, application: str | None, kind: str, store: bool
) -> Json:
    data = await predicting.fetched(call, url.url, call.limits.prediction_image_bytes)
    return await run_in_threadpool(
        predicting.published, call, project, name, kind, data, store=store, application=application
    )


@operation(router, "POST", f"{_CLASSIFY}/image", models.ImagePrediction, body=uploads.PICTURES_BODY)
async def classify_image(
    call: TheCall, request: Request, project: ProjectId, name: PublishedName, application: Application = None
) -> Json:
    """Classify an image and saves the result."""
    return await _image(call, request, project, name, application, CLASSIFICATION, True)


@operation(router, "POST", f"{_CLASSIFY}/image/nostore", models.ImagePrediction, body=uploads.PICTURES_BODY)
async def classify_image_with_no_store(
    call: TheCall, request: Request, project: ProjectId, name: PublishedName, application: Application = None
) -> Json:
    """Classify an image without saving the result."""
    return await _image(call, request, project, name, application, CLASSIFICATION, False)


@operation(router, "POST", f"{_CLASSIFY}/url", models.ImagePrediction)
async def classify_image_url(
    call: TheCall, image_url: models.ImageUrl, project: ProjectId, name: PublishedName, application: Application = None
) -> Json:
    """Classify an image url and saves the result."""
    return await _url(call, image_url, project, name, application, CLASSIFICATION, True)


@operation(router, "POST", f"{_CLASSIFY}/url/nostore", models.ImagePrediction)
async def classify_image_url_with_no_store(
    call: TheCall, image_url: models.ImageUrl, project: ProjectId, name: PublishedName, application: Application = None
) -> Json:
    """Classify an image url without saving the result."""
    return await _url(call, image_url, project, name, application, CLASSIFICATION, False)


@operation(router, "POST", f"{_DETECT}/image", models.ImagePrediction, body=uploads.PICTURES_BODY)
async def detect_image(
    call: TheCall, request: Request, project: ProjectId, name: PublishedName, application: Application = None
) -> Json:
    """Detect objects in an image and saves the result."""
    return await _image(call, request, project, name, application, DETECTION, True)


@operation(router, "POST", f"{_DETECT}/image/nostore", models.ImagePrediction, body=uploads.PICTURES_BODY)
async def detect_image_with_no_store(
    call: TheCall, request: Request, project: ProjectId, name: PublishedName, application: Application = None
) -> Json:
    """Detect objects in an image without saving the result."""
    return await _image(call, request, project, name, application, DETECTION, False)


@operation(router, "POST", f"{_DETECT}/url", models.ImagePrediction)
async def detect_image_url(
    call: TheCall, image_url: models.ImageUrl, project: ProjectId, name: PublishedName, application: Application = None
) -> Json:
    """Detect objects in an image url and saves the result."""
    return await _url(call, image_url, project, name, application, DETECTION, True)


@operation(router, "POST", f"{_DETECT}/url/nostore", models.ImagePrediction)
async def detect_image_url_with_no_store(
    call: TheCall, image_url: models.ImageUrl, project: ProjectId, name: PublishedName, application: Application = None
) -> Json:
    """Detect objects in an image url without saving the result."""
    return await _url(call, image_url, project, name, application, DETECTION, False)


async def _image_by_id(
    call: Call, request: Request, project: str, iteration: str | None, application: str | None, store: bool
) -> Json:
    with Spool(call.components.settings.data) as spool:
        data = await uploads.one_picture(request, call, spool, call.limits.prediction_image_bytes)
    return await run_in_threadpool(
        predicting.by_id, call, project, iteration, data, store=store, application=application
    )


async def _url_by_id(
    call: Call, url: models.ImageUrl, project: str, iteration: str | None, application: str | None, store: bool
) -> Json:
    data = await predicting.fetched(call, url.url, call.limits.prediction_image_bytes)
    return await run_in_threadpool(
        predicting.by_id, call, project, iteration, data, store=store, application=application
    )


@operation(router, "POST", "/{projectId}/image", models.ImagePrediction, body=uploads.PICTURES_BODY)
async def predict_image(
    call: TheCall, request: Request, project: ProjectId, iteration: ForIteration, application: Application = None
) -> Json:
    """Predict an image and saves the result."""
    return await _image_by_id(call, request, project, iteration, application, True)


@operation(router, "POST", "/{projectId}/image/nostore", models.ImagePrediction, body=uploads.PICTURES_BODY)
async def predict_image_with_no_store(
    call: TheCall, request: Request, project: ProjectId, iteration: ForIteration, application: Application = None
) -> Json:
    """Predict an image without saving the result."""
    return await _image_by_id(call, request, project, iteration, application, False)


@operation(router, "POST", "/{projectId}/url", models.ImagePrediction)
async def predict_image_url(
    call: TheCall,
    image_url: models.ImageUrl,
    project: ProjectId,
    iteration: ForIteration,
    application: Application = None,
) -> Json:
    """Predict an image url and saves the result."""
    return await _url_by_id(call, image_url, project, iteration, application, True)


@operation(router, "POST", "/{projectId}/url/nostore", models.ImagePrediction)
async def predict_image_url_with_no_store(
    call: TheCall,
    image_url: models.ImageUrl,
    project: ProjectId,
    iteration: ForIteration,
    application: Application = None,
) -> Json:
    """Predict an image url without saving the result."""
    return await _url_by_id(call, image_url, project, iteration, application, False)
