"""Bringing erasures to their end where no worker is there to do it: the same steps, at once."""

import fcntl
import os

from sqlalchemy import select

from ownvision.data_rights import closing, receipts, scrubbing, signing
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.tables import Account, Project

_SWEPT = 1_000


def finish(components: Components) -> bool:
    """Remove what is closed or doomed, rewrite the database and sign; returns whether it was done.

    Not where a worker is at work: it does the same within moments.
    """
    data, database = components.settings.data, components.database
    with (data / "worker.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        for table in (Project, Account):  # an account's projects go before it
            with database.read() as session:
                closed = list(session.scalars(select(table.id).where(table.closed.is_not(None))))
            for id in closed:
                closing.empty(components, id)
        while ledger.sweep(database, components.blobs, _SWEPT, components.keys.journal):
            pass
        scrubbing.destroy_stray_keys(database, components.keys)
        if receipts.settle(database):
            # The copy that rewriting makes must lie where an erasure can see it, not in the system's folder.
            os.environ["SQLITE_TMPDIR"] = str(data.absolute())
            scrubbing.scrub(database, data)
        if signing.sign(database, components.keys, scrubbing.scrubbed(data)):
            database.empty_log()
    return True
