"""One project's life, step by step, every step a call of the official SDK."""

import time
from collections.abc import Sequence
from typing import Any

from azure.cognitiveservices.vision.customvision.prediction import CustomVisionPredictionClient
from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient
from azure.cognitiveservices.vision.customvision.training.models import (
    ImageFileCreateBatch,
    ImageFileCreateEntry,
    Region,
)
from msrest.authentication import ApiKeyCredentials
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ownvision.client.local import Running
from ownvision.demo.pictures import Box, Picture

BATCH = 64
PUBLISH_NAME = "demo"
console = Console()


def clients(service: Running) -> tuple[CustomVisionTrainingClient, CustomVisionPredictionClient]:
    """The SDK's two clients; only endpoint and keys tell them from ones of the original service."""
    training = ApiKeyCredentials(in_headers={"Training-key": service.training_key})
    prediction = ApiKeyCredentials(in_headers={"Prediction-key": service.prediction_key})
    return (
        CustomVisionTrainingClient(service.endpoint, training),
        CustomVisionPredictionClient(service.endpoint, prediction),
    )


def create(trainer: CustomVisionTrainingClient, name: str, kind: str, domain_name: str) -> Any:
    """A project of the domain with that name and type (Classification or ObjectDetection)."""
    domain = next(row for row in trainer.get_domains() if row.type == kind and row.name == domain_name)
    multiclass = {"classification_type": "Multiclass"} if kind == "Classification" else {}
    project = trainer.create_project(name, domain_id=domain.id, **multiclass)
    console.print(f"Created project [bold]{name}[/bold] ({kind}, {domain_name}).")
    return project


def upload(trainer: CustomVisionTrainingClient, project: Any, pictures: Sequence[Picture]) -> None:
    """Upload with tags or boxes, in batches of 64.

    Raises:
        RuntimeError: when the service refuses a picture.
    """
    names = sorted(
        {picture.tag for picture in pictures if picture.tag} | {box.tag for p in pictures for box in p.boxes}
    )
    tags = {name: trainer.create_tag(project.id, name).id for name in names}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(f"Uploading images of {len(tags)} tags", total=len(pictures))
        for start in range(0, len(pictures), BATCH):
            batch = pictures[start : start + BATCH]
            entries = [_entry(picture, tags) for picture in batch]
            summary = trainer.create_images_from_files(project.id, ImageFileCreateBatch(images=entries))
            refused = [row.status for row in summary.images if not row.status.startswith("OK")]
            if refused:
                raise RuntimeError(f"{len(refused)} images were refused: {', '.join(sorted(set(refused)))}.")
            progress.advance(bar, len(batch))


def _entry(picture: Picture, tags: dict[str, Any]) -> ImageFileCreateEntry:
    return ImageFileCreateEntry(
        name=picture.name,
        contents=picture.data,
        tag_ids=[tags[picture.tag]] if picture.tag else None,
        regions=[
            Region(tag_id=tags[box.tag], left=box.left, top=box.top, width=box.width, height=box.height)
            for box in picture.boxes
        ]
        or None,
    )


def train(trainer: CustomVisionTrainingClient, project: Any) -> Any:
    """Train and wait for the iteration.

    Raises:
        RuntimeError: when it fails, with its reason.
    """
    iteration = trainer.train_project(project.id)
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as progress:
        progress.add_task(f"Training {iteration.name}", total=None)
        while iteration.status == "Training":
            time.sleep(0.3)
            iteration = trainer.get_iteration(project.id, iteration.id)
    if iteration.status != "Completed":
        raise RuntimeError(f"{iteration.name} ended {iteration.status}: {iteration.training_error_details}")
    return iteration


def show_performance(trainer: CustomVisionTrainingClient, project: Any, iteration: Any) -> None:
    """Print precision, recall and average precision per tag, from images that the model had not seen."""
    performance = trainer.get_iteration_performance(project.id, iteration.id, threshold=0.5, overlap_threshold=0.3)
    table = Table("tag", "precision", "recall", "AP", title=f"{project.name}, {iteration.name}")
    for row in sorted(performance.per_tag_performance, key=lambda row: str(row.name)):
        table.add_row(row.name, *_percentages(row))
    table.add_section()
    table.add_row("all", *_percentages(performance))
    console.print(table)


