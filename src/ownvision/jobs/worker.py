"""The job worker: claims jobs and runs each in a process of its own; sweeps what is doomed or expired in between.

Two lanes run beside each other, so that a training never holds up embedding, export or erasure. Only one worker works
on a data folder (a file lock): when it holds the lock, no other can be alive, so every running job is an orphan and is
taken up again at once.
"""

import fcntl
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import IO

from ownvision.jobs import rows
from ownvision.jobs.engines import local
from ownvision.jobs.handlers import on_failed
from ownvision.jobs.parent import die_with_parent
from ownvision.services import predictions
from ownvision.services.housekeeping import destroy_stray_keys
from ownvision.settings import Settings
from ownvision.store import ledger
from ownvision.store.blobs.local import LocalBlobs
from ownvision.store.database import Database
from ownvision.store.keys import KeyStore
from ownvision.store.tables.base import now

log = logging.getLogger("ownvision.jobs")

POLL_SECONDS = 0.15
HOUSEKEEPING_SECONDS = 2.0


def alive_file(data: Path) -> Path:
    """The file whose age tells whether the worker is alive."""
    return data / "worker.alive"


def work(settings: Settings, stop: threading.Event) -> None:
    """Work until told to stop; running jobs are then put back into the queue."""
    database = Database(settings.sqlalchemy_url)
    blobs = LocalBlobs(settings.data / "objects")
    keys = KeyStore(settings.data / "keys")
    lock = _only_worker(settings.data, stop)
    if lock is None:
        return
    rows.recover(database, on_failed, rows.any_running())
    running: dict[str, local.Child] = {}
    swept = 0.0
    while not stop.wait(POLL_SECONDS):
        alive_file(settings.data).touch()
        for lane in rows.LANES:
            if lane in running and running[lane].ended():
                rows.recover(database, on_failed, rows.held_by(running.pop(lane).claim))
            if lane not in running:
                claim = rows.claim(database, lane, settings.job_lease)
                if claim is not None:
                    running[lane] = local.start(settings, claim)
        if time.monotonic() - swept > HOUSEKEEPING_SECONDS:
            rows.recover(database, on_failed, rows.lapsed())
            with database.write() as session:
                predictions.expire(session, now())
            while ledger.sweep(database, blobs):
                alive_file(settings.data).touch()
            destroy_stray_keys(database, keys)
            swept = time.monotonic()
    for child in running.values():
        child.stop()
    rows.recover(database, on_failed, rows.any_running())
    alive_file(settings.data).unlink(missing_ok=True)
    lock.close()
    database.close()


def _only_worker(data: Path, stop: threading.Event) -> IO[str] | None:
    file = (data / "worker.lock").open("w")
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if stop.wait(POLL_SECONDS):
                file.close()
                return None


def main() -> None:
    """Entry of the process: ``python -m ownvision.jobs.worker``."""
    die_with_parent()
    os.setpgid(0, 0)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    work(Settings(), stop)


if __name__ == "__main__":
    main()
