"""Calls to a Custom Vision resource, patient with its limits and trusting nothing of what it answers.

The operator names the endpoint, so it may be anywhere; what the endpoint names (addresses of pictures and archives) may
not lead into a private network, unless the endpoint itself is there. The training key goes to the endpoint and nowhere
else. No redirect is followed.
"""

import base64
import hashlib
import ipaddress
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpcore
import httpx

from ownvision.services import outbound

API = "/customvision/v3.3/training"
JSON_BYTES = 64 * 2**20
CONCURRENT = 8  # pictures fetched at once
_CHUNK = 2**20
_FAILURES = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError)
_LOOPBACK = ("127.0.0.0/8", "::1/128")
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
_BUSY = (408, 500, 502, 503, 504)


class Unanswered(Exception):
    """The resource can't be read, or not now: one sentence for the person. What was fetched so far is kept."""


class NotThere(Exception):
    """The resource has no such operation, what is asked for is gone, or it does not give it; in its own words."""


class Lapsed(Exception):
    """An address opens nothing any more: it has expired, or what was there is gone."""


class Unusable(Exception):
    """What lies at an address is not what it should be: too large, cut off, altered."""


@dataclass(frozen=True)
class Patience:
    """How long the resource is waited for.

    Attributes:
        attempts: Tries of one call that fails on the way, or with a 5xx.
        pause: Seconds before the second try; doubled each time.
        step: Seconds to connect, and without a byte.
        slowest: Bytes per second that an answer must bring, on average after `step`.
        limited: Seconds that one call may be put off by 429 in all.
    """

    attempts: int = 6
    pause: float = 0.5
    step: float = 60.0
    slowest: int = 10_000
    limited: float = 1_800.0


