"""Leaving Azure: the live resource is another OwnVision with the original's limits switched on, or a server that lies."""

import hashlib
import json
import os
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ownvision.client.local import Running, command, running_service
from ownvision.services import exports, images, intake, projects, tags
from ownvision.services.components import Components
from ownvision.services.intake import Picture
from ownvision.services.regions import Box
from ownvision.store.tables import Project
from tests.services import test_travel as travel
from tests.services import trained as t

pytestmark = [pytest.mark.service, pytest.mark.slow]


@dataclass
class Resource:
    """A running service that plays Azure, with what it holds."""

    service: Running
    colours: str  # ids of its projects
    squares: str

    def get(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(
            f"{self.service.endpoint}/customvision/v3.4-preview/training{path}",
            params=parameters,
            headers={"Training-Key": self.service.training_key},
        )
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def resource(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resource]:
    folder = tmp_path_factory.mktemp("azure") / "data"
    house = t.open_house(folder, tier="S0")
    colours, squares = classifier(house), detector(house)
    house.database.close()
    with running_service(folder, {"OWNVISION_TIER": "S0"}) as service:
        yield Resource(service, colours.id, squares.id)


def classifier(house: Components) -> Project:
    """Two iterations, between them images deleted, tags taken off, a tag renamed; an export, stored predictions."""
    project = t.make_project(house, "Colours", "Multilabel")
    ids = t.fill(house, project, {"red": 7, "blue": 6})
    ids["other"] = t.make_tag(house, project, "other", "Negative")
    t.upload(house, project, [t.coloured(2, seed) for seed in range(5)], [ids["other"]])
    named = Picture("x", lambda: t.coloured(3, 0), file_name="yellow.png", tag_ids=[ids["red"]])
    intake.add_images(house, project.account_id, project.id, None, [named], metadata={"site": "north", "lot": "7"})
    first = t.train(house, project)
    with house.database.write() as session:
        export = exports.start(session, projects.get(session, project.account_id, project.id), first.id, "ONNX", None)
        assert export.status == "Exporting"
    t.work(house)

    def edit(session: Any, locked: Project) -> None:
        found = images.find(session, locked, newest=False)
        images.delete_images(session, locked, [found[0].image.id], all_iterations=False)
        images.remove_tags(session, locked, [found[1].image.id], [ids["red"]])
        tags.update_tag(session, locked, ids["blue"], {"name": "navy"}, house.settings.limits)

    travel.change(house, project, edit)
    t.upload(house, project, [t.coloured(1, 50)], [ids["blue"], ids["red"]])
    t.train(house, project)
    t.upload(house, project, [t.coloured(3, 1)], [])
    return project


def detector(house: Components) -> Project:
    project, tag_ids, made = travel.boxed(house)
    t.upload(house, project, [t.squares(9)], [], [Box(tag_ids[0], 0.1, 0.2, 0.3, 0.4)])
    travel.change(
        house, project, lambda session, locked: images.delete_images(session, locked, made[:1], all_iterations=False)
    )
    return project


def leave(resource: Resource, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    given = {"AZURE_TRAINING_KEY": resource.service.training_key, **environment}
    return subprocess.run(
        command("import", "azure", "--endpoint", resource.service.endpoint, "--rate", "40", *arguments),
        capture_output=True,
        text=True,
        env={**os.environ, **given},
    )


def test_all_of_a_resource_lies_in_the_archive(resource: Resource, tmp_path: Path) -> None:
    out = tmp_path / "azure.zip"
    left = leave(resource, "--out", str(out))
    assert left.returncode == 0, left.stdout + left.stderr
    print(left.stdout, left.stderr)
    with zipfile.ZipFile(out) as archive:
        print("\n".join(archive.namelist()))
    assert 0
