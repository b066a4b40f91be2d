"""What rows keep sealed by the installation's key, in one table: a new key must seal it anew.

`tests/data_rights/test_rotation.py` fails where something is sealed that does not stand here.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from ownvision.services import accounts, notices, storage, webhooks
from ownvision.services.travel import source
from ownvision.store.database import Database
from ownvision.store.keys import KeyMissing, KeyStore, seal, unseal
from ownvision.store.tables import ApiKey, Iteration, Job, Notification, Project

# Column, and what a row's value is sealed for.
COLUMNS: Sequence[tuple[InstrumentedAttribute[Any], Callable[[Any], str]]] = (
    (ApiKey.sealed, lambda row: accounts.purpose(row.account_id)),
    (Project.export_container, lambda row: storage.purpose(row.id, storage.CONTAINER)),
    (Project.notification_queue, lambda row: storage.purpose(row.id, storage.QUEUE)),
    (Project.webhook, lambda row: webhooks.purpose(row.id)),
    (Iteration.notify_email, lambda row: notices.email_purpose(row.id)),
    (Notification.recipient, lambda row: notices.email_purpose(row.event["iterationId"])),
)
# Members of a job's payload, in base64, and what they are sealed for.
PAYLOADS: Mapping[str, str] = {"address": source.PURPOSE}


def reseal(database: Database, keys: KeyStore) -> int:
    """Seal anew with the installation's key what one that it replaced has sealed.

    Returns:
        How many values there were.
    """
    old = [*keys.retired().values()]
    with database.write() as session:
        return reseal_rows(session, keys.installation(), old) if old else 0


def reseal_rows(session: Session, new: bytes, old: Sequence[bytes]) -> int:
    """Seal with one installation key what another has sealed; what none of them opens stays as it is.

    Args:
        session: The write transaction; doing it twice does no harm.
        new: The key to seal with.
        old: Keys that may have sealed.

    Returns:
        How many values were sealed anew.
    """
    count = 0
    for column, purpose in COLUMNS:
        for row in session.scalars(select(column.class_).where(column.is_not(None))):
            renewed = _renewed(getattr(row, column.key), purpose(row), new, old)
            if renewed is not None:
                setattr(row, column.key, renewed)
                count += 1
    for job in session.scalars(select(Job)):
        changed = {}
        for name, text in PAYLOADS.items():
            if name in job.payload:
                renewed = _renewed(base64.b64decode(job.payload[name]), text, new, old)
                if renewed is not None:
                    changed[name] = base64.b64encode(renewed).decode()
        if changed:
            job.payload = {**job.payload, **changed}
            count += len(changed)
    session.flush()
    return count


def _renewed(sealed: bytes, purpose: str, new: bytes, old: Sequence[bytes]) -> bytes | None:
    try:
        unseal(new, sealed, purpose)
        return None
    except KeyMissing:
        pass
    for key in old:
        try:
            return seal(new, unseal(key, sealed, purpose), purpose)
        except KeyMissing:
            continue
    return None
