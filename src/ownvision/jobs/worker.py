"""The job worker: claims jobs and runs each in a process of its own; erases what is doomed or expired in between.

Two lanes run beside each other, so that a training never holds up embedding, export or erasure. Only one worker works
on a data folder (a file lock): when it holds the lock, no other can be alive, so every running job is an orphan and is
taken up again at once. It has one thread, because its jobs are forks of it (`engines.local`): nothing here takes long.
"""

import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sqlalchemy.exc import SQLAlchemyError

from ownvision.data_rights import closing, receipts, retention, scrubbing, signing
from ownvision.jobs import rows, runner
from ownvision.jobs.engines import local
from ownvision.jobs.handlers import on_failed
from ownvision.jobs.parent import die_with_parent
from ownvision.services import delivery, live
from ownvision.services.components import open_components
from ownvision.settings import Settings
from ownvision.store import ledger
from ownvision.store.blobs.local import LocalBlobs
from ownvision.store.database import Database
from ownvision.store.keys import KeyStore

log = logging.getLogger("ownvision.jobs")

POLL_SECONDS = 0.1
HOUSEKEEPING_SECONDS = 2.0
RETENTION_SECONDS = 3_600.0
# Between two starts of the process that learns live, should it die at once.
LEARNING_SECONDS = 5.0
_NICE_LEARNING = 5  # requests come first
LOG_FORMAT = "%(levelname)s %(name)s %(message)s"
# Prefixes removed in one go: about 20 ms, so that a large erasure doesn't keep a training waiting.
_SWEPT = 200


def alive_file(data: Path) -> Path:
    """The file whose age tells whether the worker is alive."""
    return data / "worker.alive"


@dataclass
class _Worker:
    settings: Settings
    lock: IO[str]
    database: Database
    blobs: LocalBlobs
    keys: KeyStore
    running: dict[str, tuple[rows.Claim, local.Child]] = field(default_factory=dict)  # by lane
    scrubbing: local.Child | None = None
    posting: local.Child | None = None
    learning: local.Child | None = None
    began_learning: float = float("-inf")
    disowned: set[str] = field(default_factory=set)  # jobs that were lost at the last look
    looked: float = 0.0  # when housekeeping last looked for work
    expiring: Iterator[int] | None = None  # a round of retention under way
    said: Hashable = None  # what rules and holds said at its beginning
    retained: float = 0.0  # when it began


def work(settings: Settings, stop: threading.Event) -> None:
    """Work until told to stop; running jobs are then put back into the queue."""
    lock = _only_worker(settings.data, stop)
    if lock is None:
        return
    worker = _Worker(
        settings,
        lock,
        Database(settings.sqlalchemy_url),
        LocalBlobs(settings.data / "objects"),
        KeyStore(settings.data / "keys"),
    )
    rows.recover(worker.database, on_failed, rows.any_running())
    more = False
    while not stop.wait(0.0 if more else POLL_SECONDS):
        try:
            alive_file(settings.data).touch()
            _look_after_jobs(worker)
            _look_after_messages(worker)
            _look_after_drafts(worker)
            more = _keep_house(worker)
        except (SQLAlchemyError, OSError):
            # A full disk, a lock held for long: the jobs at work must not die of it.
            log.exception("the worker could not do its round; it tries again")
            more = False
            stop.wait(1.0)
    for claim, child in worker.running.values():
        child.stop()
        rows.give_back(worker.database, claim)
    for helper in (worker.scrubbing, worker.posting, worker.learning):
        if helper is not None:
            helper.stop()
    alive_file(settings.data).unlink(missing_ok=True)
    worker.database.close()
    lock.close()


def _look_after_jobs(worker: _Worker) -> None:
    if worker.scrubbing is not None and not worker.scrubbing.ended():
        return  # it holds the database's write lock
    worker.scrubbing = None
    for lane, (claim, child) in list(worker.running.items()):
        if child.ended():
            rows.recover(worker.database, on_failed, rows.held_by(claim))
            del worker.running[lane]
    free = set(rows.LANES) - set(worker.running)
    for lane in sorted(rows.waiting(worker.database) & free) if free else ():
        taken = rows.claim(worker.database, lane, worker.settings.job_lease)
        if taken is not None:
            worker.running[lane] = (taken, _start(worker, taken))


def _look_after_messages(worker: _Worker) -> None:
    """Messages go out from a process of their own, which lives while there are any: a slow receiver holds nobody up."""
    if worker.posting is not None and worker.posting.ended():
        worker.posting = None
    if worker.posting is None and worker.scrubbing is None and delivery.waiting(worker.database):
        worker.posting = _fork(worker, lambda: _post(worker.settings))


def _post(settings: Settings) -> None:
    components = open_components(settings)
    delivery.post(components)
    components.database.close()


def _look_after_drafts(worker: _Worker) -> None:
    """Live learning has a process of its own, which lives while people tag: it keeps what it would have to read."""
    if worker.learning is not None and worker.learning.ended():
        worker.learning = None
    if worker.learning is not None or time.monotonic() - worker.began_learning < LEARNING_SECONDS:
        return
    if worker.scrubbing is None and live.due(worker.database):
        worker.began_learning = time.monotonic()
        worker.learning = _fork(worker, lambda: _learn(worker.settings))


def _learn(settings: Settings) -> None:
    os.nice(_NICE_LEARNING)
    components = open_components(settings)
    live.follow(components)
    components.database.close()


def _start(worker: _Worker, claim: rows.Claim) -> local.Child:
    return _fork(worker, lambda: runner.main(worker.settings, claim))


def _fork(worker: _Worker, action: Callable[[], None]) -> local.Child:
    worker.database.close()  # a connection must not be there twice; the next use opens a new one

    def alone() -> None:
        worker.lock.close()  # the worker's copy keeps the lock
        action()

    return local.start(alone)


def _keep_house(worker: _Worker) -> bool:
    """Erase a little; returns whether there is more to erase at once."""
    if worker.scrubbing is not None or time.monotonic() - worker.looked < HOUSEKEEPING_SECONDS:
        return False
    database, data = worker.database, worker.settings.data
    if ledger.sweep(database, worker.blobs, _SWEPT, worker.keys.journal) >= _SWEPT:
        return True
    if _retain(worker):
        return True
    rows.recover(database, on_failed, rows.lapsed())
    _stop_the_disowned(worker)
    scrubbing.destroy_stray_keys(database, worker.keys)
    if database.ballast is not None:
        database.ballast.keep()
    closing.resume(database)
    receipts.settle(database)
    if signing.sign(database, worker.keys, scrubbing.scrubbed(data)):
        database.empty_log()
    if worker.posting is None and scrubbing.scrub_due(database, data, worker.settings.scrub_seconds):
        worker.scrubbing = _fork(worker, lambda: _scrub(worker.settings))
    worker.looked = time.monotonic()
    return False


def _retain(worker: _Worker) -> bool:
    """One step of retention: a round begins every hour, and when a rule or hold has changed; says if more follows."""
    database, settings = worker.database, worker.settings
    if worker.expiring is None:
        with database.read() as session:
            said = retention.asked(session)
        if said == worker.said and time.monotonic() - worker.retained < RETENTION_SECONDS:
            return False
        worker.said, worker.retained, worker.expiring = said, time.monotonic(), retention.enforce(database, settings)
    try:
        done = next(worker.expiring, None) is None
    except Exception:
        worker.said, worker.expiring = None, None  # the next round begins at once
        raise
    if done:
        worker.expiring = None
    return not done


def _stop_the_disowned(worker: _Worker) -> None:
    """End the processes whose job is no longer theirs: deleted with its project, or silent beyond its lease.

    At the second look, since a process that has just finished its job still has to end.
    """
    held = rows.still_held(worker.database, [claim for claim, _ in worker.running.values()])
    lost = {claim.job_id for claim, _ in worker.running.values()} - held
    for claim, child in worker.running.values():
        if claim.job_id in lost & worker.disowned and not child.ended():
            log.warning("job %s is no longer this worker's; its process is ended", claim.job_id)
            child.stop()
    worker.disowned = lost


def _scrub(settings: Settings) -> None:
    database = Database(settings.sqlalchemy_url)
    scrubbing.scrub(database, settings.data)
    database.close()


def alone(data: Path) -> IO[str] | None:
    """The lock of a data folder's only worker, held until it is closed; None: there is a worker."""
    file = (data / "worker.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _only_worker(data: Path, stop: threading.Event) -> IO[str] | None:
    while (lock := alone(data)) is None:
        if stop.wait(POLL_SECONDS):
            return None
    return lock


def main() -> None:
    """Entry of the process: ``python -m ownvision.jobs.worker``."""
    die_with_parent()
    os.setpgid(0, 0)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    work(Settings(), stop)


if __name__ == "__main__":
    main()
