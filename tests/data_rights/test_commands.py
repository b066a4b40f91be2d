"""`ownvision erase` and `ownvision receipt` on a folder where no service runs: the command does all of it."""

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from ownvision.client.local import command
from ownvision.store.tables import Image
from tests.services import trained as t

pytestmark = pytest.mark.slow


def _run(*arguments: str, data: Path) -> tuple[int, str]:
    done = subprocess.run(
        command(*arguments, "--data", str(data)), capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def test_what_was_erased_by_a_command_is_proved_at_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    house = t.open_house(data)
    project = t.make_project(house, "Herbarium")
    t.fill(house, project, {"red": 3})
    with house.database.read() as session:
        image = session.scalars(select(Image.id).order_by(Image.seq)).first()
    house.database.close()

    code, printed = _run("erase", "image", "Herbarium", str(image), "--json", data=data)
    assert code == 0, printed
    first = json.loads(printed)
    assert (first["state"], first["statement"]["erased"]["images"]["count"]) == ("signed", 1)

    assert _run("receipt", "list", data=data)[0] == 0
    with closing(sqlite3.connect(data / "ownvision.db")) as database:
        views = database.execute("SELECT operation, account_id FROM audit_events WHERE action = 'view'").fetchall()
    assert views == [("receipt list", project.account_id)]

    code, printed = _run("erase", "project", "Herbarium", data=data)
    assert (code, "Nothing was erased yet" in printed) == (0, True)
    assert [line.split()[1] for line in printed.splitlines() if line.split()[0] == "images"] == ["2"]
    code, printed = _run("erase", "project", "Herbarium", "--confirm", "herbarium", data=data)
    assert (code, "Nothing was erased" in printed) == (1, True)
    code, printed = _run("erase", "project", "Herbarium", "--confirm", "Herbarium", data=data)
    assert (code, "DeleteProject" in printed, "signature" in printed) == (0, True, True)
    assert not (data / "objects" / project.id).exists()

    code, printed = _run("erase", "account", "owner", "--confirm", "owner", "--json", data=data)
    last = json.loads(printed)
    assert (code, last["state"], last["statement"]["number"]) == (0, "signed", 3)
    code, printed = _run("receipt", "list", data=data)
    assert [line.split()[4] for line in printed.splitlines()] == ["DeleteAccount", "DeleteProject", "DeleteImages"]
    code, printed = _run("receipt", "verify", last["id"], data=data)
    assert (code, printed.count("in order")) == (0, 3)
    code, printed = _run("receipt", "show", first["id"], data=data)
    assert (code, "images: 1" in printed) == (0, True)
    assert "Herbarium" not in printed
