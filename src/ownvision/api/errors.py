"""Errors on the wire: ``{"code", "message"}`` from the service, the gateway's own forms for 401, 404 and 429."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from ownvision.api.wire import Json, PascalJson, empty
from ownvision.errors import OwnVisionError
from ownvision.wire.versions import LATEST, Version

logger = logging.getLogger("ownvision.api")

_NO_KEY = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
    "active subscription and use a correct regional API endpoint for your resource."
)

_NO_KEY_V2 = (
    "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription."
)


class Refused(HTTPException):
    """An answer that ends the request at the gateway, with its body as it is to be sent."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, headers=headers)
        self.body = body


def unauthorised(version: Version) -> Refused:
    """The gateway's answer to a missing or wrong key."""
    if version.gateway_error:
        return Refused(401, {"error": {"code": "401", "message": _NO_KEY}})
    return Refused(401, {"statusCode": 401, "message": _NO_KEY_V2})


def unknown_path() -> Refused:
    """The gateway's answer to a path or version it does not know."""
    return Refused(404, {"statusCode": 404, "message": "Resource not found"})


def too_many(operation: str, version: Version, tier: str, wait: int) -> Refused:
    """The gateway's answer above a tier's rate."""
    message = (
        f"Requests to the {operation} Operation under {version.gateway} have exceeded rate limit of your current "
        f"Custom_Vision.{version.api.capitalize()} {tier} pricing tier. Please retry after {wait} "
        f"second{'s' if wait > 1 else ''}. To increase your rate limit switch to a paid tier."
    )
    body = (
        {"error": {"code": "429", "message": message}}
        if version.gateway_error
        else {"statusCode": 429, "message": message}
    )
    return Refused(429, body, {"Retry-After": str(wait)})


def too_large(limit: int) -> Refused:
    """A body above what the operation takes."""
    return Refused(
        413,
        {"code": "BadRequestExceededBatchSize", "message": f"The body is larger than the {limit} bytes allowed here."},
        {"Connection": "close"},
    )


def too_slow(why: str) -> Refused:
    """A body that does not come, or not fast enough."""
    return Refused(
        408,
        {"code": "BadRequest", "message": f"{why}; send it again."},
        {"Connection": "close"},
    )


def unreadable_encoding(status: int, why: str) -> Refused:
    """A body packed in a way that is not known, or not as it says."""
    code = "UnsupportedMediaType" if status == 415 else "BadRequest"
    return Refused(status, {"code": code, "message": f"{why}."}, {"Connection": "close"})


def no_space() -> Refused:
    """Too little room on the disk to take bytes in."""
    return Refused(
        507,
        {"code": "ErrorUnknown", "message": "The server's disk is nearly full; ask its operator to make room."},
        {"Connection": "close"},
    )


def unsupported_media(given: str) -> OwnVisionError:
    """A body of a type that the operation does not take."""
    return OwnVisionError("UnsupportedMediaType", f"This operation takes no body of type {given!r}.")


def unexpected() -> Json:
    """What a caller sees of an error that nobody foresaw: nothing that could leak."""
    return Json(
        {"code": "ErrorUnknown", "message": "The service failed; its log has the details under this request's id."},
        500,
    )


def install(app: FastAPI) -> None:
    """Make every error leave in the original's form."""
    app.add_exception_handler(OwnVisionError, _own)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(Refused, _refused)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _other)  # type: ignore[arg-type]


def _own(request: Request, error: OwnVisionError) -> Response:
    if error.status >= 500:
        logger.error("%s: %s", error.code, error.message, exc_info=error)
    version: Version = getattr(request.state, "version", LATEST)
    answer = PascalJson if version.pascal else Json
    return answer({"code": version.code(error.code), "message": error.message}, error.status)


def _refused(request: Request, error: Refused) -> Response:
    return Json(error.body, error.status_code, headers=error.headers)


def _other(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404:
        return _refused(request, unknown_path())
    if error.status_code == 405:
        allowed = _methods(request)
        if request.method == "OPTIONS":
            answer = empty()
            answer.headers["Allow"] = allowed
            return answer
        message = f"This address takes {allowed}, not {request.method}."
        return Json({"code": "BadRequestNotSupported", "message": message}, 405, headers={"Allow": allowed})
    return Json({"code": "BadRequest", "message": "The request can't be read."}, error.status_code)


def _methods(request: Request) -> str:
    methods = {"OPTIONS"}
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


def _invalid(request: Request, error: RequestValidationError) -> Response:
    """Say which parameter is wrong and why, in the code the original has for it."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    if first["type"] == "json_invalid":
        return _own(request, OwnVisionError("BadRequest", "The body is not JSON."))
    if first["type"] == "missing" or (first["loc"][0] == "query" and first.get("input") in ("", None, [""])):
        return _own(request, OwnVisionError("BadRequestRequiredParamIsNull", f"{where} is missing."))
    in_list = first["loc"][0] == "query" and str(first["loc"][1]).lower().endswith("ids")
    code = "BadRequestInvalidIds" if in_list else "BadRequest"
    return _own(request, OwnVisionError(code, f"{where}: {first['msg'].removeprefix('Value error, ')}."))
