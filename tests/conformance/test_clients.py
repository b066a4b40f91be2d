"""The official clients of every version call every operation they have; their answers are checked field by field."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import environments, results, wire
from tests.conformance.environments import NODE_CLIENTS, PYTHON_CLIENTS, Client

pytestmark = [pytest.mark.conformance, pytest.mark.service, pytest.mark.train, pytest.mark.timeout(1200)]

RUN_SECONDS = 900
UNUSED = {
    "create_project.export_model_container_uri": "needs a container of Azure Storage",
    "create_project.notification_queue_uri": "needs a queue of Azure Storage",
}


def drive(command: list[str], folder: Path) -> list[dict[str, Any]]:
    """What a driver printed."""
    # The client's environment has its own packages: ours must not reach into it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr}"
    return lines


def check(client: Client, lines: list[dict[str, Any]], unused: Mapping[str, str]) -> None:
    report = wire.judge(lines, unused)
    results.keep(client, report)
    problems = report.found()
    assert not problems, f"{client.name}: {len(problems)} problems\n" + "\n".join(problems)


@pytest.mark.parametrize("client", PYTHON_CLIENTS, ids=lambda client: client.name.rpartition(" ")[2])
def test_the_python_client_of_every_version(client: Client, facts: Path) -> None:
    driver = environments.HERE / "python_driver.py"
    lines = drive([str(environments.python_of(client)), str(driver), str(facts)], facts.parent)
    check(client, lines, UNUSED)


def test_the_newest_javascript_clients(facts: Path) -> None:
    folder = environments.node_folder()
    lines = drive([environments.tool("node"), "driver.cjs", str(facts)], folder)
    check(NODE_CLIENTS, lines, UNUSED)
