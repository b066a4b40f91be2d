"""What a training tried, over HTTP and in the shell."""

import json
import uuid
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from ownvision.cli import app
from ownvision.services.components import Components
from ownvision.store.tables import Iteration
from tests.api.conftest import Service
from tests.services import trained as t

TRIALS = [
    {"what": "quick training", "score": 0.9, "seconds": 0.0, "chosen": False, "note": "where the search begins"},
    {"what": "input of 288 px", "score": 0.95, "seconds": 7.5, "chosen": True, "note": "better by more than chance"},
    {"what": "the rest", "score": None, "seconds": 0.0, "chosen": False, "note": "not tried: nothing is left to gain"},
]


def searched(components: Components, project: str) -> str:
    """An iteration with a search; its id."""
    with components.database.write() as session:
        iteration = Iteration(
            project_id=project,
            number=1,
            name="Iteration 1",
            status="Completed",
            revision=0,
            domain_id=t.COMPACT,
            classification_type="Multiclass",
            training_type="Advanced",
            reserved_budget_in_hours=2,
            training_seconds=61.0,
            pipeline="1",
            search=TRIALS,
        )
        session.add(iteration)
        session.flush()
        return iteration.id


def test_a_search_is_shown_to_its_owner_only(api: Service, project: str) -> None:
    iteration = searched(api.components, project)

    def ask(project: str, iteration: str, key: str) -> httpx.Response:
        path = f"{api.url}/api/projects/{project}/iterations/{iteration}/search"
        return httpx.get(path, headers={"Training-Key": key})

    shown: dict[str, Any] = ask(project, iteration, api.training_key).json()
    assert shown == {
        "iterationId": iteration,
        "trainingType": "Advanced",
        "budgetHours": 2,
        "seconds": 61.0,
        "trials": TRIALS,
    }
    assert ask(project, str(uuid.uuid4()), api.training_key).status_code == 404
    assert ask(str(uuid.uuid4()), iteration, api.training_key).status_code == 404
    assert ask(project, iteration, "0" * 32).status_code == 401


def test_the_command_lists_what_was_tried_and_marks_what_was_chosen(tmp_path: Path) -> None:
    house = t.open_house(tmp_path / "data")
    iteration = searched(house, t.make_project(house, "Colours").id)
    house.database.close()
    run = CliRunner().invoke(app, ["search", iteration, "--data", str(tmp_path / "data")])
    lines = run.stdout.splitlines()
    assert lines[0] == "Advanced training, 61 s, 2 h reserved"
    assert [line[0] for line in lines[1:]] == [" ", "*", " "]
    assert "95.0%" in lines[2]
    run = CliRunner().invoke(app, ["search", iteration, "--json", "--data", str(tmp_path / "data")])
    assert json.loads(run.stdout)["trials"] == TRIALS
