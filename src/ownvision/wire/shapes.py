"""Rows as the wire shows them: keys in the original's order, empty lists left out where it leaves them out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ownvision.domains import DOMAINS
from ownvision.domains import Domain as DomainRow
from ownvision.learning.pixels import RESIZED_SIDE
from ownvision.services import projects, storage, uris
from ownvision.services.components import Components
from ownvision.services.images import ImageView, RegionView
from ownvision.services.intake import DUPLICATE, OK, Added
from ownvision.services.regions import RegionEntry
from ownvision.services.suggestions import Suggested
from ownvision.services.tags import TagView
from ownvision.services.travel import tokens
from ownvision.store.tables import Export, Image, Iteration, IterationTag, Prediction, Project, ProjectExport
from ownvision.wire.values import Double, trimmed
from ownvision.wire.versions import Version

Shape = dict[str, Any]


class Asker(Protocol):
    """Whom something is shown to: a request, or the writer of a takeout."""

    @property
    def components(self) -> Components:
        """Of this installation."""

    @property
    def version(self) -> Version:
        """In whose form."""

    @property
    def base_url(self) -> str:
        """The address that was called."""

    def uri(self, path: str) -> str:
        """The address to give out for a path of this service."""


_CLASSIFICATION_V1 = {"Multiclass": "MultiClass", "Multilabel": "MultiLabel"}
_MEGABYTES = {"efficientnet_lite0": 14, "efficientnet_lite0_lite2": 34}


def domain(row: DomainRow, version: Version) -> Shape:
    """A domain; its platforms are those that have an exporter."""
    information = None
    if row.exportable:
        information = {
            "estimatedModelSizeInMegabytes": _MEGABYTES.get(row.backbone),
            "description": f"An EfficientNet-Lite model for {row.type}.",
        }
    shape = {
        "id": row.id,
        "name": row.name,
        "type": row.type,
        "exportable": row.exportable,
        "enabled": row.enabled,
        "exportablePlatforms": list(row.platforms),
        "modelInformation": information,
    }
    return version.show("Domain", shape)


def project(call: Asker, row: Project, thumbnail_image: str | None) -> Shape:
    """A project."""
    thumbnail = None
    if thumbnail_image is not None:
        thumbnail = call.uri(uris.image_path(row.id, thumbnail_image, uris.THUMBNAIL))
    settings = {
        "domainId": row.domain_id,
        "classificationType": row.classification_type,
        "targetExportPlatforms": row.target_export_platforms,
        "useNegativeSet": True,
        "detectionParameters": None,
        "imageProcessingSettings": {"augmentationMethods": row.augmentation},
        **storage.kept(call.components.keys, row),
    }
    shape = {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "settings": call.version.show(
            "ProjectSettings", settings, classification=_CLASSIFICATION_V1[row.classification_type]
        ),
        "created": call.version.project_dates(row.created),
        "lastModified": call.version.project_changed(row.last_modified),
        "thumbnailUri": thumbnail,
        "drModeEnabled": False,
        "status": row.status,
    }
    return call.version.show("Project", shape, currentIterationId=projects.workspace_id(row.id))


def project_export(call: Asker, row: ProjectExport) -> Shape:
    """A project's token."""
    return {
        "iterationCount": row.iteration_count,
        "imageCount": row.image_count,
        "tagCount": row.tag_count,
        "regionCount": row.region_count,
        "estimatedImportTimeInMS": tokens.estimate(row),
        "token": uris.sign_project(call.components, call.base_url, row.project_id, row.id, row.expires),
    }


def tag(view: TagView, version: Version) -> Shape:
    """A tag."""
    shape = {
        "id": view.id,
        "name": view.name,
        "description": view.description,
        "type": view.type,
        "imageCount": view.image_count,
    }
    return version.show("Tag", shape)


def _carried(view: ImageView, named: bool, version: Version) -> Shape:
    shape: Shape = {}
    if view.tags:
        shape["tags"] = [
            version.show("ImageTag", {"tagId": tag_id, "tagName": name if named else None, "created": trimmed(created)})
            for tag_id, name, created in view.tags
        ]
    if view.regions:
        shape["regions"] = [region(item, named) for item in view.regions]
    return shape


