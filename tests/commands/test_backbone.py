"""`ownvision backbone`: what it prints, writes and refuses."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ownvision import domains
from ownvision.cli import app
from ownvision.client import ClientError
from ownvision.learning.backbones import BACKBONES
from tests.learning import networks

SIZES = ["--input-size", "32", "--mean", "10", "20", "30", "--std", "50", "60", "70"]
LICENCE = ["--licence", "CC0-1.0"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "given.onnx"
    path.write_bytes(networks.network().SerializeToString())
    return path


@pytest.fixture(autouse=True)
def _afterwards(tmp_path: Path) -> object:
    yield
    domains.open_weights(tmp_path / "nothing")


def ownvision(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_a_file_is_added_listed_and_has_a_domain(file: Path, tmp_path: Path) -> None:
    where = tmp_path / "data"
    added = ownvision("backbone", "add", "mine", "--onnx", file, *SIZES, *LICENCE, "--data", where)
    assert added.exit_code == 0, added.output
    assert "32 px, 8 features, CC0-1.0" in added.output
    listed = json.loads(ownvision("backbone", "list", "--json", "--data", where).stdout)
    rows = {row["name"]: row for row in listed["backbones"]}
    assert [*rows] == ["efficientnet_lite0", "efficientnet_lite2", "efficientnet_lite0_lite2", "mine"]
    assert (rows["mine"]["wrong"], rows["mine"]["mean"]) == (None, [10, 20, 30])
    assert rows["mine"]["domain"] in added.output
    assert f"{rows['mine']['domain']}  Classification  mine" in ownvision("domains", "--data", where).stdout
    assert "CC0-1.0: ok" in ownvision("backbone", "list", "--data", where).stdout


def test_damaged_weights_and_wrong_entries_are_listed_as_such(file: Path, tmp_path: Path) -> None:
    where = tmp_path / "weights"
    ownvision("backbone", "add", "mine", "--onnx", file, *SIZES, *LICENCE, "--folder", where)
    (where / "mine.onnx").write_bytes(b"")
    (where / "odd.json").write_text("{}")
    listed = ownvision("backbone", "list", "--folder", where)
    assert listed.exit_code == 1
    assert "(SHA-256)" in listed.stdout
    assert "refused: The entry" in listed.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "one of --timm and --onnx"),
        (["--timm", "resnet18", "--onnx", "FILE"], "one of --timm and --onnx"),
        (["--onnx", "FILE", *LICENCE], "--input-size, --mean, --std and --licence"),
        (["--onnx", "FILE", *SIZES], "--licence"),
        (["--onnx", "FILE", *SIZES, *LICENCE, "--weights", "FILE"], "no --weights"),
        (["--timm", "resnet18", "--input-size", "32"], "its own configuration"),
        (["--timm", "resnet18", "--sha256", "00"], "--sha256 goes with"),
        (["--onnx", "FILE", *SIZES, *LICENCE, "--sha256", "0" * 64], "another file"),
        (["--onnx", "FILE", "--input-size", "64", *SIZES[2:], *LICENCE, "--output", "absent"], "say which output"),
    ],
    ids=lambda value: None if isinstance(value, list) else value,
)
def test_what_does_not_go_together_is_refused(arguments: list[str], says: str, file: Path, tmp_path: Path) -> None:
    given = [str(file) if one == "FILE" else one for one in arguments]
    result = ownvision("backbone", "add", "mine", *given, "--folder", tmp_path / "weights")
    assert isinstance(result.exception, ClientError), result.output
    assert says in str(result.exception)
    assert not (tmp_path / "weights").exists()


def test_the_file_that_was_meant_is_taken(file: Path, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest().upper()
    arguments = ["--onnx", file, *SIZES, *LICENCE, "--sha256", sha256, "--folder", tmp_path / "weights"]
    assert ownvision("backbone", "add", "mine", *arguments).exit_code == 0


@pytest.mark.parametrize("missing", ["timm", "torch"])
def test_without_the_extra_it_says_how_to_get_it(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    result = ownvision("backbone", "add", "mine", "--timm", "resnet18", "--folder", tmp_path)
    assert isinstance(result.exception, ClientError)
    assert 'pip install "ownvision[timm]"' in str(result.exception)
    assert "mine" not in BACKBONES
