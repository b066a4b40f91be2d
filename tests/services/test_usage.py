"""Predictions are counted by month: at once where there is a quota, in batches where there is none."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy.exc import OperationalError

from ownvision.errors import OwnVisionError
from ownvision.services import accounts, usage
from ownvision.services.components import Components
from ownvision.store.tables import Account, Usage

Make = Callable[..., usage.Meter]
OFTEN, NEVER = 0.01, 3600.0


@pytest.fixture
def make_meter(house: Components) -> Iterator[Make]:
    """Makes meters that never keep anything unasked, unless told how often; closes them."""
    made: list[usage.Meter] = []

    def make(seconds: float = NEVER) -> usage.Meter:
        made.append(usage.Meter(house.database, seconds))
        return made[-1]

    yield make
    for meter in made:
        meter.close()


def _used(house: Components, account: Account) -> int:
    with house.database.read() as session:
        return usage.predictions(session, account.id)


def _by_thread(house: Components, account: Account, expected: int) -> bool:
    """Whether so many are kept within ten seconds, without anybody asking for it."""
    waiting = threading.Event()
    return any(_used(house, account) == expected or waiting.wait(0.01) for _ in range(1000))


def test_without_a_quota_counts_are_kept_when_flushed(house: Components, account: Account, make_meter: Make) -> None:
    meter = make_meter()
    for _ in range(3):
        meter.count(account.id, None)
    assert _used(house, account) == 0
    meter.flush()
    meter.count(account.id, None)
    meter.flush()
    assert _used(house, account) == 4


def test_a_quota_is_counted_at_once_and_holds(house: Components, account: Account, make_meter: Make) -> None:
    meter = make_meter()
    for _ in range(2):
        meter.count(account.id, 2)
    with pytest.raises(OwnVisionError) as refused:
        meter.count(account.id, 2)
    assert refused.value.code == "BadRequestExceededQuota"
    assert _used(house, account) == 2


def test_counts_are_kept_without_a_further_prediction(house: Components, account: Account, make_meter: Make) -> None:
    make_meter(OFTEN).count(account.id, None)
    assert _by_thread(house, account, 1)


def test_a_prediction_does_not_wait_for_a_writer(house: Components, account: Account, make_meter: Make) -> None:
    meter = make_meter(OFTEN)
    meter.count(account.id, None)
    assert _by_thread(house, account, 1)
    counted = threading.Event()

    def count() -> None:
        for _ in range(20):
            meter.count(account.id, None)
            counted.wait(OFTEN)
        counted.set()

    with house.database.write():
        caller = threading.Thread(target=count)
        caller.start()
        assert counted.wait(10)
    caller.join()
    assert _by_thread(house, account, 21)


def test_counts_that_can_not_be_kept_are_kept_later(house: Components, account: Account, make_meter: Make) -> None:
    def rename(old: str, new: str) -> None:
        with house.database.engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")

    meter = make_meter()
    meter.count(account.id, None)
    rename(Usage.__tablename__, "away")
    with pytest.raises(OperationalError):
        meter.flush()
    meter.count(account.id, None)
    rename("away", Usage.__tablename__)
    meter.flush()
    assert _used(house, account) == 2


def test_a_failure_does_not_end_the_thread(
    house: Components, account: Account, make_meter: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with house.database.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {Usage.__tablename__} RENAME TO away")
    make_meter(OFTEN).count(account.id, None)
    waiting = threading.Event()
    assert any("could not be kept" in caplog.text or waiting.wait(0.01) for _ in range(1000))
    with house.database.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE away RENAME TO {Usage.__tablename__}")
    assert _by_thread(house, account, 1)


def test_a_prediction_counts_for_the_month_in_which_it_was_made(
    house: Components, account: Account, make_meter: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = make_meter()
    monkeypatch.setattr(usage, "now", lambda: datetime(2030, 1, 31, 23, 59, 59, tzinfo=UTC))
    meter.count(account.id, None)
    monkeypatch.setattr(usage, "now", lambda: datetime(2030, 2, 1, tzinfo=UTC))
    meter.count(account.id, None)
    meter.count(account.id, None)
    meter.flush()
    with house.database.read() as session:
        kept = [session.get_one(Usage, (account.id, month)).predictions for month in ("2030-01", "2030-02")]
    assert kept == [1, 2]


def test_closing_keeps_what_was_counted_and_ends_the_thread(
    house: Components, account: Account, make_meter: Make
) -> None:
    meter = make_meter()
    before = threading.active_count()
    meter.count(account.id, None)
    assert threading.active_count() == before + 1
    meter.close()
    assert threading.active_count() == before
    assert _used(house, account) == 1


def test_counts_of_an_account_that_is_gone_are_forgotten(house: Components, account: Account, make_meter: Make) -> None:
    meter = make_meter()
    meter.count("00000000-0000-4000-8000-000000000000", None)
    meter.flush()
    assert _used(house, account) == 0


def test_the_account_s_information_tells_what_is_used(house: Components, account: Account, make_meter: Make) -> None:
    make_meter().count(account.id, 10)
    with house.database.read() as session:
        info = accounts.info(session, house.keys, accounts.get(session, account.id))
    assert info["Quotas"]["Predictions"]["Used"] == 1
