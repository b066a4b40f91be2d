"""Erasing while the service is killed again and again, and on a disk that is full: it comes to its end all the same.

``OWNVISION_KILLS`` sets how many kills (default: a few; ``make faults`` takes 200).
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from ownvision.client.local import command, free_port
from ownvision.data_rights import closing, erasure, finishing, receipts, signing
from ownvision.data_rights.who import OPERATOR, Who
from ownvision.services.components import open_components
from ownvision.settings import Settings
from ownvision.store.tables import Receipt
from tests.services import trained as t

KILLS = min(int(os.environ.get("OWNVISION_KILLS", "2")), 30)
IMAGES = 300
pytestmark = [pytest.mark.service, pytest.mark.timeout(240 + 60 * KILLS)]


def _start(data: Path) -> tuple["subprocess.Popen[bytes]", str]:
    port = free_port()
    environment = {**os.environ, "OWNVISION_SCRUB_SECONDS": "0", "OWNVISION_JOB_LEASE": "5"}
    with (data.parent / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            command("serve", "--data", str(data), "--port", str(port)), stdout=log, stderr=log, env=environment
        )
    return process, f"http://127.0.0.1:{port}"


def _receipt(url: str, receipt_id: str) -> dict[str, Any] | None:
    with contextlib.suppress(httpx.HTTPError):
        answer = httpx.get(f"{url}/receipts/{receipt_id}", trust_env=False)
        if answer.status_code == 200:
            return dict(answer.json())
    return None


def test_an_account_under_kill_9_is_erased_and_its_receipt_counts_everything_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    house = t.open_house(data)
    made = [t.make_project(house, name) for name in ("one", "two")]
    for number, project in enumerate(made):
        tag = t.make_tag(house, project, "red")
        for start in range(0, IMAGES, 50):
            t.upload(house, project, [t.coloured(number, seed) for seed in range(start, start + 50)], [tag])
    total = sum(size for _, size in house.blobs.list())
    with house.database.write() as session:
        receipt = erasure.erase_account(session, Who(made[0].account_id, OPERATOR))
    # Not even what must follow the commit was done: here the first process ends.
    house.database.close()
    dice = random.Random(20261124)
    for _ in range(KILLS):
        process, url = _start(data)
        deadline = time.monotonic() + 120
        while _receipt(url, receipt.id) is None:
            assert time.monotonic() < deadline, (tmp_path / "serve.log").read_text()[-2_000:]
            time.sleep(0.02)
        time.sleep(dice.uniform(0.0, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    process, url = _start(data)
    deadline = time.monotonic() + 180
    while (found := _receipt(url, receipt.id)) is None or found["state"] != "signed":
        assert time.monotonic() < deadline, (found, (tmp_path / "serve.log").read_text()[-2_000:])
        time.sleep(0.05)
    process.terminate()
    process.wait(40)
    erased = found["statement"]["erased"]
    assert {kind: erased[kind]["count"] for kind in ("images", "imageTags", "tags", "projects", "accounts")} == {
        "images": 2 * IMAGES,
        "imageTags": 2 * IMAGES,
        "tags": 2,
        "projects": 2,
        "accounts": 1,
    }
    # Nobody made features meanwhile: the account was closed before the service ran.
    assert sum(one["bytes"] for one in erased.values()) == total
    assert signing.verify([found])[0].wrong is None
    assert [path for path in (data / "objects").rglob("*") if path.is_file()] == []
    assert sorted(path.name for path in (data / "keys").rglob("*.key")) == ["installation.key", "receipts.key"]


_FILL = """
import os, sys
with open(sys.argv[1], "wb", buffering=0) as file:
    for size in (1 << 16, 1 << 12, 1):
        try:
            while True:
                file.write(os.urandom(size))
        except OSError:
            pass
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB; only root can mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_on_a_full_disk_a_project_is_erased(small_disk: Path) -> None:
    house = t.open_house(small_disk / "data")
    project = t.make_project(house, "Large")
    tag = t.make_tag(house, project, "red")
    for start in range(0, 400, 50):
        t.upload(house, project, [t.coloured(0, seed) for seed in range(start, start + 50)], [tag])
    assert house.database.ballast is not None
    (small_disk / "data" / "ballast").write_bytes(os.urandom(8 << 20))  # there is no plenty to make it from
    house.database.close()
    subprocess.run([sys.executable, "-c", _FILL, str(small_disk / "filler")], check=True)
    house = open_components(Settings(data=small_disk / "data"))
    with house.database.write() as session:
        receipt = erasure.erase_project(session, Who(project.account_id, OPERATOR), project.id)
    erasure.after_commit(house, receipt)
    closing.empty(house, project.id)
    assert list(house.blobs.list()) == []
    assert finishing.finish(house)
    with house.database.read() as session:
        done = receipts.get(session, receipt.id)
        assert session.scalars(select(Receipt.state)).all() == ["signed"]
    assert json.loads(str(done.statement))["erased"]["images"]["count"] == 400
    house.database.close()
