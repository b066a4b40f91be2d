"""Pictures by URL: this service's own from its store, all others by a guarded call (`services/outbound`)."""

import asyncio
from urllib.parse import unquote, urlsplit

from ownvision.api import files
from ownvision.api.routes import Call
from ownvision.errors import OwnVisionError
from ownvision.services import outbound, uris
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.keys import KeyMissing

_REDIRECTS = 5


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
    path = uris.own_path(call.components, call.base_url, url)
    if path is not None:
        return await asyncio.to_thread(_own_bytes, call, path, urlsplit(url).query, cap)
    door = outbound.door(settings.url_allow, settings.url_timeout)
    try:
        with outbound.explained(door):
            async with asyncio.timeout(door.timeout):
                return await _follow(door, url, cap)
    except outbound.Unreachable as error:
        raise FetchFailed(str(error)) from None


def _own_bytes(call: Call, path: str, query: str, cap: int) -> bytes:
    try:
        resource = uris.resolve(call.components, path, query)
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


async def _follow(door: outbound.Door, url: str, cap: int) -> bytes:
    async with outbound.opened(door, "GET", url, headers={"Accept": "image/*"}, redirects=_REDIRECTS) as response:
        if response.status != 200:
            raise FetchFailed(f"It answers with status {response.status}.")
        data = bytearray()
        async for chunk in response.aiter_stream():
            data += chunk
            if len(data) > cap:
                raise FetchFailed(f"The image is larger than {cap} bytes.", too_large=True)
        return bytes(data)
