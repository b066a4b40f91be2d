"""What each version of the two APIs does otherwise than the newest: tables, no code paths.

Services and shapes know the newest form only. A shape passes `Version.show`, which takes from it what its version's
models have, in their order and under their names; the rest of a version is said by `Version`'s other fields. Adding a
version is adding a row to `VERSIONS`, and rows to the tables above it where it brought something.

Sources: the official SDKs' models, the recorded exchanges, and for v1.0 its public clients.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from typing import Any

from ownvision.wire import values

TRAINING, PREDICTION = "training", "prediction"
Keys = tuple[tuple[str, str], ...]  # (name on the wire, name in the newest shape)

# Model: from which version on it has which keys. Before the first version named it has none; keys that only an older
# version has are given to `show`. ``imageUri=resizedImageUri`` is a key with another name in the newest shape; no keys
# means the newest shape as it is.
_MODELS: Mapping[str, Mapping[str, str]] = {
    "Domain": {
        "v1.0": "id name exportable",
        "v2.0": "id name type exportable enabled",
        "v3.4": "",
    },
    "Project": {
        "v1.0": "id name description settings currentIterationId created lastModified thumbnailUri",
        "v2.0": "id name description settings created lastModified thumbnailUri",
        "v3.0": "id name description settings created lastModified thumbnailUri drModeEnabled",
        "v3.2": "",
    },
    "ProjectSettings": {
        "v1.0": "domainId classification useNegativeSet",
        "v2.0": "domainId classificationType useNegativeSet detectionParameters",
        "v3.0": "domainId classificationType useNegativeSet detectionParameters targetExportPlatforms",
        "v3.1": "domainId classificationType targetExportPlatforms useNegativeSet detectionParameters"
        " imageProcessingSettings",
        "v3.4": "",
    },
    "Tag": {"v1.0": "id name description imageCount", "v2.2": ""},
    "Image": {
        "v1.0": "id created width height imageUri=resizedImageUri thumbnailUri tags predictions",
        "v2.0": "id created width height imageUri=resizedImageUri thumbnailUri tags regions",
        "v2.2": "id created width height resizedImageUri thumbnailUri originalImageUri tags regions",
        "v3.3": "",
    },
    "ImageTag": {"v1.0": "tagId created", "v2.0": ""},
    "Iteration": {
        "v1.0": "id name isDefault status created lastModified trainedAt projectId exportable domainId",
        "v2.1": "id name isDefault status created lastModified trainedAt projectId exportable domainId"
        " classificationType",
        "v3.0": "id name status created lastModified trainedAt projectId exportable exportableTo domainId"
        " classificationType trainingType reservedBudgetInHours publishName originalPublishResourceId",
        "v3.1": "id name status created lastModified trainedAt projectId exportable exportableTo domainId"
        " classificationType trainingType reservedBudgetInHours trainingTimeInMinutes publishName"
        " originalPublishResourceId",
        "v3.4": "",
    },
    "IterationPerformance": {
        "v1.0": "perTagPerformance precision precisionStdDeviation recall recallStdDeviation",
        "v2.0": "",
    },
    "TagPerformance": {"v1.0": "id name precision precisionStdDeviation recall recallStdDeviation", "v2.0": ""},
    "Export": {
        "v1.0": "platform status downloadUri",
        "v2.0": "platform status downloadUri flavor",
        "v2.1": "",
    },
    "Prediction": {
        "v1.0": "tagId tag=tagName probability",
        "v2.0": "probability tagId tagName boundingBox",
        "v3.3": "",
    },
    "StoredImagePrediction": {
        "v1.0": "id project iteration created predictions imageUri=resizedImageUri thumbnailUri",
        "v2.0": "imageUri=resizedImageUri thumbnailUri domain id project iteration created predictions",
        "v2.2": "",
    },
    "PredictionQueryResult": {"v1.0": "results token", "v2.0": ""},
}

# Operation: the versions between which it exists, first and last; what is not named, every version of its API has.
_SPANS: Mapping[str, tuple[str, str]] = {
    "GetAccountInfo": ("v1.0", "v1.2"),
    "GetImagesByIds": ("v2.0", ""),
    "GetTaggedImageCount": ("v2.0", ""),
    "GetUntaggedImageCount": ("v2.0", ""),
    "CreateImageRegions": ("v2.0", ""),
    "DeleteImageRegions": ("v2.0", ""),
    "GetImageRegionProposals": ("v2.0", ""),
    "GetImagePerformances": ("v2.0", ""),
    "GetImagePerformanceCount": ("v2.0", ""),
    "PublishIteration": ("v3.0", ""),
    "UnpublishIteration": ("v3.0", ""),
    "SuggestTagsAndRegions": ("v3.1", ""),
    "QuerySuggestedImages": ("v3.1", ""),
    "QuerySuggestedImageCount": ("v3.1", ""),
    "ExportProject": ("v3.2", ""),
    "ImportProject": ("v3.2", ""),
    "GetArtifact": ("v3.3", ""),
    "GetImages": ("v3.3", ""),
    "GetImageCount": ("v3.3", ""),
    "UpdateImageMetadata": ("v3.3", ""),
    "PredictImage": ("v1.0", "v2.0"),
    "PredictImageWithNoStore": ("v1.0", "v2.0"),
    "PredictImageUrl": ("v1.0", "v2.0"),
    "PredictImageUrlWithNoStore": ("v1.0", "v2.0"),
    "ClassifyImage": ("v3.0", ""),
    "ClassifyImageWithNoStore": ("v3.0", ""),
    "ClassifyImageUrl": ("v3.0", ""),
    "ClassifyImageUrlWithNoStore": ("v3.0", ""),
    "DetectImage": ("v3.0", ""),
    "DetectImageWithNoStore": ("v3.0", ""),
    "DetectImageUrl": ("v3.0", ""),
    "DetectImageUrlWithNoStore": ("v3.0", ""),
}
# Operation: the paths it had before, each with the last version that had it.
EARLIER_PATHS: Mapping[str, Mapping[str, str]] = {
    "GetImageRegionProposals": {"/{projectId}/images/{imageId}/regionproposals": "v2.2"},
    "CreateImagesFromData": {"/projects/{projectId}/images/image": "v1.0"},
    "CreateImagesFromUrls": {"/projects/{projectId}/images/url": "v1.0"},
    "GetTaggedImages": {"/projects/{projectId}/images/tagged/all": "v1.0"},
    "QueryPredictions": {"/projects/{projectId}/predictions/next": "v1.0"},
}

# Value: the version of training that brought it, and what is said before.
_STATUSES: Mapping[str, tuple[str, str]] = {
    "ErrorImageDimensions": ("v3.4", "ErrorImageSize"),
    "ErrorInvalidTag": ("v3.4", "ErrorUnknown"),
    "ErrorNegativeAndRegularTagOnSameImage": ("v2.2", "ErrorUnknown"),
}
_CODES: Mapping[str, tuple[str, str]] = {
    "BadRequestImageAspectRatio": ("v3.4", "BadRequestImageDimensions"),
    "BadRequestCustomBaseModelIterationStatusNotCompleted": ("v3.4", "BadRequestNotSupported"),
    "BadRequestCustomBaseModelDomainNotCompatible": ("v3.4", "BadRequestNotSupported"),
    "BadRequestInvalidUri": ("v3.4", "BadRequest"),
    "BadRequestMultipleGeneralProductTag": ("v3.3", "BadRequestTagType"),
    "BadRequestImageDimensions": ("v3.3", "BadRequestInvalid"),
    "BadRequestImageMetadataKey": ("v3.3", "BadRequest"),
    "BadRequestImageMetadataValue": ("v3.3", "BadRequest"),
    "BadRequestOperationNotSupported": ("v3.3", "BadRequestNotSupported"),
    "BadRequestProjectImagePreprocessingSettings": ("v3.1", "BadRequest"),
}


@dataclass(frozen=True)
class Version:
    """One version of one API.

    Attributes:
        api: ``training`` or ``prediction``.
        name: As it stands in the path.
        contract: The version of training whose models and codes it has; its own name for a training version.
        pascal: Whether names on the wire are in PascalCase.
        gateway_error: Whether the gateway wraps an error as ``{"error": {…}}``.
        partial: Status of a batch of which an entry failed.
        begun: Status of a deletion that goes on after the answer.
        project_dates, project_changed, iteration_date, prediction_date: How it writes dates of that kind.
        default_iteration: Whether iterations are chosen by `isDefault` rather than by a published name.
        workspace: Whether the workspace stands among the iterations, as ``New``.
        tag_list: Whether tags come in an object with the counts of images.
        nothing_exportable: `exportableTo` of an iteration that can't be exported.
    """

    api: str
    name: str
    contract: str
    pascal: bool = False
    gateway_error: bool = True
    partial: int = 207
    begun: int = 202
    project_dates: Callable[[datetime], str] = values.seconds
    project_changed: Callable[[datetime], str] = values.seconds
    iteration_date: Callable[[datetime], str] = values.seconds
    prediction_date: Callable[[datetime], str] = values.seconds
    default_iteration: bool = False
    workspace: bool = False
    tag_list: bool = False
    nothing_exportable: tuple[str, ...] | None = None

    @cached_property
    def _models(self) -> dict[str, Keys]:
        return {model: _keys(since, self.contract) for model, since in _MODELS.items()}

    @cached_property
    def _statuses(self) -> dict[str, str]:
        return _before(_STATUSES, self.contract)

    @cached_property
    def _codes(self) -> dict[str, str]:
        return _before(_CODES, self.contract)

    @property
    def gateway(self) -> str:
        """The name that messages of the gateway use."""
        return f"Custom_Vision_{self.api.capitalize()}_{self.name[1:].removesuffix('-preview')}"

    def serves(self, operation: str, path: str = "") -> bool:
        """Whether it has an operation, at one of its `EARLIER_PATHS` or at its own."""
        first, last = _SPANS.get(operation, ("", ""))
        ends = (last, EARLIER_PATHS.get(operation, {}).get(path, ""))
        mine = number(self.name)
        return (not first or mine >= number(first)) and all(not end or mine <= number(end) for end in ends)

    def keys(self, model: str) -> Keys:
        """The keys of one of its models; none where it is as in the newest version."""
        return self._models.get(model, ())

    def named(self, key: str) -> str:
        """A key as it stands on the wire."""
        return key[:1].upper() + key[1:] if self.pascal else key

    def lacks(self, model: str, key: str) -> bool:
        """Whether its model of this name does not have this key of the newest shape."""
        keys = self._models[model]
        return bool(keys) and all(key != source for _, source in keys)

    def show(self, model: str, shape: dict[str, Any], **older: Any) -> dict[str, Any]:
        """What this version shows of a newest shape; `older` are values that only older versions show."""
        keys = self._models[model]
        if not keys:
            return shape
        known = {**shape, **older} if older else shape
        return {name: known[source] for name, source in keys if source in known}

    def status(self, value: str) -> str:
        """An `ImageCreateStatus` as this version knows it."""
        return self._statuses.get(value, value)

    def code(self, value: str) -> str:
        """An error code as this version knows it."""
        return self._codes.get(value, value)


@cache
def number(name: str) -> tuple[int, int]:
    """``v3.4-preview`` is (3, 4)."""
    major, _, minor = name.removeprefix("v").removesuffix("-preview").partition(".")
    return int(major), int(minor)


def _keys(since: Mapping[str, str], contract: str) -> Keys:
    found = ""
    for first, keys in since.items():
        if number(first) <= number(contract):
            found = keys
    return tuple((name, source or name) for name, _, source in (entry.partition("=") for entry in found.split()))


def _before(brought: Mapping[str, tuple[str, str]], contract: str) -> dict[str, str]:
    """What a version says instead of values that came after it; what it says then may be too new itself."""
    found = {}
    for value in brought:
        older = value
        while older in brought and number(brought[older][0]) > number(contract):
            older = brought[older][1]
        if older != value:
            found[value] = older
    return found


_V1: dict[str, Any] = {
    "pascal": True,
    "gateway_error": False,
    "partial": 200,
    "begun": 204,
    "project_dates": values.trimmed,
    "project_changed": values.ticks,
    "iteration_date": values.trimmed,
    "prediction_date": values.ticks,
    "default_iteration": True,
    "workspace": True,
    "tag_list": True,
}
_V2: dict[str, Any] = {
    "gateway_error": False,
    "partial": 200,
    "begun": 204,
    "project_dates": values.trimmed,
    "project_changed": values.trimmed,
    "iteration_date": values.trimmed,
    "prediction_date": values.ticks,
    "default_iteration": True,
}
_V30: dict[str, Any] = {"partial": 200, "begun": 204, "prediction_date": values.ticks, "nothing_exportable": ()}
_V31: dict[str, Any] = {**_V30, "begun": 202}
_NEWER: dict[str, Any] = {}

VERSIONS: Mapping[tuple[str, str], Version] = {
    (api, name): Version(api, name, contract, **differs)
    for api, name, contract, differs in (
        (TRAINING, "v1.0", "v1.0", _V1),
        (TRAINING, "v1.2", "v1.2", _V1),
        (TRAINING, "v2.0", "v2.0", _V2),
        (TRAINING, "v2.1", "v2.1", _V2),
        (TRAINING, "v2.2", "v2.2", _V2),
        (TRAINING, "v3.0", "v3.0", _V30),
        (TRAINING, "v3.1", "v3.1", _V31),
        (TRAINING, "v3.2", "v3.2", _V31),
        (TRAINING, "v3.3", "v3.3", _NEWER),
        (TRAINING, "v3.4-preview", "v3.4", _NEWER),
        (PREDICTION, "v1.0", "v1.0", _V1),
        (PREDICTION, "v1.1", "v1.2", _V1),
        (PREDICTION, "v2.0", "v2.2", _V2),
        (PREDICTION, "v3.0", "v3.0", _V30),
        (PREDICTION, "v3.1", "v3.3", _NEWER),
    )
}
LATEST = VERSIONS[TRAINING, "v3.4-preview"]


def names(api: str) -> list[str]:
    """The versions of an API that are served, oldest first."""
    return [name for of, name in VERSIONS if of == api]
