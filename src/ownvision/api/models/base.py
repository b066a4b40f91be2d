"""What all models of the wire have in common."""

import re
import uuid
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema, model_validator
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
