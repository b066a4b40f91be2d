"""Ctrl-C and SIGTERM for commands that must end where it is safe."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ownvision.client import ClientError


class Stopped(ClientError):
    """A command ended because it was asked to."""


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """While this lasts, Ctrl-C and SIGTERM ask to stop, where it is safe; those that are ignored stay so."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    numbers = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
