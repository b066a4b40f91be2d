"""`ownvision data export` and `data import`, with a running service and without one."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from ownvision.cli import app
from ownvision.client.local import Running
from ownvision.data_rights.doctor import doctor
from ownvision.services import projects
from ownvision.services.components import Components
from ownvision.store.tables import ApiKey, Image, Project
from tests.data_rights import rich
from tests.services import trained as t

pytestmark = pytest.mark.slow


@pytest.fixture
def house(tmp_path: Path) -> Components:
    components = t.open_house(tmp_path / "data")
    project = t.make_project(components, "Boxes", domain_id=t.DETECTION)
    t.upload(components, project, [t.coloured(0, seed) for seed in range(5)], [])
    components.database.close()
    return components


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_what_is_exported_is_imported_elsewhere(house: Components, tmp_path: Path) -> None:
    out = tmp_path / "takeout.zip"
    done = command("export", "--data", house.settings.data, "--out", out)
    assert done.exit_code == 0, done.output
    assert "5 images" in done.output
    assert out.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.part"))
    other = t.open_house(tmp_path / "other")
    done = command("import", "--data", tmp_path / "other", out)
    assert done.exit_code == 0, done.output
    (copy,) = projects.all(other.database.read().__enter__(), rich.account_of(other))
    assert (copy.name, copy.image_count, copy.status) == ("Boxes", 5, "Succeeded")
    assert copy.id in done.output
    assert list(doctor(other)) == []


def test_a_file_that_is_there_is_not_replaced(house: Components, tmp_path: Path) -> None:
    out = tmp_path / "takeout.zip"
    out.write_bytes(b"mine")
    done = command("export", "--data", house.settings.data, "--out", out)
    assert done.exit_code == 1
    assert "is there already" in str(done.exception)
    assert out.read_bytes() == b"mine"


def test_what_a_killed_export_left_is_written_anew(house: Components, tmp_path: Path) -> None:
    (tmp_path / "takeout.zip.part").write_bytes(b"x" * 10_000_000)
    assert command("export", "--data", house.settings.data, "--out", tmp_path / "takeout.zip").exit_code == 0
    assert zipfile.ZipFile(tmp_path / "takeout.zip").testzip() is None


def test_of_a_project_only_the_project_is_taken(house: Components, tmp_path: Path) -> None:
    t.make_project(house, "Another")
    out = tmp_path / "one.zip"
    assert command("export", "--data", house.settings.data, "--out", out, "--project", "Boxes").exit_code == 0
    names = zipfile.ZipFile(out).namelist()
    assert "account.json" not in names
    assert {name.split("/")[1] for name in names if name.startswith("projects/")} == {"Boxes"}


def test_an_archive_that_lies_leaves_nothing(house: Components, tmp_path: Path) -> None:
    out = tmp_path / "takeout.zip"
    assert command("export", "--data", house.settings.data, "--out", out).exit_code == 0
    data = bytearray(out.read_bytes())
    place = data.index(b"\x89PNG") + 200
    data[place] ^= 1  # of a picture
    out.write_bytes(data)
    other = t.open_house(tmp_path / "other")
    done = command("import", "--data", tmp_path / "other", out)
    assert done.exit_code == 1
    assert "nothing of it was kept" in str(done.exception)
    with other.database.read() as session:
        assert projects.all(session, rich.account_of(other)) == []
        assert session.scalar(select(Image.id)) is None
    assert t.files(other) == set()


def test_keys_come_only_when_asked_for(house: Components, tmp_path: Path) -> None:
    out = tmp_path / "takeout.zip"
    assert command("export", "--data", house.settings.data, "--out", out).exit_code == 0
    with house.database.read() as session:
        there = set(session.scalars(select(ApiKey.sha256)))
    other = t.open_house(tmp_path / "other")
    for options, same in (([], False), (["--with-keys"], True)):
        assert command("import", "--data", tmp_path / "other", out, *options).exit_code == 0
        with other.database.read() as session:
            assert (set(session.scalars(select(ApiKey.sha256))) == there) is same


def test_a_data_set_is_imported_by_the_same_command(house: Components, tmp_path: Path) -> None:
    for name in ("red", "blue"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for seed in range(2):
            (tmp_path / "set" / name / f"{seed}.png").write_bytes(t.coloured(len(name) % 4, seed))
    done = command("import", "--data", house.settings.data, tmp_path / "set", "--name", "Set")
    assert done.exit_code == 0, done.output
    assert "4 images, 2 tags" in done.output


def test_an_import_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    origin = t.open_house(tmp_path / "origin")
    project = t.make_project(origin, "Many", domain_id=t.DETECTION)
    for start in range(0, 256, 64):
        t.upload(origin, project, [t.coloured(0, start + seed) for seed in range(64)], [])
    rich.written(origin, tmp_path / "many.zip")
    other = t.open_house(tmp_path / "other")
    words = [sys.executable, "-m", "ownvision.cli", "data", "import", "--data", str(tmp_path / "other")]
    child = subprocess.Popen([*words, str(tmp_path / "many.zip")], stderr=subprocess.DEVNULL)
    until(lambda: there_is(other, Project), child)
    child.send_signal(signal.SIGINT)
    code = child.wait(30)
    if code != 0:  # else it was quicker than the signal
        with other.database.read() as session:
            assert projects.all(session, rich.account_of(other)) == []
        t.work(other)
        assert not there_is(other, Image)
        assert t.files(other) == set()


def there_is(house: Components, table: type[Project] | type[Image]) -> bool:
    with house.database.read() as session:
        return session.scalar(select(table.id).limit(1)) is not None


def until(met: Callable[[], bool], child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while not met():
        assert time.monotonic() < deadline
        assert child.poll() is None
        os.sched_yield()


@pytest.mark.service
def test_a_running_service_makes_takeouts_and_restores_them(service: Running, tmp_path: Path) -> None:
    headers = {"Training-Key": service.training_key}
    with httpx.Client(base_url=service.endpoint, headers=headers, timeout=60) as client:
        training = "/customvision/v3.4-preview/training"
        project = client.post(f"{training}/projects", params={"name": "Taken", "domainId": t.DETECTION}).json()["id"]
        sent = client.post(
            f"{training}/projects/{project}/images",
            files={"imageData": ("my picture.png", t.coloured(0, 1), "image/png")},
        )
        assert sent.status_code == 200, sent.text
        asked = client.post("/api/account/takeouts", json={"projectId": project})
        assert asked.status_code == 200, asked.text
        made = done(client, asked.json()["id"])
        assert (made["projectId"], made["error"], made["counts"]["images"]) == (project, None, 1)
        assert [one["id"] for one in client.get("/api/account/takeouts").json()] == [made["id"]]
        whole = httpx.get(made["downloadUri"])
        assert (len(whole.content), whole.headers["Cache-Control"]) == (made["size"], "no-store")
        rest = httpx.get(made["downloadUri"], headers={"Range": "bytes=1000-"})
        assert (rest.status_code, rest.content) == (206, whole.content[1000:])
        assert httpx.get(made["downloadUri"].replace("sig=", "sig=A")).status_code == 403
        (tmp_path / "taken.zip").write_bytes(whole.content)
        restored = command("import", "--data", service.data, "--account", "owner", tmp_path / "taken.zip")
        assert restored.exit_code == 0, restored.output
        names = [one["name"] for one in client.get(f"{training}/projects").json()]
        assert "Taken (1)" in names
        assert client.delete(f"/api/account/takeouts/{made['id']}").status_code == 204
        assert client.get(f"/api/account/takeouts/{made['id']}").status_code == 404
        assert httpx.get(made["downloadUri"]).status_code == 404


@pytest.mark.service
def test_what_is_erased_takes_its_takeouts_along_and_nobody_else_sees_them(
    service: Running, make_account: Callable[[str], dict[str, Any]]
) -> None:
    headers = {"Training-Key": service.training_key}
    with httpx.Client(base_url=service.endpoint, headers=headers, timeout=60) as client:
        training = "/customvision/v3.4-preview/training"
        project = client.post(f"{training}/projects", params={"name": "Gone", "domainId": t.DETECTION}).json()["id"]
        sent = client.post(f"{training}/projects/{project}/images", files={"imageData": t.coloured(0, 2)})
        image = sent.json()["images"][0]["image"]["id"]
        made = done(client, client.post("/api/account/takeouts").json()["id"])
        stranger = {"Training-Key": make_account("stranger")["trainingKeys"]["primary"]}
        assert client.get(f"/api/account/takeouts/{made['id']}", headers=stranger).status_code == 404
        assert client.delete(f"/api/account/takeouts/{made['id']}", headers=stranger).status_code == 404
        assert client.get("/api/account/takeouts", headers=stranger).json() == []
        wish = {"projectId": project}
        assert client.post("/api/account/takeouts", json=wish, headers=stranger).status_code == 404
        assert httpx.get(made["downloadUri"]).status_code == 200
        gone = client.delete(f"{training}/projects/{project}/images", params={"imageIds": image})
        assert gone.status_code in (202, 204), gone.text
        assert httpx.get(made["downloadUri"]).status_code == 404
        left = client.get(f"/api/account/takeouts/{made['id']}").json()
        assert (left["status"], left["downloadUri"]) == ("Failed", None)
        assert "was erased" in left["error"]


def done(client: httpx.Client, takeout_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        found: dict[str, Any] = client.get(f"/api/account/takeouts/{takeout_id}").json()
        if found["status"] != "Exporting":
            assert found["status"] == "Done", json.dumps(found)
            return found
        assert time.monotonic() < deadline
        time.sleep(0.1)
