"""supervision and datumaro read what a takeout holds, unpacked and linked as its README says."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ownvision.data_rights.formats import Box, Picture, writers
from ownvision.data_rights.formats.naming import file_name
from tests.conformance import environments
from tests.data_rights.formats.sets import collected, png, zipped

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1200)]

PIXELS = 0.01  # readers keep boxes as float32
TAGS = ["fork", 'say "scissors"', "a/b", "<b>&amp;", "日本 été", "x: y", "unused", "50%"]
SIZES = {"one": (640, 480), "two words": (333, 517), "été": (64, 48), "none": (100, 80), "dotted.name": (1001, 77)}


@pytest.fixture(scope="module")
def python() -> Path:
    return environments.python_of(environments.FORMATS)


def unpacked(folder: Path, pictures: list[Picture], detection: bool) -> Path:
    """A project's folder of a takeout after unpacking and `python link.py`."""
    members = collected(writers.write(lambda: pictures, TAGS, detection))
    members = {f"annotations/{name}": data for name, data in members.items()}
    members |= {picture.path: png(number, picture.width, picture.height) for number, picture in enumerate(pictures)}
    with zipfile.ZipFile(zipped(folder / "takeout.zip", members)) as archive:
        archive.extractall(folder / "project")
    for _ in range(2):  # it may be run again
        subprocess.run([sys.executable, str(folder / "project/annotations/link.py")], check=True, capture_output=True)
    return folder / "project"


def read(python: Path, task: str, project: Path) -> dict[str, Any]:
    out = project.parent / "read.json"
    driver = environments.HERE / "formats_driver.py"
    command = [str(python), str(driver), task, str(project), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=project.parent, env={})
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(out.read_text()))


def test_boxes_are_read_alike(python: Path, tmp_path: Path) -> None:
    pictures = []
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        boxes = [
            Box(TAGS[(number + place) % 6], left, 0.1 * place, 0.31 + 0.01 * number, 0.271)
            for place, left in enumerate([0.0, 1 / 3, 0.123456789])
        ]
        boxes += [Box("50%", 0.0, 0.0, 1.0, 1.0)]
        boxes = [] if name == "none" else boxes
        pictures.append(
            Picture(f"images/{name}.png", width, height, list(dict.fromkeys(box.tag for box in boxes)), boxes)
        )
    results = read(python, "detection", unpacked(tmp_path, pictures, True))
    assert len(results) == 6
    for reader, result in results.items():
        # supervision's VOC has no list of classes: it knows those that occur.
        assert set(result["classes"]) == set(TAGS) - ({"unused"} if reader == "supervision voc" else set()), reader
        assert set(result["pictures"]) == set(SIZES), reader
        for picture in pictures:
            found = result["pictures"][Path(picture.path).stem]
            assert tuple(found["size"]) == (picture.width, picture.height), reader
            wanted = [
                (
                    box.tag,
                    box.left * picture.width,
                    box.top * picture.height,
                    (box.left + box.width) * picture.width,
                    (box.top + box.height) * picture.height,
                )
                for box in picture.boxes
            ]
            assert len(found["boxes"]) == len(wanted), (reader, picture.path)
            for box in wanted:
                assert any(
                    box[0] == other[0] and max(abs(a - b) for a, b in zip(box[1:], other[1:], strict=True)) <= PIXELS
                    for other in found["boxes"]
                ), (reader, picture.path, box, found["boxes"])


def test_tags_are_read_alike(python: Path, tmp_path: Path) -> None:
    carried = [[TAGS[0]], [TAGS[1], TAGS[2]], [TAGS[3], TAGS[4], TAGS[5]], [], ["50%"]]
    pictures = [
        Picture(f"images/{name}.png", width, height, tags)
        for (name, (width, height)), tags in zip(SIZES.items(), carried, strict=True)
    ]
    results = read(python, "classification", unpacked(tmp_path, pictures, False))
    assert len(results) == 4
    for reader, result in results.items():
        # Where a tag is the name of a file or folder, it is written as one; ours says which tag it stands for.
        spell = str if reader == "datumaro coco" else file_name
        listed = set(TAGS) - (set() if reader in ("datumaro coco", "datumaro voc") else {"unused"})
        assert set(result["classes"]) == set(map(spell, listed)), reader
        # A folder per class has no place for a picture without one: it lies in "untagged", beside "train".
        expected = {Path(p.path).stem: p for p in pictures if p.tags or "yolo" not in reader}
        assert set(result["pictures"]) == set(expected), reader
        for name, picture in expected.items():
            assert sorted(result["pictures"][name]["classes"]) == sorted(map(spell, picture.tags)), (reader, name)
