"""The application assembled from its routers."""

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

import ownvision
from ownvision.api import errors, files, health, middleware, models, own, prediction
from ownvision.api.limits import Rates
from ownvision.api.memo import Memo
from ownvision.api.metrics import Metrics
from ownvision.api.training import (
    account,
    domains,
    exports,
    images,
    iterations,
    predictions,
    projects,
    regions,
    tags,
    travel,
)
from ownvision.api.versions import PREDICTION, TRAINING, names
from ownvision.limits import Limits
from ownvision.services.components import Components
from ownvision.services.usage import Meter

_ROUTERS: tuple[APIRouter, ...] = (
    prediction.router,
    account.router,
    domains.router,
    projects.router,
    travel.router,
    tags.router,
    images.router,
    regions.router,
    iterations.router,
    exports.router,
    predictions.router,
    own.router,
    health.router,
    files.router,
)


def assemble(components: Components) -> FastAPI:
    """All routes, errors and the frame around them, over opened components."""
    app = FastAPI(
        title="OwnVision",
        version=ownvision.__version__,
        summary="Custom Vision that you own.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.components = components
    app.state.metrics = Metrics()
    app.state.rates = Rates()
    app.state.memo = Memo(components.database)
    app.state.meter = Meter(components.database)
    app.state.draining = False
    errors.install(app)
    for router in _ROUTERS:
        # Not `include_router`: it would match its own copy of the path, and not as our routes do.
        app.router.routes.extend(router.routes)
    settings = components.settings
    app.add_middleware(
        middleware.Frame,
        metrics=app.state.metrics,
        body_timeout=settings.body_timeout,
        body_rate=settings.body_rate,
    )
    app.openapi = lambda: _documentation(app)  # type: ignore[method-assign]
    return app


def _documentation(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes, openapi_version="3.1.0"
        )
        # The one body that is not parsed by the framework, since it streams.
        batch = models.ImageFileCreateBatch.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = document["components"]["schemas"]
        schemas |= {**batch.pop("$defs"), "ImageFileCreateBatch": batch, **schemas}
        limits: Limits = app.state.components.settings.limits
        for path, item in document["paths"].items():
            for operation in item.values():
                for parameter in operation.get("parameters", ()):
                    _describe(parameter, path, limits)
        app.openapi_schema = document
    return app.openapi_schema


def _describe(parameter: dict[str, Any], path: str, limits: Limits) -> None:
    if parameter["name"] == "version":
        parameter["schema"] = {"type": "string", "enum": names(TRAINING if "/training" in path else PREDICTION)}
    elif parameter["name"] == "take":
        parameter["schema"]["maximum"] = limits.page
    elif parameter["schema"].get("type") == "array":
        parameter |= {"style": "form", "explode": False}
