"""Parameters in paths and queries: lists with commas or repeated, enumerations and booleans in any case."""

from typing import Annotated, Any

from fastapi import Depends, Path, Query
from pydantic import BeforeValidator, WithJsonSchema

from ownvision.api.models import INT32, Guid
from ownvision.errors import OwnVisionError
from ownvision.services import projects

_GUIDS = {"type": "array", "items": {"type": "string", "format": "uuid"}}


def _split(value: object) -> object:
    if isinstance(value, list):
        return [part.strip() for item in value for part in str(item).split(",") if part.strip()]
    return value


def _one_of(*names: str) -> BeforeValidator:
    by_lower = {name.lower(): name for name in names}

    def choose(value: object) -> object:
        chosen = by_lower.get(str(value).lower())
        if chosen is None:
            raise ValueError(f"it must be {' or '.join(names)}")
        return chosen

    return BeforeValidator(choose)


def _truth(value: object) -> object:
    known = {"true": True, "false": False}
    chosen = known.get(str(value).lower())
    if chosen is None:
        raise ValueError("it must be true or false")
    return chosen


def _blank(value: object) -> object:
    """An empty parameter counts as one left out."""
    return None if value == "" else value


ProjectId = Annotated[Guid, Path(alias="projectId")]
TagId = Annotated[Guid, Path(alias="tagId")]
ImageId = Annotated[Guid, Path(alias="imageId")]
DomainId = Annotated[Guid, Path(alias="domainId")]
IterationId = Annotated[Guid, Path(alias="iterationId")]
PublishedName = Annotated[str, Path(alias="publishedName", min_length=1)]

OptionalGuid = Annotated[Guid | None, BeforeValidator(_blank)]
Flag = Annotated[bool, BeforeValidator(_truth)]


async def _for_iteration(
    project_id: ProjectId, iteration_id: Annotated[OptionalGuid, Query(alias="iterationId")] = None
) -> str | None:
    """The workspace, which v1.x names like an iteration, is no iteration."""
    return None if iteration_id == projects.workspace_id(project_id) else iteration_id


ForIteration = Annotated[str | None, Depends(_for_iteration)]
QueriedIteration = Annotated[Guid, Query(alias="iterationId")]
OrderBy = Annotated[
    str, Query(alias="orderBy"), _one_of("Newest", "Oldest"), WithJsonSchema({"enum": ["Newest", "Oldest"]})
]
TaggingStatus = Annotated[
    str,
    Query(alias="taggingStatus"),
    _one_of("All", "Tagged", "Untagged"),
    WithJsonSchema({"enum": ["All", "Tagged", "Untagged"]}),
]
Filter = Annotated[str | None, Query(alias="$filter"), BeforeValidator(_blank)]
Take = Annotated[int, Query(ge=0, le=INT32)]
Skip = Annotated[int, Query(ge=0, le=INT32)]
Application = Annotated[str | None, Query(max_length=256), BeforeValidator(_blank)]


TagIds = Annotated[list[Guid], Query(alias="tagIds"), BeforeValidator(_split), WithJsonSchema(_GUIDS)]
ImageIds = Annotated[list[Guid], Query(alias="imageIds"), BeforeValidator(_split), WithJsonSchema(_GUIDS)]
RegionIds = Annotated[list[Guid], Query(alias="regionIds"), BeforeValidator(_split), WithJsonSchema(_GUIDS)]
PredictionIds = Annotated[list[Guid], Query(alias="ids"), BeforeValidator(_split), WithJsonSchema(_GUIDS)]
Platforms = Annotated[
    list[str],
    Query(alias="targetExportPlatforms"),
    BeforeValidator(_split),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
]


def at_most(items: list[Any], limit: int, what: str, code: str = "BadRequestExceededBatchSize") -> None:
    """Refuse a list that is too long.

    Raises:
        OwnVisionError: `code`.
    """
    if len(items) > limit:
        raise OwnVisionError(code, f"At most {limit} {what} at once; these are {len(items)}.")


def given(items: list[Any] | None, name: str, code: str = "BadRequestRequiredParamIsNull") -> list[Any]:
    """A list that must not be empty.

    Raises:
        OwnVisionError: `code`.
    """
    if not items:
        raise OwnVisionError(code, f"{name} is missing or empty.")
    return items


def page(take: int, limit: int) -> int:
    """A `take` within the limit.

    Raises:
        OwnVisionError: BadRequest.
    """
    if take > limit:
        raise OwnVisionError("BadRequest", f"take is at most {limit}, not {take}.")
    return take
