"""What a training tried: the report of advanced training."""

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import IterationId, ProjectId
from ownvision.api.routes import TheCall, operation, own
from ownvision.api.wire import Json
from ownvision.services import iterations, projects

router = own()


class SearchTrial(Wire):
    """One thing that was tried; `score` on images held out, 0 to 1: accuracy, mean AP (Multilabel) or mAP@50."""

    what: str
    score: float | None
    seconds: float
    chosen: bool
    note: str


class IterationSearch(Wire):
    """What a training tried, in order; empty where it was quick training and nothing else."""

    iteration_id: Guid
    training_type: str
    budget_hours: int
    seconds: float
    trials: list[SearchTrial]


@operation(router, "GET", "/projects/{projectId}/iterations/{iterationId}/search", IterationSearch)
def get_iteration_search(call: TheCall, project_id: ProjectId, iteration_id: IterationId) -> Json:
    """What an iteration's training tried, how each attempt did on images held out, and which was chosen."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        iteration = iterations.get(session, project, iteration_id)
        return Json(iterations.searched(iteration))
