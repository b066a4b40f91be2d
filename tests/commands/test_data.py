"""`ownvision data show`, `retention` and `hold`: what they print and refuse."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ownvision.cli import app
from ownvision.commands.data import size
from ownvision.data_rights.inventory import KINDS
from ownvision.data_rights.retention import TERMS
from ownvision.errors import OwnVisionError
from tests.services import trained as t


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lived") / "data"
    house = t.open_house(folder)
    t.fill(house, t.make_project(house, "Trees"), {"oak": 2})
    t.make_project(house, "Birds")
    house.database.close()
    return folder


@pytest.fixture
def data(lived: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lived, tmp_path / "data"))


def ownvision(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


def printed(*arguments: str) -> str:
    result = ownvision(*arguments)
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    return result.stdout


def printed_json(*arguments: str) -> Any:
    return json.loads(printed(*arguments, "--json"))


def refusal(*arguments: str) -> OwnVisionError:
    result = ownvision(*arguments)
    assert isinstance(result.exception, OwnVisionError), result.output
    return result.exception


def test_what_is_held_is_shown_in_a_table(data: Path) -> None:
    text = printed("data", "show", "--data", str(data))
    for kind in KINDS:
        assert f"\n{kind.name}" in text
    assert "    delete  DeleteImages, ownvision erase image" in text
    line = next(line for line in text.splitlines() if line.startswith("images "))
    assert line.split()[:2] == ["images", "2"]
    assert "*" in line


def test_what_is_held_of_a_project_is_shown_by_its_name(data: Path) -> None:
    shown = printed_json("data", "show", "--data", str(data), "--project", "Trees")
    assert {kind["name"]: kind["count"] for kind in shown["kinds"]}["images"] == 2
    empty = printed_json("data", "show", "--data", str(data), "--project", "Birds")
    assert {kind["name"]: kind["count"] for kind in empty["kinds"]}["images"] == 0
    assert printed_json("data", "show", "--data", str(data), "--project", shown["projectId"]) == shown


def test_a_rule_is_set_shown_and_unset(data: Path) -> None:
    text = printed("retention", "set", "predictions", "2", "--project", "Trees", "--data", str(data))
    assert "predictions        2 days  rule of the project" in text
    shown = printed_json("retention", "show", "--project", "Trees", "--data", str(data))
    assert {one["kind"]: one["days"] for one in shown}["predictions"] == 2
    assert [one["kind"] for one in shown] == list(TERMS)
    assert "OWNVISION_PREDICTION_DAYS" in printed("retention", "show", "--data", str(data))
    text = printed("retention", "unset", "predictions", "--project", "Trees", "--data", str(data))
    assert "rule of" not in text


def test_a_hold_is_placed_shown_and_lifted(data: Path) -> None:
    (placed,) = printed_json("hold", "place", "case 7", "--project", "Trees", "--data", str(data))
    assert printed("hold", "list", "--data", str(data)).startswith(placed["id"])
    assert f"(hold {placed['id']})" in printed("data", "show", "--data", str(data))
    assert printed("hold", "list", "--project", "Birds", "--data", str(data)) == ""
    printed("hold", "lift", placed["id"], "--data", str(data))
    assert printed_json("hold", "list", "--data", str(data)) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("data", "show", "--project", "Fish"), "There is no project 'Fish'; there are: Birds, Trees."),
        (("data", "show", "--account", "nobody"), "There is no account named 'nobody'"),
        (("retention", "set", "images", "3"), "No rule is kept for 'images'"),
        (("retention", "set", "jobs", "0"), "Days are 1 to 36,500, not 0."),
        (("hold", "place", " "), "A hold needs a reason"),
        (("hold", "lift", "x"), "There is no hold x"),
    ],
)
def test_what_can_not_be_done_is_said(data: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in str(refusal(*arguments, "--data", str(data)))


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (9_999, "9,999 B"),
        (10_000, "10.0 kB"),
        (999_949, "999.9 kB"),
        (1_500_000, "1.5 MB"),
        (2_000_000_000, "2.0 GB"),
        (3_400_000_000_000, "3,400.0 GB"),
    ],
)
def test_sizes_are_for_people(count: int, shown: str) -> None:
    assert size(count) == shown