@dataclass
class Pace:
    """When the next call may begin: so many a second, and not before the resource allows it."""

    per_second: float
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        """Return when it is this call's turn."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + 1 / self.per_second
        time.sleep(max(0.0, turn - time.monotonic()))

    def hold(self, seconds: float) -> None:
        """Nobody calls for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Resource:
    """A Custom Vision resource.

    Args:
        endpoint: Its address, such as ``https://NAME.cognitiveservices.azure.com``.
        key: A training key.
        per_second: Calls of the API per second.
        patience: How long it is waited for.
        waiting: Told how many seconds a rate limit makes us wait.

    Raises:
        Unanswered: The endpoint is no address that a key may be sent to.
    """

    def __init__(
        self,
        endpoint: str,
        key: str,
        per_second: float = 8.0,
        patience: Patience | None = None,
        waiting: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.patience = patience or Patience()
        self._waiting = waiting
        self._pace = Pace(per_second)
        self._stopped = threading.Event()
        if not key or not key.isascii() or not key.isprintable():
            raise Unanswered("The training key is no key; the resource's page in the portal shows it.")
        self._key = key
        self.endpoint, self._secure, allowed = _checked(endpoint)
        tls = httpx.create_ssl_context()
        self._lines = (_Lines(None), _Lines(allowed))
        self._api, self._bytes = (
            httpcore.ConnectionPool(
                ssl_context=tls, max_connections=CONCURRENT, keepalive_expiry=30, network_backend=lines
            )
            for lines in self._lines
        )

    def close(self) -> None:
        """Close the connections."""
        for pool in (self._api, self._bytes):
            pool.close()

    def stop(self) -> None:
        """Give up what is under way, in whatever thread; nothing can be asked any more."""
        self._stopped.set()
        for lines in self._lines:
            lines.cut()

    def ask(
        self,
        path: str,
        parameters: Mapping[str, str | int | Sequence[str]] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """The JSON that an operation answers with; with a body it is a POST.

        Raises:
            NotThere: 400 or 404.
            Unanswered: Anything else but an answer.
        """
        try:
            return json.loads(
                self._call(
                    _with(API + path, parameters), None if body is None else json.dumps(body).encode(), JSON_BYTES
                )
            )
        except Unusable as error:
            raise Unanswered(f"An answer of {self._name} can't be used. {error}") from None
        except (ValueError, RecursionError):
            raise self.foreign() from None

    def read(self, uri: str, project_id: str, most: int) -> bytes:
        """What lies at an address that the resource gave.

        Raises:
            Lapsed: The address has expired, or what was there is gone.
            Unusable: It is larger than `most`, cut off or altered, however often it is asked for.
            Unanswered: It can't be reached.
        """
        chunks = bytearray()
        for chunk in self.stream(uri, project_id, most, whole=True):
            chunks += chunk
        return bytes(chunks)

    def stream(self, uri: str, project_id: str, most: int, *, whole: bool = False) -> Iterator[bytes]:
        """`read`, in parts; with `whole` in one, which is tried again when it breaks off.

        Raises:
            As `read`.
        """
        if not uri.lower().startswith(("http://", "https://")):
            # In a virtual network the resource names a path, and gives the bytes itself.
            target = _with(f"{API}/projects/{project_id}/artifacts", {"path": uri})
            yield self._call(target, None, most, gone=Lapsed)
            return
        where = _host(uri)
        if self._secure and not uri.lower().startswith("https://"):
            raise Unusable("Its address is not encrypted (http), though the resource's is.")
        if whole:
            yield self._again(lambda: self._fetched(uri, most), where)
            return
        try:
            with self._opened(self._bytes, "GET", uri, {}, None) as response:
                self._check_bytes(response)
                yield from self._body(response, most)
        except _FAILURES as error:
            raise Unanswered(f"{where} breaks off ({_kind(error)}).") from None

    # --- one call

    def _call(self, target: str, body: bytes | None, most: int, gone: type[Exception] = NotThere) -> bytes:
        def once() -> bytes | _Again:
            self._pace.wait()
            headers = {"Training-Key": self._key}
            if body is not None:
                headers["Content-Type"] = "application/json"
            method = "GET" if body is None else "POST"
            with self._opened(self._api, method, self.endpoint + target, headers, body) as response:
                named = _named(response)
                if response.status == 200:
                    return b"".join(self._body(response, most))
                said = b"".join(self._body(response, 2**16, cut=True))
                return self._refusal(response.status, named, said, gone)

        answer: bytes = self._again(once, self._name)
        return answer

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes, gone: type[Exception]) -> "_Again":
        """What to do about an answer that is none.

        Raises:
            Exception: Nothing can be done.
        """
        words = _words(body)
        if status == 429:
            return _Again(f"{self._name} limits its calls. {words}", wait=_retry_after(headers))
        if status in _BUSY:
            return _Again(f"{self._name} answered {status}. {words}")
        if status == 401:
            raise Unanswered(
                f"{self._name} does not know this training key; the page `Keys and Endpoint` of the training resource "
                "shows it (a prediction key opens nothing here)."
            )
        if status == 403:
            raise Unanswered(
                f"{self._name} refuses (403). {words} The resource may allow only its own network, or no keys."
            )
        if status in (404, 410) or (status == 400 and gone is NotThere):
            raise gone(words)
        if 300 <= status < 400:
            raise Unanswered(
                f"{self._name} sends us elsewhere ({status}), which is not followed: the key would go along. "
                "Give the resource's own endpoint."
            )
        raise Unanswered(f"{self._name} answered {status}. {words}")

    def _fetched(self, uri: str, most: int) -> "bytes | _Again":
        with self._opened(self._bytes, "GET", uri, {}, None) as response:
            named = _named(response)
            if response.status == 429 or response.status in _BUSY:
                wait = _retry_after(named) if response.status == 429 else None
                return _Again(f"{_host(uri)} answered {response.status}.", wait=wait)
            self._check_bytes(response)
            try:
                data = b"".join(self._body(response, most))
            except _FAILURES as error:
                return _Again(f"It breaks off ({_kind(error)}).", broken=True)
            if (
                named.get("content-md5")
                and base64.b64encode(hashlib.md5(data).digest()).decode() != named["content-md5"]
            ):
                return _Again("Its bytes are not those that its own hash (Content-MD5) says.", broken=True)
            return data

    @staticmethod
    def _check_bytes(response: httpcore.Response) -> None:
        if response.status in (401, 403, 404, 410):
            raise Lapsed(f"Its address answered {response.status}.")
        if response.status != 200:
            raise Unusable(f"Its address answered {response.status}.")

    def _again(self, once: "Callable[[], Any]", where: str) -> Any:
        """Try until there is an answer, or patience ends.

        Raises:
            Unusable: The answer breaks off each time, or is altered.
            Unanswered: There is none.
        """
        pause, failed, limited = self.patience.pause, 0, 0.0
        while True:
            if self._stopped.is_set():
                raise Unanswered("The copy was stopped.")
            try:
                answer = once()
            except _FAILURES as error:
                answer = _Again(f"{where} can't be reached ({_kind(error)}).")
            if not isinstance(answer, _Again):
                return answer
            if answer.wait is not None:
                limited += answer.wait
                if limited > self.patience.limited:
                    raise Unanswered(f"{answer.why} It did so for {limited:.0f} seconds; go on later.")
                self._waiting(answer.wait)
                self._pace.hold(answer.wait)
                self._sleep(answer.wait)
                continue
            failed += 1
            if failed >= self.patience.attempts:
                raise Unusable(answer.why) if answer.broken else Unanswered(f"{answer.why} Tried {failed} times.")
            self._sleep(pause * random.uniform(0.8, 1.2))
            pause = min(2 * pause, 30.0)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Unanswered("The copy was stopped.")

    @contextmanager
    def _opened(
        self, pool: httpcore.ConnectionPool, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Iterator[httpcore.Response]:
        seconds = dict.fromkeys(("connect", "read", "write"), self.patience.step) | {"pool": None}
        try:
            target = httpx.URL(url)
            sent = {
                "Host": target.netloc.decode("ascii").rpartition("@")[2],
                "User-Agent": "OwnVision",
                "Accept-Encoding": "identity",
                **headers,
            }
            if body is not None:
                sent["Content-Length"] = str(len(body))
            address = str(target).partition("#")[0]
        except (httpx.InvalidURL, ValueError):
            raise Unusable("Its address is none.") from None
        with pool.stream(
            method, address, headers=list(sent.items()), content=body, extensions={"timeout": seconds}
        ) as response:
            yield response

    def _body(self, response: httpcore.Response, most: int, cut: bool = False) -> Iterator[bytes]:
        begun, got = time.monotonic(), 0
        for part in response.iter_stream():
            got += len(part)
            taken = time.monotonic() - begun
            if taken > self.patience.step and got < self.patience.slowest * taken:
                raise httpcore.ReadTimeout("too slow")
            if got > most:
                if cut:
                    yield part[: most - (got - len(part))]
                    return
                raise Unusable(f"It is larger than {most:,} bytes.")
            yield part

    @property
    def _name(self) -> str:
        return urlsplit(self.endpoint).hostname or self.endpoint

    def foreign(self) -> Unanswered:
        """What to say of an answer that no Custom Vision resource gives."""
        return Unanswered(f"{self._name} does not answer as a Custom Vision resource does; is it the right endpoint?")


@dataclass(frozen=True)
class _Again:
    """Why a call is to be tried again; `wait` seconds of a rate limit, `broken`: it answered, but not wholly."""

    why: str
    wait: float | None = None
    broken: bool = False


class _Lines(httpcore.NetworkBackend):
    """Connections, all of which can be cut at once.

    Args:
        allowed: Only addresses that were checked are connected to (`services.outbound`), and these private networks;
            None: any.
    """

    def __init__(self, allowed: Sequence[outbound.Network] | None) -> None:
        self._inner = httpcore.SyncBackend()
        self._allowed = allowed
        self._over = False
        self.open: set[_Line] = set()

    def cut(self) -> None:
        """End every connection, and make no other; who waits for one is told at once."""
        self._over = True
        for line in list(self.open):
            with suppress(OSError):
                line.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _resolved(host, port)
        if self._allowed is not None and any(outbound.refused(address, self._allowed) for address in addresses):
            raise Unusable("Its address leads into a private network, where the resource has no business.")
        for last, address in enumerate(addresses, 1):
            try:
                found = _Line(
                    self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options), self.open
                )
                if self._over:  # asked for last, so that none is missed
                    found.close()
                    break
                return found
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if last == len(addresses):
                    raise
        raise httpcore.ConnectError("no connection")

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        raise Unusable("Its address is none.")

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class _Line(httpcore.NetworkStream):
    """A connection that is among those that are open, until it is closed."""

    def __init__(self, inner: httpcore.NetworkStream, among: "set[_Line]") -> None:
        self._inner, self._among = inner, among
        among.add(self)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._among.discard(self)
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        self._among.discard(self)
        return _Line(self._inner.start_tls(ssl_context, server_hostname, timeout), self._among)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _resolved(host: str, port: int) -> list[outbound.Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found]


def _checked(endpoint: str) -> tuple[str, bool, list[outbound.Network]]:
    """An endpoint without its end, whether it is encrypted, and private networks that it may name addresses in."""
    wrong = Unanswered("The endpoint must be an address such as https://NAME.cognitiveservices.azure.com.")
    try:
        parts = urlsplit(endpoint.strip())
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise wrong
    try:
        addresses = _resolved(parts.hostname, port)
    except (OSError, UnicodeError):
        raise Unanswered(f"There is no host {parts.hostname}; check the endpoint and the network.") from None
    groups = [[ipaddress.ip_network(network) for network in group] for group in (_LOOPBACK, _PRIVATE)]
    allowed = [
        network
        for group in groups
        if any(address in network for address in addresses for network in group if address.version == network.version)
        for network in group
    ]
    inside = all(
        any(address in network for network in allowed if address.version == network.version) for address in addresses
    )
    if parts.scheme == "http" and not inside:
        raise Unanswered("The endpoint must be an https address: over http anybody on the way could read the key.")
    at = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return at.removesuffix(API).rstrip("/"), parts.scheme == "https", allowed


def _host(uri: str) -> str:
    """The host of an address.

    Raises:
        Unusable: It has none.
    """
    try:
        host = urlsplit(uri).hostname
    except ValueError:
        host = None
    if not host:
        raise Unusable("Its address is none.")
    return host


def _with(path: str, parameters: Mapping[str, str | int | Sequence[str]] | None) -> str:
    if not parameters:
        return path
    flat = {
        name: ",".join(value) if not isinstance(value, str | int) else str(value) for name, value in parameters.items()
    }
    return f"{path}?{urlencode(flat, quote_via=quote, safe=',')}"


def _named(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds; one where nothing, or nothing sensible, is said."""
    said = headers.get("retry-after", "").strip()
    try:
        seconds = (
            float(said) if said[:1].isdigit() else (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
        )
    except (ValueError, TypeError):
        seconds = 1.0
    return min(max(seconds, 0.2), 3_600.0)


def _words(body: bytes) -> str:
    """The resource's own sentence, made harmless; "" where it has none."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(said, dict):
        return ""
    inner = said.get("error")
    found = said.get("message") or (inner.get("message") if isinstance(inner, dict) else None)
    text = "".join(letter for letter in str(found or "") if letter.isprintable())[:300].strip()
    return f'It says: "{text}"' if text else ""


def _kind(error: BaseException) -> str:
    if isinstance(error, httpcore.TimeoutException):
        return "no answer in time"
    return "no connection" if isinstance(error, httpcore.ConnectError | OSError) else "the connection broke"
