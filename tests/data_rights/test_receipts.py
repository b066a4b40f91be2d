"""Receipts: when they are signed, in which order, and what a check of them finds."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ownvision.data_rights import receipts, scrubbing, signing
from ownvision.services.components import Components
from ownvision.store import ledger, tally
from ownvision.store.keys import KeyStore
from ownvision.store.tables import Backup, Receipt
from ownvision.store.tables.base import now
from tests.services import trained as t

ACCOUNT = "a0000000-0000-4000-8000-000000000000"
Document = dict[str, Any]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    components = t.open_house(tmp_path / "data")
    yield components
    components.database.close()


def _erase(house: Components, prefix: str | None = None, account: str = ACCOUNT) -> str:
    """A receipt; with a prefix of bytes that it erases."""
    if prefix is not None:
        ledger.reserve(house.database, [(prefix, "image", account, "p")])
    with house.database.write() as session:
        receipt = receipts.begin(session, account, "DeleteImages", None, {"images": ["i"]})
        if prefix is not None:
            receipts.count(receipt, "images", 1)
            ledger.doom(session, [prefix])
    return receipt.id


def _document(house: Components, receipt_id: str) -> Document:
    with house.database.read() as session:
        return signing.document(session, receipts.get(session, receipt_id))


def _sweep(house: Components) -> None:
    ledger.sweep(house.database, house.blobs.store)
    receipts.settle(house.database)


def _sign(house: Components) -> int:
    return signing.sign(house.database, house.keys, scrubbing.scrubbed(house.settings.data))


def _chain(house: Components, length: int) -> list[Document]:
    made = [_erase(house, f"p/images/x/{number}/") for number in range(length)]
    _sweep(house)
    assert scrubbing.scrub(house.database, house.settings.data)
    assert _sign(house) == length
    return [_document(house, id) for id in made]


def test_a_receipt_is_signed_only_when_bytes_are_gone_and_the_database_is_rewritten(house: Components) -> None:
    made = _erase(house, "p/images/x/1/")
    assert _document(house, made)["left"] == 1
    assert scrubbing.scrub(house.database, house.settings.data)  # too early
    receipts.settle(house.database)
    assert _sign(house) == 0
    _sweep(house)
    assert _sign(house) == 0
    waiting = _document(house, made)
    assert (waiting["state"], waiting["left"]) == ("open", 0)
    assert "freed pages" in waiting["waitsFor"]
    assert scrubbing.scrub_due(house.database, house.settings.data, 0.0)
    assert scrubbing.scrub(house.database, house.settings.data)
    assert not scrubbing.scrub_due(house.database, house.settings.data, 0.0)
    assert _sign(house) == 1
    assert _document(house, made)["state"] == "signed"


def test_receipts_of_an_account_are_signed_in_the_order_of_their_chain(house: Components) -> None:
    slow = _erase(house, "p/images/x/1/")
    with house.database.write() as session:  # what lies there can't be removed yet
        session.get_one(ledger.Blob, "p/images/x/1/").due = now() + timedelta(hours=1)
    fast = _erase(house, "p/images/x/2/")
    other = _erase(house, "q/images/x/3/", account="b")
    _sweep(house)
    assert scrubbing.scrub(house.database, house.settings.data)
    assert _sign(house) == 1
    assert [_document(house, id)["state"] for id in (slow, fast, other)] == ["open", "open", "signed"]
    assert "after receipt 1" in _document(house, fast)["waitsFor"]
    with house.database.write() as session:
        session.get_one(ledger.Blob, "p/images/x/1/").due = now()
    _sweep(house)
    assert scrubbing.scrub(house.database, house.settings.data)
    assert _sign(house) == 2
    found = signing.verify([_document(house, id) for id in (fast, slow)], signing.public_key(house.keys))
    assert [(one.number, one.wrong) for one in found] == [(1, None), (2, None)]


def test_a_receipt_of_nothing_needs_no_rewriting(house: Components) -> None:
    made = _erase(house)
    receipts.settle(house.database)
    assert not scrubbing.scrub_due(house.database, house.settings.data, 0.0)
    assert _sign(house) == 1
    assert _document(house, made)["statement"]["erased"] == {}


def test_rewriting_for_receipts_rests_for_longer_than_it_takes(house: Components) -> None:
    _erase(house, "p/images/x/1/")
    _sweep(house)
    data = house.settings.data
    for ago, took, due in ((100.0, 1.0, True), (100.0, 10.0, False), (30.0, 0.1, False)):
        (data / "scrubbed").write_text(f"{datetime.now(UTC).timestamp() - ago}\n{took}\n")
        with house.database.write() as session:
            session.query(Receipt).update({"settled": now() - timedelta(seconds=20)})
        assert scrubbing.scrub_due(house.database, data, 60.0) is due


def test_a_statement_names_the_newest_backup_before_it_and_holds_its_own_key(house: Components) -> None:
    moments = [now() - timedelta(days=2), now() - timedelta(days=1), now() + timedelta(days=1)]
    with house.database.write() as session:
        session.add_all(Backup(made=moment) for moment in moments)
    (signed,) = _chain(house, 1)
    said = signed["statement"]
    assert said["backups"]["newest"][:19] == moments[1].isoformat()[:19]
    assert said["publicKey"] == signing.public_key(house.keys)
    assert (said["account"], said["number"], said["previous"], said["key"]) == (ACCOUNT, 1, None, None)
    assert said["erased"] == {"images": {"bytes": 0, "count": 1}}
    assert said["asked"] <= said["finished"] <= said["signed"]


def _altered(change: Callable[[Document], Any]) -> Callable[[list[Document]], list[Document]]:
    def spoil(chain: list[Document]) -> list[Document]:
        change(chain[1]["statement"])
        return chain

    return spoil


SPOILT: dict[str, tuple[Callable[[list[Document]], list[Document]], dict[int, str]]] = {
    "nothing": (lambda chain: chain, {}),
    "the order they are given in": (lambda chain: chain[::-1], {}),
    "one is missing": (lambda chain: [chain[0], chain[2]], {}),
    "a count": (_altered(lambda said: said["erased"]["images"].update(count=2)), {2: "signature", 3: "follow"}),
    "why something was kept": (_altered(lambda said: said["kept"].append({})), {2: "signature", 3: "follow"}),
    "a field more": (_altered(lambda said: said.update(more=1)), {2: "signature", 3: "follow"}),
    "its key": (_altered(lambda said: said.update(publicKey="x")), {2: "another public key", 3: "follow"}),
    "its version": (_altered(lambda said: said.update(version=2)), {2: "newer version", 3: "follow"}),
    "a signature": (
        lambda chain: [chain[0], {**chain[1], "signature": chain[2]["signature"]}, chain[2]],
        {2: "signature"},
    ),
    "no signature": (lambda chain: [{**chain[0], "signature": None}], {1: "signature"}),
    "it is something else": (lambda chain: [{"id": "x"}], {0: "no receipt"}),
    "it is open": (lambda chain: [{"id": "x", "state": "open"}], {0: "not signed yet"}),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_check_finds_what_was_altered(house: Components, what: str) -> None:
    spoil, wrong = SPOILT[what]
    chain = json.loads(json.dumps(_chain(house, 3)))
    verdicts = signing.verify(spoil(chain), signing.public_key(house.keys))
    found = {verdict.number: verdict.wrong for verdict in verdicts if verdict.wrong}
    assert set(found) == set(wrong)
    assert all(words in found[number] for number, words in wrong.items())


def test_another_installation_s_key_does_not_fit(house: Components, tmp_path: Path) -> None:
    other = signing.public_key(KeyStore(tmp_path / "other"))
    (verdict,) = signing.verify(_chain(house, 1), other)
    assert verdict.wrong is not None
    assert "another public key" in verdict.wrong
    assert signing.verify(_chain(house, 1))[0].wrong is None


def test_the_canonical_form_is_that_of_rfc_8785() -> None:
    value = {"b": [1, True, None], "a": 'ä\u2028\u0007"', "A": {}}
    assert signing.canonical(value) == '{"A":{},"a":"ä\u2028\\u0007\\"","b":[1,true,null]}'.encode()


def test_the_signing_key_is_made_once_and_kept(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path)
    first = signing.public_key(keys)
    assert signing.public_key(KeyStore(tmp_path)) == first
    assert keys.strangers() == []


def test_the_receipt_in_the_documentation_is_in_order() -> None:
    page = (Path(__file__).parents[2] / "docs/erasure.md").read_text()
    example = json.loads(page.partition("```json\n")[2].partition("```")[0])
    (verdict,) = signing.verify([example])
    assert verdict.wrong is None
    assert f"/receipts/{verdict.id}" in page


@pytest.mark.parametrize("kind", tally.KINDS)
def test_every_kind_that_is_counted_stands_in_the_documentation(kind: str) -> None:
    assert f"| `{kind}` | {tally.KINDS[kind]} |" in (Path(__file__).parents[2] / "docs/erasure.md").read_text()