def _resized(call: Asker, row: Image, original: str) -> str:
    """The copy's address; the original's own where it is small enough, as in the original service."""
    if max(row.width, row.height) <= RESIZED_SIDE:
        return original
    return call.uri(uris.image_path(row.project_id, row.id, uris.RESIZED))


def image(call: Asker, view: ImageView, *, named: bool = True) -> Shape:
    """An image with what it carries; `named` is false in replies to creation, whose tag names are null."""
    row = view.image
    original = call.uri(uris.image_path(row.project_id, row.id, uris.ORIGINAL))
    shape: Shape = {
        "id": row.id,
        "created": trimmed(row.created),
        "width": row.width,
        "height": row.height,
        "resizedImageUri": _resized(call, row, original),
        "thumbnailUri": call.uri(uris.image_path(row.project_id, row.id, uris.THUMBNAIL)),
        "originalImageUri": original,
        **_carried(view, named, call.version),
    }
    if view.metadata:
        shape["metadata"] = view.metadata
    return call.version.show("Image", shape, predictions=None)


def region(view: RegionView, named: bool = True) -> Shape:
    """A region of an image."""
    return {
        "regionId": view.id,
        "tagName": view.tag_name if named else None,
        "created": trimmed(view.created),
        "tagId": view.tag_id,
        "left": float(view.left),
        "top": float(view.top),
        "width": float(view.width),
        "height": float(view.height),
    }


def region_entry(entry: RegionEntry) -> Shape:
    """A region that was asked for and not made."""
    box = entry.box
    return {
        "imageId": entry.image_id,
        "tagId": box.tag_id,
        "left": float(box.left),
        "top": float(box.top),
        "width": float(box.width),
        "height": float(box.height),
    }


def added(call: Asker, results: Sequence[Added]) -> Shape:
    """What became of a batch of images; a duplicate, though no error, makes it not wholly successful."""
    return {
        "isBatchSuccessful": all(result.status == OK for result in results),
        "images": [
            {
                "sourceUrl": result.source,
                "status": call.version.status(result.status),
                "image": None if result.view is None else image(call, result.view, named=result.status == DUPLICATE),
            }
            for result in results
        ],
    }


def iteration(row: Iteration, version: Version) -> Shape:
    """An iteration; what is known only after training is null or absent before."""
    done = row.status == "Completed"
    domain_row = DOMAINS[row.domain_id]
    exportable = done and domain_row.exportable and row.origin is None
    shape: Shape = {
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "created": version.iteration_date(row.created),
        "lastModified": version.iteration_date(row.last_modified),
    }
    if row.trained_at is not None:
        shape["trainedAt"] = version.iteration_date(row.trained_at)
    shape |= {
        "projectId": row.project_id,
        "exportable": exportable,
        "exportableTo": list(domain_row.platforms) if exportable else version.nothing_exportable,
        "domainId": row.domain_id if done else None,
        "classificationType": row.classification_type if done else None,
        "trainingType": row.training_type,
        "reservedBudgetInHours": row.reserved_budget_in_hours,
        "trainingTimeInMinutes": math.ceil(row.training_seconds / 60),
        "publishName": row.publish_name,
        "originalPublishResourceId": row.publish_resource_id,
        "customBaseModelInfo": row.custom_base_model,
        "trainingErrorDetails": row.error,
    }
    if done and row.erased_count:
        shape |= {"erasedImages": row.erased_count, "unlearning": row.unlearning}
    return version.show("Iteration", shape, isDefault=row.is_default)


def workspace(row: Project, version: Version) -> Shape:
    """The workspace as v1.x shows it: an iteration that is still to be trained."""
    moment = version.iteration_date(row.last_modified)
    shape = {
        "id": projects.workspace_id(row.id),
        "name": f"Iteration {row.iterations_made + 1}",
        "status": "New",
        "created": moment,
        "lastModified": moment,
        "projectId": row.id,
        "exportable": False,
        "domainId": None,
    }
    return version.show("Iteration", shape, isDefault=False)


def performance(measured: Shape, version: Version) -> Shape:
    """An iteration's performance."""
    per_tag = [version.show("TagPerformance", one) for one in measured["perTagPerformance"]]
    return version.show("IterationPerformance", {**measured, "perTagPerformance": per_tag})


