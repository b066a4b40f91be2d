"""Calls to addresses that a caller gave, without letting the caller reach what only this server can reach.

A host name is resolved here, every address checked, and the connection made to the very address that was checked, so
that a second, different answer of the name server changes nothing. Each redirect is a new request, checked again.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

import httpcore
import httpx

_REDIRECT_STATUS = (301, 302, 303, 307, 308)
_NO_CONNECTION = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    httpx.InvalidURL,
    OSError,
    ValueError,
)
# Their last 32 bits are an IPv4 address: NAT64, and the old IPv4-compatible form.
_EMBEDDING = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
# All that IANA gives out; of the rest, `is_global` lets through what this Python does not know (fec0::, 64:ff9b:1::).
_UNICAST = ipaddress.IPv6Network("2000::/3")
_SLOWEST = 100_000  # bytes per second that an address must take
_PIECE = 65_536
_NO_ADDRESS = "It must be an http or https address."
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Unreachable(Exception):
    """A call did not succeed: one sentence that tells nothing about the inside of the network, nor the address."""


@dataclass(frozen=True)
class Door:
    """Where this installation may call, and how long it waits.

    Attributes:
        allowed: Networks that may be called although they are private.
        timeout: Seconds for one call, from looking the name up to the last byte.
    """

    allowed: Sequence[Network]
    timeout: float


@dataclass(frozen=True)
class Answer:
    """What a server said; `headers` by lower-case name, `body` cut off at what was asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def door(allowed: Iterable[str], timeout: float) -> Door:
    """The door that settings describe (`url_allow`, `url_timeout`)."""
    return Door([ipaddress.ip_network(network, strict=False) for network in allowed], timeout)


def refused(address: Address, allowed: Iterable[Network]) -> bool:
    """Whether an address is one that callers must not reach through this server."""
    if any(address.version == network.version and address in network for network in allowed):
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if any(address in network for network in _EMBEDDING):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return refused(inner, allowed)
        if address not in _UNICAST:
            return True
    return not address.is_global or address.is_multicast


async def check(door: Door, url: str) -> None:
    """Look an address up as a call would, without calling.

    Raises:
        Unreachable: It is none, names no host, or leads where callers must not go.
    """
    with explained(door):
        async with asyncio.timeout(door.timeout):
            target = httpx.URL(_checked(url))
            await _resolve(target.raw_host.decode("ascii"), target.port or 443, door.allowed)


async def request(
    door: Door, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", cap: int = 65_536
) -> Answer:
    """One exchange, within the door's time and what a slow line needs for the body; redirects are not followed.

    Raises:
        Unreachable: There was no answer.
    """
    with explained(door):
        async with (
            asyncio.timeout(door.timeout + len(body) / _SLOWEST),
            opened(door, method, url, headers=headers, body=body) as response,
        ):
            data = bytearray()
            async for chunk in response.aiter_stream():
                data += chunk
                if len(data) >= cap:
                    break
            named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return Answer(response.status, named, bytes(data[:cap]))


@asynccontextmanager
async def opened(
    door: Door, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", redirects: int = 0
) -> AsyncIterator[httpcore.Response]:
    """An answer whose body is still to be read; only the single steps of it are timed.

    Args:
        door: Where to call.
        method: The HTTP method.
        url: The address, http or https.
        headers: All but ``Host``, ``User-Agent`` and ``Content-Length``.
        body: What is sent.
        redirects: How many are followed; with 0 a redirect is an answer like any other.

    Raises:
        Unreachable: It is no address, leads where callers must not go, or redirects too often.
        Exception: Of httpcore and httpx; `explained` turns them into `Unreachable`.
    """
    seconds = dict.fromkeys(("connect", "read", "write", "pool"), door.timeout)
    async with httpcore.AsyncConnectionPool(
        ssl_context=_tls(), network_backend=_CheckedBackend(door.allowed), max_keepalive_connections=0
    ) as pool:
        for _ in range(redirects + 1):
            target = _checked(url).partition("#")[0]
            async with pool.stream(
                method,
                str(httpx.URL(target)),
                headers=_headers(target, headers, body),
                content=_pieces(body) if body else None,
                extensions={"timeout": seconds},
            ) as response:
                if redirects == 0 or response.status not in _REDIRECT_STATUS:
                    yield response
                    return
                location = next((value for name, value in response.headers if name.lower() == b"location"), None)
                if location is None:
                    raise Unreachable("It redirects to nowhere.")
                url = urljoin(url, location.decode("latin-1"))
    raise Unreachable(f"It redirects more than {redirects} times.")


@contextmanager
def explained(door: Door) -> Iterator[None]:
    """Whatever goes wrong with a connection leaves this block as `Unreachable`."""
    try:
        yield
    except TimeoutError:
        raise Unreachable(f"It did not answer within {door.timeout:g} seconds.") from None
    except _NO_CONNECTION:
        raise Unreachable("It can't be reached.") from None


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    """In parts, since each write has the time of one step."""
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unreachable(_NO_ADDRESS)
    return url


def _headers(url: str, own: Mapping[str, str], body: bytes) -> dict[bytes | str, bytes | str]:
    host = httpx.URL(url).netloc.decode("ascii").rpartition("@")[2]
    named: dict[bytes | str, bytes | str] = {"Host": host, "User-Agent": "OwnVision"}
    if body:
        named["Content-Length"] = str(len(body))
    named.update(own.items())
    return named


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


async def _resolve(host: str, port: int, allowed: Sequence[Network]) -> list[Address]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found]
    if not addresses or any(refused(address, allowed) for address in addresses):
        raise Unreachable("It leads to an address that this service does not call.")
    return addresses


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, and only to them."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._allowed = allowed

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        last: Exception | None = None
        for address in await _resolve(host, port, self._allowed):
            try:
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        assert last is not None
        raise last

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise Unreachable(_NO_ADDRESS)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)
