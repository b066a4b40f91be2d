"""Accounts: who owns everything, and the four keys that open it."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.limits import TIERS
from ownvision.services import projects, usage
from ownvision.services.components import Components
from ownvision.store import audit, ledger, tally
from ownvision.store.keys import KeyStore
from ownvision.store.tables import Account, ApiKey, Iteration, Project, Receipt, Tag, Usage
from ownvision.store.tables.base import new_id, now

KINDS = ("training", "prediction")
SLOTS = ("primary", "secondary")
_KEY = re.compile(r"[!-~]{16,128}")
# The wire has int32 counts and no word for "unlimited".
_UNLIMITED = 2**31 - 1


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def authenticate(session: Session, key: str, kind: str) -> ApiKey | None:
    """The row of a presented key, or None when no account has such a `kind` (training | prediction) key."""
    return session.scalar(select(ApiKey).where(ApiKey.sha256 == _digest(key), ApiKey.kind == kind))


def get(session: Session, account_id: str) -> Account:
    """One account by id.

    Raises:
        OwnVisionError: NotFoundApimSubscription, when there is none.
    """
    account = session.get(Account, account_id)
    if account is None or account.closed is not None:
        raise OwnVisionError("NotFoundApimSubscription", f"There is no account {account_id}.")
    return account


def all(session: Session) -> list[Account]:
    """Every account, oldest first."""
    return list(session.scalars(select(Account).where(Account.closed.is_(None)).order_by(Account.created)))


def named(session: Session, user_name: str | None) -> Account:
    """The account of that user name; without a name, the only one there is.

    Raises:
        OwnVisionError: NotFoundApimSubscription, with the names there are.
    """
    accounts = all(session)
    matching = [account for account in accounts if user_name in (None, account.user_name)]
    if len(matching) == 1:
        audit.concerns(account_id=matching[0].id)
        return matching[0]
    names = ", ".join(account.user_name for account in accounts) or "none"
    wanted = (
        f"There is no account named {user_name!r}" if user_name else f"There are {len(accounts)} accounts; say which"
    )
    raise OwnVisionError("NotFoundApimSubscription", f"{wanted} (accounts: {names}).")


def create(session: Session, keys: KeyStore, *, user_name: str, email: str, tier: str) -> Account:
    """A new account with its four API keys and its encryption key.

    Raises:
        OwnVisionError: BadRequestInvalid, for an empty or taken name or an unknown tier.
    """
    if tier not in TIERS:
        raise OwnVisionError("BadRequestInvalid", f"There is no tier {tier!r}; use one of {', '.join(TIERS)}.")
    if not user_name.strip() or session.scalar(select(Account.id).where(Account.user_name == user_name)):
        raise OwnVisionError("BadRequestInvalid", f"The account name {user_name!r} is empty or taken; choose another.")
    account_id = new_id()
    account = Account(
        id=account_id,
        user_name=user_name,
        email=email,
        tier=tier,
        prediction_resource_id=(
            f"/subscriptions/{account_id}/resourceGroups/ownvision/providers"
            "/Microsoft.CognitiveServices/accounts/prediction"
        ),
    )
    audit.concerns(account_id=account_id)
    keys.create_account(account_id)
    session.add(account)
    session.flush()
    for kind in KINDS:
        for slot in SLOTS:
            row = ApiKey(account_id=account_id, kind=kind, slot=slot, sha256="", sealed=b"")
            _renew(keys, row)
            session.add(row)
    session.flush()
    return account


def purpose(account_id: str) -> str:
    """What an account's API keys are sealed for."""
    return f"api-key {account_id}"


def _renew(keys: KeyStore, row: ApiKey) -> str:
    key = secrets.token_hex(16)
    row.sha256 = _digest(key)
    row.sealed = keys.seal(key.encode(), purpose(row.account_id))
    row.created = now()
    return key


def rotate(session: Session, keys: KeyStore, account: Account, kind: str, slot: str) -> str:
    """Replace one key; the old one stops working with the commit.

    Raises:
        OwnVisionError: BadRequestInvalid, for an unknown kind or slot.
    """
    row = session.scalar(
        select(ApiKey).where(ApiKey.account_id == account.id, ApiKey.kind == kind, ApiKey.slot == slot)
    )
    if row is None:
        raise OwnVisionError(
            "BadRequestInvalid", f"There is no {kind} key {slot!r}; use {' or '.join(KINDS)} and {' or '.join(SLOTS)}."
        )
    return _renew(keys, row)


def check_keys(session: Session, account: Account, given: Mapping[tuple[str, str], str]) -> None:
    """See that an account can have the keys it had elsewhere.

    Raises:
        OwnVisionError: BadRequestInvalid for what is no key; Conflict, when another account has one of them.
    """
    for kind, slot in ((kind, slot) for kind in KINDS for slot in SLOTS):
        if not _KEY.fullmatch(given.get((kind, slot), "")):
            raise OwnVisionError("BadRequestInvalid", f"The {slot} {kind} key is none that can be used here.")
    digests = [_digest(key) for key in given.values()]
    others = select(ApiKey.id).where(ApiKey.sha256.in_(digests), ApiKey.account_id != account.id)
    if len(set(digests)) != len(digests) or session.scalar(others.limit(1)) is not None:
        raise OwnVisionError("Conflict", "Another account here has one of these keys; import without --with-keys.")


