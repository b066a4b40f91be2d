"""A plain data set becomes a project, or nothing is changed."""

import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image as Pillow

from ownvision.data_rights.formats import Box, Picture, importing, voc
from ownvision.domains import DETECTION, DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.services import accounts, images, projects, tags
from ownvision.services.components import Components, open_components
from ownvision.services.images import ImageView
from ownvision.settings import Settings
from ownvision.store.tables import Project
from tests import databases
from tests.data_rights.formats.sets import laid_out, png, project, zipped

pytestmark = pytest.mark.slow


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    components = open_components(Settings(data=tmp_path / "data"))
    databases.migrate(components.database)
    yield components
    components.database.close()


@pytest.fixture
def account_id(house: Components) -> str:
    return accounts.first_start(house).id


def made(house: Components, account_id: str) -> list[Project]:
    with house.database.read() as session:
        return projects.all(session, account_id)


def contents(house: Components, account_id: str, project_id: str) -> dict[str, ImageView]:
    """The project's images by file name."""
    with house.database.read() as session:
        views = images.find(session, projects.get(session, account_id, project_id), take=256)
        return {str(view.image.file_name): view for view in views}


def tag_names(house: Components, account_id: str, project_id: str) -> dict[str, int]:
    with house.database.read() as session:
        views = tags.all(session, projects.get(session, account_id, project_id))
        return {view.name: view.image_count for view in views}


def names_of(view: ImageView) -> list[str]:
    return sorted(str(name) for _, name, _ in view.tags)


def test_folders_become_a_multiclass_project(house: Components, account_id: str, tmp_path: Path) -> None:
    members = {f"{tag}/{number}.png": png(number) for tag, numbers in (("cat", range(70)), ("dog", range(70, 75)))
               for number in numbers}  # fmt: skip
    path = zipped(tmp_path / "Pets.zip", {**members, "74.png": png(99), "notes.txt": "x"})
    told: list[tuple[int, int]] = []
    summary = importing.run(house, account_id, path, report=lambda done, total: told.append((done, total)))
    assert (summary.format, summary.detection, summary.read, summary.pictures, summary.duplicates, summary.tags) == (
        "folders", False, 76, 76, 0, 2)  # fmt: skip
    assert summary.remarks == []
    assert told == [(0, 76), (64, 76), (76, 76)]
    (row,) = made(house, account_id)
    assert (row.id, row.name, row.description, row.classification_type) == (
        summary.project_id, "Pets", "", "Multiclass")  # fmt: skip
    assert (row.image_count, row.tagged_count) == (76, 75)
    assert tag_names(house, account_id, row.id) == {"cat": 70, "dog": 5}


def test_boxes_become_a_detection_project(house: Components, account_id: str, tmp_path: Path) -> None:
    pictures = [
        Picture("images/a.png", 64, 48, ["fork", "a/b"], [Box("fork", 0.25, 0.5, 0.5, 0.25), Box("a/b", 0, 0, 1, 1)]),
        Picture("images/b.png", 64, 48),
    ]
    members = {
        **project(voc, pictures, ["fork", "a/b", "unused"], True),
        "images/a.png": png(1),
        "images/b.png": png(2),
    }
    summary = importing.run(house, account_id, laid_out(tmp_path / "Forks", members))
    assert (summary.format, summary.detection, summary.pictures, summary.boxes) == ("voc", True, 2, 2)
    (row,) = made(house, account_id)
    assert DOMAINS[row.domain_id].type == DETECTION
    assert set(tag_names(house, account_id, row.id)) == {"fork", "a/b", "unused"}
    found = contents(house, account_id, row.id)
    assert [(box.left, box.top, box.width, box.height) for box in found["a.png"].regions] == [
        (0.25, 0.5, 0.5, 0.25), (0, 0, 1, 1)]  # fmt: skip
    assert names_of(found["a.png"]) == ["a/b", "fork"]
    assert found["b.png"].regions == []


def test_the_same_bytes_twice_are_one_picture_with_the_tags_of_both(
    house: Components, account_id: str, tmp_path: Path
) -> None:
    members = {f"cat/{number}.png": png(number) for number in range(64)} | {"dog/0.png": png(0), "cat/x.png": png(1)}
    summary = importing.run(house, account_id, zipped(tmp_path / "Pets.zip", members))
    assert (summary.read, summary.pictures, summary.duplicates) == (66, 64, 2)
    (row,) = made(house, account_id)
    assert row.classification_type == "Multilabel"
    assert names_of(contents(house, account_id, row.id)["0.png"]) == ["cat", "dog"]


