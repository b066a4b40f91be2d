"""Predictions are counted by month: at once where there is a quota, in batches where there is none."""

import pytest

from ownvision.errors import OwnVisionError
from ownvision.services import accounts, usage
from ownvision.services.components import Components
from ownvision.store.tables import Account


def _used(house: Components, account: Account) -> int:
    with house.database.read() as session:
        return usage.predictions(session, account.id)


def test_without_a_quota_counts_are_kept_when_flushed(house: Components, account: Account) -> None:
    meter = usage.Meter(house.database)
    for _ in range(3):
        meter.count(account.id, None)
    assert _used(house, account) == 0
    meter.flush()
    meter.count(account.id, None)
    meter.flush()
    assert _used(house, account) == 4


def test_a_quota_is_counted_at_once_and_holds(house: Components, account: Account) -> None:
    meter = usage.Meter(house.database)
    for _ in range(2):
        meter.count(account.id, 2)
    with pytest.raises(OwnVisionError) as refused:
        meter.count(account.id, 2)
    assert refused.value.code == "BadRequestExceededQuota"
    assert _used(house, account) == 2


def test_counts_of_an_account_that_is_gone_are_forgotten(house: Components, account: Account) -> None:
    meter = usage.Meter(house.database)
    meter.count("00000000-0000-4000-8000-000000000000", None)
    meter.flush()
    assert _used(house, account) == 0


def test_the_account_s_information_tells_what_is_used(house: Components, account: Account) -> None:
    meter = usage.Meter(house.database)
    meter.count(account.id, 10)
    with house.database.read() as session:
        info = accounts.info(session, house.keys, accounts.get(session, account.id))
    assert info["Quotas"]["Predictions"]["Used"] == 1
