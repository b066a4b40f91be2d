"""Notifications go out: in order for each project and channel, tried again for a day, gone once they are out.

A row is claimed by moving its `due` beyond the time a try can take, so a crash in the middle means another try, never a
message lost. A receiver may so get a message twice; its id tells.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ownvision.services import exports, mail, notices, outbound, storage, uris, webhooks
from ownvision.services.components import Components
from ownvision.services.outbound import Door, Unreachable
from ownvision.store import ledger
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.database import Database
from ownvision.store.keys import KeyMissing
from ownvision.store.tables import Export, Iteration, Notification, Project
from ownvision.store.tables.base import now

log = logging.getLogger("ownvision.delivery")

GIVE_UP = timedelta(days=1)
_FIRST, _LONGEST = 5.0, 3_600.0  # seconds from one try to the next; each wait is twice the last
_LARGE_SECONDS = 900.0  # for an archive on a slow line
_AT_ONCE = 8
_LOOK_SECONDS = 0.5
Lane = tuple[str, str]  # project, channel


class _Dropped(Exception):
    """It need not, or can't ever, go out; the reason names nobody."""


def waiting(database: Database) -> bool:
    """Whether a message is to go out now."""
    with database.read() as session:
        return bool(_due(session, 1))


def post(components: Components) -> None:
    """Send what is due until nothing is; a slow receiver holds up its own lane only."""
    busy: dict[Lane, Future[None]] = {}
    with ThreadPoolExecutor(_AT_ONCE, "delivery") as pool:
        while True:
            for lane in [lane for lane, work in busy.items() if work.done()]:
                busy.pop(lane).result()
            with components.database.read() as session:
                heads = _due(session, 10 * _AT_ONCE)
            for seq, lane in heads:
                if lane not in busy:
                    busy[lane] = pool.submit(deliver, components, seq)
            if not busy:
                return
            wait(busy.values(), _LOOK_SECONDS, FIRST_COMPLETED)


def deliver(components: Components, seq: int) -> None:
    """Try once to send one message."""
    row = _claim(components, seq)
    if row is None:
        return
    try:
        found = _CHANNELS[row.channel](components, row)
    except (_Dropped, mail.Rejected) as reason:
        log.warning("notification %s (%s) is dropped: %s", row.id, row.channel, reason or "refused for good")
        _finish(components, row, {})
    except Unreachable as error:
        _postpone(components, row, str(error))
    except Exception as error:
        _postpone(components, row, type(error).__name__)  # its text may hold an address
    else:
        _finish(components, row, found)


def delay(attempts: int) -> timedelta:
    """How long to wait after so many tries."""
    return timedelta(seconds=min(_LONGEST, _FIRST * 2.0 ** min(attempts - 1, 20)))


def _due(session: Session, limit: int) -> list[tuple[int, Lane]]:
    """The first message of each lane, where it is due."""
    heads = select(func.min(Notification.seq)).group_by(Notification.project_id, Notification.channel)
    query = (
        select(Notification.seq, Notification.project_id, Notification.channel)
        .where(Notification.due <= now(), Notification.seq.in_(heads))
        .order_by(Notification.due)
        .limit(limit)
    )
    return [(row.seq, (row.project_id, row.channel)) for row in session.execute(query)]


def _claim(components: Components, seq: int) -> Notification | None:
    """The row, for longer than one try takes; None when it is gone or another process has it."""
    with components.database.write() as session:
        row = session.get(Notification, seq, with_for_update=True)
        if row is None or row.due > now():
            return None
        seconds = 3 * components.settings.url_timeout + (_LARGE_SECONDS if row.channel == notices.CONTAINER else 30)
        row.attempts += 1
        row.due = now() + timedelta(seconds=seconds)
        return row


def _finish(components: Components, row: Notification, found: Mapping[str, Any]) -> None:
    with components.database.write() as session:
        _remove(session, row, found)


def _postpone(components: Components, row: Notification, reason: str) -> None:
    moment = now()
    with components.database.write() as session:
        if moment - row.created >= GIVE_UP:
            log.warning("notification %s (%s) is given up after %d tries", row.id, row.channel, row.attempts)
            _remove(session, row, {})
            return
        log.info("notification %s (%s) is not out yet, try %d: %s", row.id, row.channel, row.attempts, reason)
        kept = session.get(Notification, row.seq)
        if kept is not None:
            kept.due = moment + delay(row.attempts)


