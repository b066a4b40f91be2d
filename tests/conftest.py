"""A real service for the tests that talk to one: `ownvision serve` in a process of its own, once per session."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ownvision.client import Service
from ownvision.client.local import Running, run, running_service

if TYPE_CHECKING:
    from tests.azurite import Azurite


def pytest_configure() -> None:
    """What a shell runs in the background ignores Ctrl-C, and so would the commands that tests stop by it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running service with empty data, as a person starts it."""
    folder = tmp_path_factory.mktemp("service")
    # The tests fetch pictures by URL from a server of their own on this machine.
    with running_service(folder / "data", {"OWNVISION_URL_ALLOW": '["127.0.0.0/8"]'}) as running:
        yield running


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Azurite"]:
    """Azure Storage on this machine."""
    from tests import azurite  # its client libraries are large, and few tests need them

    with azurite.running(tmp_path_factory.mktemp("azurite")) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def make_account(service: Running) -> Callable[[str], dict[str, Any]]:
    """Makes another account of the running service and gives what `account show --json` prints of it."""

    def make(name: str) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(run("account", "create", name, "--json", "--data", str(service.data)))
        return made

    return make


@pytest.fixture(scope="session")
def http_client(service: Running) -> Iterator[Service]:
    """The small client that the commands use."""
    with Service(service.endpoint, service.training_key, service.prediction_key) as client:
        yield client


@pytest.fixture(scope="session")
def objects(service: Running) -> Callable[[], set[Path]]:
    """The files in the object store now."""
    # os.walk passes over folders that are removed while it looks.
    return lambda: {Path(folder) / name for folder, _, names in os.walk(service.data / "objects") for name in names}
