"""Takeouts: ask for one, see how far it is, download it by a signed address, remove it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from ownvision.api.models import Guid, Wire
from ownvision.api.routes import Call, TheCall, operation, own
from ownvision.api.wire import Json, empty, seconds
from ownvision.data_rights import retention, takeouts
from ownvision.services import uris
from ownvision.store.tables import Job, Takeout

router = own()
TakeoutId = Annotated[Guid, Path(alias="takeoutId")]
_PATH = "/account/takeouts"


class TakeoutWish(Wire):
    """What to take out: one project, or (without projectId) the whole account."""

    project_id: Guid | None = None


class TakeoutState(Wire):
    """A takeout; once it is done, its address, which works until it expires and without a key."""

    id: Guid
    project_id: Guid | None
    status: str
    progress: float
    error: str | None
    size: int | None
    sha256: str | None
    counts: dict[str, int]
    created: str
    expires: str
    download_uri: str | None


def shapes(call: Call, session: Session, found: Sequence[Takeout]) -> list[dict[str, Any]]:
    """Takeouts as they are shown."""
    jobs = select(Job.subject, Job.progress).where(
        Job.kind == takeouts.KIND, Job.subject.in_([row.id for row in found])
    )
    progress = {job.subject: job.progress for job in session.execute(jobs)}
    settings = call.components.settings
    ends = [retention.ends(session, settings, "takeouts", row.account_id, row.project_id, row.created) for row in found]
    return [_shape(call, row, progress.get(row.id, 0.0), end) for row, end in zip(found, ends, strict=True)]


def _shape(call: Call, row: Takeout, progress: float, ends: datetime) -> dict[str, Any]:
    done = row.status == takeouts.DONE
    return {
        "id": row.id,
        "projectId": row.project_id,
        "status": row.status,
        "progress": 1.0 if done else float(progress),
        "error": row.error,
        "size": row.size,
        "sha256": row.sha256,
        "counts": row.counts,
        "created": seconds(row.created),
        "expires": seconds(ends),
        "downloadUri": call.uri(uris.takeout_path(row.project_id or row.account_id, row.id)) if done else None,
    }


@operation(router, "POST", _PATH, TakeoutState)
def create_takeout(call: TheCall, wish: TakeoutWish | None = None) -> Json:
    """Take out everything of the account, or of one project; the archive is made by a job."""
    project_id = None if wish is None else wish.project_id
    with call.database.write() as session:
        row = takeouts.start(session, call.account_id, project_id)
        (shape,) = shapes(call, session, [row])
    return Json(shape)


@operation(router, "GET", _PATH, list[TakeoutState])
def get_takeouts(call: TheCall) -> Json:
    """The account's takeouts, newest first."""
    with call.database.read() as session:
        return Json(shapes(call, session, takeouts.all(session, call.account_id)))


@operation(router, "GET", f"{_PATH}/{{takeoutId}}", TakeoutState)
def get_takeout(call: TheCall, takeout_id: TakeoutId) -> Json:
    """A takeout and how far it is."""
    with call.database.read() as session:
        (shape,) = shapes(call, session, [takeouts.get(session, call.account_id, takeout_id)])
        return Json(shape)


@operation(router, "DELETE", f"{_PATH}/{{takeoutId}}", None, status=(204,))
def delete_takeout(call: TheCall, takeout_id: TakeoutId) -> Response:
    """Remove a takeout and its archive; one that is being made is cancelled."""
    with call.database.write() as session:
        takeouts.remove(session, takeouts.get(session, call.account_id, takeout_id))
    return empty()
