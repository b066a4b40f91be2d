"""What a stranger sends is read where it is, and refused as a whole when it is hostile."""

import io
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ownvision.data_rights.formats import unpack
from ownvision.errors import OwnVisionError
from tests.data_rights.formats.sets import laid_out, zipped


def entry(name: str, mode: int = stat.S_IFREG | 0o644, system: int = 3) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = system, mode << 16
    return info


def archive(*entries: tuple[zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as writer:
        for info, data in entries:
            writer.writestr(info, data, method)
    return buffer.getvalue()


def renamed(old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    return archive((entry(old.decode()), b"data")).replace(old, new)


def shared_bytes() -> bytes:
    """Two entries of the list that point at the same bytes."""
    data = bytearray(archive((entry("a.jpg"), b"x" * 50), (entry("b.jpg"), b"y" * 50)))
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)
    return bytes(data)


def many_entries() -> bytes:
    """An end that promises two million entries."""
    data = bytearray(archive((entry("a.jpg"), b"x")))
    place = data.rindex(b"PK\x05\x06")
    wide = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 2_000_000, 2_000_000, 60, 0)
    locator = struct.pack("<IIQI", 0x07064B50, 0, place, 1)
    return bytes(data[:place]) + wide + locator + bytes(data[place:])


HOSTILE: list[tuple[str, Callable[[], bytes], str]] = [
    ("a path upwards", lambda: renamed(b"aaa/b.jpg", b"../..jpg."), "leads out"),
    ("a path upwards inside", lambda: archive((entry("a/../../b.jpg"), b"x")), "leads out"),
    ("a plain dot", lambda: archive((entry("./a.jpg"), b"x")), "no plain path"),
    ("an empty part", lambda: archive((entry("a//b.jpg"), b"x")), "no plain path"),
    ("an absolute path", lambda: archive((entry("/etc/passwd"), b"x")), "is an absolute path"),
    ("a drive", lambda: archive((entry("C:evil.jpg"), b"x")), "is an absolute path"),
    ("backslashes", lambda: renamed(b"a/b/c.jpg", b"..\\..\\c.j"), "backslash"),
    ("a NUL", lambda: renamed(b"a.jpg/b.png", b"a.jpg\x00b.png"), "NUL"),
    ("a link", lambda: archive((entry("a.jpg", stat.S_IFLNK | 0o777), b"/etc/passwd")), "is a link"),
    ("a device", lambda: archive((entry("a.jpg", stat.S_IFCHR | 0o644), b"")), "is no ordinary file"),
    ("a fifo", lambda: archive((entry("a.jpg", stat.S_IFIFO | 0o644), b"")), "is no ordinary file"),
    ("a name twice", lambda: renamed(b"a.jpg", b"a.jpg") and archive((entry("A.jpg"), b"1"), (entry("a.JPG"), b"2")),
     "occurs twice"),
    ("composed and not", lambda: archive((entry("\u00e9.jpg"), b"1"), (entry("e\u0301.jpg"), b"2")), "occurs twice"),
    ("a bomb", lambda: archive((entry("a.jpg"), b"\0" * 40_000_000), method=zipfile.ZIP_DEFLATED), "200 times"),
    ("shared bytes", shared_bytes, "shares its bytes"),
    ("too many entries", many_entries, "names more than 1,000,000 files"),
    ("another packing", lambda: archive((entry("a.jpg"), b"x" * 99), method=zipfile.ZIP_LZMA), "not read here"),
    ("a long name", lambda: archive((entry("a" * 300 + ".jpg"), b"x")), "too long a name"),
    ("a long path", lambda: archive((entry("/".join(["a" * 99] * 12)), b"x")), "too long a name"),
    ("deep folders", lambda: archive((entry("/".join("a" * 40)), b"x")), "32 folders deep"),
    ("no zip file", lambda: b"not a zip file" * 9, "is no zip file"),
    ("nothing", lambda: b"", "is no zip file"),
    ("a broken list", lambda: archive((entry("a.jpg"), b"x")).replace(b"PK\x01\x02", b"PK\x01\x03"), "is no zip file"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "why"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_a_hostile_zip_file_is_refused(make: Callable[[], bytes], why: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / "set.zip"
    path.parent.mkdir()
    path.write_bytes(make())
    with pytest.raises(OwnVisionError, match="can't be imported") as refusal, unpack.opened(path):
        pass
    assert why in refusal.value.message
    assert refusal.value.message.isprintable()
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")] == ["in", "in/set.zip"]


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    data = bytearray(archive((entry("a.jpg"), b"x")))
    for sign, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(sign) + place] |= 1
    (tmp_path / "set.zip").write_bytes(data)
    with pytest.raises(OwnVisionError, match="encrypted"), unpack.opened(tmp_path / "set.zip"):
        pass


@pytest.mark.parametrize("lie", ["content", "size"])
def test_an_entry_that_is_not_what_its_list_says_is_no_more_than_damaged(lie: str, tmp_path: Path) -> None:
    data = bytearray(archive((entry("a.jpg"), b"x" * 1000), method=zipfile.ZIP_DEFLATED))
    if lie == "content":
        place = data.index(b"a.jpg") + 5
        data[place : place + 2] = b"\xff\xff"
    else:  # it unpacks to more than it says
        place = data.index(b"PK\x01\x02") + 24
        data[place : place + 4] = struct.pack("<I", 10)
    (tmp_path / "set.zip").write_bytes(data)
    with unpack.opened(tmp_path / "set.zip") as files, pytest.raises(OwnVisionError, match="is damaged"):
        unpack.read(files, "a.jpg", 10_000)


def test_bytes_are_counted_before_they_are_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.zip", {"a.txt": b"x" * 1001})
    with unpack.opened(path) as files:
        assert unpack.read(files, "a.txt", 1001) == b"x" * 1001
        with pytest.raises(OwnVisionError, match="1,001 bytes; 1,000 are allowed"):
            unpack.read(files, "a.txt", 1000)


def test_a_name_in_utf8_without_the_flag_is_read_as_such(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as writer:
        writer.writestr(zipfile.ZipInfo("Gr\u00f6\u00dfe.jpg"), b"x")
    data = bytearray(buffer.getvalue())
    for sign, place in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        data[data.index(sign) + place] &= ~0x08
    (tmp_path / "set.zip").write_bytes(data)
    with unpack.opened(tmp_path / "set.zip") as files:
        assert files.names == ["Gr\u00f6\u00dfe.jpg"]


JUNK = {"__MACOSX/cat/._a.jpg": b"", "cat/.DS_Store": b"", "cat/Thumbs.db": b"", "cat/._a.jpg": b"", "cat/a.jpg": b"x"}


@pytest.mark.parametrize("make", [zipped, laid_out])
def test_what_systems_leave_behind_is_passed_over(
    make: Callable[[Path, Mapping[str, bytes | str]], Path], tmp_path: Path
) -> None:
    with unpack.opened(make(tmp_path / "set", JUNK)) as files:
        assert files.names == ["cat/a.jpg"]
        assert files.size("cat/a.jpg") == 1


@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (lambda folder: (folder / "b.jpg").symlink_to("/etc/passwd"), "b.jpg is a link"),
        (lambda folder: (folder / "loop").symlink_to(folder), "loop is a link"),
        (lambda folder: os.mkfifo(folder / "b.jpg"), "no ordinary file"),
        (lambda folder: (folder / "/".join("a" * 40)).mkdir(parents=True), "32 folders deep"),
        (lambda folder: (folder / os.fsdecode(b"\xff.jpg")).touch(), "no UTF-8"),
    ],
)
def test_a_hostile_folder_is_refused(plant: Callable[[Path], object], why: str, tmp_path: Path) -> None:
    folder = laid_out(tmp_path / "set", {"a.jpg": b"x"})
    plant(folder)
    with pytest.raises(OwnVisionError, match="can't be imported") as refusal, unpack.opened(folder):
        pass
    assert why in refusal.value.message


def test_a_file_that_becomes_a_link_after_the_look_is_not_followed(tmp_path: Path) -> None:
    folder = laid_out(tmp_path / "set", {"a.jpg": b"x"})
    with unpack.opened(folder) as files:
        (folder / "a.jpg").unlink()
        (folder / "a.jpg").symlink_to("/etc/hostname")
        with pytest.raises(OwnVisionError, match="can't be read"):
            unpack.read(files, "a.jpg", 100)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OwnVisionError, match="There is no file or folder"), unpack.opened(tmp_path / "gone"):
        pass
