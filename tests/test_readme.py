"""The README's program does what it says, as it stands there."""

import re
import subprocess
import sys
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


def test_its_test_command_is_a_target() -> None:
    assert "To run the tests: `make test`." in README.read_text()
