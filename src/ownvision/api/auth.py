"""Who calls: the key in the header, looked up by its SHA-256; a rotation holds with the next request (see `memo`)."""

import hashlib
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from ownvision.api.errors import unauthorised
from ownvision.api.memo import Memo
from ownvision.services import accounts
from ownvision.services.components import Components
from ownvision.wire.versions import Version

HEADERS = {"training": "Training-Key", "prediction": "Prediction-Key"}


@dataclass(frozen=True)
class Caller:
    """The account that a key opens."""

    account_id: str
    key_id: str
    tier: str


async def authenticate(components: Components, memo: Memo, headers: Headers, version: Version) -> Caller:
    """The caller of a request.

    Raises:
        Refused: 401 as the original's gateway says it, for a missing or wrong key or one of the other kind.
    """
    kind = version.api
    key = headers.get(HEADERS[kind])
    if not key:
        raise unauthorised(version)
    # Remembered by its hash: no key lies about in memory for longer than its request.
    name = ("caller", kind, hashlib.sha256(key.encode()).digest())
    known: Caller | None = memo.peek(name)
    if known is None:
        known = await run_in_threadpool(memo.get, name, lambda: _look_up(components, key, version))
    return known


def _look_up(components: Components, key: str, version: Version) -> Caller:
    with components.database.read() as session:
        row = accounts.authenticate(session, key, version.api)
        if row is None:
            raise unauthorised(version)
        return Caller(row.account_id, row.id, accounts.get(session, row.account_id).tier)
