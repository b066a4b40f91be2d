"""Who calls: the key in the header, looked up by its SHA-256 with every request, so that a rotation holds at once."""

from dataclasses import dataclass

from starlette.datastructures import Headers

from ownvision.api.errors import unauthorised
from ownvision.services import accounts
from ownvision.services.components import Components

HEADERS = {"training": "Training-Key", "prediction": "Prediction-Key"}


@dataclass(frozen=True)
class Caller:
    """The account that a key opens."""

    account_id: str
    key_id: str
    tier: str


def authenticate(components: Components, headers: Headers, kind: str) -> Caller:
    """The caller of a request.

    Raises:
        Refused: 401 as the original's gateway says it, for a missing or wrong key or one of the other kind.
    """
    key = headers.get(HEADERS[kind])
    if not key:
        raise unauthorised()
    with components.database.read() as session:
        row = accounts.authenticate(session, key, kind)
        if row is None:
            raise unauthorised()
        return Caller(row.account_id, row.id, accounts.get(session, row.account_id).tier)
