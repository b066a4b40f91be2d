"""What answers of a Custom Vision resource may be. More than is named here is kept as it came, and not looked at.

Shapes go into an archive as they are; what is checked here is all that we go by.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

Shape = dict[str, Any]
_ROUNDING = 1e-5
_GUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def moment(text: Any) -> datetime:
    """A moment as the service writes it: up to seven digits of a second, with or without a zone, which is UTC then."""
    if not isinstance(text, str):
        raise ValueError("no moment")
    read = datetime.fromisoformat(text)
    return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)


def share(value: Any) -> Any:
    """A share as floats of 32 bits round it: a little beside 0 or 1 is that."""
    near = isinstance(value, int | float) and -_ROUNDING <= value <= 1 + _ROUNDING
    return min(max(float(value), 0.0), 1.0) if near else value


def figure(value: Any) -> Any:
    """A share, or None for what could not be measured, which some write as NaN."""
    return None if value == "NaN" or value != value else share(value)


Guid = Annotated[
    str, BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value), Field(pattern=_GUID)
]
Text = Annotated[str, Field(max_length=16_384)]
Address = Annotated[str, Field(max_length=8_192)]
Moment = Annotated[datetime, BeforeValidator(moment)]
# As it came, for shapes that are made of parts.
MomentText = Annotated[str, Field(max_length=64), AfterValidator(lambda text: moment(text) and text)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Share = Annotated[float, BeforeValidator(share), Field(ge=0, le=1)]
Figure = Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(figure)]
Bag = Annotated[dict[str, bool] | None, BeforeValidator(lambda value: value if isinstance(value, dict) else None)]


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, allow_inf_nan=False)


class Domain(_Answer):
    """A domain."""

    id: Guid
    name: Text
    type: Text


class Processing(_Answer):
    """How training varies pictures."""

    augmentation_methods: Bag = None


class Settings(_Answer):
    """A project's settings."""

    domain_id: Guid
    classification_type: Text | None = None
    target_export_platforms: Annotated[list[Text] | None, Field(max_length=32)] = None
    image_processing_settings: Processing | None = None


class Project(_Answer):
    """A project."""

    id: Guid
    name: Text
    description: Text | None = None
    settings: Settings
    created: Moment
    last_modified: Moment


class Tag(_Answer):
    """A tag of the workspace or of an iteration."""

    id: Guid
    name: Text
    description: Text | None = None
    type: Text | None = None
    image_count: Count = 0


class ImageTag(_Answer):
    """A tag that an image carries."""

    tag_id: Guid
    created: MomentText


class Region(_Answer):
    """A box on an image."""

    region_id: Guid
    tag_id: Guid
    created: MomentText
    left: float
    top: float
    width: float
    height: float


class Image(_Answer):
    """An image, of the workspace or of an iteration."""

    id: Guid
    created: Moment
    original_image_uri: Address
    tags: Annotated[list[ImageTag] | None, Field(max_length=10_000)] = None
    regions: Annotated[list[Region] | None, Field(max_length=10_000)] = None
    metadata: dict[str, str] | None = None


class BaseModelInfo(_Answer):
    """The iteration that another one went on from."""

    project_id: Guid
    iteration_id: Guid


class Iteration(_Answer):
    """An iteration."""

    id: Guid
    name: Text
    status: Text
    created: Moment
    last_modified: Moment
    trained_at: Moment | None = None
    domain_id: Guid | None = None
    classification_type: Text | None = None
    training_type: Text | None = None
    reserved_budget_in_hours: Count | None = None
    training_time_in_minutes: Count | None = None
    publish_name: Text | None = None
    custom_base_model_info: BaseModelInfo | None = None


class Figures(_Answer):
    """How good something is."""

    precision: Figure = None
    precision_std_deviation: Figure = None
    recall: Figure = None
    recall_std_deviation: Figure = None
    average_precision: Figure = None


class TagFigures(Figures):
    """How good an iteration is at one tag."""

    id: Guid
    name: Text


class Performance(Figures):
    """How good an iteration is."""

    per_tag_performance: Annotated[list[TagFigures], Field(max_length=10_000)]


class Box(_Answer):
    """Where on a picture something was found."""

    left: float
    top: float
    width: float
    height: float


class Predicted(_Answer):
    """A tag that was found on a picture."""

    probability: Share
    tag_id: Guid
    bounding_box: Box | None = None


class ImagePerformance(_Answer):
    """What an iteration said of an image while it was measured, and what is true."""

    id: Guid
    predictions: Annotated[list[Predicted], Field(max_length=100_000)]
    tags: Annotated[list[ImageTag] | None, Field(max_length=10_000)] = None
    regions: Annotated[list[Region] | None, Field(max_length=10_000)] = None


class Export(_Answer):
    """An export of an iteration's model."""

    platform: Text
    status: Text
    download_uri: Address | None = None
    flavor: Text | None = None


class Stored(_Answer):
    """A stored prediction."""

    id: Guid
    iteration: Guid
    domain: Guid | None = None
    created: Moment
    original_image_uri: Address
    application: Text | None = None
    predictions: Annotated[list[Predicted], Field(max_length=100_000)]


class QueryToken(_Answer):
    """Where a query of stored predictions goes on."""

    session: Address | None = None
    continuation: Address | None = None


class Query(_Answer):
    """A page of stored predictions."""

    token: QueryToken
    results: Annotated[list[Shape], Field(max_length=10_000)]


A = TypeVar("A", bound=BaseModel)
_COUNT: TypeAdapter[int] = TypeAdapter(Count)


class Foreign(Exception):
    """An answer is none of a Custom Vision resource; it says what is wrong with it."""


def one(model: type[A], answer: Any) -> A:
    """An answer, checked.

    Raises:
        Foreign: It is none.
    """
    try:
        return model.model_validate(answer)
    except (ValidationError, RecursionError) as error:
        raise Foreign(_what(error, model.__name__)) from None


def many(model: type[A], answer: Any, most: int) -> list[tuple[A, Shape]]:
    """An answer that is a list, each checked, beside what came.

    Raises:
        Foreign: It is none, or longer than `most`.
    """
    if not isinstance(answer, list) or len(answer) > most:
        raise Foreign(f"{model.__name__}: no list of at most {most}")
    return list(_each(model, answer))


def count(answer: Any) -> int:
    """An answer that is a whole number.

    Raises:
        Foreign: It is none.
    """
    try:
        return _COUNT.validate_python(answer)
    except ValidationError as error:
        raise Foreign(_what(error, "count")) from None


def _each(model: type[A], answer: list[Any]) -> Iterator[tuple[A, Shape]]:
    for shape in answer:
        yield one(model, shape), shape


def _what(error: Exception, name: str) -> str:
    if not isinstance(error, ValidationError):
        return f"{name}: nested too deeply"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{name}: {'.'.join(str(part) for part in first['loc'][:6]):.80}: {first['msg']:.160}"
