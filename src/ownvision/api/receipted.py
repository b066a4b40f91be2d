"""Answers that name the receipt of what they erased."""

from starlette.responses import Response

from ownvision.api.routes import Call
from ownvision.data_rights import erasure
from ownvision.store.tables import Receipt

HEADER = "OwnVision-Receipt"


def address(call: Call, receipt: Receipt) -> str:
    """Where a receipt can be read, without a key."""
    base = (call.components.settings.public_url or call.base_url).rstrip("/")
    return f"{base}/receipts/{receipt.id}"


def receipted(call: Call, receipt: Receipt, answer: Response) -> Response:
    """An answer to a call whose erasure is committed."""
    erasure.after_commit(call.components, receipt)
    answer.headers[HEADER] = address(call, receipt)
    return answer
