"""A takeout: what is in it, that it comes back as it was, and what is refused of what a stranger sends."""

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from ownvision.data_rights import takeouts
from ownvision.data_rights.doctor import doctor
from ownvision.data_rights.takeout import reading, restoring, writer
from ownvision.errors import OwnVisionError
from ownvision.services import drafts, images, iterations, predictions, projects
from ownvision.services.components import Components
from ownvision.store.tables import ApiKey, Iteration, Project
from tests.data_rights import rich
from tests.services import trained as t

pytestmark = pytest.mark.slow
# What a second takeout, of what was restored, says otherwise: keys and moments that are of the installation, and the
# numbers by which its database counts images.
DIFFERS = {
    "account.json",
    "files.jsonl",
    "manifest.json",
    "README.md",
    "receipts.jsonl",
    "audit.jsonl",
}
NUMBERED = ("restore/images/", "restore/iterations/", "restore/suggestions/")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Components]:
    components = t.open_house(tmp_path_factory.mktemp("rich") / "data")
    rich.classifier(components)
    rich.detector(components)
    yield components
    components.database.close()


@pytest.fixture(scope="module")
def path(house: Components, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("takeout") / "rich.zip"
    rich.written(house, path)
    return path


@pytest.fixture(scope="module")
def there(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Components]:
    """Another installation, in which the takeout was restored."""
    components = t.open_house(tmp_path_factory.mktemp("there") / "data")
    assert [row.status for row in rich.restored(components, path)] == ["Succeeded"] * 2
    yield components
    components.database.close()


@pytest.fixture(scope="module")
def again(there: Components, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A takeout of that one."""
    path = tmp_path_factory.mktemp("again") / "again.zip"
    rich.written(there, path)
    return path


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Components]:
    components = t.open_house(tmp_path / "elsewhere")
    yield components
    components.database.close()


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {info.filename: archive.read(info) for info in archive.infolist()}


def lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def test_every_file_is_listed_with_its_hash_and_everything_is_in_it(house: Components, path: Path) -> None:
    found = contents(path)
    listed = {row["path"]: row for row in lines(found["files.jsonl"])}
    assert set(listed) == set(found) - {"files.jsonl", "manifest.json"}
    for name, row in listed.items():
        assert (row["bytes"], row["sha256"]) == (len(found[name]), hashlib.sha256(found[name]).hexdigest()), name
    manifest = json.loads(found["manifest.json"])
    assert manifest["files_sha256"] == hashlib.sha256(found["files.jsonl"]).hexdigest()
    assert manifest["counts"] == {
        "audit events": len(lines(found["audit.jsonl"])),
        "exports": 1,
        "images": 33,
        "iterations": 2,
        "predictions": 1,
        "projects": 2,
        "regions": 3,
        "tags": 5,
    }
    with house.database.read() as session:
        shown = {row.name: row for row in projects.all(session, rich.account_of(house))}
        for project in manifest["projects"]:
            row = shown[project["name"]]
            of_project = lines(found[project["folder"] + "images.jsonl"])
            here = {view.image.id for view in images.find(session, row, take=1_000)}
            assert {one["id"] for one in of_project if not one.get("onlyInIterations")} == here
            for one in of_project:
                assert hashlib.sha256(found[project["folder"] + one["path"]]).hexdigest() == one["sha256"]
    text = b"".join(data for name, data in found.items() if name.endswith((".json", ".jsonl")))
    assert b"sig=" not in text  # no address that is signed


def test_live_learning_goes_on_where_a_project_is_restored(there: Components) -> None:
    with there.database.read() as session:
        assert [live.behind for live in drafts.lives(session)] == [True]


def test_names_of_files_are_safe_unique_and_like_those_given(path: Path) -> None:
    found = contents(path)
    given = {
        one["fileName"]: one["path"]
        for name, data in found.items()
        if name.endswith("images.jsonl")
        for one in lines(data)
        if one["fileName"]
    }
    assert given["Vögel 🐦.png"] == "images/Vögel 🐦.png"
    assert given["../../etc/passwd"] == "images/passwd.png"
    assert given["a/b\\c.png"] == "images/c.png"
    assert given["CON.png"] == "images/_CON.png"
    assert (given["x.png"], given["X.PNG"], given["x.jpg"]) == ("images/x.png", "images/X~2.PNG", "images/x~3.jpg")
    assert len({name.casefold() for name in found}) == len(found)
    assert not [name for name in found if name.startswith("/") or ".." in name.split("/") or "\u202e" in name]


@pytest.mark.parametrize(
    ("wished", "safe"),
    [
        ("a" * 300 + ".jpg", "a" * 94 + ".jpg"),
        ("ü" * 300 + ".jpg", "ü" * 47 + ".jpg"),
        ("nul", "_nul.png"),
        ("com1.tar.gz", "_com1.tar.gz"),
        (".hidden.png", "_.hidden.png"),
        ("end. ", "end.png"),
        ("\ud800.png", "_.png"),
        ("..", "id.png"),
        ("   ", "id.png"),
        ("a:b*c?.png", "a_b_c_.png"),
    ],
)
def test_a_hostile_name_becomes_one_that_every_system_takes(wished: str, safe: str) -> None:
    assert writer.Names().free(wished, "id", "png") == safe


def test_what_is_restored_is_what_was_taken_out(house: Components, path: Path, there: Components, again: Path) -> None:
    before, after = contents(path), contents(again)
    assert list(before) == list(after)
    for name in set(before) - DIFFERS:
        if any(part in name for part in NUMBERED):
            continue
        assert without_owner(before[name]) == without_owner(after[name]), name
    ids = []
    for one in (house, there):
        with one.database.read() as session:
            ids.append({row.id for row in projects.all(session, rich.account_of(one))})
    assert ids[0] == ids[1]
    assert list(doctor(there)) == []


def without_owner(data: bytes) -> bytes:
    """Without the name of the account, which is in the address of its resource."""
    head, mark, rest = data.partition(b"/subscriptions/")
    return head if not mark else head + rest[36:]


def test_the_numbered_members_say_the_same_but_for_their_numbers(path: Path, again: Path) -> None:
    before, after = contents(path), contents(again)
    compared = 0
    for name in before:
        if "restore/images/" in name:
            compared += 1
            one, other = (json.loads(found[name])["images"] for found in (before, after))
            assert [{**row, "seq": 0} for row in one] == [{**row, "seq": 0} for row in other]
        elif "restore/iterations/" in name and "-" in Path(name).name:
            compared += 1
            one, other = (json.loads(found[name]) for found in (before, after))
            assert one["erased"] == other["erased"]
            assert [{**row, "image": row["image"] is None} for row in one["scored"]] == [
                {**row, "image": row["image"] is None} for row in other["scored"]
            ]
    assert compared >= 5


def test_a_restored_iteration_answers_the_same_to_the_last_bit(house: Components, there: Components) -> None:
    answers = []
    for one in (house, there):
        with one.database.read() as session:
            iteration = session.scalars(select(Iteration).where(Iteration.publish_name == "alt")).one()
            default = session.scalars(select(Iteration).where(Iteration.is_default)).one()
            known = iterations.learned_tags(session, iteration.id)
        found, _ = predictions.predict(one, iteration, known, t.coloured(1, 500))
        answers.append((found, iteration.id, default.id, iteration.trained_at, iteration.created))
    assert answers[0] == answers[1]


def test_what_was_erased_here_comes_back_under_new_ids(tmp_path: Path, elsewhere: Components) -> None:
    project = t.make_project(elsewhere, "Boxes", domain_id=t.DETECTION)
    t.upload(elsewhere, project, [t.coloured(0, 1), t.coloured(0, 2)], [])
    rich.written(elsewhere, tmp_path / "a.zip")
    with elsewhere.database.read() as session:
        before = [view.image.id for view in images.find(session, project)]
    elsewhere.keys.journal("image", [f"{project.id}/images/{before[0][:8]}/{before[0]}."])
    (copy,) = rich.restored(elsewhere, tmp_path / "a.zip")
    assert (copy.id != project.id, copy.name, copy.status) == (True, "Boxes (1)", "Succeeded")
    with elsewhere.database.read() as session:
        after = [view.image.id for view in images.find(session, copy)]
    assert len(after) == 2
    assert not set(before) & set(after)


def test_a_taken_id_of_anything_makes_all_of_a_project_new(tmp_path: Path, elsewhere: Components) -> None:
    """Of the archive's project only an image is still here, in another project: as a hostile archive could say."""
    project = t.make_project(elsewhere, "Boxes", domain_id=t.DETECTION)
    t.upload(elsewhere, project, [t.coloured(0, 1)], [])
    rich.written(elsewhere, tmp_path / "a.zip")
    changed(tmp_path / "a.zip", tmp_path / "b.zip", lambda files: renamed(files, project.id, "0" * 8 + project.id[8:]))
    (copy,) = rich.restored(elsewhere, tmp_path / "b.zip")
    assert (copy.status, copy.id) == ("Succeeded", "0" * 8 + project.id[8:])
    with elsewhere.database.read() as session:
        ids = [images.find(session, one)[0].image.id for one in (project, copy)]
    assert ids[0] != ids[1]
    t.files(elsewhere)
    assert list(doctor(elsewhere)) == []


def test_an_image_erased_while_it_is_taken_out_is_left_out_and_counted(
    tmp_path: Path, elsewhere: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_AHEAD", 2)
    monkeypatch.setattr(writer, "_BUNDLES", 1)
    monkeypatch.setattr(writer, "_BUNDLE", 1)
    project = t.make_project(elsewhere, "Boxes", domain_id=t.DETECTION)
    made = t.upload(elsewhere, project, [t.coloured(0, seed) for seed in range(30)], [])
    told = writer.Told()
    source = rich.Own(elsewhere, project.account_id, None, rich.now())
    stream = writer.stream(source, tmp_path, told)
    parts = []
    while told.counts.get("images", 0) < 3:
        parts.append(next(stream))
    rich.change(elsewhere, project, lambda s, p: images.delete_images(s, p, [made[10], made[15]], all_iterations=True))
    t.files(elsewhere)
    (tmp_path / "a.zip").write_bytes(b"".join([*parts, *stream]))
    assert (told.counts["images"], told.counts["missing"]) == (28, 2)
    other = t.open_house(tmp_path / "other")
    (copy,) = rich.restored(other, tmp_path / "a.zip")
    assert (copy.status, copy.image_count) == ("Succeeded", 28)
    assert list(doctor(other)) == []
    other.database.close()


# Hostile archives.


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    components = t.open_house(folder / "data")
    rich.detector(components)
    rich.written(components, folder / "small.zip")
    components.database.close()
    return folder / "small.zip"


Files = dict[str, bytes]


def changed(path: Path, to: Path, change: Callable[[Files], None], *, mend: bool = True) -> Path:
    """An archive with other files; its lists are made to fit again, as someone does who wants it believed."""
    files = contents(path)
    listed, told = files.pop("files.jsonl"), json.loads(files.pop("manifest.json"))
    change(files)
    if mend:
        rows = [
            {"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        ]
        listed = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        told |= {
            "files": len(files),
            "bytes": sum(map(len, files.values())),
            "files_sha256": hashlib.sha256(listed).hexdigest(),
        }
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**files, "files.jsonl": listed, "manifest.json": json.dumps(told).encode()}.items():
            archive.writestr(name, data)
    return to


def renamed(files: Files, old: str, new: str) -> None:
    for name in files:
        files[name] = files[name].replace(old.encode(), new.encode())


def folder_of(files: Mapping[str, bytes]) -> str:
    return (
        next(name for name in files if name.endswith("project.json"))
        .removesuffix("restore/project.json")
        .removesuffix("project.json")
    )


def added(name: str, mode: int = 0o100644, flags: int = 0) -> Callable[[Path, Path], None]:
    """One more entry in an archive that is whole."""

    def make(path: Path, to: Path) -> None:
        changed(path, to, lambda files: None)
        info = zipfile.ZipInfo("placeholder")
        info.external_attr, info.create_system = mode << 16, 3
        info.filename, info.orig_filename = name, name
        with zipfile.ZipFile(to, "a") as archive:
            archive.writestr(info, b"../../etc/passwd")
        if flags:
            patched(to, lambda data, at: struct.pack_into("<H", data, at + 8, flags))

    return make


def patched(path: Path, change: Callable[[bytearray, int], None]) -> None:
    """Change the last line of an archive's directory, in place."""
    data = bytearray(path.read_bytes())
    change(data, data.rfind(b"PK\1\2"))
    path.write_bytes(data)


def lied(change: Callable[[dict[str, Any]], None]) -> Callable[[Path, Path], None]:
    def make(path: Path, to: Path) -> None:
        files = contents(path)
        told = json.loads(files["manifest.json"])
        change(told)
        files["manifest.json"] = json.dumps(told).encode()
        with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)

    return make


def cut(path: Path, to: Path) -> None:
    to.write_bytes(path.read_bytes()[:-100])


def headless(path: Path, to: Path) -> None:
    to.write_bytes(path.read_bytes()[5_000:])


def twice(path: Path, to: Path) -> None:
    changed(path, to, lambda files: None)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(to, "a") as archive:
        archive.writestr("README.md", b"another")


def overlapping(path: Path, to: Path) -> None:
    """The last entry begins where the one before does: the same bytes are two files."""
    changed(path, to, lambda files: None)
    data = bytearray(to.read_bytes())
    last = data.rfind(b"PK\1\2")
    before = data.rfind(b"PK\1\2", 0, last)
    data[last + 42 : last + 46] = data[before + 42 : before + 46]
    to.write_bytes(data)


def bomb(path: Path, to: Path) -> None:
    """An entry that says that it would unpack to more than deflate can."""
    changed(path, to, lambda files: None)
    patched(to, lambda data, at: struct.pack_into("<L", data, at + 24, 2**31))


def unlisted(path: Path, to: Path) -> None:
    changed(path, to, lambda files: files.update({"more.txt": b"x"}), mend=False)


def missing(path: Path, to: Path) -> None:
    changed(path, to, lambda files: files.pop("README.md") and None, mend=False)


HOSTILE: dict[str, Callable[[Path, Path], Any]] = {
    "absolute": added("/etc/passwd"),
    "parent": added("projects/../../x"),
    "drive": added("C:/x"),
    "backslash": added("projects\\x"),
    "dot": added("./x"),
    "empty part": added("projects//x"),
    "control character": added("a\nb"),
    "symlink": added("link", 0o120777),
    "device": added("device", 0o060666),
    "encrypted": added("secret", flags=1),
    "duplicate": twice,
    "case duplicate": added("ReadMe.MD"),
    "overlap": overlapping,
    "bomb": bomb,
    "cut": cut,
    "headless": headless,
    "unlisted file": unlisted,
    "missing file": missing,
    "count of files": lied(lambda told: told.update(files=told["files"] + 1)),
    "bytes": lied(lambda told: told.update(bytes=told["bytes"] - 1)),
    "hash of the list": lied(lambda told: told.update(files_sha256="0" * 64)),
    "count of images": lied(lambda told: told["counts"].update(images=5)),
    "counts of a project": lied(lambda told: told["projects"][0]["counts"].update(images=5)),
    "folder of a project": lied(lambda told: told["projects"][0].update(folder="../")),
    "project twice": lied(lambda told: told["projects"].append(told["projects"][0])),
    "newer": lied(lambda told: told.update(version=2)),
    "other format": lied(lambda told: told.update(format="zip")),
    "surplus": lied(lambda told: told.update(more=1)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_before_anything_is_changed(kind: str, small: Path, tmp_path: Path) -> None:
    HOSTILE[kind](small, tmp_path / "hostile.zip")
    with ExitStack() as stack, pytest.raises(OwnVisionError, match="can't be imported") as refusal:
        restoring.opened(tmp_path / "hostile.zip", stack)
    assert refusal.value.code == "BadRequestInvalid"


def test_an_archive_that_another_program_packed_anew_is_restored(
    small: Path, tmp_path: Path, elsewhere: Components
) -> None:
    changed(small, tmp_path / "b.zip", lambda files: None)
    assert [row.status for row in rich.restored(elsewhere, tmp_path / "b.zip")] == ["Succeeded"]


def edited(name: str, change: Callable[[Any], None], *, mend: bool = True) -> Callable[[Path, Path], Path]:
    def edit(files: Files) -> None:
        at = folder_of(files) + name
        value = json.loads(files[at])
        change(value)
        files[at] = json.dumps(value).encode()

    return lambda path, to: changed(path, to, edit, mend=mend)


def another_picture(path: Path, to: Path) -> None:
    def swap(files: Files) -> None:
        name = next(name for name in files if "/images/" in name and "restore" not in name)
        files[name] = t.coloured(1, 9)

    changed(path, to, swap)


def no_picture(path: Path, to: Path) -> None:
    """A text in the place of a picture, and every list made to fit."""

    def swap(files: Files) -> None:
        at = folder_of(files) + "restore/images/000000.json"
        page = json.loads(files[at])
        row = page["images"][0]
        files[folder_of(files) + row["path"]] = b"text"
        row["sha256"], row["size"] = hashlib.sha256(b"text").hexdigest(), 4
        files[at] = json.dumps(page).encode()

    changed(path, to, swap)


def stale_hash(path: Path, to: Path) -> None:
    """A restore member that is not what the list says."""

    def swap(files: Files) -> None:
        at = folder_of(files) + "restore/tags.json"
        files[at] = files[at].replace(b'"red"', b'"rot"')

    changed(path, to, swap, mend=False)


def first_image(change: Callable[[dict[str, Any]], None]) -> Callable[[Path, Path], Path]:
    return edited("restore/images/000000.json", lambda page: change(page["images"][0]))


LIES: dict[str, Callable[[Path, Path], Any]] = {
    "another picture": another_picture,
    "no picture": no_picture,
    "a hash": stale_hash,
    "a path out of the project": first_image(lambda row: row.update(path="../../account.json")),
    "the same picture twice": edited("restore/images/000000.json", lambda p: p["images"].append(p["images"][0])),
    "an unknown tag": edited(
        "restore/images/000000.json",
        lambda p: p["images"][1]["tags"][0].update(tag="0" * 8 + "-0000" * 3 + "-" + "0" * 12),
    ),
    "a width": first_image(lambda row: row.update(width="wide")),
    "more images than there are": edited("restore/project.json", lambda head: head["counts"].update(images=1)),
    "an unknown policy": edited("restore/extra.json", lambda extra: extra.update(erasure_policy="burn")),
    "a prediction that is not there": edited("restore/extra.json", lambda extra: extra.update(predictions=1)),
}


@pytest.mark.parametrize("kind", LIES)
def test_of_an_archive_that_lies_nothing_is_kept(kind: str, small: Path, tmp_path: Path, elsewhere: Components) -> None:
    LIES[kind](small, tmp_path / "lie.zip")
    try:
        found = rich.restored(elsewhere, tmp_path / "lie.zip")
    except OwnVisionError:
        found = []
    with elsewhere.database.read() as session:
        assert session.scalar(select(func.count()).select_from(images.Image)) == 0
        assert {row.status for row in session.scalars(select(Project))} <= {"Failed"}
    assert all(row.status == "Failed" for row in found)
    assert t.files(elsewhere) == set()


def test_a_restore_that_is_killed_is_begun_anew_with_the_same_ids(
    small: Path, tmp_path: Path, elsewhere: Components
) -> None:
    with ExitStack() as stack:
        archive = restoring.opened(small, stack)
        (coming,) = restoring.start(elsewhere, rich.account_of(elsewhere), small, archive)
    claim = t.claim(elsewhere, "quick")
    restoring.run(elsewhere, claim)
    with elsewhere.database.write() as session:  # as if the last commit had not happened
        session.get_one(Project, coming.project_id).status = "Importing"
        job = session.get_one(restoring.Job, coming.job_id)
        job.state, job.payload = "queued", claim.payload
    t.work(elsewhere)
    copy = rich.now_of(elsewhere, coming.project_id)
    assert (copy.status, copy.image_count) == ("Succeeded", 4)
    t.files(elsewhere)
    assert list(doctor(elsewhere)) == []


def test_keys_come_along_only_when_asked_for(path: Path, elsewhere: Components) -> None:
    account_id = rich.account_of(elsewhere)
    told = json.loads(contents(path)["account.json"])["Keys"]
    with ExitStack() as stack:
        archive = restoring.opened(path, stack)
        given = restoring.keys_for(elsewhere, account_id, archive)
    assert given["training", "primary"] == told["TrainingKeys"]["PrimaryKey"]
    restoring.take_keys(elsewhere, account_id, given)
    with elsewhere.database.read() as session:
        hashes = set(session.scalars(select(ApiKey.sha256)))
    assert hashes == {hashlib.sha256(key.encode()).hexdigest() for key in given.values()}


# Jobs.


def test_a_takeout_is_made_sealed_and_goes_with_what_it_holds(elsewhere: Components) -> None:
    project = t.make_project(elsewhere, "Boxes", domain_id=t.DETECTION)
    t.upload(elsewhere, project, [t.coloured(0, seed) for seed in range(3)], [])
    with elsewhere.database.write() as session:
        whole = takeouts.start(session, project.account_id, None)
        again = takeouts.start(session, project.account_id, None)
        one = takeouts.start(session, project.account_id, project.id)
    assert (whole.id == again.id, whole.id == one.id) == (True, False)
    t.work(elsewhere)
    with elsewhere.database.read() as session:
        for row in takeouts.all(session, project.account_id):
            data = elsewhere.blobs.read(takeouts.prefix_of(row) + takeouts.ARCHIVE)
            assert (row.status, row.size, row.sha256) == ("Done", len(data), hashlib.sha256(data).hexdigest())
            assert row.counts["images"] == 3
            assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
    t.files(elsewhere)
    assert [found for found in doctor(elsewhere) if found.kind != "file without row"] == []
    with elsewhere.database.write() as session:
        assert set(takeouts.doom_holding(session, project.account_id, project.id)) == {whole.id, one.id}
    assert not [key for key in t.files(elsewhere) if "/takeouts/" in key]
    with elsewhere.database.read() as session:
        row = takeouts.get(session, project.account_id, whole.id)
        assert (row.status, "was erased" in (row.error or "")) == ("Failed", True)


def test_a_takeout_under_way_begins_anew_when_something_is_erased(elsewhere: Components) -> None:
    project = t.make_project(elsewhere, "Boxes", domain_id=t.DETECTION)
    t.upload(elsewhere, project, [t.coloured(0, seed) for seed in range(3)], [])
    with elsewhere.database.write() as session:
        row = takeouts.start(session, project.account_id, None)
    stale = t.claim(elsewhere, "quick")
    while stale.kind != "takeout":
        stale = t.claim(elsewhere, "quick")
    with elsewhere.database.write() as session:
        assert takeouts.doom_holding(session, project.account_id, project.id) == []
    with pytest.raises(takeouts.rows.Stale):
        takeouts.run(elsewhere, stale)
    t.work(elsewhere)
    with elsewhere.database.read() as session:
        assert takeouts.get(session, project.account_id, row.id).status == "Done"


def test_a_selection_holds_nothing_else(elsewhere: Components) -> None:
    project = t.make_project(elsewhere, "Boxes", domain_id=t.DETECTION)
    made = t.upload(elsewhere, project, [t.coloured(0, seed) for seed in range(3)], [])
    with elsewhere.database.write() as session:
        row = takeouts.start(session, project.account_id, None, {"images": [made[1]], "predictions": []})
    t.work(elsewhere)
    data = elsewhere.blobs.read(takeouts.prefix_of(row) + takeouts.ARCHIVE)
    archive = zipfile.ZipFile(io.BytesIO(data))
    (name,) = [name for name in archive.namelist() if name.endswith("/images.jsonl")]
    assert [one["id"] for one in lines(archive.read(name))] == [made[1]]


def test_a_file_that_is_no_takeout_is_known_as_none(tmp_path: Path, small: Path) -> None:
    (tmp_path / "text.zip").write_bytes(b"no archive")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("manifest.json", b"[]")
    assert [reading.is_takeout(tmp_path / name) for name in ("text.zip", "other.zip")] == [False, False]
    assert reading.is_takeout(small)
