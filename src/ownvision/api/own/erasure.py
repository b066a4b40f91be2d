"""Erasing a project or the account with its name typed back, and seeing before what goes; deleting one export."""

from typing import Annotated, Any

from fastapi import Path
from starlette.responses import Response

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import IterationId, ProjectId
from ownvision.api.receipted import address, receipted
from ownvision.api.routes import TheCall, operation, own
from ownvision.api.wire import Json, empty
from ownvision.data_rights import erasure, extent
from ownvision.errors import OwnVisionError
from ownvision.services import accounts, projects
from ownvision.store.tally import Tally

router = own()
ExportId = Annotated[Guid, Path(alias="exportId")]


class GoingData(Wire):
    """How many of a kind go, and how many bytes."""

    kind: str
    count: int
    bytes: int


class ErasurePreview(Wire):
    """What goes when this is erased; `refused` says what stands in the way."""

    name: str
    data: list[GoingData]
    refused: list[str]


class ProjectToErase(Wire):
    """The project's name, typed back."""

    name: str


class AccountToErase(Wire):
    """The account's user name, typed back."""

    user_name: str


class ErasureBegun(Wire):
    """Where the receipt is; it needs no key to be read."""

    receipt: str


_HELD = "A legal hold; lift it first."


def _shape(name: str, going: Tally, refused: list[str]) -> Json:
    data: list[dict[str, Any]] = [{"kind": kind, **amount} for kind, amount in sorted(going.items())]
    return Json({"name": name, "data": data, "refused": refused})


@operation(router, "GET", "/projects/{projectId}/erasure", ErasurePreview)
def get_project_erasure(call: TheCall, project_id: ProjectId) -> Json:
    """What goes when a project is deleted."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        refused = [f"Published as {name!r}; unpublish it first." for name in extent.published(session, project)]
        if extent.held(session, call.account_id, project_id):
            refused.append(_HELD)
        return _shape(project.name, extent.of_project(session, call.components, project), refused)


@operation(router, "DELETE", "/projects/{projectId}", ErasureBegun, status=(202,))
def erase_project(call: TheCall, project_id: ProjectId, confirmation: ProjectToErase) -> Response:
    """Delete a project, its name typed back."""
    with call.database.write() as session:
        project = projects.to_delete(session, call.account_id, project_id)
        _check_typed("name", confirmation.name, project.name)
        receipt = erasure.erase_project(session, call.who, project_id)
    return receipted(call, receipt, Json({"receipt": address(call, receipt)}, 202))


@operation(router, "GET", "/account/erasure", ErasurePreview)
def get_account_erasure(call: TheCall) -> Json:
    """What goes when the account is deleted."""
    with call.database.read() as session:
        account = accounts.get(session, call.account_id)
        refused = [_HELD] if extent.held(session, account.id, None) else []
        return _shape(account.user_name, extent.of_account(session, call.components, account.id), refused)


@operation(router, "DELETE", "/account", ErasureBegun, status=(202,))
def erase_account(call: TheCall, confirmation: AccountToErase) -> Response:
    """Delete the account with all that it holds, its user name typed back; its keys open nothing from then on."""
    with call.database.write() as session:
        _check_typed("userName", confirmation.user_name, accounts.get(session, call.account_id).user_name)
        receipt = erasure.erase_account(session, call.who)
    return receipted(call, receipt, Json({"receipt": address(call, receipt)}, 202))


@operation(router, "DELETE", "/projects/{projectId}/iterations/{iterationId}/exports/{exportId}", None, status=(204,))
def delete_export(call: TheCall, project_id: ProjectId, iteration_id: IterationId, export_id: ExportId) -> Response:
    """Delete one export of an iteration."""
    with call.database.write() as session:
        receipt = erasure.erase_export(session, call.who, project_id, iteration_id, export_id)
    return receipted(call, receipt, empty())


def _check_typed(field: str, typed: str, name: str) -> None:
    """Refuse to erase what was not meant.

    Raises:
        OwnVisionError: BadRequestInvalid.
    """
    if typed != name:
        raise OwnVisionError("BadRequestInvalid", f"{field} is not the name of what is to be erased; type it exactly.")
