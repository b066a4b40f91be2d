"""One suite for every implementation of `BlobStore`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ownvision.store.blobs import BlobDamaged, BlobExists, BlobMissing, BlobStore
from ownvision.store.blobs.local import LocalBlobs
from ownvision.store.blobs.sealed import FRAME, SealedBlobs
from ownvision.store.keys import KeyMissing, KeyStore

PROJECT = "11111111-2222-4333-8444-555555555555"
KEY = f"{PROJECT}/images/ab/abc/original"


def _local(folder: Path) -> BlobStore:
    return LocalBlobs(folder / "objects")


def _sealed(folder: Path) -> SealedBlobs:
    keys = KeyStore(folder / "keys")
    keys.create_account("account")
    keys.create_project("account", PROJECT)
    return SealedBlobs(LocalBlobs(folder / "objects"), keys)


@pytest.fixture(params=[_local, _sealed], ids=["local", "sealed"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    make: Callable[[Path], BlobStore] = request.param
    return make(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 1000, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME + 17])
def test_what_is_put_is_read_whole_and_in_ranges(blobs: BlobStore, length: int) -> None:
    data = bytes(range(256)) * (length // 256 + 1)
    data = data[:length]
    blobs.put_new(KEY, data)
    assert blobs.read(KEY) == data
    assert blobs.size(KEY) == length
    for start, end in (
        (0, length),
        (0, 10),
        (length // 2, length // 2 + 7),
        (FRAME - 3, FRAME + 3),
        (length, length + 5),
    ):
        assert blobs.read_range(KEY, start, end) == data[start:end]


def test_a_taken_key_is_never_replaced(blobs: BlobStore) -> None:
    blobs.put_new(KEY, b"first")
    with pytest.raises(BlobExists):
        blobs.put_new(KEY, b"second", durable=False)
    assert blobs.read(KEY) == b"first"


def test_what_is_not_there_is_missing(blobs: BlobStore) -> None:
    for ask in (blobs.read, blobs.size, lambda key: blobs.read_range(key, 0, 1)):
        with pytest.raises(BlobMissing):
            ask(KEY)
    assert not blobs.exists(KEY)
    assert list(blobs.list()) == []
    blobs.delete_prefix(f"{PROJECT}/images/")


def test_a_prefix_goes_with_everything_under_it_and_nothing_else(blobs: BlobStore) -> None:
    other = f"{PROJECT}/images/ab/abd/original"
    for key in (KEY, KEY.replace("original", "thumbnail"), other):
        blobs.put_new(key, b"x", durable=False)
    blobs.sync()
    blobs.delete_prefix(f"{PROJECT}/images/ab/abc/")
    assert [key for key, _ in blobs.list(f"{PROJECT}/")] == [other]


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "a\0b", ""])
def test_a_key_stays_inside_the_store(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="no object key"):
        LocalBlobs(tmp_path / "objects").put_new(key, b"x")


def test_no_empty_folder_stays(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "objects")
    blobs.put_new(KEY, b"x")
    blobs.delete_prefix(f"{PROJECT}/images/ab/abc/")
    assert list((tmp_path / "objects").iterdir()) == []


@pytest.mark.parametrize("where", ["header", "first frame", "last frame", "short", "long", "frames swapped", "moved"])
def test_a_sealed_object_that_was_touched_is_not_opened(tmp_path: Path, where: str) -> None:
    blobs = _sealed(tmp_path)
    blobs.put_new(KEY, b"a" * FRAME + b"b" * FRAME + b"c")
    path = tmp_path / "objects" / KEY
    data = bytearray(path.read_bytes())
    step = FRAME + 16
    if where == "header":
        data[0] ^= 1
    elif where == "first frame":
        data[20] ^= 1
    elif where == "last frame":
        data[-1] ^= 1
    elif where == "short":
        del data[-17:]
    elif where == "long":
        data += b"x"
    elif where == "frames swapped":
        data[12 : 12 + step], data[12 + step : 12 + 2 * step] = data[12 + step : 12 + 2 * step], data[12 : 12 + step]
    path.write_bytes(data)
    key = KEY
    if where == "moved":
        key = KEY.replace("abc", "abd")
        (tmp_path / "objects" / key).parent.mkdir(parents=True)
        path.rename(tmp_path / "objects" / key)
    with pytest.raises(BlobDamaged):
        blobs.read(key)


def test_bytes_on_disk_show_nothing_of_what_was_put(tmp_path: Path) -> None:
    _sealed(tmp_path).put_new(KEY, b"a secret that must not be found")
    assert b"secret" not in (tmp_path / "objects" / KEY).read_bytes()


def test_without_its_key_an_object_is_closed_for_ever(tmp_path: Path) -> None:
    blobs = _sealed(tmp_path)
    blobs.put_new(KEY, b"x")
    blobs.keys.destroy_project(PROJECT)
    with pytest.raises(KeyMissing):
        blobs.read(KEY)
    assert not list((tmp_path / "keys").rglob(f"*{PROJECT}*"))