def test_the_same_bytes_twice_are_one_picture_with_the_boxes_of_both(
    house: Components, account_id: str, tmp_path: Path
) -> None:
    line = "0 0.5 0.5 0.25 0.25\n"
    members = {"images/a.png": png(1), "images/b.png": png(1), "data.yaml": "names: [cat, dog]",
               "labels/a.txt": line, "labels/b.txt": line + "1 0.5 0.5 0.5 0.5\n"}  # fmt: skip
    importing.run(house, account_id, zipped(tmp_path / "Pets.zip", members))
    (row,) = made(house, account_id)
    (view,) = contents(house, account_id, row.id).values()
    assert sorted(box.width for box in view.regions) == [0.25, 0.5]


def test_several_tags_make_a_multilabel_project_and_names_are_mended(
    house: Components, account_id: str, tmp_path: Path
) -> None:
    rows = [{"image": "a.png", "tags": ["two\nlines", "b"]}, {"image": "b.png", "tags": []}]
    members = {"a.png": png(1), "b.png": png(2), "x.jsonl": "\n".join(map(json.dumps, rows))}
    summary = importing.run(house, account_id, zipped(tmp_path / "set.zip", members), "My pets")
    (row,) = made(house, account_id)
    assert (row.name, row.classification_type) == ("My pets", "Multilabel")
    assert set(tag_names(house, account_id, row.id)) == {"two lines", "b"}
    assert any("line feed" in remark for remark in summary.remarks)


def test_what_is_left_out_is_counted_and_said(house: Components, account_id: str, tmp_path: Path) -> None:
    house = Components(**{**vars(house), "settings": Settings(data=house.settings.data)})
    house.settings.limits.training_image_bytes = 60_000
    drawn_out = io.BytesIO()
    Pillow.new("RGB", (800, 2)).save(drawn_out, "PNG")
    members = {"images/a.png": png(1), "images/bad.png": b"no picture", "images/long.png": drawn_out.getvalue(),
               "images/large.png": png(3, 400, 400), "images/unnamed.png": png(4)}  # fmt: skip
    rows = "".join(f"{name},cat\n" for name in ("a.png", "bad.png", "long.png", "large.png", "gone.png"))
    summary = importing.run(house, account_id, zipped(tmp_path / "s.zip", {**members, "x.csv": "image,tag\n" + rows}))
    assert (summary.read, summary.pictures, summary.left_out, summary.duplicates) == (4, 1, 3, 0)
    assert sorted(summary.remarks) == [
        "1 × picture of more bytes than an upload may have: left out (images/large.png)",
        "1 × picture that annotations name and that is not there (or several are as likely): left out (x.csv, line 6)",
        "1 × picture that is damaged, or no JPEG, PNG, GIF or BMP: left out (images/bad.png)",
        "1 × picture that no annotation names: left out (images/unnamed.png)",
        "1 × picture with a longer side, or more drawn out, than an upload may have: left out (images/long.png)",
    ]


def test_tags_without_a_box_stay_out_of_a_detection_project(house: Components, account_id: str, tmp_path: Path) -> None:
    table = "image,tag,left,top,width,height\na.png,cat,0.1,0.1,0.5,0.5\na.png,dog,,,,\n"
    summary = importing.run(house, account_id, zipped(tmp_path / "s.zip", {"a.png": png(1), "x.csv": table}))
    assert summary.detection
    assert [remark.partition(":")[0] for remark in summary.remarks] == ["1 × tag of a picture without a box of it"]
    assert names_of(next(iter(contents(house, account_id, summary.project_id).values()))) == ["cat"]


def test_a_run_that_was_cut_off_goes_on_in_its_project(house: Components, account_id: str, tmp_path: Path) -> None:
    members = {f"cat/{number}.png": png(number) for number in range(130)} | {"dog/1.png": png(1)}
    path = zipped(tmp_path / "Pets.zip", members)

    def cut(done: int, total: int) -> None:
        if done == 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        importing.run(house, account_id, path, report=cut)
    (row,) = made(house, account_id)
    assert row.image_count == 64
    assert row.description.startswith("The import of this folders data set is not finished")
    summary = importing.run(house, account_id, path)
    assert (summary.project_id, summary.read, summary.pictures, summary.duplicates) == (row.id, 131, 130, 1)
    (row,) = made(house, account_id)
    assert (row.description, row.image_count, row.classification_type) == ("", 130, "Multilabel")
    assert tag_names(house, account_id, row.id) == {"cat": 130, "dog": 1}
    assert importing.run(house, account_id, path).name == "Pets (1)"  # one that is finished is not gone on with


