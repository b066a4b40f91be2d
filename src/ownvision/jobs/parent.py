"""A child that ends when its parent does, however the parent ended."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux; elsewhere the lease alone protects)."""
    parent = os.environ.get("OWNVISION_PARENT")
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    # The parent may have died before the call above took effect.
    if parent is not None and os.getppid() != int(parent):
        os._exit(3)
