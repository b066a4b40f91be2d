"""`ownvision person` and `audit`: from finding to erasing on the command line, and what the trail then says."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ownvision.cli import app
from ownvision.client import ClientError
from ownvision.errors import OwnVisionError
from tests.services import trained as t


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    house = t.open_house(folder)
    t.upload(house, t.make_project(house, "Visitors"), [t.coloured(0, 1), t.coloured(1, 2)], [])
    house.database.close()
    (tmp_path / "them.png").write_bytes(t.coloured(0, 1))
    return folder


def ownvision(data: Path, *arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(app, [*arguments, "--data", str(data)], input=input)


def printed(data: Path, *arguments: str, input: str | None = None) -> str:
    result = ownvision(data, *arguments, input=input)
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    return result.stdout


def test_what_was_found_is_taken_out_restricted_and_erased_and_the_trail_says_so(data: Path, tmp_path: Path) -> None:
    picture, out = str(tmp_path / "them.png"), tmp_path / "theirs.zip"
    found = printed(data, "person", "find", "--picture", picture, "--like", "0.9999", "--json")
    (one,) = json.loads(found)["found"]
    assert (one["by"], one["workspace"]) == (["bytes", "likeness"], True)
    assert printed(data, "person", "takeout", "-", "--out", str(out), input=found).startswith(f"{out}: 1 images")
    with zipfile.ZipFile(out) as archive:
        assert "account.json" not in archive.namelist()
        assert len([name for name in archive.namelist() if name.endswith(".png")]) == 1
    assert printed(data, "person", "restrict", one["id"]) == "1 of 1 images are restricted now.\n"
    assert " restricted" in printed(data, "person", "find", "--sha256", sha256(tmp_path))
    assert printed(data, "person", "restrict", "--lift", one["id"]) == "1 of 1 images are no longer restricted now.\n"
    assert isinstance(ownvision(data, "person", "erase", one["id"], "--confirm", "2").exception, OwnVisionError)
    erased = json.loads(printed(data, "person", "erase", "-", "--confirm", "1", "--json", input=found))
    assert printed(data, "person", "find", "--sha256", sha256(tmp_path)) == "Nothing was found.\n"
    assert erased["receipt"] in printed(data, "receipt", "list")

    trail = tmp_path / "trail.jsonl"
    printed(data, "audit", "export", str(trail))
    told = [json.loads(line) for line in trail.read_text().splitlines()]
    assert {entry["actor"] for entry in told} == {"operator"}
    assert [(entry["action"], entry["operation"]) for entry in told] == [
        ("view", "person find"),
        ("export", "person takeout"),
        ("change", "person restrict"),
        ("view", "person find"),
        ("change", "person restrict"),
        ("delete", "person erase"),
        ("view", "person find"),
        ("view", "receipt list"),
    ]
    shown = printed(data, "audit", "show", "--action", "delete")
    assert shown.count("\n") == 1
    assert "person erase" in shown
    assert "audit export" in printed(data, "audit", "export", "-")
    assert isinstance(ownvision(data, "audit", "export", str(trail)).exception, ClientError)


def sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "them.png").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "arguments",
    [
        ("person", "find"),
        ("person", "find", "--metadata", "no pair"),
        ("person", "restrict", "-"),
        ("person", "erase", "11111111-1111-4111-8111-111111111111", "--confirm", "1"),
        ("person", "takeout", "11111111-1111-4111-8111-111111111111", "--out", "never.zip"),
    ],
)
def test_what_can_not_be_done_is_refused(data: Path, arguments: tuple[str, ...]) -> None:
    assert isinstance(ownvision(data, *arguments).exception, ClientError | OwnVisionError)
    assert not Path("never.zip").exists()
