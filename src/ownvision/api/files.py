"""The bytes behind signed addresses, which need no key: pictures and their copies, export archives, whole projects."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session
from starlette.responses import Response, StreamingResponse

from ownvision.api.models import CustomVisionError, GatewayError
from ownvision.api.routes import Route
from ownvision.data_rights.actions import LINKS
from ownvision.errors import OwnVisionError
from ownvision.learning import pixels
from ownvision.services import uris
from ownvision.services.components import Components
from ownvision.services.travel import leaving, tokens
from ownvision.services.uris import Resource
from ownvision.store import ledger
from ownvision.store.blobs import BlobExists, BlobMissing
from ownvision.store.keys import KeyMissing
from ownvision.store.tables import Export, Image, Iteration, Prediction, Project, ProjectExport, Takeout
from ownvision.store.tables.base import now

router = APIRouter(
    route_class=Route,
    tags=["files"],
    responses={
        404: {"model": CustomVisionError | GatewayError, "description": "There is nothing at this address."},
        "default": {"model": CustomVisionError, "description": "This address opens nothing."},
    },
)
BYTES = "application/octet-stream"
_STEP = 1 << 20
_ARCHIVES = ("export", "takeout")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")
_GONE = OwnVisionError("NotFound", "There is nothing at this address any more.")


@router.get("/i-{project}/{image}", operation_id="GetImageFile", response_model=None, response_class=Response)
def image_file(request: Request, project: str, image: str) -> Response:
    """An image, its resized copy or its thumbnail."""
    return _answer(request)


@router.get(
    "/predictionimages/{project}/{image}",
    operation_id="GetPredictionImageFile",
    response_model=None,
    response_class=Response,
)
def prediction_file(request: Request, project: str, image: str) -> Response:
    """A stored prediction's image, its resized copy or its thumbnail."""
    return _answer(request)


@router.get("/m-{project}/{archive}", operation_id="GetExportFile", response_model=None, response_class=Response)
def export_file(request: Request, project: str, archive: str) -> Response:
    """An export's archive."""
    return _answer(request)


@router.get("/takeouts/{owner}/{archive}", operation_id="GetTakeoutFile", response_model=None, response_class=Response)
def takeout_file(request: Request, owner: str, archive: str) -> Response:
    """A takeout's archive; a download that was cut off goes on where it was (`Range`)."""
    return _answer(request)


@router.get(
    "/prjexp-{project}/project-export-info",
    operation_id="GetProjectFile",
    response_model=None,
    response_class=Response,
)
def project_file(request: Request, project: str) -> Response:
    """A whole project, as the token of ExportProject names it: a tar that ImportProject reads."""
    components: Components = request.app.state.components
    export_id = uris.resolve_project(components, request.scope["path"], request.url.query)
    with components.database.read() as session:
        export = None if export_id is None else tokens.valid(session, export_id)
    if export is None:
        raise OwnVisionError(
            "Forbidden", "This token was revoked, has expired or was altered; export the project again."
        )
    _opened(request, "GetProjectFile", "project", export.project_id, export.id)
    headers = {"Cache-Control": "no-store", "Content-Disposition": 'attachment; filename="project.tar"'}
    return StreamingResponse(_whole(components, export), 200, headers, "application/x-tar")


def _whole(components: Components, export: ProjectExport) -> Iterator[bytes]:
    with suppress(leaving.Withdrawn):  # the reader sees that the end is missing
        yield from leaving.stream(components, export)


def artifact(components: Components, request: Request, resource: Resource) -> Response:
    """What an address stands for as mere bytes, for a caller who needs no signature.

    Raises:
        OwnVisionError: NotFound.
    """
    with components.database.read() as session:
        media_type(session, resource)
        resource = placed(session, resource)
    key, size = _there(components, resource)
    return _ranged(components, request, key, size, BYTES, {"Accept-Ranges": "bytes"})


def _there(components: Components, resource: Resource) -> tuple[str, int]:
    try:
        key = resource.prefix + _made(components, resource)
        return key, components.blobs.size(key)
    except (BlobMissing, KeyMissing, pixels.BadImage):
        raise _GONE from None