def _percentages(row: Any) -> list[str]:
    return [f"{100 * (value or 0):.1f} %" for value in (row.precision, row.recall, row.average_precision)]


def publish(trainer: CustomVisionTrainingClient, project: Any, iteration: Any, service: Running) -> None:
    """Give the iteration the name that the prediction API answers to."""
    trainer.publish_iteration(project.id, iteration.id, PUBLISH_NAME, service.resource_id)
    console.print(f"Published {iteration.name} as {PUBLISH_NAME!r}.")


def accuracy(predictor: CustomVisionPredictionClient, project: Any, pictures: Sequence[Picture]) -> float:
    """Share of held-out pictures whose most probable tag is theirs."""
    started = time.perf_counter()
    right = 0
    for picture in pictures:
        answer = predictor.classify_image_with_no_store(project.id, PUBLISH_NAME, picture.data)
        right += answer.predictions[0].tag_name == picture.tag
    each = (time.perf_counter() - started) / len(pictures)
    share = right / len(pictures)
    console.print(
        f"Accuracy on {len(pictures)} held-out images: [bold]{100 * share:.1f} %[/bold] ({1000 * each:.0f} ms each)"
    )
    return share


def mean_average_precision(predictor: CustomVisionPredictionClient, project: Any, pictures: Sequence[Picture]) -> float:
    """mAP@50 over held-out scenes."""
    found: dict[str, list[tuple[float, int, Box]]] = {}
    for number, picture in enumerate(pictures):
        for row in predictor.detect_image_with_no_store(project.id, PUBLISH_NAME, picture.data).predictions:
            box = row.bounding_box
            place = Box(row.tag_name, box.left, box.top, box.width, box.height)
            found.setdefault(row.tag_name, []).append((row.probability, number, place))
    truth = [list(picture.boxes) for picture in pictures]
    tags = sorted({box.tag for boxes in truth for box in boxes})
    value = sum(average_precision(found.get(tag, []), _of_tag(truth, tag)) for tag in tags) / len(tags)
    console.print(f"mAP@50 on {len(pictures)} held-out scenes: [bold]{100 * value:.1f} %[/bold]")
    return value


def _of_tag(truth: list[list[Box]], tag: str) -> list[list[Box]]:
    return [[box for box in boxes if box.tag == tag] for boxes in truth]


def average_precision(found: list[tuple[float, int, Box]], truth: list[list[Box]]) -> float:
    """Area under the precision-recall curve of one tag (every point), a hit being an overlap of at least 0.5.

    Args:
        found: (probability, number of the picture, box) of everything predicted.
        truth: The boxes that are on each picture.
    """
    open_boxes = [list(boxes) for boxes in truth]
    total = sum(len(boxes) for boxes in truth)
    hits: list[int] = []
    for _, number, box in sorted(found, key=lambda row: -row[0]):
        best = max(open_boxes[number], key=lambda other: overlap(box, other), default=None)
        hit = best is not None and overlap(box, best) >= 0.5
        if hit and best is not None:
            open_boxes[number].remove(best)
        hits.append(int(hit))
    precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank in range(len(hits))]
    for rank in range(len(hits) - 2, -1, -1):
        precisions[rank] = max(precisions[rank], precisions[rank + 1])
    return sum(precision for precision, hit in zip(precisions, hits, strict=True) if hit) / total if total else 0.0


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    height = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (one.width * one.height + other.width * other.height - shared)


def delete(trainer: CustomVisionTrainingClient, project: Any, iteration: Any) -> None:
    """Unpublish, then delete the project with everything in it."""
    trainer.unpublish_iteration(project.id, iteration.id)
    trainer.delete_project(project.id)
    console.print(f"Deleted project {project.name}.")