def take_keys(session: Session, keys: KeyStore, account: Account, given: Mapping[tuple[str, str], str]) -> None:
    """Give an account the keys it had elsewhere; those it has stop working with the commit.

    Args:
        session: A write transaction.
        keys: The key store.
        account: Whose.
        given: Each key by kind and slot.

    Raises:
        OwnVisionError: As `check_keys`.
    """
    check_keys(session, account, given)
    mine = list(session.scalars(select(ApiKey).where(ApiKey.account_id == account.id)))
    for row in mine:
        row.sha256 = row.id  # two of them may change places
    session.flush()
    for row in mine:
        key = given[row.kind, row.slot]
        row.sha256, row.sealed, row.created = _digest(key), keys.seal(key.encode(), purpose(account.id)), now()
    session.flush()


def _shown_keys(session: Session, keys: KeyStore, account: Account) -> dict[tuple[str, str], str]:
    rows = session.scalars(select(ApiKey).where(ApiKey.account_id == account.id))
    return {(row.kind, row.slot): keys.open(row.sealed, purpose(account.id)).decode() for row in rows}


def describe(session: Session, keys: KeyStore, account: Account) -> dict[str, Any]:
    """What `ownvision account show` prints."""
    shown = _shown_keys(session, keys, account)
    return {
        "userName": account.user_name,
        "email": account.email,
        "tier": account.tier,
        "trainingKeys": {slot: shown["training", slot] for slot in SLOTS},
        "predictionKeys": {slot: shown["prediction", slot] for slot in SLOTS},
        "predictionResourceId": account.prediction_resource_id,
    }


def info(session: Session, keys: KeyStore, account: Account) -> dict[str, Any]:
    """GetAccountInfo in v1.2's shape, with the tier's quotas and what is used of them."""
    shown = _shown_keys(session, keys, account)
    tier = TIERS[account.tier]
    mine = list(
        session.scalars(
            select(Project)
            .where(Project.account_id == account.id, Project.closed.is_(None))
            .order_by(Project.created.desc())
        )
    )
    predicted = usage.predictions(session, account.id)
    iterations = _count_by_project(session, Iteration, account.id)
    tags = _count_by_project(session, Tag, account.id)

    def quota(total: int | None, used: int) -> dict[str, int]:
        return {"Total": _UNLIMITED if total is None else total, "Used": used}

    def pair(kind: str) -> dict[str, str]:
        return {"PrimaryKey": shown[kind, "primary"], "SecondaryKey": shown[kind, "secondary"]}

    return {
        "UserName": account.user_name,
        "Email": account.email,
        "Keys": {"TrainingKeys": pair("training"), "PredictionKeys": pair("prediction")},
        "Quotas": {
            "Tier": account.tier,
            "Projects": quota(tier.projects, len(mine)),
            "Predictions": quota(tier.predictions_per_month, predicted),
            "PerProject": [
                {
                    "ProjectId": project.id,
                    "Iterations": quota(tier.iterations_per_project, iterations.get(project.id, 0)),
                    "Images": quota(tier.images_per_project, project.image_count),
                    "Tags": quota(tier.tags_per_project, tags.get(project.id, 0)),
                }
                for project in mine
            ],
        },
    }


def _count_by_project(session: Session, table: type[Iteration] | type[Tag], account_id: str) -> dict[str, int]:
    rows = session.execute(
        select(table.project_id, func.count())
        .join(Project, Project.id == table.project_id)
        .where(Project.account_id == account_id)
        .group_by(table.project_id)
    )
    return {row[0]: row[1] for row in rows}


def close(session: Session, account: Account) -> None:
    """Take an account out of everybody's sight: its API keys, names and counts go at once, and its projects close."""
    for project in session.scalars(select(Project).where(Project.account_id == account.id, Project.closed.is_(None))):
        projects.close(session, project)
    for kind, table in (("keys", ApiKey), ("usage", Usage)):
        gone = session.execute(delete(table).where(table.account_id == account.id))
        tally.count(session, kind, gone.rowcount)  # type: ignore[attr-defined]
    account.user_name, account.email, account.closed = f"closed {account.id}", "", now()
    tally.count(session, "accounts", 1)
    ledger.close(session, ledger.ACCOUNT, account.id, account.id)
    session.flush()


def first_start(components: Components) -> Account | None:
    """The installation's first account, made when nothing was ever kept here.

    Returns:
        None where every account was erased: whoever wants a new one says so (`ownvision account create`).
    """
    settings = components.settings
    with components.database.write() as session:
        accounts = all(session)
        if accounts:
            return accounts[0]
        used = session.scalar(select(Account.id).limit(1)) or session.scalar(select(Receipt.id).limit(1))
        if used is not None or next(components.keys.erased(), None) is not None:
            return None
        return create(
            session,
            components.keys,
            user_name=settings.account_name,
            email=settings.account_email,
            tier=settings.tier,
        )
