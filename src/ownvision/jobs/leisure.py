"""Computing only while nobody else wants the processor (Linux; elsewhere a low priority must do)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def leisure() -> Iterator[None]:
    """Run a block, and threads that it starts, at the scheduler's idle policy.

    Only what computes belongs in it: at this policy a holder of the database's lock could wait for the processor while
    everybody waits for the lock.
    """
    if not hasattr(os, "SCHED_IDLE"):
        yield
        return
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
