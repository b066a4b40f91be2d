"""What is held of an account or a project: each kind of data, how much of it there is, and its owner's way with it."""

from ownvision.api.models import Guid, Wire
from ownvision.api.own.holds import HoldRecord, hold_shape
from ownvision.api.parameters import ProjectId
from ownvision.api.routes import Call, TheCall, operation, own
from ownvision.api.wire import Json, seconds
from ownvision.data_rights import census
from ownvision.services import projects

router = own()


class HeldKind(Wire):
    """A kind of data: the data map's row, with what there is of it now."""

    name: str
    what: str
    where: list[str]
    why: str
    kept: str
    days: int | None
    rule: str | None
    oldest: str | None
    count: int | None
    files: int | None
    bytes: int | None
    sealed: bool | None
    view: list[str]
    export: str | None
    delete: list[str]
    note: str | None
    in_original: bool


class DataRecord(Wire):
    """All that is held; `bytes` are of the files as they lie on the disk."""

    account_id: Guid
    project_id: Guid | None
    holds: list[HoldRecord]
    kinds: list[HeldKind]


@operation(router, "GET", "/account/data", DataRecord)
def get_account_data(call: TheCall) -> Json:
    """Every kind of data held of the account, with live counts and bytes, and how to see, take and delete it."""
    return _answer(call, None)


@operation(router, "GET", "/projects/{projectId}/data", DataRecord)
def get_project_data(call: TheCall, project_id: ProjectId) -> Json:
    """Every kind of data held of a project, with live counts and bytes, and how to see, take and delete it."""
    return _answer(call, project_id)


def _answer(call: Call, project_id: str | None) -> Json:
    with call.database.read() as session:
        if project_id is not None:
            projects.get(session, call.account_id, project_id)
        taken = census.take(session, call.components, call.account_id, project_id)
    return Json(
        {
            "accountId": taken.account_id,
            "projectId": taken.project_id,
            "holds": [hold_shape(hold) for hold in taken.holds],
            "kinds": [
                {**held.shape(), "oldest": None if held.oldest is None else seconds(held.oldest)}
                for held in taken.kinds
            ],
        }
    )
