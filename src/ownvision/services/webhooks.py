"""A project's webhook: CloudEvents 1.0 (JSON), signed as Standard Webhooks says (v1, HMAC-SHA256)."""

import base64
import binascii
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.services import notices, outbound
from ownvision.services.outbound import Door, Unreachable
from ownvision.store import ledger
from ownvision.store.keys import KeyStore
from ownvision.store.tables import Notification, Project

_PREFIX = "whsec_"
_LONGEST = 2_048
_GONE = 410


class Gone(Exception):
    """The receiver wants nothing more (status 410)."""


@dataclass(frozen=True)
class Webhook:
    """Where to send, and the secret (``whsec_`` and base64) that signs."""

    url: str
    secret: str


def of(keys: KeyStore, project: Project) -> Webhook | None:
    """A project's webhook."""
    return None if project.webhook is None else opened(keys, project.id, project.webhook)


def opened(keys: KeyStore, project_id: str, sealed: bytes) -> Webhook:
    """A webhook as it is kept."""
    return Webhook(**json.loads(keys.open(sealed, purpose(project_id))))


async def checked(door: Door, url: str, secret: str | None) -> Webhook:
    """A webhook whose address leads somewhere and whose secret can sign; without a secret it gets one.

    Raises:
        OwnVisionError: BadRequestInvalidUri, BadRequestInvalid.
    """
    try:
        if len(url) > _LONGEST:
            raise Unreachable(f"It has more than {_LONGEST} characters.")
        await outbound.check(door, url)
    except Unreachable as error:
        raise OwnVisionError("BadRequestInvalidUri", f"url can't be used. {error}") from None
    webhook = Webhook(url, secret or _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode())
    if not 24 <= len(_key(webhook)) <= 64:
        raise OwnVisionError("BadRequestInvalid", f"secret is {_PREFIX} followed by 24 to 64 bytes in base64.")
    return webhook


def keep(session: Session, keys: KeyStore, project: Project, webhook: Webhook) -> None:
    """Set a project's webhook; what still waits to be sent goes there too."""
    if project.webhook is not None:
        ledger.doom_rows(session, project.account_id, project.id)
    project.webhook = keys.seal(
        json.dumps({"url": webhook.url, "secret": webhook.secret}).encode(), purpose(project.id)
    )


def remove(session: Session, project: Project) -> None:
    """Take a project's webhook away, with what waits to be sent to it."""
    if project.webhook is None:
        return
    project.webhook = None
    session.execute(
        delete(Notification).where(Notification.project_id == project.id, Notification.channel == notices.WEBHOOK)
    )
    ledger.doom_rows(session, project.account_id, project.id)


def forget(session: Session, project_id: str, sealed: bytes) -> None:
    """Take a webhook away that wants no more, unless it was changed meanwhile."""
    project = session.get(Project, project_id, with_for_update=True)
    if project is not None and project.webhook == sealed:
        remove(session, project)


def event(
    id: str, project_id: str, happened: Mapping[str, Any], model_uri: str | None, created: datetime, base_url: str
) -> bytes:
    """A CloudEvent in structured JSON form."""
    data = notices.content(project_id, happened, model_uri)
    if happened["type"] == notices.EXPORT:
        data |= {"platform": happened["platform"], "flavor": happened["flavor"] or None}
    said = {
        "specversion": "1.0",
        "id": id,
        "source": f"{base_url.rstrip('/')}/api/projects/{project_id}",
        "type": f"ownvision.{happened['type']}.{happened['status']}".lower(),
        "subject": f"iterations/{happened['iterationId']}",
        "time": created.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": data,
    }
    return json.dumps(said, separators=(",", ":")).encode()


async def send(door: Door, webhook: Webhook, id: str, body: bytes) -> None:
    """Post a signed event.

    Raises:
        Unreachable: It was not taken; try again.
        Gone: The receiver wants nothing more.
    """
    moment = str(int(time.time()))
    headers = {
        "Content-Type": "application/cloudevents+json; charset=utf-8",
        "webhook-id": id,
        "webhook-timestamp": moment,
        "webhook-signature": "v1," + sign(webhook, id, moment, body),
    }
    answer = await outbound.request(door, "POST", webhook.url, headers=headers, body=body)
    if answer.status == _GONE:
        raise Gone
    if not 200 <= answer.status < 300:
        raise Unreachable(f"It answers with status {answer.status}.")


def sign(webhook: Webhook, id: str, moment: str, body: bytes) -> str:
    """Base64 of the HMAC-SHA256 over id, time and body."""
    return base64.b64encode(hmac.digest(_key(webhook), f"{id}.{moment}.".encode() + body, "sha256")).decode()


def _key(webhook: Webhook) -> bytes:
    if not webhook.secret.startswith(_PREFIX):
        return b""
    try:
        return base64.b64decode(webhook.secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return b""


def purpose(project_id: str) -> str:
    """What a webhook is sealed for."""
    return f"webhook {project_id}"
