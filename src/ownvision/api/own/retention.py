"""For how long each kind of data is kept: by settings, by rules of the account, by rules of a project."""

from typing import Annotated

from fastapi import Query
from sqlalchemy.orm import Session
from starlette.responses import Response

from ownvision.api.models import Wire
from ownvision.api.parameters import ProjectId
from ownvision.api.routes import Call, TheCall, operation, own
from ownvision.api.wire import Json, empty
from ownvision.data_rights import retention
from ownvision.services import projects

router = own()
Kind = Annotated[str, Query(description="Kind of data, as the list names it.")]
_ACCOUNT, _PROJECT = "/account/retention", "/projects/{projectId}/retention"


class Rule(Wire):
    """For how many days a kind of data is to be kept."""

    kind: str
    days: int


class KeptKind(Wire):
    """For how many days a kind is kept, what says so (`project`, `account` or `setting`), and what holds without."""

    kind: str
    days: int
    rule: str
    default: int
    setting: str


@operation(router, "GET", _ACCOUNT, list[KeptKind])
def get_account_retention(call: TheCall) -> Json:
    """For how many days each kind is kept where a project has no rule of its own."""
    return _all(call, None)


@operation(router, "PUT", _ACCOUNT, list[KeptKind])
def put_account_retention(call: TheCall, rule: Rule) -> Json:
    """Set the account's rule for one kind; it holds for what is there already too."""
    return _put(call, None, rule)


@operation(router, "DELETE", _ACCOUNT, None, status=(204,))
def delete_account_retention(call: TheCall, kind: Kind) -> Response:
    """Take the account's rule for one kind away: the setting holds again."""
    return _remove(call, None, kind)


@operation(router, "GET", _PROJECT, list[KeptKind])
def get_project_retention(call: TheCall, project_id: ProjectId) -> Json:
    """For how many days each kind is kept in a project."""
    return _all(call, project_id)


@operation(router, "PUT", _PROJECT, list[KeptKind])
def put_project_retention(call: TheCall, project_id: ProjectId, rule: Rule) -> Json:
    """Set a project's rule for one kind; it holds for what is there already too."""
    return _put(call, project_id, rule)


@operation(router, "DELETE", _PROJECT, None, status=(204,))
def delete_project_retention(call: TheCall, project_id: ProjectId, kind: Kind) -> Response:
    """Take a project's rule for one kind away: the account's holds again, or the setting."""
    return _remove(call, project_id, kind)


def _all(call: Call, project_id: str | None) -> Json:
    with call.database.read() as session:
        _check(call, session, project_id)
        return _shown(call, session, project_id)


def _put(call: Call, project_id: str | None, rule: Rule) -> Json:
    with call.database.write() as session:
        _check(call, session, project_id)
        retention.put(session, call.account_id, project_id, rule.kind, rule.days)
        answer = _shown(call, session, project_id)
    return answer


def _remove(call: Call, project_id: str | None, kind: str) -> Response:
    with call.database.write() as session:
        _check(call, session, project_id)
        retention.remove(session, call.account_id, project_id, kind)
    return empty()


def _check(call: Call, session: Session, project_id: str | None) -> None:
    if project_id is not None:
        projects.get(session, call.account_id, project_id)


def _shown(call: Call, session: Session, project_id: str | None) -> Json:
    kept = retention.effective(session, call.components.settings, call.account_id, project_id)
    return Json(
        [
            {"kind": one.kind, "days": one.days, "rule": one.by, "default": one.default, "setting": one.setting}
            for one in kept
        ]
    )
