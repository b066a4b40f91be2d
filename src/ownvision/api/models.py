"""The models of the wire, as `reference/models.md` has them: bodies are parsed with them, answers documented.

Names of incoming fields are matched whatever their case, unknown and read-only ones are ignored: programs send back
whole objects that they got.
"""

import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

_GUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
INT32 = 2**31 - 1


def guid(value: object) -> object:
    """A GUID in the service's own form: lower-case, with hyphens.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, str) or not _GUID.fullmatch(value):
        raise ValueError("this is no GUID")
    return str(uuid.UUID(value))


Guid = Annotated[str, BeforeValidator(guid), WithJsonSchema({"type": "string", "format": "uuid"})]


class Wire(BaseModel):
    """camelCase on the wire, any case accepted."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        aliases = {field.alias.lower(): field.alias for field in cls.model_fields.values() if field.alias}
        return {aliases.get(key.lower(), key) if isinstance(key, str) else key: item for key, item in value.items()}


class CustomVisionError(Wire):
    """An error: its code and what to do."""

    code: str
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


class ImageProcessingSettings(Wire):
    """Which image transforms training uses."""

    augmentation_methods: dict[str, bool] | None = None


class ProjectSettings(Wire):
    """Settings of a project."""

    domain_id: Guid | None = None
    classification_type: str | None = None
    target_export_platforms: list[str] | None = None
    use_negative_set: bool | None = None
    detection_parameters: str | None = None
    image_processing_settings: ImageProcessingSettings | None = None


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


class ProjectChange(Wire):
    """A project's new values; what is left out stays."""

    name: str | None = None
    description: str | None = None
    settings: ProjectSettings | None = None


class CreateProjectOptions(Wire):
    """Options of a new project (storage integration is not offered: they are accepted and ignored)."""

    export_model_container_uri: str | None = None
    notification_queue_uri: str | None = None


class Tag(Wire):
    """A tag."""

    id: Guid
    name: str
    description: str | None
    type: str
    image_count: int


class TagChange(Wire):
    """A tag's new values; what is left out stays."""

    name: str | None = None
    description: str | None = None
    type: str | None = None


class ImageTag(Wire):
    """A tag on an image."""

    tag_id: Guid
    tag_name: str | None
    created: str


class Region(Wire):
    """A box to be put on an image, relative to the upright picture."""

    tag_id: Guid
    left: float
    top: float
    width: float
    height: float


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


class Batch(Wire):
    """What all batches have."""

    tag_ids: list[Guid] | None = None
    metadata: dict[str, str] | None = None


class Entry(Wire):
    """What entries of all batches have."""

    tag_ids: list[Guid] | None = None
    regions: list[Region] | None = None


class ImageFileCreateEntry(Entry):
    """An image file, base64."""

    name: str | None = None
    contents: str | None = Field(None, json_schema_extra={"format": "byte"})


class ImageFileCreateBatch(Batch):
    """A batch of image files."""

    images: list[ImageFileCreateEntry] | None = None


class ImageUrlCreateEntry(Entry):
    """The address of an image."""

    url: str


class ImageUrlCreateBatch(Batch):
    """A batch of image addresses."""

    images: list[ImageUrlCreateEntry] | None = None


class ImageIdCreateEntry(Entry):
    """The id of a stored prediction."""

    id: Guid


class ImageIdCreateBatch(Batch):
    """A batch of stored predictions."""

    images: list[ImageIdCreateEntry] | None = None


class ImageMetadataUpdateEntry(Wire):
    """What became of one image's metadata."""

    image_id: Guid
    status: str
    metadata: dict[str, str] | None = None


class ImageMetadataUpdateSummary(Wire):
    """What became of a change of metadata."""

    is_batch_successful: bool
    images: list[ImageMetadataUpdateEntry]


class ImageTagCreateEntry(Wire):
    """An image and a tag for it."""

    image_id: Guid
    tag_id: Guid


class ImageTagCreateBatch(Wire):
    """Image tags to be made."""

    tags: list[ImageTagCreateEntry] | None = None


class ImageTagCreateSummary(Wire):
    """What became of image tags."""

    created: list[ImageTagCreateEntry]
    duplicated: list[ImageTagCreateEntry]
    exceeded: list[ImageTagCreateEntry]


class ImageRegionCreateEntry(Region):
    """A box for an image."""

    image_id: Guid


class ImageRegionCreateBatch(Wire):
    """Boxes to be made."""

    regions: list[ImageRegionCreateEntry] | None = None


class ImageRegionCreateResult(ImageRegion):
    """A box that was made."""

    image_id: Guid


class ImageRegionCreateSummary(Wire):
    """What became of boxes."""

    created: list[ImageRegionCreateResult]
    duplicated: list[ImageRegionCreateEntry]
    exceeded: list[ImageRegionCreateEntry]


class CustomBaseModelInfo(Wire):
    """The iteration that training starts from."""

    project_id: Guid
    iteration_id: Guid


class TrainingParameters(Wire):
    """Parameters of one training."""

    selected_tags: list[Guid] | None = None
    custom_base_model_info: CustomBaseModelInfo | None = None


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


class IterationChange(Wire):
    """An iteration's new name."""

    name: str | None = None


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


class ImageUrl(Wire):
    """The address of an image."""

    url: str


class ImagePrediction(Wire):
    """What was predicted for an image."""

    id: Guid
    project: Guid
    iteration: Guid
    created: datetime
    predictions: list[Prediction]


class PredictionQueryTag(Wire):
    """A tag and the probabilities asked for."""

    id: Guid
    min_threshold: float | None = None
    max_threshold: float | None = None


class PredictionQueryToken(Wire):
    """What stored predictions to give."""

    session: str | None = None
    continuation: str | None = None
    max_count: int | None = Field(None, ge=0, le=INT32)
    order_by: str | None = None
    tags: list[PredictionQueryTag] | None = None
    iteration_id: Guid | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    application: str | None = None


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
