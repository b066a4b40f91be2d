"""Live learning: switching it on, and the draft that follows while images are tagged."""

from typing import Annotated, Any

from fastapi import Query

from ownvision.api import models
from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import ProjectId, Take, page
from ownvision.api.routes import Call, TheCall, operation, own
from ownvision.api.wire import Json, seconds
from ownvision.data_rights import holds
from ownvision.errors import OwnVisionError
from ownvision.services import drafts, iterations, projects, training, uris
from ownvision.wire import shapes

router = own()
_DRAFT = "/projects/{projectId}/draft"


class LiveLearning(Wire):
    """Whether a draft follows each change of the project's images and tags."""

    enabled: bool


class DraftScore(Wire):
    """How good the draft is, by images that it had not learned from (out of fold), at a threshold of 0.5."""

    images: int
    accuracy: float
    precision: float
    precision_std_deviation: float
    recall: float
    recall_std_deviation: float
    average_precision: float


class DraftTag(Wire):
    """The same of one tag."""

    id: Guid
    name: str
    images: int
    precision: float
    recall: float
    average_precision: float


class WaitingTag(Wire):
    """A tag that is not learned yet, since it has too few images."""

    id: Guid
    name: str
    images: int
    needed: int


class DraftState(Wire):
    """off, learning, behind, fresh, waiting or failed; the last two say why. `revision` is the draft's."""

    project_id: Guid
    enabled: bool
    state: str
    reason: str | None
    revision: int | None
    workspace_revision: int
    learned: str | None
    score: DraftScore | None
    per_tag: list[DraftTag]
    waiting_tags: list[WaitingTag]
    suggestions_complete: bool


class SuggestedTag(Wire):
    """A tag and how probable it is."""

    tag_id: Guid
    tag_name: str
    probability: float


class SuggestedImage(Wire):
    """An untagged image, how unsure the draft is of it (entropy, bits), and its most probable tags."""

    id: Guid
    width: int
    height: int
    thumbnail_uri: str
    original_image_uri: str
    prediction_uncertainty: float
    predictions: list[SuggestedTag]


class DraftSuggestions(Wire):
    """A page of suggestions; `continuation` leads to the next, and is null on the last."""

    images: list[SuggestedImage]
    continuation: str | None


class IterationWish(Wire):
    """What the iteration is to be called; default: Iteration N."""

    name: str | None = None


@operation(router, "PUT", "/projects/{projectId}/live-learning", LiveLearning)
def put_live_learning(call: TheCall, project_id: ProjectId, wish: LiveLearning) -> Json:
    """Switch live learning on or off; with off the draft goes."""
    with call.database.write() as session:
        project = projects.get(session, call.account_id, project_id, lock=True)
        if wish.enabled:
            drafts.switch_on(session, project)
        else:
            holds.check(session, project.account_id, project.id)
            drafts.switch_off(session, project)
    return Json({"enabled": wish.enabled})


@operation(router, "GET", _DRAFT, DraftState)
def get_draft(call: TheCall, project_id: ProjectId) -> Json:
    """How far the draft is, and how good."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        shape = drafts.shape(session, project, call.limits)
    return Json({**shape, "learned": None if shape["learned"] is None else seconds(shape["learned"])})


@operation(router, "GET", f"{_DRAFT}/suggestions", DraftSuggestions)
def get_draft_suggestions(
    call: TheCall,
    project_id: ProjectId,
    take: Annotated[Take, Query()] = 50,
    sort_by: Annotated[str, Query(alias="sortBy")] = drafts.ASCENDING,
    continuation: Annotated[str | None, Query()] = None,
) -> Json:
    """What the draft suggests for untagged images, the surest first, or (UncertaintyDescending) the most doubtful."""
    page(take, call.limits.page)
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        found, following = drafts.suggestions(session, project, take=take, sort_by=sort_by, continuation=continuation)
        images = [_suggested(call, one) for one in found]
    return Json({"images": images, "continuation": following})


@operation(router, "POST", f"{_DRAFT}/iteration", models.Iteration, status=(202,))
def create_draft_iteration(call: TheCall, project_id: ProjectId, wish: IterationWish | None = None) -> Json:
    """Make the draft an iteration: the workspace as it is, trained as always, from embeddings that are there."""
    with call.database.write() as session:
        project = projects.get(session, call.account_id, project_id, lock=True)
        if drafts.of(session, project) is None:
            raise OwnVisionError("NotFound", f"Live learning of project {project_id} is off; switch it on, or train.")
        iteration = training.start(
            session,
            project,
            training_type=None,
            budget_hours=0,
            force=False,
            selected_tags=[],
            custom_base=None,
            limits=call.limits,
            tier=call.tier,
            email=None,
        )
        if wish is not None and wish.name is not None:
            iterations.update(session, project, iteration.id, name=wish.name, default=None, limits=call.limits)
        shape = shapes.iteration(iteration, call.version)
    return Json(shape, 202)


def _suggested(call: Call, one: drafts.Suggestion) -> dict[str, Any]:
    row = one.image
    return {
        "id": row.id,
        "width": row.width,
        "height": row.height,
        "thumbnailUri": call.uri(uris.image_path(row.project_id, row.id, uris.THUMBNAIL)),
        "originalImageUri": call.uri(uris.image_path(row.project_id, row.id, uris.ORIGINAL)),
        "predictionUncertainty": one.uncertainty,
        "predictions": [
            {"tagId": tag.id, "tagName": tag.name, "probability": probability} for tag, probability in one.tags
        ],
    }