def _remove(session: Session, row: Notification, found: Mapping[str, Any]) -> None:
    kept = session.get(Notification, row.seq, with_for_update=True)
    if kept is None:
        return  # with its project
    session.delete(kept)
    session.flush()
    if row.recipient is not None:
        ledger.doom_rows(session, session.get_one(Project, row.project_id).account_id, row.project_id)
    if row.channel == notices.CONTAINER:
        notices.tell(session, row.project_id, {**row.event, **found})


def _copy(components: Components, row: Notification) -> dict[str, Any]:
    """Put an export's archive into the project's container; gives what the messages then say."""
    container = _address(components, row.project_id, storage.CONTAINER)
    with components.database.read() as session:
        archive_id = session.scalar(select(Export.archive_id).where(Export.id == row.event["exportId"]))
    if archive_id is None:
        raise _Dropped("its archive is no more")
    prefix = ledger.export_prefix(row.project_id, archive_id)
    try:
        archive = components.blobs.read(prefix + exports.ARCHIVE)
    except (BlobMissing, BlobDamaged, KeyMissing):
        raise _Dropped("its archive is no more") from None
    name = f"{row.project_id} - {row.event['iterationId']}.{row.event['platform']}"
    asyncio.run(storage.put_blob(_door(components), container, name, archive, "application/zip"))
    return {"modelUri": storage.blob_address(container, name)}


def _queue(components: Components, row: Notification) -> dict[str, Any]:
    queue = _address(components, row.project_id, storage.QUEUE)
    text = notices.message(row.project_id, row.event, _model_uri(components, row))
    asyncio.run(storage.put_message(_door(components), queue, text))
    return {}


def _webhook(components: Components, row: Notification) -> dict[str, Any]:
    with components.database.read() as session:
        project = session.get(Project, row.project_id)
        sealed = None if project is None else project.webhook
    if sealed is None:
        raise _Dropped("there is no webhook any more")
    webhook = webhooks.opened(components.keys, row.project_id, sealed)
    base = components.settings.public_url or ""
    body = webhooks.event(row.id, row.project_id, row.event, _model_uri(components, row), row.created, base)
    try:
        asyncio.run(webhooks.send(_door(components), webhook, row.id, body))
    except webhooks.Gone:
        with components.database.write() as session:
            webhooks.forget(session, row.project_id, sealed)
        raise _Dropped("its receiver answered 410; the webhook is removed") from None
    return {}


def _mail(components: Components, row: Notification) -> dict[str, Any]:
    with components.database.read() as session:
        iteration = session.get(Iteration, row.event["iterationId"])
        project = session.get(Project, row.project_id)
    if not components.settings.smtp_host or row.recipient is None or iteration is None or project is None:
        raise _Dropped("there is no mail server, or nothing to write about, any more")
    recipient = components.keys.open(row.recipient, notices.email_purpose(iteration.id)).decode()
    outcome = "is trained" if row.event["status"] == notices.COMPLETED else "could not be trained"
    subject = f"{iteration.name} of {project.name} {outcome}"
    text = f"{subject}.\n\nYour address was kept for this mail only, and is deleted now.\n"
    mail.send(components.settings, recipient, row.id, subject, text)
    return {}


_CHANNELS: dict[str, Callable[[Components, Notification], dict[str, Any]]] = {
    notices.CONTAINER: _copy,
    notices.QUEUE: _queue,
    notices.WEBHOOK: _webhook,
    notices.EMAIL: _mail,
}


def _door(components: Components) -> Door:
    return outbound.door(components.settings.url_allow, components.settings.url_timeout)


def _address(components: Components, project_id: str, name: str) -> str:
    with components.database.read() as session:
        project = session.get(Project, project_id)
        address = None if project is None else storage.address_of(components.keys, project, name)
    if address is None:
        raise _Dropped(f"there is no {name} any more")
    return address


def _model_uri(components: Components, row: Notification) -> str | None:
    """Where the archive lies: in the project's container, or at an address of this service that works for a while."""
    event = row.event
    if event["type"] != notices.EXPORT or event["status"] != notices.COMPLETED:
        return None
    if "modelUri" in event:
        return str(event["modelUri"])
    with components.database.read() as session:
        if session.get(Export, event["exportId"]) is None:
            return None
    path = uris.export_path(row.project_id, event["exportId"], event["platform"], event["flavor"] or None)
    settings = components.settings
    return uris.sign(components, event["baseUrl"] or f"http://{settings.host}:{settings.port}", path)
