"""The wheel: built, installed alone beside its dependencies, and serving."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from ownvision.client.local import free_port, stop, wait_until_ready

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.service
def test_the_wheel_holds_everything_and_serves(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("ownvision-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src/ownvision").rglob("*") if path.is_file()}
    missing = {name for name in sources if "__pycache__" not in name} - set(names)
    assert not missing

    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    # The dependencies are those of the tests' environment. Its .pth files are not read, so its editable install of
    # this source is not seen.
    packages = next((environment / "lib").glob("python3*")) / "site-packages"
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    port, log = free_port(), tmp_path / "log"
    arguments = ["-m", "ownvision.cli", "serve", "--port", str(port), "--data", str(tmp_path / "data")]
    with log.open("wb") as output:
        process = subprocess.Popen([python, *arguments], stdout=output, stderr=output, cwd=tmp_path)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process, log)
        assert httpx.get(f"http://127.0.0.1:{port}/customvision/v3.3/training/domains").status_code == 401
    finally:
        stop(process)
