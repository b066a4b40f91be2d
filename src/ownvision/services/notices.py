"""What is to be told when a training or an export ends: rows, written in the very transaction that ends it.

`delivery` sends them. A row names things by id only; what a message says of them is looked up when it goes out.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.services.components import Components
from ownvision.store.tables import Export, Iteration, Notification, Project

CONTAINER, QUEUE, WEBHOOK, EMAIL = "container", "queue", "webhook", "email"
TRAINING, EXPORT = "Training", "Export"
COMPLETED, FAILED = "Completed", "Failed"
# What browsers take for an address (WHATWG), with a dot in its domain.
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})+")
_LONGEST = 254


def check_email(address: str) -> None:
    """Refuse what is no e-mail address.

    Raises:
        OwnVisionError: BadRequestInvalidEmailAddress.
    """
    if not _EMAIL.fullmatch(address) or len(address) > _LONGEST:
        raise OwnVisionError("BadRequestInvalidEmailAddress", "notificationEmailAddress is no e-mail address.")


def remember_email(components: Components, iteration: Iteration, address: str) -> None:
    """Keep whom to write to when a training ends; where no mail can be sent, keep nothing."""
    if components.settings.smtp_host:
        iteration.notify_email = components.keys.seal(address.encode(), email_purpose(iteration.id))


def email_purpose(iteration_id: str) -> str:
    """What an address is sealed for."""
    return f"notificationEmailAddress {iteration_id}"


def training_ended(session: Session, iteration: Iteration) -> None:
    """A training is completed or has failed, as the iteration's status says."""
    event = {"type": TRAINING, "iterationId": iteration.id, "status": iteration.status}
    tell(session, iteration.project_id, event)
    if iteration.notify_email is not None:
        session.add(
            Notification(project_id=iteration.project_id, channel=EMAIL, event=event, recipient=iteration.notify_email)
        )
        iteration.notify_email = None


def export_ended(session: Session, project_id: str, export: Export, base_url: str = "") -> None:
    """An export is done or has failed, as its status says; a container gets its copy before anybody is told.

    Args:
        session: The transaction that ends it.
        project_id: Whose it is.
        export: The export.
        base_url: The address that the export was asked for at.
    """
    status = COMPLETED if export.status == "Done" else FAILED
    event = {
        "type": EXPORT,
        "iterationId": export.iteration_id,
        "status": status,
        "exportId": export.id,
        "platform": export.platform,
        "flavor": export.flavor,
        "baseUrl": base_url,
    }
    if status == COMPLETED and session.get_one(Project, project_id).export_container is not None:
        session.add(Notification(project_id=project_id, channel=CONTAINER, event=event))
    else:
        tell(session, project_id, event)


def tell(session: Session, project_id: str, event: Mapping[str, Any]) -> None:
    """One row for each channel that the project has."""
    project = session.get_one(Project, project_id)
    channels = {QUEUE: project.notification_queue, WEBHOOK: project.webhook}
    session.add_all(
        Notification(project_id=project_id, channel=channel, event=dict(event))
        for channel, address in channels.items()
        if address is not None
    )
    session.flush()


def content(project_id: str, event: Mapping[str, Any], model_uri: str | None) -> dict[str, Any]:
    """An event as the original's messages have it."""
    said = {"projectId": project_id, "iterationId": event["iterationId"]}
    outcome = f"{event['type']}{event['status']}"
    if event["type"] == TRAINING:
        return {**said, "trainingStatus": outcome}
    return {**said, "exportStatus": outcome, "modelUri": model_uri}


def message(project_id: str, event: Mapping[str, Any], model_uri: str | None) -> str:
    """The text of a queue message."""
    return _text(event["type"], content(project_id, event, model_uri))


def connection_test(project_id: str) -> str:
    """The text of the message that tries a queue."""
    return _text("ConnectionTest", {"projectId": project_id})


def _text(type: str, content: Mapping[str, Any]) -> str:
    return json.dumps({"version": "1.0", "type": type, "Content": content}, separators=(",", ":"))
