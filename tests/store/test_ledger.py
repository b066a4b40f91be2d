"""The ledger where two things happen at once, or one goes wrong."""

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from ownvision.errors import OwnVisionError
from ownvision.store import ledger
from ownvision.store.tables import Blob
from ownvision.store.tables.base import new_id, now
from tests.store.conftest import ACCOUNT, PROJECT, Store

PREFIX = ledger.image_prefix(PROJECT, "abcd")
OTHER = ledger.image_prefix(PROJECT, "efgh")


def _reserve(store: Store, *prefixes: str) -> None:
    ledger.reserve(store.database, [(prefix, "image", ACCOUNT, PROJECT) for prefix in prefixes])


def _live(store: Store, *prefixes: str) -> None:
    _reserve(store, *prefixes)
    for prefix in prefixes:
        store.local.put_new(prefix + "original", b"x", durable=False)
    with store.database.write() as session:
        ledger.make_live(session, prefixes)


def _doom(store: Store, *prefixes: str) -> None:
    with store.database.write() as session:
        ledger.doom(session, prefixes)


def _states(store: Store) -> dict[str, str]:
    with store.database.read() as session:
        return {row.prefix: row.state for row in session.scalars(select(Blob))}


def _live_then_doomed(store: Store, prefix: str) -> None:
    _live(store, prefix)
    _doom(store, prefix)


@pytest.mark.parametrize("before", [_reserve, _live, _live_then_doomed])
def test_a_prefix_that_is_used_can_not_be_reserved_and_the_whole_batch_is_refused(
    store: Store, before: Callable[[Store, str], None]
) -> None:
    before(store, PREFIX)
    states = _states(store)
    with pytest.raises(OwnVisionError) as refused:
        _reserve(store, OTHER, PREFIX)
    assert refused.value.code == "Conflict"
    assert _states(store) == states


def test_a_prefix_that_was_swept_can_be_used_again(store: Store) -> None:
    _live(store, PREFIX)
    _doom(store, PREFIX)
    ledger.sweep(store.database, store.local)
    _live(store, PREFIX)
    assert ledger.sweep(store.database, store.local) == 0
    assert [key for key, _ in store.local.list()] == [PREFIX + "original"]


def test_a_prefix_that_is_about_to_be_swept_again_is_left_alone(store: Store) -> None:
    _reserve(store, PREFIX)
    _doom(store, PREFIX)
    ledger.sweep(store.database, store.local)
    with store.database.write() as session:
        session.execute(update(Blob).values(due=now() - timedelta(seconds=1)))
    with pytest.raises(OwnVisionError, match="try again"):
        _reserve(store, PREFIX)
    assert ledger.sweep(store.database, store.local) == 1
    _reserve(store, PREFIX)


def test_make_live_of_a_doomed_prefix_changes_nothing(store: Store) -> None:
    _reserve(store, PREFIX, OTHER)
    _doom(store, PREFIX)

    def record() -> None:
        with store.database.write() as session:
            ledger.make_live(session, [OTHER, PREFIX])

    with pytest.raises(OwnVisionError):
        record()
    assert _states(store) == {PREFIX: "doomed", OTHER: "pending"}


def test_a_project_goes_with_what_is_still_pending(store: Store) -> None:
    _live(store, PREFIX)
    _reserve(store, OTHER)
    with store.database.write() as session:
        ledger.doom_project(session, PROJECT)
    assert ledger.sweep(store.database, store.local) == 2
    assert _states(store) == {PREFIX: "gone", OTHER: "gone"}
    assert list(store.local.root.iterdir()) == []


def test_one_prefix_that_can_not_be_removed_does_not_hold_up_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    _live(store, OTHER)
    _reserve(store, PREFIX)
    path = store.local.root / (PREFIX + "original")
    path.mkdir(parents=True)  # a folder where a file should be
    _doom(store, PREFIX, OTHER)
    with caplog.at_level(logging.CRITICAL, logger="ownvision.store"):
        assert ledger.sweep(store.database, store.local) == 1
    assert _states(store) == {PREFIX: "doomed", OTHER: "gone"}
    path.rmdir()
    assert ledger.sweep(store.database, store.local) == 1
    assert _states(store) == {PREFIX: "gone", OTHER: "gone"}


def test_a_sweep_takes_no_more_than_its_limit(store: Store) -> None:
    prefixes = [ledger.image_prefix(PROJECT, f"{number:04}") for number in range(1_200)]
    _reserve(store, *prefixes)
    _doom(store, *prefixes)
    assert [ledger.sweep(store.database, store.local, 500) for _ in range(4)] == [500, 500, 200, 0]


def test_the_prefixes_of_one_project_do_not_overlap(tmp_path: Path) -> None:
    id = "0123"
    made = [
        make(PROJECT, id)
        for make in (ledger.image_prefix, ledger.prediction_prefix, ledger.iteration_prefix, ledger.export_prefix)
    ]
    assert len(set(made)) == 4
    assert all(prefix.startswith(f"{PROJECT}/") and prefix[:-1].endswith(f"/{id}") for prefix in made)


@pytest.mark.parametrize("make", [ledger.image_prefix, ledger.prediction_prefix, ledger.iteration_prefix])
@pytest.mark.parametrize("name", ["original", "model.onnx", "embedding-efficientnet_lite0-12345678-f2-p1"])
def test_an_object_s_key_tells_its_prefix(make: Callable[[str, str], str], name: str) -> None:
    prefix = make(PROJECT, new_id())
    assert ledger.prefix_of(prefix + name) == prefix


def test_ids_of_images_share_folders_and_are_all_different() -> None:
    ids = [ledger.new_image_id(PROJECT) for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert 4 <= len({id[:8] for id in ids}) <= 5
