"""The README's program does what it says, as it stands there."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ownvision.client.local import running_service
from tests.sdk.conftest import SHAPES, scene

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.service
def test_the_first_five_minutes_run_as_written(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "first.py").write_text(program)
    for shape in SHAPES:
        (tmp_path / "pictures" / shape).mkdir(parents=True)
        for seed in range(6):
            (tmp_path / "pictures" / shape / f"{seed}.png").write_bytes(scene(seed, (shape,))[0])
    with running_service(tmp_path / "data") as service:
        arguments = [sys.executable, "first.py", "pictures", service.endpoint, "data"]
        result = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert result.returncode == 0, result.stderr
        assert "Completed" in result.stdout
        assert re.search(r"circle: \d+\.\d%", result.stdout)
        said = [_in_a_shell(line, tmp_path) for line in _data_commands()]
    assert "images" in said[0]
    assert zipfile.is_zipfile(tmp_path / "everything.zip")
    assert "Nothing was erased yet" in said[2]


def _data_commands() -> list[str]:
    (section,) = re.findall(r"## Your data\n\n```sh\n(.*?)```", README.read_text(), re.DOTALL)
    return [line.replace('"My things"', "First") for line in section.splitlines()]


def _in_a_shell(line: str, folder: Path) -> str:
    command = line.replace(".venv/bin/ownvision", f"{sys.executable} -m ownvision.cli")
    result = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, f"{line}: {result.stdout}{result.stderr}"
    return result.stdout


def test_its_test_command_is_a_target() -> None:
    assert "To run the tests: `make test`." in README.read_text()
