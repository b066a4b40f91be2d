"""The account's audit trail: a page of it, or all of it as JSON Lines."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response, StreamingResponse

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import OptionalGuid, page
from ownvision.api.routes import TheCall, operation, own
from ownvision.api.wire import Json
from ownvision.data_rights import audit
from ownvision.data_rights.actions import CHANGE, DELETE, EXPORT, VIEW
from ownvision.errors import OwnVisionError

router = own()
LINES = "application/x-ndjson"
_MOST = 1_000
_ACTIONS = (VIEW, EXPORT, CHANGE, DELETE)
Word = Annotated[str | None, Query(max_length=64)]


class AuditRecord(Wire):
    """Who did what, when; an id that does not apply is left out."""

    seq: int
    at: str
    actor: str
    action: str
    operation: str
    project_id: Guid | None = None
    target: str | None = None
    count: int
    request_id: str | None = None


class AuditPage(Wire):
    """Events, newest first; `next` as `before` gives the following page."""

    events: list[AuditRecord]
    next: int | None


@operation(router, "GET", "/account/audit", AuditPage)
def get_audit(
    call: TheCall,
    request: Request,
    since: Annotated[datetime | None, Query(alias="from")] = None,
    until: Annotated[datetime | None, Query(alias="to")] = None,
    action: Word = None,
    project_id: Annotated[OptionalGuid, Query(alias="projectId")] = None,
    actor: Word = None,
    operation: Word = None,
    target: Word = None,
    take: Annotated[int, Query(ge=1)] = 100,
    before: int | None = None,
) -> Response:
    """Who viewed, exported, changed or deleted what, newest first; all of it, oldest first, as application/x-ndjson."""
    if action is not None and action not in _ACTIONS:
        raise OwnVisionError("BadRequest", f"action is one of {', '.join(_ACTIONS)}, not {action!r}.")
    wanted = audit.Wanted(_utc(since), _utc(until), action, project_id, actor, operation, target)
    if LINES in request.headers.get("accept", ""):
        lines = audit.lines(call.database, call.account_id, wanted)
        return StreamingResponse(_encoded(lines), 200, {"Cache-Control": "no-store"}, LINES)
    with call.database.read() as session:
        events, after = audit.page(session, call.account_id, wanted, page(take, _MOST), before)
    return Json({"events": [audit.shape(row) for row in events], "next": after})


def _encoded(lines: Iterator[str]) -> Iterator[bytes]:
    return (line.encode() for line in lines)


def _utc(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
