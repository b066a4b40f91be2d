"""Pictures by URL, without letting a caller reach what only this server can reach.

A host name is resolved here, every address checked, and the connection made to the very address that was checked, so
that a second, different answer of the name server changes nothing. Each redirect is a new request, checked again.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import unquote, urljoin, urlsplit

import httpcore
import httpx

from ownvision.api import files
from ownvision.api.routes import Call
from ownvision.errors import OwnVisionError
from ownvision.services import uris
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.keys import KeyMissing

_REDIRECTS = 5
_REDIRECT_STATUS = (301, 302, 303, 307, 308)
_UNREACHABLE = (
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
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class FetchFailed(Exception):
    """A picture could not be fetched, and why; `too_large` when its size was the reason."""

    def __init__(self, reason: str, *, too_large: bool = False) -> None:
        super().__init__(reason)
        self.too_large = too_large


def file_name(url: str) -> str | None:
    """The last part of a URL's path, as a name to keep."""
    return unquote(urlsplit(url).path.rpartition("/")[2]) or None


async def fetch(call: Call, url: str, cap: int) -> bytes:
    """The bytes behind a URL.

    An address that this service gave out is read from its own store, without a call to itself.

    Args:
        call: Who asks.
        url: The address, http or https.
        cap: Bytes allowed.

    Raises:
        FetchFailed: With a sentence that tells the caller nothing about the inside of the network.
    """
    settings = call.components.settings
    if _is_own(call, url):
        return await asyncio.to_thread(_own_bytes, call, url, cap)
    networks = [ipaddress.ip_network(network, strict=False) for network in settings.url_allow]
    try:
        async with asyncio.timeout(settings.url_timeout):
            return await _follow(url, cap, networks, settings.url_timeout)
    except TimeoutError:
        raise FetchFailed(f"It did not answer within {settings.url_timeout:g} seconds.") from None
    except _UNREACHABLE:
        raise FetchFailed("It can't be reached.") from None


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


def _is_own(call: Call, url: str) -> bool:
    own = {_origin(base) for base in (call.base_url, call.components.settings.public_url) if base}
    try:
        return _origin(url) in own
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _own_bytes(call: Call, url: str, cap: int) -> bytes:
    parts = urlsplit(url)
    base = urlsplit(call.components.settings.public_url or "").path.rstrip("/")
    path = parts.path.removeprefix(base) if base else parts.path
    try:
        resource = uris.resolve(call.components, path, parts.query)
        with call.database.read() as session:
            files.media_type(session, resource)
        # `resized` may not be made yet, and for learning the original is better anyway.
        key = resource.prefix + (uris.ORIGINAL if resource.kind != "export" else resource.file)
        if call.components.blobs.size(key) > cap:
            raise FetchFailed(f"The image is larger than {cap} bytes.", too_large=True)
        return call.components.blobs.read(key)
    except OwnVisionError as error:
        raise FetchFailed(error.message) from None
    except (BlobMissing, KeyMissing):
        raise FetchFailed("The image is no more.") from None
    except BlobDamaged:
        raise FetchFailed("The image is damaged; `ownvision doctor` says more.") from None


async def _follow(url: str, cap: int, networks: Sequence[Network], timeout: float) -> bytes:
    async with httpcore.AsyncConnectionPool(
        ssl_context=_tls(), network_backend=_CheckedBackend(networks), max_keepalive_connections=0
    ) as pool:
        for _ in range(_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise FetchFailed("It must be an http or https address.")
            seconds = dict.fromkeys(("connect", "read", "write", "pool"), timeout)
            target = url.partition("#")[0]
            async with pool.stream(
                "GET",
                str(httpx.URL(target)),
                headers={"Host": _host_header(target), "User-Agent": "OwnVision", "Accept": "image/*"},
                extensions={"timeout": seconds},
            ) as response:
                if response.status in _REDIRECT_STATUS:
                    location = next((value for name, value in response.headers if name.lower() == b"location"), None)
                    if location is None:
                        raise FetchFailed("It redirects to nowhere.")
                    url = urljoin(url, location.decode("latin-1"))
                    continue
                if response.status != 200:
                    raise FetchFailed(f"It answers with status {response.status}.")
                return await _capped(response, cap)
    raise FetchFailed(f"It redirects more than {_REDIRECTS} times.")


def _host_header(url: str) -> str:
    return httpx.URL(url).netloc.decode("ascii").rpartition("@")[2]


async def _capped(response: httpcore.Response, cap: int) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_stream():
        data += chunk
        if len(data) > cap:
            raise FetchFailed(f"The image is larger than {cap} bytes.", too_large=True)
    return bytes(data)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


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
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found]
        if not addresses or any(refused(address, self._allowed) for address in addresses):
            raise FetchFailed("It leads to an address that this service does not fetch from.")
        last: Exception | None = None
        for address in addresses:
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
        raise FetchFailed("It must be an http or https address.")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)
