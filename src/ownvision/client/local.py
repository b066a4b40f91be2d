"""A service of one's own on this machine for a while: started, waited for, stopped. Demo, tests, benchmarks use it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 60.0
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Running:
    """A running service.

    Attributes:
        endpoint: Its address.
        account: What `ownvision account show --json` prints.
        data: Its data folder.
        log: The file that its output goes to.
        process: The process of `ownvision serve`.
    """

    endpoint: str
    account: dict[str, Any]
    data: Path
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def training_key(self) -> str:
        """The primary training key."""
        return str(self.account["trainingKeys"]["primary"])

    @property
    def prediction_key(self) -> str:
        """The primary prediction key."""
        return str(self.account["predictionKeys"]["primary"])

    @property
    def resource_id(self) -> str:
        """What `publish` is given as prediction id."""
        return str(self.account["predictionResourceId"])


def command(*arguments: str) -> list[str]:
    """The command line of `ownvision` in this environment."""
    return [sys.executable, "-m", "ownvision.cli", *arguments]


def run(*arguments: str) -> str:
    """Run a command of `ownvision` and give its output; raises CalledProcessError when it fails."""
    return subprocess.run(command(*arguments), check=True, capture_output=True, text=True).stdout


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_service(data: Path, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Start `ownvision serve` on a free port with its data in `data`, and stop it at the end.

    Raises:
        RuntimeError: when it is not ready in time or ends; with the end of its log.
    """
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    log = data.parent / f"{data.name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command("serve", "--host", "127.0.0.1", "--port", str(port), "--data", str(data)),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    try:
        wait_until_ready(endpoint, process, log)
        account = json.loads(run("account", "show", "--json", "--data", str(data)))
        yield Running(endpoint, account, data, log, process)
    finally:
        stop(process)


def wait_until_ready(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Poll `/health/ready` until it answers 200."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(endpoint + "/health/ready", timeout=5.0).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    state = "did not become ready" if process.poll() is None else f"ended with {process.returncode}"
    raise RuntimeError(f"The service {state}:\n{log.read_text(errors='replace')[-4000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the service as an operator would, and hard when it does not listen."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