def export(call: Asker, row: Export, project_id: str) -> Shape:
    """An export; its address once it is done."""
    flavor = row.flavor or None
    uri = None
    if row.status == "Done":
        uri = call.uri(uris.export_path(project_id, row.id, row.platform, flavor))
    shape = {
        "platform": row.platform,
        "status": row.status,
        "downloadUri": uri,
        "flavor": flavor,
        "newerVersionAvailable": False,
    }
    return call.version.show("Export", shape)


def prediction(item: Mapping[str, Any], version: Version) -> Shape:
    """One predicted tag, in the wire's order of keys."""
    shape: Shape = {
        "probability": float(item["probability"]),
        "tagId": item["tagId"],
        "tagName": item.get("tagName"),
    }
    if item.get("boundingBox") is not None:
        shape["boundingBox"] = {side: float(item["boundingBox"][side]) for side in ("left", "top", "width", "height")}
    shape["tagType"] = item.get("tagType")
    return version.show("Prediction", shape)


def _named(item: Mapping[str, Any], tags: Mapping[str, IterationTag], version: Version) -> Shape:
    known = tags.get(item["tagId"])
    name, kind = (known.name, known.type) if known is not None else (None, None)
    return prediction({**item, "tagName": name, "tagType": kind}, version)


def stored_prediction(call: Asker, row: Prediction, tags: Mapping[str, IterationTag]) -> Shape:
    """A stored prediction with its picture's addresses; names and types are the iteration's."""

    def uri(file: str) -> str:
        return call.uri(uris.prediction_path(row.project_id, row.id, file))

    shape = {
        "resizedImageUri": uri(uris.RESIZED),
        "thumbnailUri": uri(uris.THUMBNAIL),
        "originalImageUri": uri(uris.ORIGINAL),
        "domain": row.domain_id,
        "id": row.id,
        "project": row.project_id,
        "iteration": row.iteration_id,
        "created": call.version.prediction_date(row.created),
        "predictions": [_named(item, tags, call.version) for item in row.predictions],
    }
    return call.version.show("StoredImagePrediction", shape)


def suggestion(one: Suggested, version: Version) -> Shape:
    """What is suggested for an image."""
    return {
        "id": one.image.id,
        "project": one.row.project_id,
        "iteration": one.row.iteration_id,
        "created": trimmed(one.row.created),
        "predictions": [_named(item, one.tags, version) for item in one.row.predictions],
        "predictionUncertainty": Double(one.row.uncertainty),
    }


def stored_suggestion(call: Asker, one: Suggested, domain_id: str) -> Shape:
    """A suggestion with its picture's addresses."""
    row = one.image
    original = call.uri(uris.image_path(row.project_id, row.id, uris.ORIGINAL))
    return {
        "width": row.width,
        "height": row.height,
        "resizedImageUri": _resized(call, row, original),
        "thumbnailUri": call.uri(uris.image_path(row.project_id, row.id, uris.THUMBNAIL)),
        "originalImageUri": original,
        "domain": domain_id,
        **suggestion(one, call.version),
    }


def region_proposals(
    project_id: str, image_id: str, boxes: Sequence[Sequence[float]], confidences: Sequence[float]
) -> Shape:
    """Where in an image something could be, best first."""
    return {
        "projectId": project_id,
        "imageId": image_id,
        "proposals": [
            {
                "confidence": confidence,
                "boundingBox": dict(zip(("left", "top", "width", "height"), box, strict=True)),
            }
            for confidence, box in zip(confidences, boxes, strict=True)
        ],
    }


def image_performance(call: Asker, view: ImageView, predictions: Sequence[Mapping[str, Any]]) -> Shape:
    """An image with what training predicted for it."""
    row = view.image
    original = call.uri(uris.image_path(row.project_id, row.id, uris.ORIGINAL))
    return {
        "predictions": [prediction(item, call.version) for item in predictions],
        "id": row.id,
        "created": trimmed(row.created),
        "width": row.width,
        "height": row.height,
        "imageUri": _resized(call, row, original),
        "thumbnailUri": call.uri(uris.image_path(row.project_id, row.id, uris.THUMBNAIL)),
        **_carried(view, True, call.version),
    }
