"""One route per operation: matched whatever the path's case, guarded before anything of the body is read."""

import json
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote, urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Scope

from ownvision.api import auth, models
from ownvision.api.errors import unknown_path, unsupported_media
from ownvision.api.memo import Memo
from ownvision.api.wire import Json, PascalJson, loads
from ownvision.data_rights import audit
from ownvision.data_rights.who import Who
from ownvision.limits import TIERS, Limits, Tier
from ownvision.services import uris
from ownvision.services.components import Components
from ownvision.services.usage import Meter
from ownvision.store.audit import acting
from ownvision.store.database import Database
from ownvision.wire.versions import EARLIER_PATHS, LATEST, PREDICTION, TRAINING, VERSIONS, Version

_IMPORT = "import"  # a path of its own where others have a project's id


BASE = "/customvision/{version}/"


@dataclass(frozen=True)
class Call:
    """What every operation knows of its request."""

    components: Components
    memo: Memo
    meter: Meter
    caller: auth.Caller
    version: Version
    request_id: str
    base_url: str

    @property
    def account_id(self) -> str:
        """The calling account."""
        return self.caller.account_id

    @property
    def who(self) -> Who:
        """The caller, by ids."""
        return Who(self.account_id, self.caller.key_id, self.request_id)

    @property
    def database(self) -> Database:
        """The rows."""
        return self.components.database

    @property
    def limits(self) -> Limits:
        """The limits that always hold."""
        return self.components.settings.limits

    @property
    def tier(self) -> Tier:
        """The counts that hold for the caller."""
        return TIERS[self.caller.tier]

    def json(self, value: Any, status: int = 200) -> Json:
        """An answer in the form of the call's version."""
        return (PascalJson if self.version.pascal else Json)(value, status)

    def uri(self, path: str) -> str:
        """A signed address for a path of this service."""
        return uris.sign(self.components, self.base_url, path)


class Route(APIRoute):
    """A route whose path is matched on the raw path, whatever its case; names in it keep theirs."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.path_regex = re.compile(self.path_regex.pattern, re.IGNORECASE)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is not Match.NONE:
            # The path is still percent-encoded here: a name may hold a slash.
            child["path_params"] = {name: unquote(value) for name, value in child["path_params"].items()}
            if child["path_params"].get("projectId", "").lower() == _IMPORT:
                return Match.NONE, {}
        return match, child


class _StrictRequest(Request):
    """A request whose JSON is read as everywhere here."""

    async def json(self) -> Any:
        try:
            return loads(await self.body())
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from None


class _Guarded(Route):
    """A route of one API (`api`): version known, key right, rate kept, and only then the body."""

    api: str

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        below = self.path.removeprefix(f"{BASE}{self.api}")
        names = {field.alias.lower(): field.alias for field in get_flat_params(self.dependant)}

        async def guarded(request: Request) -> Response:
            components: Components = request.app.state.components
            operation = self.operation_id or ""
            name = request.path_params.get("version")
            version = LATEST if name is None else VERSIONS.get((self.api, name.lower()))
            if version is None or not version.serves(operation, below):
                raise unknown_path()
            request.state.version = version
            _name_as_declared(request, names)
            memo: Memo = request.app.state.memo
            caller = await auth.authenticate(components, memo, request.headers, version)
            request.app.state.rates.check(caller.key_id, caller.tier, operation, version)
            if self.body_field is not None:
                _check_media(request)
                request = _StrictRequest(request.scope, request.receive)
            call = request.state.call = Call(
                components,
                memo,
                request.app.state.meter,
                caller,
                version,
                request.state.request_id,
                str(request.base_url).rstrip("/"),
            )
            act = audit.of_request(operation, call.who, request.path_params)
            with acting(act):
                answer = await handler(request)
            if answer.status_code < 400:
                request.app.state.trail.done(act)
            return answer

        return guarded


class TrainingRoute(_Guarded):
    """A route that a training key opens."""

    api = TRAINING


class PredictionRoute(_Guarded):
    """A route that a prediction key opens."""

    api = PREDICTION


def _name_as_declared(request: Request, names: Mapping[str, str]) -> None:
    """Parameters of the query are known in any case of their letters."""
    query: bytes = request.scope["query_string"]
    if not query:
        return
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    if any(name != names.get(name.lower(), name) for name, _ in pairs):
        declared = [(names.get(name.lower(), name), value) for name, value in pairs]
        request.scope["query_string"] = urlencode(declared).encode()


def _check_media(request: Request) -> None:
    given = request.headers.get("content-type", "")
    if given and request.headers.get("content-length") != "0":
        kind = given.partition(";")[0].strip().lower()
        if kind not in ("application/json", "text/json") and not kind.endswith("+json"):
            raise unsupported_media(kind)


async def the_call(request: Request) -> Call:
    """The request's `Call`, which its guard made."""
    call: Call = request.state.call
    return call


TheCall = Annotated[Call, Depends(the_call)]
ERROR: dict[int | str, dict[str, Any]] = {
    401: {"description": "The key is missing or wrong."},
    404: {"model": models.CustomVisionError | models.GatewayError, "description": "It is not there."},
    "default": {"model": models.CustomVisionError, "description": "What was wrong, and what to do."},
}


def make_router(route: type[_Guarded], base: str, *, tag: str) -> APIRouter:
    """A router of one API's operations, below `base`."""
    return APIRouter(
        prefix=base,
        tags=[tag],
        route_class=route,
        responses=ERROR,
        strict_content_type=False,
    )


def training(tag: str) -> APIRouter:
    """A router of training operations."""
    return make_router(TrainingRoute, f"{BASE}{TRAINING}", tag=tag)


def own() -> APIRouter:
    """A router of operations of OwnVision's own, which a training key opens."""
    return make_router(TrainingRoute, "/api", tag="own")


def operation(
    on: APIRouter,
    method: str,
    path: str,
    returns: Any,
    *,
    status: tuple[int, ...] = (200,),
    body: dict[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a function as the operation of its name (``create_tag`` is ``CreateTag``).

    Args:
        on: The router.
        method: The HTTP method.
        path: Below the router's prefix.
        returns: The answer's model, None for an empty one, `bytes` for a file.
        status: Statuses of success.
        body: The documented request body of an operation that reads it raw.
    """

    route = on.route_class
    assert issubclass(route, _Guarded)

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        described = _described(returns)
        # Said here and not by dependencies, which would be solved with every request: the guard has done their work.
        documented = {"security": [{auth.HEADERS[route.api]: []}], **({} if body is None else {"requestBody": body})}
        id = "".join(part.capitalize() for part in function.__name__.split("_"))
        earlier = EARLIER_PATHS.get(id, ())
        for at in (path, *earlier):
            on.add_api_route(
                at,
                function,
                methods=[method],
                operation_id=id,
                summary=(function.__doc__ or "").partition("\n")[0],
                response_model=None,
                response_class=Response if returns in (None, bytes) else JSONResponse,
                status_code=status[0],
                responses={code: dict(described) for code in status},
                openapi_extra=documented,
                include_in_schema=at not in earlier,
            )
        return function

    return add


def _described(returns: Any) -> dict[str, Any]:
    if returns is bytes:
        binary = {"schema": {"type": "string", "format": "binary"}}
        return {"description": "Success.", "content": {"application/octet-stream": binary}}
    return {"description": "Success."} if returns is None else {"model": returns, "description": "Success."}
