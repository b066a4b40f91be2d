"""GetAccountInfo, which only v1 has: names, keys, quotas and what is used of them."""

from ownvision.api import models
from ownvision.api.routes import TheCall, operation, training
from ownvision.api.wire import Json
from ownvision.services import accounts

router = training("account")


@operation(router, "GET", "/account", models.Account)
def get_account_info(call: TheCall) -> Json:
    """Get basic information about your account."""
    call.meter.flush()
    with call.database.read() as session:
        account = accounts.get(session, call.account_id)
        return call.json(accounts.info(session, call.components.keys, account))
