"""Answers, for the documentation; `shapes` makes them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from ownvision.api.models.base import Guid, Wire
from ownvision.api.models.bodies import (
    CustomBaseModelInfo,
    ImageRegionCreateEntry,
    ImageTagCreateEntry,
    PredictionQueryToken,
    ProjectSettings,
    Region,
    SuggestedTagAndRegionQueryToken,
)


class CustomVisionError(Wire):
    """An error: its code and what to do."""

    code: str
    message: str


class GatewayError(Wire):
    """What the gateway says of a path or version that it does not know."""

    status_code: int
    message: str


class Domain(Wire):
    """A starting point for a project."""

    id: Guid
    name: str
    type: str
    exportable: bool
    enabled: bool
    exportable_platforms: list[str] | None = None
    model_information: dict[str, Any] | None = None


class Project(Wire):
    """A project."""

    id: Guid
    name: str
    description: str | None
    settings: ProjectSettings
    created: datetime
    last_modified: datetime
    thumbnail_uri: str | None
    dr_mode_enabled: bool | None
    status: str


class ProjectExport(Wire):
    """What ExportProject promises, and the token that ImportProject takes."""

    iteration_count: int
    image_count: int
    tag_count: int
    region_count: int
    estimated_import_time_in_ms: int = Field(alias="estimatedImportTimeInMS")
    token: str


class Tag(Wire):
    """A tag."""

    id: Guid
    name: str
    description: str | None
    type: str
    image_count: int


class ImageTag(Wire):
    """A tag on an image."""

    tag_id: Guid
    tag_name: str | None
    created: str


class ImageRegion(Region):
    """A box on an image."""

    region_id: Guid
    tag_name: str | None
    created: str


class Image(Wire):
    """An image of a project."""

    id: Guid
    created: str
    width: int
    height: int
    resized_image_uri: str
    thumbnail_uri: str
    original_image_uri: str
    tags: list[ImageTag] | None = None
    regions: list[ImageRegion] | None = None
    metadata: dict[str, str] | None = None


class ImageCreateResult(Wire):
    """What became of one image of a batch."""

    source_url: str
    status: str
    image: Image | None


class ImageCreateSummary(Wire):
    """What became of a batch of images."""

    is_batch_successful: bool
    images: list[ImageCreateResult]


class ImageMetadataUpdateEntry(Wire):
    """What became of one image's metadata."""

    image_id: Guid
    status: str
    metadata: dict[str, str] | None = None


class ImageMetadataUpdateSummary(Wire):
    """What became of a change of metadata."""

    is_batch_successful: bool
    images: list[ImageMetadataUpdateEntry]


class ImageTagCreateSummary(Wire):
    """What became of image tags."""

    created: list[ImageTagCreateEntry]
    duplicated: list[ImageTagCreateEntry]
    exceeded: list[ImageTagCreateEntry]


class ImageRegionCreateResult(ImageRegion):
    """A box that was made."""

    image_id: Guid


class ImageRegionCreateSummary(Wire):
    """What became of boxes."""

    created: list[ImageRegionCreateResult]
    duplicated: list[ImageRegionCreateEntry]
    exceeded: list[ImageRegionCreateEntry]


class Iteration(Wire):
    """One training run."""

    id: Guid
    name: str
    status: str
    created: datetime
    last_modified: datetime
    trained_at: datetime | None = None
    project_id: Guid
    exportable: bool
    exportable_to: list[str] | None
    domain_id: Guid | None
    classification_type: str | None
    training_type: str
    reserved_budget_in_hours: int
    training_time_in_minutes: int
    publish_name: str | None
    original_publish_resource_id: str | None
    custom_base_model_info: CustomBaseModelInfo | None = None
    training_error_details: str | None = None
    # OwnVision's own, while its model has learned from images that were erased since.
    erased_images: int | None = None
    unlearning: str | None = None


class TagPerformance(Wire):
    """How well one tag is told."""

    id: Guid
    name: str
    precision: float
    precision_std_deviation: float
    recall: float
    recall_std_deviation: float
    average_precision: float | None


class IterationPerformance(Wire):
    """How well an iteration does."""

    per_tag_performance: list[TagPerformance]
    precision: float
    precision_std_deviation: float
    recall: float
    recall_std_deviation: float
    average_precision: float | None


class BoundingBox(Wire):
    """A box, relative to the upright picture."""

    left: float
    top: float
    width: float
    height: float


class Prediction(Wire):
    """A tag and its probability."""

    probability: float
    tag_id: Guid
    tag_name: str | None
    bounding_box: BoundingBox | None = None
    tag_type: str | None = None


class ImagePerformance(Wire):
    """An image with what was predicted for it in training."""

    predictions: list[Prediction]
    id: Guid
    created: str
    width: int
    height: int
    image_uri: str
    thumbnail_uri: str
    tags: list[ImageTag] | None = None
    regions: list[ImageRegion] | None = None


class Export(Wire):
    """An export of an iteration."""

    platform: str
    status: str
    download_uri: str | None
    flavor: str | None
    newer_version_available: bool


class ImagePrediction(Wire):
    """What was predicted for an image."""

    id: Guid
    project: Guid
    iteration: Guid
    created: datetime
    predictions: list[Prediction]


class StoredImagePrediction(Wire):
    """A stored prediction."""

    resized_image_uri: str
    thumbnail_uri: str
    original_image_uri: str
    domain: Guid
    id: Guid
    project: Guid
    iteration: Guid
    created: datetime
    predictions: list[Prediction]


class PredictionQueryResult(Wire):
    """A page of stored predictions."""

    token: PredictionQueryToken
    results: list[StoredImagePrediction]


class SuggestedTagAndRegion(Wire):
    """What is suggested for an image."""

    id: Guid
    project: Guid
    iteration: Guid
    created: str
    predictions: list[Prediction]
    prediction_uncertainty: float


class StoredSuggestedTagAndRegion(SuggestedTagAndRegion):
    """A suggestion with its picture."""

    width: int
    height: int
    resized_image_uri: str
    thumbnail_uri: str
    original_image_uri: str
    domain: Guid


class SuggestedTagAndRegionQuery(Wire):
    """A page of suggestions."""

    token: SuggestedTagAndRegionQueryToken
    results: list[StoredSuggestedTagAndRegion]


class RegionProposal(Wire):
    """A box in which something could be."""

    confidence: float
    bounding_box: BoundingBox


class ImageRegionProposal(Wire):
    """The regions proposed for an image."""

    project_id: Guid
    image_id: Guid
    proposals: list[RegionProposal]


class KeyPair(BaseModel):
    """Two keys of one kind."""

    PrimaryKey: str
    SecondaryKey: str


class ApiKeys(BaseModel):
    """An account's keys."""

    TrainingKeys: KeyPair
    PredictionKeys: KeyPair


class Quota(BaseModel):
    """How much there is, and how much is used."""

    Total: int
    Used: int


class PerProjectQuota(BaseModel):
    """Quotas of one project."""

    ProjectId: Guid
    Iterations: Quota
    Images: Quota
    Tags: Quota


class AccountQuota(BaseModel):
    """Quotas of an account."""

    Tier: str
    Projects: Quota
    Predictions: Quota
    PerProject: list[PerProjectQuota]


class Account(BaseModel):
    """An account, as v1.2 shows it."""

    UserName: str
    Email: str
    Keys: ApiKeys
    Quotas: AccountQuota
