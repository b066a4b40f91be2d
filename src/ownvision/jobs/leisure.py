"""Computing only while nobody else wants the processor (Linux; elsewhere a job's low priority must do)."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress


def leisurely() -> ThreadPoolExecutor:
    """One thread at the scheduler's idle policy, and so are threads that it starts.

    It never leaves that policy: an ordinary user's process may enter it but not leave it again. Only what computes
    belongs there: a holder of the database's lock could wait for the processor while everybody waits for the lock.
    """
    return ThreadPoolExecutor(1, "leisure", _stand_back)


def _stand_back() -> None:
    with suppress(AttributeError, OSError):  # no such policy here, or a sandbox that refuses it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
