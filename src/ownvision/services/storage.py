"""A project's own Azure Storage: a container for exported models, a queue for messages.

Their addresses carry a shared access signature (SAS), which is all the authentication there is. They are kept
encrypted; nothing here says or logs an address.
"""

import base64
import re
from collections.abc import Mapping
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit
from xml.sax.saxutils import escape

from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.services import notices, outbound
from ownvision.services.outbound import Answer, Door, Unreachable
from ownvision.store import ledger
from ownvision.store.keys import KeyStore
from ownvision.store.tables import Project
from ownvision.store.tables.base import new_id

CONTAINER, QUEUE = "exportModelContainerUri", "notificationQueueUri"
_COLUMNS = {CONTAINER: "export_container", QUEUE: "notification_queue"}
_LONGEST = 2_048
_VERSION = {"x-ms-version": "2021-12-02"}
_CODE = re.compile(r"[A-Za-z]{1,64}")
_TEST_FOLDER = "CustomVision-TestPermission"


def kept(keys: KeyStore, project: Project) -> dict[str, str]:
    """The addresses that a project has, by the name of their setting."""
    return {name: address for name in _COLUMNS if (address := address_of(keys, project, name)) is not None}


def address_of(keys: KeyStore, project: Project, name: str) -> str | None:
    """One address of a project: `CONTAINER` or `QUEUE`."""
    sealed: bytes | None = getattr(project, _COLUMNS[name])
    return None if sealed is None else keys.open(sealed, purpose(project.id, name)).decode()


def changed(keys: KeyStore, project: Project, given: Mapping[str, str | None]) -> dict[str, str]:
    """The settings that differ from what is kept; "" takes an address away, one that is left out stays."""
    before = kept(keys, project)
    wanted = {name: given[name] or "" for name in _COLUMNS if name in given}
    return {name: address for name, address in wanted.items() if address != before.get(name, "")}


def keep(session: Session, keys: KeyStore, project: Project, changes: Mapping[str, str]) -> None:
    """Keep addresses that were tested, or none where they are empty."""
    replaced = [name for name in changes if getattr(project, _COLUMNS[name]) is not None]
    for name, address in changes.items():
        sealed = keys.seal(address.encode(), purpose(project.id, name)) if address else None
        setattr(project, _COLUMNS[name], sealed)
    if replaced:
        ledger.doom_rows(session, project.account_id, project.id)


async def test(door: Door, project_id: str, addresses: Mapping[str, str]) -> None:
    """Use each address as it will be used: write and delete a blob, send a message.

    Raises:
        OwnVisionError: BadRequestInvalidUri, saying which one and why.
    """
    named = {name: address for name, address in addresses.items() if address}
    for name, address in named.items():
        _check(name, address)
    try:
        name = CONTAINER
        if name in named:
            blob = f"{_TEST_FOLDER}/{new_id()}"
            await put_blob(door, named[name], blob, b"May be deleted.", "text/plain")
            await _delete_blob(door, named[name], blob)
        name = QUEUE
        if name in named:
            await put_message(door, named[name], notices.connection_test(project_id))
    except Unreachable as error:
        raise OwnVisionError("BadRequestInvalidUri", f"{name} can't be used. {error}") from None


async def put_blob(door: Door, container: str, name: str, data: bytes, media_type: str) -> None:
    """Write a blob, over one of the same name.

    Raises:
        Unreachable: It was not written.
    """
    headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": media_type, **_VERSION}
    _expect(await outbound.request(door, "PUT", _below(container, name), headers=headers, body=data), 201, "write")


async def put_message(door: Door, queue: str, text: str) -> None:
    """Send a text to a queue, base64 as Azure Functions and the older client libraries expect it.

    Raises:
        Unreachable: It was not taken.
    """
    encoded = escape(base64.b64encode(text.encode()).decode())
    body = f"<QueueMessage><MessageText>{encoded}</MessageText></QueueMessage>".encode()
    headers = {"Content-Type": "application/xml", **_VERSION}
    _expect(await outbound.request(door, "POST", _below(queue, "messages"), headers=headers, body=body), 201, "add")


def blob_address(container: str, name: str) -> str:
    """A blob's address without the signature."""
    return urlunsplit(urlsplit(_below(container, name))._replace(query=""))


async def _delete_blob(door: Door, container: str, name: str) -> None:
    _expect(await outbound.request(door, "DELETE", _below(container, name), headers=_VERSION), 202, "delete")


def _below(address: str, name: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}", fragment=""))


def _expect(answer: Answer, status: int, permission: str) -> None:
    if answer.status == status:
        return
    code = answer.headers.get("x-ms-error-code", "")
    shown = f" ({code})" if _CODE.fullmatch(code) else ""
    hint = f" The signature must permit it to {permission}." if answer.status == 403 else ""
    raise Unreachable(f"It answers with status {answer.status}{shown}.{hint}")


def _check(name: str, address: str) -> None:
    try:
        parts = urlsplit(address)
        signed = parts.scheme in ("http", "https") and bool(parts.hostname) and "sig" in parse_qs(parts.query)
    except ValueError:
        signed = False
    if not signed or len(address) > _LONGEST:
        raise OwnVisionError(
            "BadRequestInvalidUri",
            f"{name} must be the http or https address of an Azure container or queue with a shared access signature "
            "(sig=…), since this service has no managed identity.",
        )


def purpose(project_id: str, name: str) -> str:
    """What an address is sealed for."""
    return f"{name} {project_id}"
