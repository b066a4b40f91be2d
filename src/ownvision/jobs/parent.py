"""A child that ends when its parent does, however the parent ended."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """End this process when the one named by ``OWNVISION_PARENT`` ends."""
    parent = os.environ.get("OWNVISION_PARENT")
    if parent is not None:
        die_with(int(parent))


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies (Linux; elsewhere the lease alone protects).

    Args:
        parent: The process id that the parent has, or had: it may have died before this was called.
    """
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(3)
