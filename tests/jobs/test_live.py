"""A running service learns while images are tagged: its worker starts the process that does, also after that died."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ownvision.client import Service
from ownvision.client.local import Running, run
from tests.services import trained as t

pytestmark = [pytest.mark.slow, pytest.mark.service]

_DEADLINE = 120.0


def _fresh(service: Running, project: str, images: int) -> dict[str, Any]:
    deadline = time.monotonic() + _DEADLINE
    while True:
        shown: dict[str, Any] = json.loads(
            run("live", "show", project, "--take", "5", "--json", "--data", str(service.data))
        )
        if shown["state"] == "fresh" and shown["suggestionsComplete"] and shown["score"]["images"] == images:
            return shown
        assert time.monotonic() < deadline, shown


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_draft_follows_and_survives_the_end_of_its_process(service: Running, http_client: Service) -> None:
    project = http_client.create_project("Followed", t.COMPACT, "Multiclass")["id"]
    tags = {}
    for colour, name in enumerate(("red", "blue")):
        tags[name] = http_client.create_tag(project, name)["id"]
        pictures = [(f"{name}{seed}.png", t.coloured(colour, seed)) for seed in range(6)]
        http_client.upload(project, pictures, [tags[name]])
    (loose,) = http_client.upload(project, [("loose.png", t.coloured(0, 90))], [])
    assert run("live", "on", project, "--data", str(service.data)).strip() == "Live learning is on."
    (suggested,) = _fresh(service, project, 12)["suggestions"]
    assert (suggested["imageId"], suggested["predictions"][0]["tagName"]) == (loose["image"]["id"], "red")
    assert "accuracy 1.000" in run("live", "show", project, "--data", str(service.data))
    for worker in _children(service.process.pid):
        for child in _children(worker):
            os.kill(child, signal.SIGKILL)
    http_client.add_tag(project, [loose["image"]["id"]], tags["red"])
    assert _fresh(service, project, 13)["suggestions"] == []
    run("live", "off", project, "--data", str(service.data))
    assert run("live", "show", project, "--data", str(service.data)).strip() == "off"
