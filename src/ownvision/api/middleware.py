"""What surrounds every request: its id, the original's headers, a bound on its body, a log line, a metric.

Pure ASGI, one layer: it must cost little, and it must still stand when the application fails.
"""

import asyncio
import json
import logging
import re
import time
import uuid
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ownvision.api.errors import too_large, too_slow, unexpected
from ownvision.api.inflate import inflated
from ownvision.api.metrics import Metrics

requests = logging.getLogger("ownvision.request")
errors = logging.getLogger("ownvision.api")

# Bodies of metadata: 128 image tags, 64 × 300 regions and their like. Operations that take pictures raise it.
METADATA_BODY = 4 * 2**20
_SLASHES = re.compile(rb"/{2,}")
_CLIENT_GONE = 499


class Body:
    """Bounds a request's body: total bytes, seconds without a byte, bytes per second.

    Args:
        receive: Where it comes from.
        declared: Its declared length, 0 when none is.
        idle_seconds: Seconds without a byte after which it is given up; the rate holds from then on.
        rate: Bytes per second that come at least, on average.

    Attributes:
        limit: Bytes allowed; an operation may raise it before it reads.
    """

    def __init__(self, receive: Receive, declared: int, idle_seconds: float, rate: int) -> None:
        self.limit = METADATA_BODY
        self._receive, self._declared, self._idle, self._rate = receive, declared, idle_seconds, rate
        self._got = 0
        self._waited = 0.0
        self._complete = False

    async def receive(self) -> Message:
        """The next message.

        Raises:
            Refused: 413 above the limit, 408 when nothing comes, or too little.
        """
        if self._complete:
            return await self._receive()
        if self._declared > self.limit:
            raise too_large(self.limit)
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._idle):
                message = await self._receive()
        except TimeoutError:
            raise too_slow(f"No byte of the body came for {self._idle:g} seconds") from None
        # Only waiting counts, not what is done with the bytes in between: the sender is not to blame for that.
        self._waited += time.monotonic() - began
        self._complete = not message.get("more_body", False)
        self._got += len(message.get("body", b""))
        if self._got > self.limit:
            raise too_large(self.limit)
        if not self._complete and self._waited > self._idle and self._got < self._rate * self._waited:
            raise too_slow(f"Fewer than {self._rate} bytes of the body came per second")
        return message


class Frame:
    """The one layer around the application.

    Args:
        app: The application.
        metrics: Where requests are counted.
        body_timeout: Seconds without a byte after which a body is given up.
        body_rate: Bytes per second that a body must bring on average, once it took so long.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, body_timeout: float, body_rate: int) -> None:
        self.app, self.metrics = app, metrics
        self.body_timeout, self.body_rate = body_timeout, body_rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = str(uuid.uuid4())
        began = time.perf_counter()
        encoding = _header(scope, b"content-encoding").lower()
        plain = receive if encoding in ("", "identity") else inflated(receive, encoding)
        body = Body(plain, _declared(scope), self.body_timeout, self.body_rate)
        inner: Scope = {
            **scope,
            "path": _normal_path(scope),
            # HEAD is GET without the body, which the server leaves out.
            "method": "GET" if scope["method"] == "HEAD" else scope["method"],
            "state": {**scope.get("state", {}), "request_id": request_id},
            "ownvision.body": body,
        }
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *_headers(request_id)]}
            await send(message)

        self.metrics.begin()
        try:
            await self.app(inner, body.receive, answer)
        except ClientDisconnect:
            status = status or _CLIENT_GONE
        except Exception:
            errors.exception("request %s failed", request_id)
            if status:
                raise
            await unexpected()(inner, receive, answer)
        finally:
            self.metrics.end()
            took = time.perf_counter() - began
            route = getattr(inner.get("route"), "path_format", "(no route)")
            self.metrics.count(scope["method"], route, status, took)
            _log(request_id, scope["method"], route, status, took)


def _declared(scope: Scope) -> int:
    length = _header(scope, b"content-length")
    return int(length) if length.isdecimal() else 0


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


def _normal_path(scope: Scope) -> str:
    """The path still percent-encoded, doubled slashes collapsed, without one at its end."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    path = _SLASHES.sub(b"/", raw.partition(b"?")[0]).decode("latin-1")
    return path.rstrip("/") or "/"


def _headers(request_id: str) -> list[tuple[bytes, bytes]]:
    id = request_id.encode()
    return [
        (b"apim-request-id", id),
        (b"request-id", id),
        (b"strict-transport-security", b"max-age=31536000; includeSubDomains; preload"),
        (b"x-content-type-options", b"nosniff"),
    ]


def _log(request_id: str, method: str, route: str, status: int, took: float) -> None:
    # No address, query, name or key: the route's template says enough.
    if requests.isEnabledFor(logging.INFO):
        requests.info(
            json.dumps(
                {
                    "time": time.time(),
                    "request": request_id,
                    "method": method,
                    "route": route,
                    "status": status,
                    "ms": round(took * 1000, 2),
                }
            )
        )
