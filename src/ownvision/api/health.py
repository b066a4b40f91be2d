"""``/health/live``, ``/health/ready`` and ``/metrics``: for whoever runs the service; they need no key."""

import shutil
import tempfile
import time
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from ownvision.api.metrics import CONTENT_TYPE, Metrics
from ownvision.api.routes import Route
from ownvision.api.wire import Json
from ownvision.services.components import Components

router = APIRouter(route_class=Route, tags=["operation"])
_WORKER_SECONDS = 10.0


@router.get("/health/live", operation_id="HealthLive", response_model=None)
def live() -> Response:
    """The process answers."""
    return Json({"status": "live"})


@router.get("/health/ready", operation_id="HealthReady", response_model=None, responses={503: {}})
def ready(request: Request) -> Response:
    """Whether requests can be served; each check with its result."""
    checks = _checks(request.app.state.components, draining=request.app.state.draining)
    fine = all(checks.values())
    return Json({"status": "ready" if fine else "not ready", "checks": checks}, 200 if fine else 503)


@router.get("/metrics", operation_id="Metrics", response_model=None, response_class=Response)
def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    kept: Metrics = request.app.state.metrics
    return Response(kept.text(), headers={"Content-Type": CONTENT_TYPE})


def _checks(components: Components, *, draining: bool) -> dict[str, Any]:
    settings = components.settings
    return {
        "database": _migrated(components),
        "keys": components.keys.readable(),
        "folder": _writable(components),
        "space": shutil.disk_usage(settings.data).free >= settings.min_free_bytes,
        "worker": not settings.worker or _worker_alive(components),
        "staying": not draining,
    }


def _migrated(components: Components) -> bool:
    try:
        return components.database.is_migrated()
    except SQLAlchemyError:
        return False


def _writable(components: Components) -> bool:
    try:
        with tempfile.TemporaryFile(dir=components.settings.data) as file:
            file.write(b"x")
            file.flush()
        return True
    except OSError:
        return False


def _worker_alive(components: Components) -> bool:
    try:
        return time.time() - (components.settings.data / "worker.alive").stat().st_mtime < _WORKER_SECONDS
    except OSError:
        return False
