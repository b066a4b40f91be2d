"""The application assembled from its routers."""

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware

import ownvision
from ownvision.api import documentation, errors, files, health, middleware, own, prediction
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
    suggestions,
    tags,
    travel,
)
from ownvision.data_rights.audit import Trail
from ownvision.services import predictions as predictions_rules
from ownvision.services.components import Components
from ownvision.services.usage import Meter

# Lists of images shrink to a fifth; predictions are too short to gain, pictures and archives are packed already.
_GZIP_FROM, _GZIP_LEVEL = 2_048, 4
_PACKED = (*DEFAULT_EXCLUDED_CONTENT_TYPES, "application/octet-stream", "application/x-tar")
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
    suggestions.router,
    *own.ROUTERS,
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
    app.state.trail = Trail(components.database)
    # Beside it: another process may have erased an iteration whose model this one has loaded.
    app.state.meter = Meter(components.database, beside=lambda: predictions_rules.forget_erased(components))
    app.state.draining = False
    errors.install(app)
    for router in _ROUTERS:
        # Not `include_router`: it would match its own copy of the path, and not as our routes do.
        app.router.routes.extend(router.routes)
    settings = components.settings
    app.add_middleware(
        GZipMiddleware, minimum_size=_GZIP_FROM, compresslevel=_GZIP_LEVEL, exclude_content_types=_PACKED
    )
    if settings.cors_origins:
        # Callers show a key in a header, never a cookie: a page of any origin can do no more than any program.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["apim-request-id", "OwnVision-Receipt", "Retry-After"],
            max_age=86_400,
        )
    app.add_middleware(
        middleware.Frame,
        metrics=app.state.metrics,
        body_timeout=settings.body_timeout,
        body_rate=settings.body_rate,
    )
    documents = documentation.Documents(app)
    app.openapi = documents.newest  # type: ignore[method-assign]
    app.add_api_route("/openapi/{api}/{version}.json", documents.of_version, include_in_schema=False)
    return app
