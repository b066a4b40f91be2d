"""Receipts of erasures: read by whoever has the address, listed by the account."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from ownvision.api import models
from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import Skip, Take, page
from ownvision.api.routes import ERROR, Route, TheCall, operation, own
from ownvision.api.wire import Json
from ownvision.data_rights import receipts, signing
from ownvision.services.components import Components

router = own()
# After *Delete your account* there is no key left to show: these need none.
public = APIRouter(route_class=Route, prefix="/receipts", tags=["own"])


class Amount(Wire):
    """How many, and how many bytes as they were stored."""

    count: int
    bytes: int


class Kept(Wire):
    """What an erasure left, and why."""

    kind: str
    count: int
    why: str


class LearnedModel(Wire):
    """A model that had learned from what was erased, and what became of it."""

    iteration_id: Guid
    project_id: Guid
    images: int
    published: bool
    exports: int
    outcome: str


class Backups(Wire):
    """How far back backups reach."""

    newest: str | None
    meaning: str


class Statement(Wire):
    """What is signed, as canonical JSON (RFC 8785)."""

    format: str
    version: int
    id: Guid
    account: Guid
    number: int
    previous: str | None
    operation: str
    key: Guid | None
    subjects: dict[str, list[str]]
    erased: dict[str, Amount]
    kept: list[Kept]
    learned: list[LearnedModel]
    backups: Backups
    asked: str
    finished: str
    signed: str
    public_key: str


class ErasureReceipt(Wire):
    """A receipt: `signed` with its statement and signature, or `open` with what is still to do."""

    id: Guid
    state: str
    statement: Statement | None = None
    signature: str | None = None
    number: int | None = None
    operation: str | None = None
    asked: str | None = None
    subjects: dict[str, list[str]] | None = None
    erased: dict[str, Amount] | None = None
    kept: list[Kept] | None = None
    learned: list[LearnedModel] | None = None
    left: int | None = None
    waits_for: str | None = None


class PublicKey(Wire):
    """The key that signs this installation's receipts: 32 bytes, base64."""

    algorithm: str
    public_key: str


ReceiptId = Annotated[Guid, Path(alias="receiptId")]


@public.get("/key", operation_id="GetReceiptKey", response_model=None, responses={200: {"model": PublicKey}})
def get_receipt_key(request: Request) -> Json:
    """The public key of receipts; it needs no key."""
    components: Components = request.app.state.components
    return Json({"algorithm": "Ed25519", "publicKey": signing.public_key(components.keys)})


@public.get(
    "/{receiptId}",
    operation_id="GetReceipt",
    response_model=None,
    responses={200: {"model": ErasureReceipt}, 404: {"model": models.CustomVisionError}, "default": ERROR["default"]},
)
def get_receipt(request: Request, receipt_id: ReceiptId) -> Json:
    """One receipt, for whoever knows its address; it needs no key."""
    components: Components = request.app.state.components
    with components.database.read() as session:
        return Json(signing.document(session, receipts.get(session, receipt_id)))


@operation(router, "GET", "/receipts", list[ErasureReceipt])
def get_receipts(call: TheCall, take: Take = 50, skip: Skip = 0) -> Json:
    """The account's receipts, newest first."""
    page(take, call.limits.page)
    with call.database.read() as session:
        found: list[dict[str, Any]] = [
            signing.document(session, row) for row in receipts.all(session, call.account_id, take=take, skip=skip)
        ]
    return Json(found)
