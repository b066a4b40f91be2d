"""Server and worker are killed at seeded moments of upload, train and delete: nothing is lost, nothing is left.

``OWNVISION_KILLS`` sets how many kills (default: a handful for every test run; ``make faults`` takes 200).
"""

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from ownvision.client.local import command, free_port

KILLS = int(os.environ.get("OWNVISION_KILLS", "3"))
# A project grows with every round: a new one keeps the rounds short.
KILLS_PER_PROJECT = 10
PREFIX = "/customvision/v3.4-preview/training"
pytestmark = [pytest.mark.service, pytest.mark.timeout(60 + 30 * KILLS)]


def _png(seed: int) -> bytes:
    # Two kinds, so that there is something to learn: bright noise and dark noise.
    low = 0 if seed % 2 else 150
    noise = np.random.default_rng(seed).integers(low, low + 100, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Installation:
    """A service that is killed and started again on the same data."""

    data: Path
    port: int
    process: "subprocess.Popen[bytes]"
    key: str = ""
    seeds: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))

    @property
    def http(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Training-Key": self.key}, timeout=30, trust_env=False
        )

    def start(self) -> None:
        with (self.data.parent / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                command("serve", "--data", str(self.data), "--port", str(self.port)), stdout=log, stderr=log
            )
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health/ready", trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready: {(self.data.parent / 'serve.log').read_text()[-2000:]}")

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(40) == 0

    def restart(self) -> None:
        self.stop()
        self.start()

    def worker(self) -> int | None:
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        for path in children:
            for pid in path.read_text().split():
                return int(pid)
        return None


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    place = Installation(tmp_path / "data", free_port(), subprocess.Popen([sys.executable, "-c", ""]))
    place.process.wait()
    place.start()
    shown = subprocess.run(
        command("account", "show", "--json", "--data", str(place.data)), check=True, capture_output=True, text=True
    )
    place.key = json.loads(shown.stdout)["trainingKeys"]["primary"]
    yield place
    place.process.terminate()
    place.process.wait(30)


@dataclass
class Book:
    """What the service has acknowledged."""

    project: str
    tags: list[str]
    images: dict[str, str] = field(default_factory=dict)  # id → SHA-256
    doubtful: set[str] = field(default_factory=set)  # a delete of these was sent and not answered


def _open_book(http: httpx.Client) -> Book:
    project = http.post(
        f"{PREFIX}/projects", params={"name": "kill", "domainId": "0732100f-1a38-4e49-a514-c9b44c697ab5"}
    )
    tags = [
        http.post(f"{PREFIX}/projects/{project.json()['id']}/tags", params={"name": name}).json()["id"]
        for name in ("bright", "dark")
    ]
    return Book(project.json()["id"], tags)


def _live(http: httpx.Client, book: Book, place: Installation, dice: random.Random) -> None:
    """One round of a project's life."""
    at = f"{PREFIX}/projects/{book.project}"
    for tag in (0, 1):
        seeds = [2 * next(place.seeds) + tag for _ in range(4)]
        files = [(str(seed), (f"{seed}.png", _png(seed))) for seed in seeds]
        answer = http.post(f"{at}/images", params={"tagIds": book.tags[tag]}, files=files)
        assert answer.status_code == 200, answer.text
        for result, seed in zip(answer.json()["images"], seeds, strict=True):
            book.images[result["image"]["id"]] = hashlib.sha256(_png(seed)).hexdigest()
    answer = http.post(f"{at}/train", params={"forceTrain": "true"})
    assert answer.status_code == 200 or "Training" in answer.json()["code"], answer.text
    victims = dice.sample(sorted(book.images), 2)
    book.doubtful.update(victims)
    answer = http.delete(f"{at}/images", params={"imageIds": ",".join(victims), "allIterations": "true"})
    assert answer.status_code in (202, 204), answer.text
    for image_id in victims:
        del book.images[image_id]
    book.doubtful.clear()
    other = http.post(f"{PREFIX}/projects", params={"name": "short-lived"}).json()["id"]
    http.post(f"{PREFIX}/projects/{other}/images", files=[("x", ("x.png", _png(next(place.seeds))))])
    assert http.delete(f"{PREFIX}/projects/{other}").status_code == 204


def _kill(place: Installation, dice: random.Random, whom: str) -> None:
    time.sleep(dice.uniform(0.0, 1.5))
    pid = place.process.pid if whom == "server" else place.worker()
    if pid is not None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _check(http: httpx.Client, book: Book) -> None:
    """Every acknowledged image can be read back; of a delete that was not answered both outcomes are right."""
    there: dict[str, Any] = {}
    while page := http.get(f"{PREFIX}/projects/{book.project}/images", params={"take": 256, "skip": len(there)}).json():
        there |= {image["id"]: image for image in page}
    for image_id in list(book.doubtful):
        if image_id not in there:
            book.images.pop(image_id, None)
    book.doubtful.clear()
    assert set(book.images) <= set(there)
    for image_id, sha256 in book.images.items():
        data = httpx.get(there[image_id]["originalImageUri"], trust_env=False).content
        assert hashlib.sha256(data).hexdigest() == sha256


def test_nothing_acknowledged_is_lost_and_nothing_is_left(installation: Installation) -> None:
    dice = random.Random(20261124)
    for first in range(0, KILLS, KILLS_PER_PROJECT):
        _one_project(installation, dice, range(first, min(first + KILLS_PER_PROJECT, KILLS)))


def _one_project(installation: Installation, dice: random.Random, kills: range) -> None:
    with installation.http as http:
        book = _open_book(http)
        for number in kills:
            whom = "server" if number % 2 == 0 else "worker"
            killer = threading.Thread(target=_kill, args=(installation, dice, whom))
            killer.start()
            try:
                while killer.is_alive():
                    _live(http, book, installation, dice)
            except httpx.TransportError:
                assert whom == "server"
            killer.join()
            if whom == "server":
                installation.process.wait(10)
                installation.start()
            _check(http, book)
        _settled(http, book)
        installation.restart()  # the sweeper finishes what was doomed
        _check(http, book)
        installation.stop()
    examined = subprocess.run(
        command("doctor", "--data", str(installation.data)), capture_output=True, text=True, check=False
    )
    assert examined.returncode == 0, examined.stdout
    installation.start()
    with installation.http as http:
        http.delete(f"{PREFIX}/projects/{book.project}")


def _settled(http: httpx.Client, book: Book) -> None:
    """No training stays for ever: within the time that a retry takes all are Completed, or Failed with a reason."""
    deadline = time.monotonic() + 60
    while True:
        iterations = http.get(f"{PREFIX}/projects/{book.project}/iterations").json()
        if all(one["status"] != "Training" for one in iterations):
            break
        assert time.monotonic() < deadline, iterations
        time.sleep(0.1)
    for one in iterations:
        assert one["status"] == "Completed" or one["trainingErrorDetails"], one
