"""The default engine: a fresh process for each job, forked from the worker.

A fork has all modules loaded at once, where a new interpreter would need a second, and shares their memory. The worker
has one thread and, at that moment, no connection open: nothing is in a state that a copy must not see.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from ownvision.jobs.parent import die_with

log = logging.getLogger("ownvision.jobs")


@dataclass
class Child:
    """A process at work."""

    pid: int
    _ended: bool = field(default=False, repr=False)

    def ended(self) -> bool:
        """Whether the process is gone."""
        if not self._ended:
            self._ended = os.waitpid(self.pid, os.WNOHANG)[0] == self.pid
        return self._ended

    def stop(self) -> None:
        """End the process at once, which is safe at any moment; returns when it is gone."""
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._ended = True


def start(action: Callable[[], None]) -> Child:
    """Run something in a process of its own, which ends when this one does."""
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid)
    status = 1
    try:
        die_with(parent)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        action()
        status = 0
    except BaseException:
        log.exception("a process of the worker failed")
    finally:
        # Never back into the worker's own code, nor into what it wants done when it ends.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
