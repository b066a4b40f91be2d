"""What proves an erasure to others: a statement in canonical JSON, chained to the one before, signed with Ed25519.

It is made when nothing of what the receipt names is left: no file, no row, and no freed page of the database that could
hold a copy of one. It holds random ids and counts, no name and no content.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ownvision.data_rights import receipts
from ownvision.store.database import Database
from ownvision.store.keys import KeyStore
from ownvision.store.tables import Backup, Receipt
from ownvision.store.tables.base import now

FORMAT, VERSION = "ownvision-receipt", 1
_RESTORED = (
    "Backups made before this erasure may still hold what was erased. Restoring one replays the journal of erased ids "
    "before the service opens: what this receipt names is erased again."
)


def canonical(value: Any) -> bytes:
    """A statement's one form as bytes (RFC 8785, of objects with ASCII names, whole numbers, texts, truths, null)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def public_key(keys: KeyStore) -> str:
    """The installation's public key: 32 bytes, base64."""
    return _public(keys.signer())


def _public(signer: Ed25519PrivateKey) -> str:
    return base64.b64encode(signer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def sign(database: Database, keys: KeyStore, scrubbed: float) -> int:
    """Sign what is ready, each account's in the order of its chain; returns how many.

    Args:
        database: Where the receipts are.
        keys: With the signing key.
        scrubbed: When the database was last rewritten, seconds since 1970.
    """
    moment = datetime.fromtimestamp(scrubbed, UTC)
    firsts = (
        select(Receipt.account_id, func.min(Receipt.number).label("number"))
        .where(Receipt.state == receipts.OPEN)
        .group_by(Receipt.account_id)
        .subquery()
    )
    waiting = select(Receipt).join(
        firsts, (Receipt.account_id == firsts.c.account_id) & (Receipt.number == firsts.c.number)
    )
    with database.read() as session:
        if not any(_ready(receipt, moment) for receipt in session.scalars(waiting)):
            return 0
    signer = keys.signer()
    count = 0
    with database.write() as session:
        for first in list(session.scalars(waiting)):
            chain = session.scalars(
                select(Receipt)
                .where(Receipt.account_id == first.account_id, Receipt.number >= first.number)
                .order_by(Receipt.number)
            )
            for receipt in chain:
                if not _ready(receipt, moment):
                    break
                _sign(session, receipt, signer)
                count += 1
    return count


def _ready(receipt: Receipt, scrubbed: datetime) -> bool:
    # A receipt of nothing left nothing in the database's pages.
    return receipt.settled is not None and (receipt.settled < scrubbed or not receipt.erased)


def _sign(session: Session, receipt: Receipt, signer: Ed25519PrivateKey) -> None:
    moment = now()
    text = canonical(_statement(session, receipt, _public(signer), moment))
    receipt.state, receipt.signed = receipts.SIGNED, moment
    receipt.statement, receipt.signature = text.decode(), base64.b64encode(signer.sign(text)).decode()
    session.flush()


def _statement(session: Session, receipt: Receipt, key: str, moment: datetime) -> dict[str, Any]:
    before = session.scalar(
        select(Receipt.statement).where(Receipt.account_id == receipt.account_id, Receipt.number == receipt.number - 1)
    )
    settled = receipt.settled or moment
    backup = session.scalar(select(func.max(Backup.made)).where(Backup.made <= settled))
    return {
        "format": FORMAT,
        "version": VERSION,
        "id": receipt.id,
        "account": receipt.account_id,
        "number": receipt.number,
        "previous": None if before is None else digest(before),
        "operation": receipt.operation,
        "key": receipt.key_id,
        "subjects": receipt.subjects,
        "erased": receipt.erased,
        "kept": receipt.kept,
        "learned": receipt.learned,
        "backups": {"newest": None if backup is None else _time(backup), "meaning": _RESTORED},
        "asked": _time(receipt.asked),
        "finished": _time(settled),
        "signed": _time(moment),
        "publicKey": key,
    }


def digest(statement: str) -> str:
    """SHA-256 of a statement, hexadecimal: what the next one of the account names as `previous`."""
    return hashlib.sha256(statement.encode()).hexdigest()


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def document(session: Session, receipt: Receipt) -> dict[str, Any]:
    """A receipt as others see it: its statement and signature, or how far it is."""
    if receipt.state == receipts.SIGNED and receipt.statement is not None:
        statement = json.loads(receipt.statement)
        return {"id": receipt.id, "state": receipts.SIGNED, "statement": statement, "signature": receipt.signature}
    left = receipts.left(session, receipt)
    return {
        "id": receipt.id,
        "state": receipts.OPEN,
        "number": receipt.number,
        "operation": receipt.operation,
        "asked": _time(receipt.asked),
        "subjects": receipt.subjects,
        "erased": receipt.erased,
        "kept": receipt.kept,
        "learned": receipt.learned,
        "left": left,
        "waitsFor": _waits_for(session, receipt, left),
    }


def _waits_for(session: Session, receipt: Receipt, left: int) -> str:
    if left or receipt.settled is None:
        return f"Files and rows are still being removed: {left} places are left."
    earlier = session.scalar(
        select(func.min(Receipt.number)).where(
            Receipt.account_id == receipt.account_id,
            Receipt.number < receipt.number,
            Receipt.state == receipts.OPEN,
            Receipt.settled.is_(None),
        )
    )
    if earlier is not None:
        return f"Nothing of it is left; it is signed after receipt {earlier} of this account, which is not finished."
    return "Nothing of it is left but in freed pages of the database, which is rewritten soon; then it is signed."


@dataclass(frozen=True)
class Verdict:
    """What a check found of one receipt; `wrong` is None where it is in order."""

    id: str
    number: int
    key: str
    wrong: str | None


def verify(documents: Iterable[Mapping[str, Any]], key: str | None = None) -> list[Verdict]:
    """Check signed receipts: each signature, and the chain as far as it is given.

    Args:
        documents: As `document` makes them, in any order.
        key: The public key to hold them to, base64; None: the one that each names.
    """
    given = list(documents)
    texts: dict[tuple[str, int], str] = {}
    for one in given:
        said = one.get("statement")
        if isinstance(said, Mapping) and isinstance(said.get("number"), int):
            texts[str(said.get("account")), said["number"]] = canonical(said).decode()
    verdicts = [_verdict(one, key, texts) for one in given]
    return sorted(verdicts, key=lambda verdict: verdict.number)


def _verdict(one: Mapping[str, Any], key: str | None, texts: Mapping[tuple[str, int], str]) -> Verdict:
    said = one.get("statement")
    if not isinstance(said, Mapping) or said.get("format") != FORMAT or not isinstance(said.get("number"), int):
        state = one.get("state")
        why = "It is not signed yet." if state == receipts.OPEN else "This is no receipt of OwnVision."
        return Verdict(str(one.get("id", "?")), 0, "", why)
    named = str(said.get("publicKey"))

    def found(wrong: str | None) -> Verdict:
        return Verdict(str(said.get("id")), said["number"], named, wrong)

    if said.get("version") != VERSION:
        return found("A newer version of OwnVision made it; update this one.")
    if key is not None and named != key:
        return found("It names another public key than the one given.")
    try:
        signer = Ed25519PublicKey.from_public_bytes(base64.b64decode(key or named, validate=True))
        signer.verify(base64.b64decode(str(one.get("signature")), validate=True), canonical(said))
    except (InvalidSignature, ValueError):
        return found("The signature does not fit: it was altered, or signed with another key.")
    before = texts.get((str(said.get("account")), said["number"] - 1))
    if before is not None and said.get("previous") != digest(before):
        return found(f"It does not follow receipt {said['number'] - 1} that is given.")
    if (said["number"] == 1) != (said.get("previous") is None):
        return found("The chain is broken: only the first receipt of an account has none before it.")
    return found(None)
