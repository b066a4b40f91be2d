"""What every `BlobStore` must do."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ownvision.store import files
from ownvision.store.blobs import BlobExists, BlobMissing, BlobStore
from ownvision.store.blobs.sealed import FRAME
from tests.store.conftest import PROJECT, Store

KEY = f"{PROJECT}/images/ab/abcd/original"


@pytest.fixture(params=["local", "sealed"])
def blobs(request: pytest.FixtureRequest, store: Store) -> BlobStore:
    found: BlobStore = getattr(store, request.param)
    return found


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("size", [0, 1, 20_000, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME + 17])
def test_what_was_put_is_read_whole_and_in_ranges(blobs: BlobStore, size: int, durable: bool) -> None:
    data = os.urandom(size)
    blobs.put_new(KEY, data, durable=durable)
    blobs.sync()
    assert blobs.read(KEY) == data
    assert blobs.size(KEY) == size
    assert blobs.exists(KEY)
    edges = sorted({0, 1, size // 2, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, size - 1, size, size + 5} - {-1})
    for start in edges:
        for end in edges:
            assert blobs.read_range(KEY, start, end) == data[start:end]


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME + 17])
@pytest.mark.parametrize("part", [1_000, FRAME, 2 * FRAME + 5])
def test_what_came_in_parts_is_what_was_put_whole(blobs: BlobStore, size: int, part: int) -> None:
    data = os.urandom(size)
    blobs.put_parts(KEY, (data[start : start + part] for start in range(0, size, part)))
    assert (blobs.read(KEY), blobs.size(KEY)) == (data, size)
    with pytest.raises(BlobExists):
        blobs.put_parts(KEY, [b"second"])
    assert blobs.read(KEY) == data


def test_nothing_is_left_of_an_object_whose_parts_stop_coming(blobs: BlobStore, store: Store) -> None:
    def parts() -> Iterator[bytes]:
        yield os.urandom(2 * FRAME)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        blobs.put_parts(KEY, parts())
    assert not blobs.exists(KEY)
    assert [path for path in (store.folder / "objects").rglob("*") if path.is_file()] == []


def test_a_taken_key_is_never_replaced(blobs: BlobStore) -> None:
    blobs.put_new(KEY, b"first")
    with pytest.raises(BlobExists):
        blobs.put_new(KEY, b"second")
    assert blobs.read(KEY) == b"first"


def test_a_missing_object_says_so(blobs: BlobStore) -> None:
    assert not blobs.exists(KEY)
    with pytest.raises(BlobMissing):
        blobs.read(KEY)
    with pytest.raises(BlobMissing):
        blobs.read_range(KEY, 0, 1)
    with pytest.raises(BlobMissing):
        blobs.size(KEY)


def test_what_lies_below_a_prefix_is_listed_and_deleted(blobs: BlobStore, store: Store) -> None:
    names = [f"{PROJECT}/images/ab/abcd/original", f"{PROJECT}/images/ab/abcd/thumbnail", f"{PROJECT}/images/ab/ab/x"]
    for name in names:
        blobs.put_new(name, b"bytes", durable=False)
    assert [key for key, _ in blobs.list(f"{PROJECT}/images/ab/abcd/")] == names[:2]
    assert sorted(key for key, _ in blobs.list()) == sorted(names)
    blobs.delete_prefix(f"{PROJECT}/images/ab/abcd/")
    assert [key for key, _ in blobs.list()] == names[2:]
    blobs.delete_prefix(f"{PROJECT}/images/ab/abcd/")  # again: no error
    blobs.delete_prefix(f"{PROJECT}/images/ab/ab/")
    assert list((store.folder / "objects").iterdir()) == []  # nor an empty folder


def test_a_prefix_that_ends_in_a_dot_stands_for_the_files_of_one_owner(blobs: BlobStore, store: Store) -> None:
    names = [f"{PROJECT}/images/ab/{name}" for name in ("abc.original", "abc.thumbnail", "abcd.original")]
    for name in names:
        blobs.put_new(name, b"bytes", durable=False)
    (store.folder / "objects" / PROJECT / "images" / "ab" / ".abc.original.00").touch()  # of a writer that was killed
    blobs.delete_prefix(f"{PROJECT}/images/ab/abc.")
    assert [key for key, _ in blobs.list()] == names[2:]
    assert [key for key, _ in blobs.list(f"{PROJECT}/images/ab/abcd.")] == names[2:]
    blobs.delete_prefix(f"{PROJECT}/images/ab/abc.")  # again: no error
    blobs.delete_prefix(f"{PROJECT}/images/ab/abcd.")
    assert list((store.folder / "objects").iterdir()) == []


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", f"{PROJECT}/../x", f"{PROJECT}//x", "a/./x", "a/b\0", "a\\b", "a/.hidden"]
)
def test_a_key_can_not_leave_the_folder(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="no object key"):
        store.local.put_new(key, b"x")
    with pytest.raises(ValueError, match="no object key"):
        store.local.delete_prefix(key)


def test_puts_and_removals_of_neighbours_do_not_disturb_each_other(blobs: BlobStore) -> None:
    failed: list[BaseException] = []

    def come_and_go(name: str) -> None:
        try:
            for round in range(100):
                prefix = f"{PROJECT}/images/ab/{name}{round}/"
                blobs.put_new(prefix + "original", b"x" * 100, durable=False)
                assert blobs.read(prefix + "original") == b"x" * 100
                blobs.delete_prefix(prefix)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=come_and_go, args=(name,)) for name in "pqrs"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert list(blobs.list()) == []


def test_where_nameless_files_are_not_known_a_file_is_still_whole_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a network share: the kernel takes the flag for a wish to open the folder itself.
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)
    files.write_new(tmp_path / "key", b"bytes", durable=True)
    with pytest.raises(FileExistsError):
        files.write_new(tmp_path / "key", b"others", durable=True)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("key", b"bytes")]
    with pytest.raises(FileNotFoundError):
        files.write_new(tmp_path / "gone" / "key", b"bytes", durable=True)
