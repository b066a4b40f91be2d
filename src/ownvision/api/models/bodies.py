"""Bodies of requests."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from ownvision.api.models.base import INT32, Guid, Wire


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("this is no time of the calendar") from None


Moment = Annotated[datetime, AfterValidator(_in_utc)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


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
    export_model_container_uri: str | None = None
    notification_queue_uri: str | None = None


class ProjectChange(Wire):
    """A project's new values; what is left out stays."""

    name: str | None = None
    description: str | None = None
    settings: ProjectSettings | None = None


class CreateProjectOptions(Wire):
    """Options of a new project: its own Azure Storage."""

    export_model_container_uri: str | None = None
    notification_queue_uri: str | None = None


class TagChange(Wire):
    """A tag's new values; what is left out stays."""

    name: str | None = None
    description: str | None = None
    type: str | None = None


class Region(Wire):
    """A box to be put on an image, relative to the upright picture."""

    tag_id: Guid
    left: float
    top: float
    width: float
    height: float


def _entries(value: object, plural: str, key: str) -> object:
    """A batch in which v1.0 gives its entries' keys alone."""
    if isinstance(value, Mapping):
        for name, items in value.items():
            if isinstance(name, str) and name.lower() == plural and isinstance(items, list):
                return {**value, "images": [{key: item} for item in items]}
    return value


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

    @model_validator(mode="before")
    @classmethod
    def _of_v10(cls, value: object) -> object:
        return _entries(value, "urls", "url")


class ImageIdCreateEntry(Entry):
    """The id of a stored prediction."""

    id: Guid


class ImageIdCreateBatch(Batch):
    """A batch of stored predictions."""

    images: list[ImageIdCreateEntry] | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_v10(cls, value: object) -> object:
        return _entries(value, "ids", "id")


class ImageTagCreateEntry(Wire):
    """An image and a tag for it."""

    image_id: Guid
    tag_id: Guid


class ImageTagCreateBatch(Wire):
    """Image tags to be made."""

    tags: list[ImageTagCreateEntry] | None = None


class ImageRegionCreateEntry(Region):
    """A box for an image."""

    image_id: Guid


class ImageRegionCreateBatch(Wire):
    """Boxes to be made."""

    regions: list[ImageRegionCreateEntry] | None = None


class CustomBaseModelInfo(Wire):
    """The iteration that training starts from."""

    project_id: Guid
    iteration_id: Guid


class TrainingParameters(Wire):
    """Parameters of one training."""

    selected_tags: list[Guid] | None = None
    custom_base_model_info: CustomBaseModelInfo | None = None


class IterationChange(Wire):
    """An iteration's new name; before v3.0 also whether predictions are its, if nothing else is asked for."""

    name: str | None = None
    is_default: bool | None = None


class ImageUrl(Wire):
    """The address of an image."""

    url: str


class PredictionQueryTag(Wire):
    """A tag and the probabilities asked for."""

    id: Guid
    min_threshold: Probability | None = None
    max_threshold: Probability | None = None


class PredictionQueryToken(Wire):
    """What stored predictions to give."""

    session: str | None = None
    continuation: str | None = None
    max_count: int | None = Field(None, ge=0, le=INT32)
    order_by: str | None = None
    tags: list[PredictionQueryTag] | None = None
    iteration_id: Guid | None = None
    start_time: Moment | None = None
    end_time: Moment | None = None
    application: str | None = None


class TagFilter(Wire):
    """Tags, and how probable a suggestion must be to count."""

    tag_ids: list[Guid] | None = None
    threshold: Probability | None = None


class SuggestedTagAndRegionQueryToken(TagFilter):
    """What suggestions to give."""

    session: str | None = None
    continuation: str | None = None
    max_count: int | None = Field(None, ge=0, le=INT32)
    sort_by: str | None = None
