"""Sealed objects: what was changed in any way is not taken for what was written."""

import os
from collections.abc import Callable

import pytest

from ownvision.store.blobs import BlobDamaged
from ownvision.store.blobs.sealed import FRAME
from ownvision.store.keys import KeyMissing
from tests.store.conftest import ACCOUNT, PROJECT, Store

KEY = f"{PROJECT}/images/ab/abcd/original"
STEP = FRAME + 16
DATA = os.urandom(2 * FRAME + 1000)
HEADER = 20


def _swap_frames(sealed: bytes) -> bytes:
    first, second = sealed[HEADER : HEADER + STEP], sealed[HEADER + STEP : HEADER + 2 * STEP]
    return sealed[:HEADER] + second + first + sealed[HEADER + 2 * STEP :]


@pytest.mark.parametrize(
    "change",
    [
        lambda sealed: sealed[:-1],
        lambda sealed: sealed[: HEADER + 2 * STEP],  # without its last frame
        lambda sealed: sealed[: HEADER + STEP],
        lambda sealed: sealed[:HEADER],
        lambda sealed: sealed[:3],
        lambda sealed: b"",
        lambda sealed: sealed + b"\0",
        lambda sealed: sealed + sealed[HEADER : HEADER + STEP],
        lambda sealed: b"X" + sealed[1:],
        lambda sealed: sealed[:10] + bytes([sealed[10] ^ 1]) + sealed[11:],  # its salt
        lambda sealed: sealed[:-5] + bytes([sealed[-5] ^ 1]) + sealed[-4:],
        _swap_frames,
    ],
)
def test_a_changed_object_is_damaged(store: Store, change: Callable[[bytes], bytes]) -> None:
    store.sealed.put_new(KEY, DATA)
    path = store.local.root / KEY
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BlobDamaged):
        store.sealed.read(KEY)


def test_an_object_under_another_name_is_damaged(store: Store) -> None:
    store.sealed.put_new(KEY, b"a face")
    (store.local.root / KEY).rename(store.local.root / (KEY + "2"))
    with pytest.raises(BlobDamaged):
        store.sealed.read(KEY + "2")


def test_a_range_reads_only_the_frames_that_hold_it(store: Store) -> None:
    store.sealed.put_new(KEY, DATA)
    path = store.local.root / KEY
    sealed = bytearray(path.read_bytes())
    sealed[HEADER + 5] ^= 1  # the first frame is damaged
    path.write_bytes(bytes(sealed))
    assert store.sealed.read_range(KEY, FRAME, 2 * FRAME + 10) == DATA[FRAME : 2 * FRAME + 10]
    with pytest.raises(BlobDamaged):
        store.sealed.read_range(KEY, FRAME - 1, FRAME + 1)


def test_the_bytes_on_disk_show_nothing_and_never_repeat(store: Store) -> None:
    text = b"GPS 48.2082 N 16.3738 E " * 100
    store.sealed.put_new(KEY, text)
    store.sealed.put_new(KEY + "2", text)
    first, second = ((store.local.root / key).read_bytes() for key in (KEY, KEY + "2"))
    assert b"48.2082" not in first
    assert first[HEADER:] != second[HEADER:]


def test_after_a_projects_key_was_destroyed_nothing_can_be_read(store: Store) -> None:
    other = "c0000000-0000-4000-8000-000000000000"
    store.keys.create_project(ACCOUNT, other)
    store.sealed.put_new(KEY, b"here")
    store.sealed.put_new(f"{other}/x", b"there")
    store.keys.destroy_project(PROJECT)
    with pytest.raises(KeyMissing):
        store.sealed.read(KEY)
    with pytest.raises(KeyMissing):
        store.sealed.put_new(KEY + "2", b"late")
    assert store.sealed.read(f"{other}/x") == b"there"
