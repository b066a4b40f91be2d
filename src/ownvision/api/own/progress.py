"""How far a training is: steps, loss and hold-out so far, when it should end; stopping it."""

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import IterationId, ProjectId
from ownvision.api.routes import TheCall, operation, own
from ownvision.api.wire import Json, seconds
from ownvision.jobs.handlers import on_failed
from ownvision.services import progress, projects

router = own()
_ONE = "/projects/{projectId}/iterations/{iterationId}"


class TrainingPoint(Wire):
    """A look at a training: the mean loss since the last one, and how well images held out are known."""

    step: int
    steps: int
    loss: float | None
    hold_out: float | None


class TrainingProgress(Wire):
    """A training and its course."""

    iteration_id: Guid
    status: str
    job_id: Guid | None
    state: str | None
    progress: float
    started: str | None
    seconds: float
    seconds_left: float | None
    queued_before: int
    curve: list[TrainingPoint]


@operation(router, "GET", _ONE + "/progress", TrainingProgress)
def get_training_progress(call: TheCall, project_id: ProjectId, iteration_id: IterationId) -> Json:
    """How far a training is, when it should end, and its curve: at most 200 points."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        found = progress.of_iteration(session, project, iteration_id)
    return Json({**found, "started": None if found["started"] is None else seconds(found["started"])})


@operation(router, "POST", _ONE + "/cancel", TrainingProgress)
def cancel_training(call: TheCall, project_id: ProjectId, iteration_id: IterationId) -> Json:
    """Stop a training: at once while it waits, soon when it runs; the iteration has failed then."""
    with call.database.write() as session:
        project = projects.get(session, call.account_id, project_id, lock=True)
        for job in progress.cancel(session, project, iteration_id):
            on_failed(session, job, "Cancelled before it started.")
        found = progress.of_iteration(session, project, iteration_id)
    return Json({**found, "started": None if found["started"] is None else seconds(found["started"])})
