"""Before a training: what it would take, and what is wrong with the data."""

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import ProjectId
from ownvision.api.routes import TheCall, operation, own
from ownvision.api.wire import Json
from ownvision.services import preflight, projects

router = own()
_PREFLIGHT = "/projects/{projectId}/preflight"


class EstimatedPart(Wire):
    """A part of a training: how often it is done, and how many seconds that takes in all."""

    what: str
    count: int
    seconds: float


class TrainingEstimate(Wire):
    """What a training would take, and what that rests on."""

    seconds: float
    memory_bytes: int
    parts: list[EstimatedPart]
    measured: dict[str, float]


class ActualTraining(Wire):
    """What the training that followed took."""

    iteration_id: Guid
    seconds: float


class PreflightFinding(Wire):
    """Something that is wrong with the data, and how sure that is: 0 to 1."""

    kind: str
    sentence: str
    image_ids: list[Guid]
    tag_ids: list[Guid]
    score: float


class Preflight(Wire):
    """A preflight, as far as it is; `counts` has all findings by kind, `findings` at most 200 of each."""

    job_id: Guid
    state: str
    progress: float
    error: str | None
    revision: int | None
    out_of_date: bool
    images: int | None
    refusal: str | None
    estimate: TrainingEstimate | None
    estimate_note: str | None
    trained: ActualTraining | None
    counts: dict[str, int]
    findings: list[PreflightFinding]


@operation(router, "POST", _PREFLIGHT, Preflight, status=(202,))
def start_preflight(call: TheCall, project_id: ProjectId) -> Json:
    """Begin a preflight of the workspace, or join the one under way; what an earlier one found goes."""
    with call.database.write() as session:
        project = projects.get(session, call.account_id, project_id, lock=True)
        preflight.start(session, project)
        return Json(preflight.latest(session, project, call.limits), 202)


@operation(router, "GET", _PREFLIGHT, Preflight)
def get_preflight(call: TheCall, project_id: ProjectId) -> Json:
    """The preflight under way or the last one: the estimate comes first, the findings follow."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        return Json(preflight.latest(session, project, call.limits))
