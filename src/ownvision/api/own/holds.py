"""Legal holds: what may not be erased, and since when."""

from typing import Annotated, Any

from fastapi import Path
from starlette.responses import Response

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import ProjectId
from ownvision.api.routes import Call, TheCall, operation, own
from ownvision.api.wire import Json, empty, seconds
from ownvision.data_rights import holds
from ownvision.services import projects
from ownvision.store.tables import LegalHold

router = own()
HoldId = Annotated[Guid, Path(alias="holdId")]
_ACCOUNT, _PROJECT = "/account/holds", "/projects/{projectId}/holds"


class HoldPlacing(Wire):
    """Why nothing may be erased."""

    reason: str


class HoldRecord(Wire):
    """A legal hold; without a project it is on the whole account."""

    id: Guid
    project_id: Guid | None
    reason: str
    created: str


def hold_shape(hold: LegalHold) -> dict[str, Any]:
    """A hold in the wire's shape."""
    return {
        "id": hold.id,
        "projectId": hold.project_id,
        "reason": hold.reason,
        "created": seconds(hold.created),
    }


@operation(router, "POST", _ACCOUNT, HoldRecord)
def place_account_hold(call: TheCall, placing: HoldPlacing) -> Json:
    """From now on nothing of the account is erased, by nobody and no rule, until the hold is lifted."""
    return _place(call, None, placing.reason)


@operation(router, "GET", _ACCOUNT, list[HoldRecord])
def get_account_holds(call: TheCall) -> Json:
    """Every hold in the account, those on single projects too, oldest first."""
    return _all(call, None)


@operation(router, "DELETE", f"{_ACCOUNT}/{{holdId}}", None, status=(204,))
def lift_account_hold(call: TheCall, hold_id: HoldId) -> Response:
    """Lift a hold, on the account or on one of its projects."""
    return _lift(call, None, hold_id)


@operation(router, "POST", _PROJECT, HoldRecord)
def place_project_hold(call: TheCall, project_id: ProjectId, placing: HoldPlacing) -> Json:
    """From now on nothing of the project is erased, by nobody and no rule, until the hold is lifted."""
    return _place(call, project_id, placing.reason)


@operation(router, "GET", _PROJECT, list[HoldRecord])
def get_project_holds(call: TheCall, project_id: ProjectId) -> Json:
    """The holds on a project, its account's among them, oldest first."""
    return _all(call, project_id)


@operation(router, "DELETE", f"{_PROJECT}/{{holdId}}", None, status=(204,))
def lift_project_hold(call: TheCall, project_id: ProjectId, hold_id: HoldId) -> Response:
    """Lift a hold on the project; one on the whole account is lifted there."""
    return _lift(call, project_id, hold_id)


def _place(call: Call, project_id: str | None, reason: str) -> Json:
    with call.database.write() as session:
        if project_id is not None:
            projects.get(session, call.account_id, project_id)
        shape = hold_shape(holds.place(session, call.account_id, project_id, reason))
    return Json(shape)


def _all(call: Call, project_id: str | None) -> Json:
    with call.database.read() as session:
        if project_id is not None:
            projects.get(session, call.account_id, project_id)
        return Json([hold_shape(hold) for hold in holds.all(session, call.account_id, project_id)])


def _lift(call: Call, project_id: str | None, hold_id: str) -> Response:
    with call.database.write() as session:
        if project_id is not None:
            projects.get(session, call.account_id, project_id)
        holds.lift(session, call.account_id, project_id, hold_id)
    return empty()
