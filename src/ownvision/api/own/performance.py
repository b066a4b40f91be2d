"""How good an iteration is in detail, at any threshold, and two of them side by side."""

from typing import Annotated

from fastapi import Query

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import IterationId, ProjectId, Skip, Take, page
from ownvision.api.routes import TheCall, operation, own
from ownvision.api.wire import Json
from ownvision.services import performance, projects, quality

router = own()
_ONE = "/projects/{projectId}/iterations/{iterationId}"
_SHOWN = 50  # predictions of one image

Threshold = Annotated[float, Query(ge=0, le=1)]
Overlap = Annotated[float, Query(alias="overlapThreshold", ge=0, le=1)]
Points = Annotated[int, Query(ge=2, le=200)]
With = Annotated[Guid, Query(alias="with")]


class Figures(Wire):
    """Precision, recall and average precision, 0 to 1, each with its standard deviation over folds."""

    precision: float
    precision_std_deviation: float
    recall: float
    recall_std_deviation: float
    average_precision: float
    average_precision_std_deviation: float


class TagFigures(Figures):
    """Of one tag; `count` is how often it occurs."""

    tag_id: Guid
    name: str
    count: int


class Confused(Wire):
    """A cell of the confusion matrix; no tag stands for background, or for none."""

    tag_id: Guid | None
    predicted_tag_id: Guid | None
    count: int


class PerformanceDetail(Figures):
    """Of an iteration, on images that its model had not seen."""

    iteration_id: Guid
    threshold: float
    overlap_threshold: float | None
    images: int
    folds: int
    per_tag: list[TagFigures]
    confusion: list[Confused]


class CurvePoint(Wire):
    """What one threshold gives."""

    threshold: float
    precision: float
    recall: float


class TagCurve(Wire):
    """A precision-recall curve, from the highest threshold to the lowest."""

    tag_id: Guid
    name: str
    points: list[CurvePoint]


class WrongBox(Wire):
    """Where a predicted or a real object is, relative to the upright picture."""

    left: float
    top: float
    width: float
    height: float


class WrongPrediction(Wire):
    """What the model said of an image it had not seen."""

    tag_id: Guid
    tag_name: str
    probability: float
    bounding_box: WrongBox | None


class WrongImage(Wire):
    """An image that the model is wrong about, and how wrong: 0 to 1."""

    image_id: Guid
    error: float
    tag_ids: list[Guid]
    predictions: list[WrongPrediction]


class ComparedTag(Figures):
    """Of one tag."""

    tag_id: Guid
    name: str


class ComparedIteration(Figures):
    """One of two iterations, on the images that both have scores of."""

    iteration_id: Guid
    name: str
    right_images: int
    per_tag: list[ComparedTag]


class Comparison(Wire):
    """Two iterations on the same images, and at most 1,000 of the images that only one of them has right."""

    images: int
    iterations: list[ComparedIteration]
    only_first_right: list[Guid]
    only_second_right: list[Guid]
    only_first_right_count: int
    only_second_right_count: int


@operation(router, "GET", _ONE + "/performance", PerformanceDetail)
def get_performance_detail(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: IterationId,
    threshold: Threshold = performance.THRESHOLD,
    overlap: Overlap = performance.OVERLAP,
) -> Json:
    """Precision, recall and average precision with their spread over folds, and the confusion matrix."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        return Json(quality.detail(session, project, iteration_id, threshold, overlap))


@operation(router, "GET", _ONE + "/performance/curves", list[TagCurve])
def get_performance_curves(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: IterationId,
    overlap: Overlap = performance.OVERLAP,
    points: Points = quality.POINTS,
) -> Json:
    """Each tag's precision-recall curve."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        return Json(quality.curves(session, project, iteration_id, overlap, points))


@operation(router, "GET", _ONE + "/performance/wrong", list[WrongImage])
def get_most_wrong_images(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: IterationId,
    overlap: Overlap = performance.OVERLAP,
    take: Annotated[Take, Query()] = 50,
    skip: Annotated[Skip, Query()] = 0,
) -> Json:
    """The images that an iteration is most wrong about, worst first."""
    page(take, call.limits.page)
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        found = quality.most_wrong(session, project, iteration_id, overlap, take, skip)
    return Json(
        [
            {
                "imageId": view.image.id,
                "error": error,
                "tagIds": sorted({tag_id for tag_id, _, _ in view.tags}),
                "predictions": [
                    {
                        "tagId": one["tagId"],
                        "tagName": one["tagName"],
                        "probability": one["probability"],
                        "boundingBox": one.get("boundingBox"),
                    }
                    for one in sorted(predictions, key=lambda one: -float(one["probability"]))[:_SHOWN]
                ],
            }
            for view, predictions, error in found
        ]
    )


@operation(router, "GET", _ONE + "/compare", Comparison)
def compare_iterations(
    call: TheCall,
    project_id: ProjectId,
    iteration_id: IterationId,
    other: With,
    threshold: Threshold = performance.THRESHOLD,
    overlap: Overlap = performance.OVERLAP,
) -> Json:
    """Two iterations of a project on the images that both have scores of."""
    with call.database.read() as session:
        project = projects.get(session, call.account_id, project_id)
        return Json(quality.compare(session, project, iteration_id, other, threshold, overlap))
