"""Where an archive comes from: this installation's own store, or another one by a guarded call.

A token that this installation signed is read here, without a call to itself. What a job keeps of a foreign one is
encrypted: whoever has the address can read the project.
"""

import asyncio
import base64
import fcntl
import os
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.jobs.engines import local
from ownvision.services import outbound, uris
from ownvision.services.components import Components, open_components
from ownvision.services.travel import leaving, tokens
from ownvision.settings import Settings
from ownvision.store.keys import KeyMissing
from ownvision.store.tables import ProjectExport

_PIPED, _PIPE = 256 * 1024, 2**20
PURPOSE = "import token"
_REDIRECTS = 5
_LONGEST = 4_096
_MEDIA = "application/x-tar"


def refused(why: str) -> OwnVisionError:
    """The answer to a token that opens nothing here."""
    return OwnVisionError("BadRequestInvalidImportToken", f"The token can't be used: {why}")


def recognised(components: Components, base_url: str, token: str) -> dict[str, Any]:
    """What a job needs to read the archive behind a token.

    Args:
        components: Of this installation.
        base_url: The address it was called by.
        token: The address that ExportProject gave; it may be percent-encoded once more.

    Raises:
        OwnVisionError: BadRequestInvalidImportToken.
    """
    address = unquote(token) if token[:12].lower().startswith(("http%3a", "https%3a")) else token
    try:
        parts = urlsplit(address)
    except ValueError:
        raise refused("it is no address.") from None
    path = uris.own_path(components, base_url, address)
    # Signed here means from here, by whatever name this installation was called when it gave the token out.
    at = parts.path[max(parts.path.rfind("/prjexp-"), 0) :]
    export_id = uris.resolve_project(components, at, parts.query)
    if export_id is not None:
        with components.database.read() as session:
            _valid(session, export_id)
        return {"export": export_id}
    if path is not None or not uris.is_project(at) or len(address) > _LONGEST:
        raise refused("it is not one that ExportProject gave, or was altered; send it percent-encoded, and whole.")
    return {"address": base64.b64encode(components.keys.seal(address.encode(), PURPOSE)).decode()}


def is_own(payload: Mapping[str, Any]) -> bool:
    """Whether the archive is read from this installation's own store."""
    return "export" in payload


def chunks(
    components: Components, payload: Mapping[str, Any], deadline: float | None = None
) -> Generator[bytes, None, None]:
    """The archive's bytes, in parts.

    Args:
        components: Of this installation.
        payload: What `recognised` gave.
        deadline: Seconds after which it must not take longer, whatever comes.

    Raises:
        OwnVisionError: BadRequestInvalidImportToken: there is nothing behind the token, or it does not come.
    """
    if is_own(payload):
        yield from _read_here(components, payload["export"])
        return
    try:
        address = components.keys.open(base64.b64decode(payload["address"]), PURPOSE).decode()
    except (KeyMissing, KeyError, ValueError):
        raise refused("it was kept by another installation; import the project again.") from None
    yield from _fetched(components, address, deadline)


def apart(components: Components, payload: Mapping[str, Any]) -> Generator[bytes, None, None]:
    """`chunks`, an archive of this installation made by a process of its own: reading and writing then share no lock.

    Only for a job's process, which may be forked.

    Raises:
        OwnVisionError: As `chunks`.
    """
    if not is_own(payload):
        yield from chunks(components, payload)
        return
    reading, writing = os.pipe()
    with suppress(AttributeError, OSError):  # not Linux, or not allowed: then each waits for the other more often
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE)
    child = local.start(lambda: _pour(components.settings, payload, writing))
    os.close(writing)
    try:
        while chunk := os.read(reading, _PIPED):
            yield chunk
        with components.database.read() as session:
            _valid(session, payload["export"])  # what ended it early, if anything did
    finally:
        os.close(reading)
        child.stop()


def _pour(settings: Settings, payload: Mapping[str, Any], writing: int) -> None:
    components = open_components(settings)
    with os.fdopen(writing, "wb", buffering=0) as pipe:
        for chunk in chunks(components, payload):
            view = memoryview(chunk)
            while view:
                view = view[pipe.write(view) :]
    components.database.close()


def _read_here(components: Components, export_id: str) -> Generator[bytes, None, None]:
    with components.database.read() as session:
        export = _valid(session, export_id)
    try:
        yield from leaving.stream(components, export)
    except leaving.Withdrawn:
        raise refused("it was revoked, or what it exports was deleted, before it was read to the end.") from None


def _valid(session: Session, export_id: str) -> ProjectExport:
    export = tokens.valid(session, export_id)
    if export is None:
        raise refused("it was revoked, or has expired; export the project again.")
    return export


def _fetched(components: Components, address: str, deadline: float | None) -> Generator[bytes, None, None]:
    settings = components.settings
    door = outbound.door(settings.url_allow, settings.url_timeout)
    begun, got = time.monotonic(), 0
    try:
        with asyncio.Runner() as loop, outbound.explained(door):
            body = _body(door, address)
            try:
                while (chunk := loop.run(_next(body))) is not None:
                    taken, got = time.monotonic() - begun, got + len(chunk)
                    slow = taken > settings.body_timeout and got < settings.body_rate * taken
                    if slow or (deadline is not None and taken > deadline):
                        raise refused("what is behind it comes too slowly.")
                    yield chunk
            finally:
                loop.run(body.aclose())
    except outbound.Unreachable as error:
        raise refused(f"{error} A private address must be on the list OWNVISION_URL_ALLOW.") from None


async def _next(body: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(body, None)


async def _body(door: outbound.Door, address: str) -> AsyncGenerator[bytes, None]:
    async with outbound.opened(door, "GET", address, headers={"Accept": _MEDIA}, redirects=_REDIRECTS) as response:
        if response.status != 200:
            raise refused(
                f"its address answers with status {response.status}: it was revoked, has expired or was altered."
            )
        async for part in response.aiter_stream():
            yield part
