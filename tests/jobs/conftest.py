"""An installation, and the worker as a process on it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ownvision.services.components import Components
from tests.services import trained as t

Starter = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    components = t.open_house(tmp_path / "data")
    yield components
    components.database.close()


@pytest.fixture
def start(house: Components) -> Iterator[Starter]:
    """Starts a worker on the installation."""
    workers = []

    def begin(**settings: str) -> "subprocess.Popen[bytes]":
        own = {"OWNVISION_DATA": str(house.settings.data), "OWNVISION_PARENT": str(os.getpid()), **settings}
        with (house.settings.data / "worker.log").open("ab") as log:
            workers.append(
                subprocess.Popen([sys.executable, "-m", "ownvision.jobs.worker"], env={**os.environ, **own}, stderr=log)
            )
        return workers[-1]

    yield begin
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
