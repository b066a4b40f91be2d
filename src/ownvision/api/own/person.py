"""A person's request: find what concerns one person, and act on what was chosen of it."""

from typing import Any

from fastapi import Request
from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ownvision.api import uploads
from ownvision.api.models import Guid, Wire
from ownvision.api.own.takeouts import TakeoutState, shapes
from ownvision.api.receipted import address, receipted
from ownvision.api.routes import Call, TheCall, operation, own
from ownvision.api.spool import Spool
from ownvision.api.wire import Json, loads, seconds
from ownvision.data_rights import person, takeouts
from ownvision.errors import OwnVisionError
from ownvision.services import uris
from ownvision.services.intake import OK

router = own()
_PATH = "/account/person"
_FILTERS = "filters"  # the part of a form that holds them; the other part is the picture


class PersonFilters(Wire):
    """What to look for; what meets any of it is found."""

    file_name: str | None = Field(None, max_length=1_024)
    metadata: dict[str, str] = Field(default_factory=dict)
    sha256: str | None = Field(None, pattern="^[0-9A-Fa-f]{64}$")
    like: float = Field(person.LEAST_LIKE, ge=-1, le=1)
    project_ids: list[Guid] = Field(default_factory=list)
    take: int = Field(100, ge=1, le=1_000)


class FoundIteration(Wire):
    """An iteration that has an image, or that made a prediction."""

    id: Guid
    name: str
    publish_name: str | None


class FoundPicture(Wire):
    """An image or stored prediction, why it was found and where it is."""

    kind: str
    id: Guid
    project_id: Guid
    by: list[str]
    likeness: float | None
    file_name: str | None
    created: str
    width: int
    height: int
    workspace: bool
    restricted: str | None
    iterations: list[FoundIteration]
    thumbnail_uri: str
    image_uri: str


class LearnedModel(Wire):
    """A model that learned from images that were found or erased."""

    iteration_id: Guid
    project_id: Guid
    images: int
    published: bool
    exports: int
    name: str | None = None
    publish_name: str | None = None
    outcome: str | None = None


class PersonFound(Wire):
    """What was found, best first, and the models that learned from it; nothing of it is kept."""

    found: list[FoundPicture]
    learned: list[LearnedModel]


class Selection(Wire):
    """Ids of images and stored predictions, in whichever projects of the account they are."""

    images: list[Guid] = Field(default_factory=list)
    predictions: list[Guid] = Field(default_factory=list)


class Restriction(Wire):
    """Images to restrict, or (`restricted` false) to treat like all others again."""

    images: list[Guid]
    restricted: bool = True


class Restricted(Wire):
    """How many images were not so before."""

    changed: int


class SelectionToErase(Selection):
    """What to erase; `confirm` is how many images and predictions these are, typed back."""

    confirm: int


class PersonErased(Wire):
    """Where the receipt is, which needs no key to be read, and the models that had learned from what was erased."""

    receipt: str
    learned: list[LearnedModel]


_BINARY = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"schema": PersonFilters.model_json_schema()},
        "multipart/form-data": {"schema": {"type": "object", "properties": {"picture": _BINARY, _FILTERS: _BINARY}}},
        "application/octet-stream": {"schema": _BINARY},
    },
}


@operation(router, "POST", f"{_PATH}/search", PersonFound, body=_BODY)
async def search_person(call: TheCall, request: Request) -> Json:
    """Find images and stored predictions by file name, metadata, exact bytes or likeness to a picture."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        filters, picture = _filters(await request.body()), None
    else:
        filters, picture = await _with_picture(call, request)
    search = person.Search(
        file_name=filters.file_name or None,
        metadata=filters.metadata,
        sha256=filters.sha256,
        picture=picture,
        like=filters.like,
        project_ids=filters.project_ids,
        take=filters.take,
    )
    return await run_in_threadpool(_search, call, search)


def _search(call: Call, search: person.Search) -> Json:
    found = person.find(call.components, call.account_id, search)
    with call.database.read() as session:
        images = [one.row.id for one in found if one.kind == person.IMAGE]
        learned = person.learned(session, call.account_id, images)
    return Json({"found": [_shape(call, one) for one in found], "learned": learned})


async def _with_picture(call: Call, request: Request) -> tuple[PersonFilters, bytes]:
    filters, picture = PersonFilters(), None
    with Spool(call.components.settings.data) as spool:
        for part in await uploads.pictures(request, call, spool, call.limits.training_image_bytes):
            if part.status != OK or part.read is None:
                raise OwnVisionError(
                    "BadRequestImageSizeBytes", f"The picture is larger than {call.limits.training_image_bytes} bytes."
                )
            if part.source.strip('"') == _FILTERS and part.file_name is None:
                filters = _filters(part.read())
            else:
                picture = part.read()
    if picture is None:
        raise OwnVisionError("BadRequestImageStream", "The form holds no picture; without one, send JSON.")
    return filters, picture


def _filters(body: bytes) -> PersonFilters:
    try:
        return PersonFilters.model_validate(loads(body))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise OwnVisionError("BadRequest", f"{where}: {first['msg']}.") from None
    except (ValueError, RecursionError):
        raise OwnVisionError("BadRequest", f"The {_FILTERS} are not JSON.") from None


@operation(router, "POST", f"{_PATH}/takeouts", TakeoutState)
def create_person_takeout(call: TheCall, selection: Selection) -> Json:
    """Take out the chosen images and predictions alone, without keys and trail; the archive is made by a job."""
    with call.database.write() as session:
        chosen = person.owned(session, call.account_id, selection.images, selection.predictions)
        row = takeouts.start(session, call.account_id, None, chosen)
        (shape,) = shapes(call, session, [row])
    return Json(shape)


@operation(router, "POST", f"{_PATH}/restrict", Restricted)
def restrict_person(call: TheCall, restriction: Restriction) -> Json:
    """Keep images, but neither learn from them nor suggest anything for them; or lift that again."""
    with call.database.write() as session:
        changed = person.restrict(session, call.who, restriction.images, restricted=restriction.restricted)
    return Json({"changed": changed})


@operation(router, "POST", f"{_PATH}/erase", PersonErased, status=(202,))
def erase_person(call: TheCall, selection: SelectionToErase) -> Response:
    """Erase images from everywhere, and stored predictions, under one receipt; their number typed back."""
    with call.database.write() as session:
        receipt = person.erase(session, call.who, selection.images, selection.predictions, confirmed=selection.confirm)
    return receipted(call, receipt, Json({"receipt": address(call, receipt), "learned": receipt.learned}, 202))


def _shape(call: Call, found: person.Found) -> dict[str, Any]:
    row = found.row
    path = uris.image_path if found.kind == person.IMAGE else uris.prediction_path
    restricted = getattr(row, "restricted", None)
    return {
        "kind": found.kind,
        "id": row.id,
        "projectId": row.project_id,
        "by": found.by,
        "likeness": None if found.likeness is None else round(found.likeness, 4),
        "fileName": getattr(row, "file_name", None),
        "created": seconds(row.created),
        "width": row.width,
        "height": row.height,
        "workspace": found.workspace,
        "restricted": None if restricted is None else seconds(restricted),
        "iterations": [{"id": one.id, "name": one.name, "publishName": one.publish_name} for one in found.iterations],
        "thumbnailUri": call.uri(path(row.project_id, row.id, uris.THUMBNAIL)),
        "imageUri": call.uri(path(row.project_id, row.id, uris.ORIGINAL)),
    }
