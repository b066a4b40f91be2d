"""What a writer wrote its reader reads: the same pictures, tags and boxes, whatever they are called."""

import string
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownvision.data_rights.formats import Box, Picture, coco, table, voc, writers, yolo
from tests.data_rights.formats.sets import collected, project, read, zipped

pytestmark = pytest.mark.slow

# Of a side of the picture: COCO and VOC keep six decimals of a pixel, YOLO ten of the side, tables every bit.
TOLERANCES = {coco: 1e-6, voc: 1e-6, yolo: 1e-9, table: 0.0}
FORMATS = [pytest.param(module, id=module.__name__.rpartition(".")[2]) for module in TOLERANCES]

# Anything a tag may be called: all of Unicode but surrogates and the line feed, that the service refuses in a name.
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1, max_size=12)
HARD_NAMES = st.one_of(
    NAMES,
    st.sampled_from(["a/b", "../up", ".", "..", "CON", "con.txt", "<b>&amp;", 'say "x"', "50%", "%41", "A", "a", "é"]),
    st.sampled_from(["a\tb", "e\u0301", "😀", "-dash", "#sharp", ":", "yes", "null", "1", " x", "x.", "a;b", "=1+1"]),
    st.sampled_from(["\u2028x", "a\x85b", "\x01", "a\rb", "\x00", "\ufeffx", "\ufffe", "\U0010ffff", "]]>", "x  "]),
).filter(lambda name: bool(name.strip()))
PATHS = st.text(string.ascii_letters + string.digits + " _-é漢", min_size=1, max_size=12).filter(
    lambda name: name == name.strip()
)


@st.composite
def boxes(draw: st.DrawFn, tags: list[str]) -> Box:
    left, top = draw(st.floats(0, 0.9)), draw(st.floats(0, 0.9))
    width, height = draw(st.floats(0.01, 1.0)), draw(st.floats(0.01, 1.0))
    return Box(draw(st.sampled_from(tags)), left, top, min(width, 1 - left), min(height, 1 - top))


@st.composite
def projects(draw: st.DrawFn) -> tuple[list[Picture], list[str], bool]:
    detection = draw(st.booleans())
    tags = draw(st.lists(HARD_NAMES, min_size=1, max_size=5, unique=True))
    names = draw(st.lists(PATHS, min_size=1, max_size=6, unique_by=str.casefold))
    pictures = []
    for name in names:
        size = draw(st.tuples(st.integers(1, 10_240), st.integers(1, 10_240)))
        placed = draw(st.lists(boxes(tags), max_size=4)) if detection else []
        carried = list(dict.fromkeys(box.tag for box in placed))
        if not detection:
            carried = draw(st.lists(st.sampled_from(tags), unique=True, max_size=3))
        pictures.append(Picture(f"images/{name}.jpg", *size, tags=carried, boxes=placed))
    return pictures, tags, detection


@pytest.mark.parametrize("module", FORMATS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_project=projects())
def test_a_written_project_reads_back(
    module: ModuleType, given_project: tuple[list[Picture], list[str], bool], tmp_path: Path
) -> None:
    pictures, tags, detection = given_project
    found, report = read(module, zipped(tmp_path / "set.zip", project(module, pictures, tags, detection)))
    assert list(found) == [picture.path for picture in pictures] or set(found) == {p.path for p in pictures}
    if module is not table:
        assert list(report.tags) == tags
    for picture in pictures:
        assert set(found[picture.path].tags) == set(picture.tags)
        same_boxes(found[picture.path].boxes, picture.boxes, TOLERANCES[module])
    assert not report.sentences()


def same_boxes(found: list[Box], wanted: list[Box], tolerance: float) -> None:
    """Both hold the same boxes; readers keep equal ones once."""
    for one, others in [(box, wanted) for box in found] + [(box, found) for box in wanted]:
        assert any(
            one.tag == other.tag
            and all(
                abs(getattr(one, side) - getattr(other, side)) <= tolerance
                for side in ("left", "top", "width", "height")
            )
            for other in others
        ), (one, others)


def test_every_format_is_written_from_one_reading_each(tmp_path: Path) -> None:
    readings = []

    def pictures() -> Iterator[Picture]:
        readings.append(1)
        yield Picture("images/a.jpg", 10, 10, ["cat"])
        yield Picture("images/b.jpg", 10, 10, ["made meanwhile"])

    members = collected(writers.write(pictures, ["cat", "dog"], False))
    assert len(readings) == 4
    assert set(members) == {
        "coco.json",
        "voc/dataset_meta.json",
        "voc/ImageSets/Main/trainval.txt",
        "voc/ImageSets/Main/cat_trainval.txt",
        "voc/ImageSets/Main/dog_trainval.txt",
        "voc/links.jsonl",
        "yolo/data.yaml",
        "yolo/links.jsonl",
        "annotations.csv",
        "annotations.jsonl",
        "link.py",
    }
    assert members["voc/ImageSets/Main/cat_trainval.txt"] == b"a  1\nb -1\n"
    assert members["voc/ImageSets/Main/dog_trainval.txt"] == b"a -1\nb -1\n"
    assert b"meanwhile" not in b"".join(members.values())


def test_paths_of_a_written_project_can_be_unpacked_anywhere(tmp_path: Path) -> None:
    tags = ["a/b", "../../etc", "CON", "nul.txt", "A", "a", "x" * 300, "x" * 299 + "y", ".", "a\\b", "c:d", "e\x00f"]
    pictures = [Picture("images/a.jpg", 10, 10, tags)]
    members = collected(writers.write(lambda: pictures, tags, False))
    path = zipped(tmp_path / "set.zip", members)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "out")
    assert {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()} == set(
        members
    )
    assert len({name.casefold() for name in members}) == len(members)
    assert not any(set('<>:"\\|?*') & set(name) for name in members)