def _answer(request: Request) -> Response:
    components: Components = request.app.state.components
    path, query = request.scope["path"], request.url.query
    resource = uris.resolve(components, path, query)
    with components.database.read() as session:
        media = media_type(session, resource)
        resource = placed(session, resource)
    tag = f'"{resource.tag}-{resource.file}"'
    headers = {"ETag": tag, "Cache-Control": _caching(resource, query), "Accept-Ranges": "bytes"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if resource.kind in _ARCHIVES:
        name = path.rpartition("/")[2]
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    key, size = _there(components, resource)
    if resource.file != uris.ORIGINAL and resource.kind not in _ARCHIVES and not key.endswith(uris.ORIGINAL):
        media = "image/jpeg"
    answer = _ranged(components, request, key, size, media, headers)
    if answer.status_code < 400:
        name = getattr(request.scope.get("route"), "operation_id", "")
        _opened(request, name, resource.kind, resource.project_id, resource.object_id)
    return answer


def _opened(request: Request, operation: str, kind: str, owner: str, target: str) -> None:
    request.app.state.trail.opened(operation, LINKS[kind].action, owner, target, request.state.request_id)


def media_type(session: Session, resource: Resource) -> str:
    """The type of what is there; that the row is there decides, whatever bytes a sweeper has yet to remove.

    Raises:
        OwnVisionError: NotFound.
    """
    if session.scalar(select(Project.closed).where(Project.id == resource.project_id)) is not None:
        raise _GONE
    if resource.kind == "image":
        format = session.scalar(
            select(Image.format).where(Image.id == resource.object_id, Image.project_id == resource.project_id)
        )
    elif resource.kind == "prediction":
        format = session.scalar(
            select(Prediction.format).where(
                Prediction.id == resource.object_id, Prediction.project_id == resource.project_id
            )
        )
    else:
        status = session.scalar(_status(resource))
        if status == "Done":
            return "application/zip"
        format = None
    if format is None:
        raise _GONE
    return f"image/{format.lower()}"


def _status(resource: Resource) -> Select[str]:
    if resource.kind == "takeout":
        return select(Takeout.status).where(
            Takeout.id == resource.object_id,
            func.coalesce(Takeout.project_id, Takeout.account_id) == resource.project_id,
        )
    return (
        select(Export.status)
        .join(Iteration, Iteration.id == Export.iteration_id)
        .where(Export.id == resource.object_id, Iteration.project_id == resource.project_id)
    )


def _made(components: Components, resource: Resource) -> str:
    """The file under the prefix that answers: a copy that is missing is made now, and stays with its original."""
    if resource.kind in _ARCHIVES or resource.file == uris.ORIGINAL:
        return resource.file
    if components.blobs.exists(resource.prefix + resource.file):
        return resource.file
    derived = pixels.derive(components.blobs.read(resource.prefix + uris.ORIGINAL))
    for name, data in ((uris.THUMBNAIL, derived.thumbnail), (uris.RESIZED, derived.resized)):
        if data is not None:
            with suppress(BlobExists):  # another request made it meanwhile
                components.blobs.put_new(resource.prefix + name, data, durable=False)
    made = resource.file == uris.THUMBNAIL or derived.resized is not None
    return resource.file if made else uris.ORIGINAL


def placed(session: Session, resource: Resource) -> Resource:
    """The same, where its bytes are: an export that was made anew lies elsewhere."""
    if resource.kind != "export":
        return resource
    archive_id = session.scalar(select(Export.archive_id).where(Export.id == resource.object_id))
    if archive_id is None:
        raise _GONE
    return replace(resource, prefix=ledger.export_prefix(resource.project_id, archive_id))


def _caching(resource: Resource, query: str) -> str:
    if resource.kind == "takeout":
        return "no-store"  # no copy is to stay on the way: it goes with the first thing in it that is erased
    if resource.kind == "export":
        return "private, no-cache"  # it may be made anew: ask with the ETag
    expiry = datetime.fromisoformat(parse_qs(query)["se"][0])
    return f"private, immutable, max-age={max(0, int((expiry - now()).total_seconds()))}"


def _ranged(
    components: Components, request: Request, key: str, size: int, media: str, headers: dict[str, str]
) -> Response:
    start, end, status = 0, size, 200
    match = _RANGE.match(request.headers.get("range", "").strip())
    if match and (match[1] or match[2]):
        if match[1]:
            start = int(match[1])
            end = min(int(match[2]) + 1, size) if match[2] else size
        else:
            start = max(0, size - int(match[2]))
        if start >= end:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    if end - start <= _STEP:
        data = components.blobs.read_range(key, start, end)
        return Response(data, status, headers, media)
    return StreamingResponse(_steps(components, key, start, end), status, headers, media)


def _steps(components: Components, key: str, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        # Up to the next frame of the sealed object, so that no frame is opened twice.
        stop = min(end, (start // _STEP + 1) * _STEP)
        yield components.blobs.read_range(key, start, stop)
        start = stop
