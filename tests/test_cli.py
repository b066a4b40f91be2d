"""The command: what it prints, what it refuses, and a folder's way from upload to export."""

import json
import subprocess
import zipfile
from pathlib import Path

import httpx
import pytest

from ownvision.client import Service
from ownvision.client.local import Running, command
from ownvision.services import accounts
from ownvision.services.components import open_components
from ownvision.settings import Settings
from tests import databases
from tests.sdk.conftest import SHAPES, scene

pytestmark = pytest.mark.slow


def ownvision(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True)


def refusal(*arguments: str) -> str:
    """What a command that fails says: one sentence, without a traceback, and exit code 1."""
    result = ownvision(*arguments)
    assert result.returncode == 1, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_domains_are_listed_with_their_ids() -> None:
    printed = ownvision("domains").stdout
    assert "0732100f-1a38-4e49-a514-c9b44c697ab5  Classification  General (compact)" in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("account", "show", "--data", "/nowhere/at/all"), "There is no installation in /nowhere/at/all"),
        (("doctor", "--data", "/nowhere/at/all"), "There is no installation"),
        (("serve", "--port", "70000", "--data", "/nowhere/at/all"), "The setting port is wrong"),
        (("upload", "Project", "/nowhere/at/all"), "There is no folder /nowhere/at/all"),
        (("train", "Project"), "No training key"),
        (("train", "Project", "--publish", "x"), "To publish, give --prediction-resource-id"),
        (("train", "Project", "--training-key", "k", "--endpoint", "http://127.0.0.1:1"), "Nothing answers at"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in refusal(*arguments)


def test_a_mistyped_folder_does_not_become_an_installation(tmp_path: Path) -> None:
    refusal("account", "show", "--data", str(tmp_path / "typo"))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A data folder with an account, as the first start makes it."""
    components = open_components(Settings(data=tmp_path))
    databases.migrate(components.database)
    accounts.first_start(components)
    components.database.close()
    return tmp_path


@pytest.mark.parametrize("command", ["doctor", "account"])
def test_a_database_that_can_not_be_read_is_said_in_a_sentence(installation: Path, command: str) -> None:
    (installation / "ownvision.db").write_bytes(b"no database" * 1000)
    arguments = {"doctor": ("doctor",), "account": ("account", "show")}[command]
    said = refusal(*arguments, "--data", str(installation))
    assert said == "ownvision: The database can not be read: file is not a database."


@pytest.mark.parametrize(("key", "sentence"), [(b"x" * 32, "was sealed with another key"), (b"", "must hold 32 bytes")])
def test_a_wrong_key_is_said_in_a_sentence(installation: Path, key: bytes, sentence: str) -> None:
    (installation / "keys" / "installation.key").write_bytes(key)
    said = refusal("account", "show", "--data", str(installation))
    assert said.startswith("ownvision: A key can not be read: ")
    assert sentence in said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures per tag, and one without a tag."""
    for shape in SHAPES:
        (tmp_path / "shapes" / shape).mkdir(parents=True)
        for seed in range(8):
            (tmp_path / "shapes" / shape / f"{seed}.png").write_bytes(scene(seed, (shape,))[0])
    (tmp_path / "shapes" / "loose.png").write_bytes(scene(50, SHAPES)[0])
    (tmp_path / "shapes" / "notes.txt").write_text("no picture")
    return tmp_path / "shapes"


@pytest.mark.service
def test_a_service_says_that_it_does_not_know_a_key(service: Running) -> None:
    assert "does not know this key" in refusal("train", "x", "--endpoint", service.endpoint, "--training-key", "wrong")


@pytest.mark.service
def test_an_account_is_shown_with_exactly_these_keys(service: Running) -> None:
    shown = json.loads(ownvision("account", "show", "owner", "--json", "--data", str(service.data)).stdout)
    assert list(shown) == ["userName", "email", "tier", "trainingKeys", "predictionKeys", "predictionResourceId"]
    assert list(shown["trainingKeys"]) == list(shown["predictionKeys"]) == ["primary", "secondary"]


@pytest.mark.service
def test_a_rotated_key_stops_working_and_the_others_do_not(tmp_path: Path, service: Running) -> None:
    data = str(service.data)
    made = json.loads(ownvision("account", "create", "turner", "--tier", "F0", "--json", "--data", data).stdout)
    assert made["tier"] == "F0"
    new = ownvision("account", "rotate-key", "training", "primary", "--name", "turner", "--data", data).stdout.strip()
    codes = {}
    for key in (made["trainingKeys"]["primary"], made["trainingKeys"]["secondary"], new):
        answer = httpx.get(service.endpoint + "/customvision/v3.3/training/projects", headers={"Training-Key": key})
        codes[key] = answer.status_code
    assert list(codes.values()) == [401, 200, 200]
    assert "turner <turner@localhost>" in ownvision("account", "list", "--data", data).stdout
    assert (
        "the account name 'turner' is empty or taken" in refusal("account", "create", "turner", "--data", data).lower()
    )


@pytest.mark.service
def test_a_folder_is_uploaded_trained_predicted_and_exported(
    service: Running, http_client: Service, folder: Path, tmp_path: Path
) -> None:
    # Keys from the environment of a stranger's machine are given as options; from the own data folder they are found.
    remote = ("--endpoint", service.endpoint, "--training-key", service.training_key)
    local = ("--endpoint", service.endpoint, "--data", str(service.data), "--account", "owner")

    uploaded = ownvision("upload", "Shell", str(folder), "--domain", "general (compact)", *remote)
    assert "17 uploaded, 0 there already, 0 refused." in uploaded.stdout, uploaded.stderr
    again = ownvision("upload", "Shell", str(folder), *remote)
    assert "0 uploaded, 17 there already, 0 refused." in again.stdout
    project = next(row for row in http_client.projects() if row["name"] == "Shell")
    assert {tag["name"]: tag["imageCount"] for tag in http_client.tags(project["id"])} == dict.fromkeys(SHAPES, 8)

    trained = ownvision("train", "Shell", "--publish", "shell", *local)
    assert trained.returncode == 0, trained.stderr
    assert "Published as shell." in trained.stdout
    assert all(shape in trained.stdout for shape in SHAPES)
    assert "Nothing changed since last training" in refusal("train", "Shell", *remote)

    picture = folder / "circle" / "0.png"
    for keys in (local, remote):
        answer = ownvision("predict", "Shell", str(picture), "--json", *keys)
        assert json.loads(answer.stdout)["predictions"][0]["tagName"] == "circle"
    assert "circle" in ownvision("predict", "Shell", str(picture), "--iteration", "shell", *local).stdout

    out = tmp_path / "shell.zip"
    for _ in range(2):
        exported = ownvision("export", "Shell", "--out", str(out), *remote)
        assert exported.returncode == 0, exported.stderr
    assert "model.onnx" in zipfile.ZipFile(out).namelist()
    assert "has no iteration 'other'" in refusal("export", "Shell", "--out", str(out), "--iteration", "other", *remote)


@pytest.mark.service
def test_the_doctor_finds_nothing_and_finds_a_stray_file(service: Running) -> None:
    healthy = ownvision("doctor", "--data", str(service.data))
    assert healthy.stdout == "Nothing is wrong.\n"
    stray = service.data / "objects" / "stray"
    stray.write_bytes(b"left behind")
    ill = ownvision("doctor", "--json", "--data", str(service.data))
    stray.unlink()
    assert ill.returncode == 1
    assert any("stray" in found["where"] for found in json.loads(ill.stdout))