KILLED = """
import os, signal, sys
from pathlib import Path
from ownvision.data_rights.formats import importing
from ownvision.services.components import open_components
from ownvision.settings import Settings

house = open_components(Settings(data=Path(sys.argv[1])))
kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done else None
importing.run(house, sys.argv[2], Path(sys.argv[3]), report=kill)
"""


def test_a_run_that_was_killed_goes_on_in_its_project(house: Components, account_id: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "Pets.zip", {f"cat/{number}.png": png(number) for number in range(70)})
    arguments = [sys.executable, "-c", KILLED, str(house.settings.data), account_id, str(path)]
    killed = subprocess.run(arguments, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    (row,) = made(house, account_id)
    assert row.image_count == 64
    summary = importing.run(house, account_id, path)
    assert (summary.project_id, summary.pictures, summary.duplicates) == (row.id, 70, 0)


def test_two_runs_at_the_same_moment_make_one_project(house: Components, account_id: str, tmp_path: Path) -> None:
    members = {f"{tag}/{number}.png": png(number) for tag in ("cat", "dog") for number in range(70)}
    path = zipped(tmp_path / "Pets.zip", members)
    both = threading.Barrier(2)  # neither goes on before the other has its project

    def begun(done: int, total: int) -> None:
        if done == 0:
            both.wait(60)

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(importing.run, house, account_id, path, report=begun) for _ in range(2)]
    assert len({run.result().project_id for run in runs}) == 1
    (row,) = made(house, account_id)
    assert (row.image_count, row.description, row.classification_type) == (70, "", "Multilabel")
    assert tag_names(house, account_id, row.id) == {"cat": 70, "dog": 70}


REFUSED = [
    ({"a.png": png(1), "b.png": png(2), "x.csv": "image,tag\na.png,cat\nb.png," + "\u00e9" * 300 + "\n"},
     "BadRequestTagName"),
    ({"labels/a.txt": "0 0.5 0.5 0.5 0.5\nbroken\n", "images/a.png": png(1)}, "BadRequestInvalid"),
    ({"x.csv": "image,tag\na.png,cat\n", "b.png": png(2)}, "BadRequestInvalid"),
    ({"x.txt": "hello"}, "BadRequestInvalid"),
    ({"manifest.json": "{}", "files.jsonl": "", "cat/a.png": png(1)}, "BadRequestInvalid"),
    ({"../a.png": png(1)}, "BadRequestInvalid"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "code"), REFUSED)
def test_a_data_set_that_is_refused_changes_nothing(
    members: dict[str, bytes | str], code: str, house: Components, account_id: str, tmp_path: Path
) -> None:
    with pytest.raises(OwnVisionError) as refusal:
        importing.run(house, account_id, zipped(tmp_path / "s.zip", members))
    assert refusal.value.code == code
    assert made(house, account_id) == []
    assert house.keys.projects() == []


def test_a_tier_that_is_too_small_refuses_before_anything_is_made(house: Components, tmp_path: Path) -> None:
    with house.database.write() as session:
        account = accounts.create(session, house.keys, user_name="small", email="a@localhost", tier="F0")
    members = {f"tag {number}/{number}.png": png(number) for number in range(51)}
    with pytest.raises(OwnVisionError) as refusal:
        importing.run(house, account.id, zipped(tmp_path / "s.zip", members))
    assert refusal.value.code == "BadRequestExceedTagPerProjectLimit"
    assert made(house, account.id) == []


def test_a_damaged_entry_costs_one_picture(house: Components, account_id: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "s.zip", {"cat/a.png": png(1), "cat/b.png": png(2)})
    data = bytearray(path.read_bytes())
    place = data.index(b"cat/b.png") + 400
    data[place : place + 40] = bytes(40)
    path.write_bytes(data)
    summary = importing.run(house, account_id, path)
    assert (summary.pictures, summary.left_out) == (1, 1)
    assert list(contents(house, account_id, summary.project_id)) == ["a.png"]
