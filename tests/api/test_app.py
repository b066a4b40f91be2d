"""`serve` as a process: starts fast, says where it listens, keeps its worker alive, drains, stops cleanly."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ownvision.app import exported
from ownvision.limits import Limits
from ownvision.settings import Settings

CODE = "from ownvision.app import serve; from ownvision.settings import Settings; serve(Settings())"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """A served process, its address, and the seconds to its first answer."""
    environment = {
        **os.environ,
        "OWNVISION_DATA": str(tmp_path),
        "OWNVISION_PORT": "0",
        "OWNVISION_MIN_FREE_BYTES": "0",
    }
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", CODE], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"OwnVision listens on (http://127\.0\.0\.1:\d+) \(keys: ownvision account show .*\)\n", line)
    assert found, line
    assert httpx.get(f"{found[1]}/health/live").status_code == 200
    try:
        yield process, found[1], time.monotonic() - began
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _until(check: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.05)


def _workers(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                line = (folder / "cmdline").read_text()
            except (OSError, ValueError):
                continue
            if parent == pid and "ownvision.jobs.worker" in line:
                found.append(int(folder.name))
    return found


@pytest.mark.service
def test_it_answers_soon_and_never_loads_torch(served: tuple[subprocess.Popen[str], str, float]) -> None:
    process, url, seconds = served
    assert seconds < 10  # the benchmark holds it to 3 s on an idle machine
    assert "torch" not in (Path("/proc") / str(process.pid) / "maps").read_text()
    headers = httpx.get(f"{url}/health/live").headers
    assert "server" not in headers


@pytest.mark.service
def test_a_dead_worker_is_started_again(served: tuple[subprocess.Popen[str], str, float]) -> None:
    process, url, _ = served
    _until(lambda: httpx.get(f"{url}/health/ready").status_code == 200)
    (worker,) = _workers(process.pid)
    os.kill(worker, signal.SIGKILL)
    _until(lambda: bool(_workers(process.pid)) and _workers(process.pid) != [worker])


@pytest.mark.service
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly(served: tuple[subprocess.Popen[str], str, float], number: int) -> None:
    process, url, _ = served
    httpx.get(f"{url}/nothing?secret=1")
    _until(lambda: bool(_workers(process.pid)))
    (worker,) = _workers(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert not Path(f"/proc/{worker}").exists()
    assert [json.loads(line)["route"] for line in errors.splitlines() if '"route"' in line][-1] == "(no route)"
    assert "secret" not in errors
    assert "Traceback" not in errors


@pytest.mark.service
def test_the_worker_ends_with_a_killed_server(served: tuple[subprocess.Popen[str], str, float]) -> None:
    process, _, _ = served
    _until(lambda: bool(_workers(process.pid)))
    (worker,) = _workers(process.pid)
    process.kill()
    process.wait()
    _until(lambda: not Path(f"/proc/{worker}").exists())


@pytest.mark.service
def test_requests_under_way_are_finished_while_it_is_not_ready(
    served: tuple[subprocess.Popen[str], str, float], tmp_path: Path
) -> None:
    process, url, _ = served
    from ownvision.services import accounts
    from ownvision.services.components import open_components

    components = open_components(Settings(data=tmp_path))
    with components.database.read() as session:
        key = accounts.describe(session, components.keys, accounts.all(session)[0])["trainingKeys"]["primary"]
    components.database.close()
    client = httpx.Client(base_url=f"{url}/customvision/v3.3/training", headers={"Training-Key": key}, timeout=30)
    project = client.post("/projects?name=a").json()["id"]
    half, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"not an "
        half.set()
        go_on.wait(20)
        yield b"image"

    answers: list[httpx.Response] = []
    headers = {"Content-Type": "application/octet-stream"}
    path = f"/projects/{project}/images"
    upload = threading.Thread(target=lambda: answers.append(client.post(path, content=slow(), headers=headers)))
    upload.start()
    half.wait(20)
    _until(lambda: httpx.get(f"{url}/metrics").text.count("ownvision_requests_running 2.0") == 1)
    process.send_signal(signal.SIGTERM)
    _until(lambda: httpx.get(f"{url}/health/ready").json()["checks"]["staying"] is False)
    go_on.set()
    upload.join()
    client.close()
    assert answers[0].json()["images"][0]["status"] == "ErrorImageFormat"
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_child_process_gets_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(batch_images=7)
    settings = Settings(data=tmp_path, url_allow=["10.0.0.0/8"], limits=limits, public_url="http://x", threads=3)
    for name, value in exported(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings
