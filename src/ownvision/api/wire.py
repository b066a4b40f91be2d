"""Answers in the original's form, and the values in them."""

from typing import Any

from starlette.responses import Response

from ownvision.wire.values import dumps, loads, seconds

__all__ = ["Json", "PascalJson", "empty", "loads", "seconds"]


class Json(Response):
    """A JSON answer in the original's form."""

    media_type = "application/json; charset=utf-8"

    def render(self, content: Any) -> bytes:
        return dumps(content)


class PascalJson(Json):
    """The same in the form of v1.x."""

    def render(self, content: Any) -> bytes:
        return dumps(content, pascal=True)


def empty(status: int = 204) -> Response:
    """An answer without a body; 204 too says ``Content-Length: 0``, as the original's does."""
    return Response(status_code=status, headers={"Content-Length": "0"})
