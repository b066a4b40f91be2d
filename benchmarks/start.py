"""The size of the base install, the time to the first answer, the memory of an idle service."""

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import httpx
import psutil

from benchmarks.results import Result, keep
from ownvision.client.local import free_port, stop, wait_until_ready

ROOT = Path(__file__).parents[1]
STARTS = 3
IDLE_SECONDS = 5.0
PIP = ("pip", "pip-", "setuptools", "setuptools-", "_distutils_hack", "pkg_resources")


def run() -> bool:
    """Install without extras into a new environment and measure that one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "environment", with_pip=False)
        python = folder / "environment" / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python)]
        constraints = str(ROOT / "constraints.txt")
        subprocess.run([*pip, "install", "--constraint", constraints, str(ROOT)], check=True)
        size = _megabytes(next((folder / "environment/lib").glob("python3*")) / "site-packages")
        first = _start(python, folder / "new")[0]
        measured = [_start(python, folder / "new") for _ in range(STARTS)]
    return keep(
        "start",
        [
            Result("base install: site-packages without pip, compiled", size, "MB", 400),
            Result("first start, making the installation, to the first answer", first, "s", 3),
            Result("start to the first answer", sorted(taken for taken, _ in measured)[STARTS // 2], "s", 3),
            Result("idle memory of all processes, PSS", max(memory for _, memory in measured), "MB", 200),
        ],
    )


def _start(python: Path, data: Path) -> tuple[float, float]:
    """(seconds to the first answer, megabytes when idle)."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    log = data.parent / "log"
    arguments = ["-m", "ownvision.cli", "serve", "--port", str(port), "--data", str(data)]
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen([str(python), *arguments], stdout=output, stderr=output, cwd=data.parent)
    try:
        while True:
            try:
                assert httpx.get(endpoint + "/customvision/v3.3/training/domains").status_code == 401
                break
            except httpx.TransportError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.005)
        taken = time.perf_counter() - started
        wait_until_ready(endpoint, process, log)
        time.sleep(IDLE_SECONDS)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        return taken, sum(member.memory_full_info().pss for member in family) / 1e6
    finally:
        stop(process)


def _megabytes(packages: Path) -> float:
    counted = [path for path in packages.iterdir() if not path.name.startswith(PIP)]
    files = [file for path in counted for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6
