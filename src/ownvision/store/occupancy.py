"""Who is at work on a data folder: many may use it at once, or one alone.

Services and commands hold ``use.lock`` together; replacing the rows or the installation's key needs it alone.
"""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ownvision.errors import OwnVisionError

USE, WORKER = "use.lock", "worker.lock"


@contextmanager
def used(data: Path) -> Iterator[None]:
    """Use a folder beside others; made when missing.

    Raises:
        OwnVisionError: Conflict: a command works on it alone.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(data / USE, fcntl.LOCK_SH, "A command is at work on {} that must be alone there; try again later."):
        yield


@contextmanager
def alone(data: Path) -> Iterator[None]:
    """Use a folder with nobody beside; made when missing.

    Raises:
        OwnVisionError: Conflict: a service, a worker or a command is at work on it.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    busy = "A service or a command is at work on {}; stop it first."
    with ExitStack() as stack:
        stack.enter_context(_locked(data / USE, fcntl.LOCK_EX, busy))
        stack.enter_context(_locked(data / WORKER, fcntl.LOCK_EX, busy))
        yield


@contextmanager
def _locked(path: Path, how: int, refusal: str) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OwnVisionError("Conflict", refusal.format(path.parent)) from None
        yield
