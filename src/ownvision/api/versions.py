"""What each version of the two APIs does otherwise than the newest: one table, no code paths.

Services know the newest shape only; `shapes` leaves out what a version does not have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ownvision.api import wire

TRAINING, PREDICTION = "training", "prediction"


@dataclass(frozen=True)
class Version:
    """One version of one API.

    Attributes:
        api: ``training`` or ``prediction``.
        name: As it stands in the path.
        gateway: The name rate-limit messages use.
        lacks: Fields that its models do not have, by model.
        statuses: Values of `ImageCreateStatus` it does not know, and what it says instead.
        error_codes: The same for error codes.
        prediction_date: How it writes the date of a prediction.
    """

    api: str
    name: str
    gateway: str
    lacks: Mapping[str, frozenset[str]] = field(default_factory=dict)
    statuses: Mapping[str, str] = field(default_factory=dict)
    error_codes: Mapping[str, str] = field(default_factory=dict)
    prediction_date: Callable[[datetime], str] = wire.seconds


_V34 = Version(TRAINING, "v3.4-preview", "Custom_Vision_Training_3.4")
_V33 = Version(
    TRAINING,
    "v3.3",
    "Custom_Vision_Training_3.3",
    lacks={
        "Domain": frozenset({"exportablePlatforms", "modelInformation"}),
        "Iteration": frozenset({"customBaseModelInfo", "trainingErrorDetails"}),
    },
    statuses={"ErrorImageDimensions": "ErrorImageSize", "ErrorInvalidTag": "ErrorUnknown"},
    error_codes={
        "BadRequestImageAspectRatio": "BadRequestImageDimensions",
        "BadRequestRetiredDomainNotSupportedForTraining": "BadRequestUnsupportedDomain",
        "BadRequestCustomBaseModelIterationStatusNotCompleted": "BadRequestNotSupported",
        "BadRequestCustomBaseModelDomainNotCompatible": "BadRequestNotSupported",
        "BadRequestCustomBaseModelArchitectureRetired": "BadRequestNotSupported",
        "BadRequestInvalidUri": "BadRequest",
        "ErrorServerTimeOut": "ErrorUnknown",
    },
)
_P31 = Version(
    PREDICTION,
    "v3.1",
    "Custom_Vision_Prediction_3.1",
    error_codes={key: _V33.error_codes[key] for key in ("BadRequestImageAspectRatio", "ErrorServerTimeOut")},
)
_P30 = Version(
    PREDICTION,
    "v3.0",
    "Custom_Vision_Prediction_3.0",
    lacks={"Prediction": frozenset({"tagType"})},
    error_codes={
        "BadRequestImageAspectRatio": "BadRequestInvalid",
        "BadRequestImageDimensions": "BadRequestInvalid",
        "BadRequestOperationNotSupported": "BadRequestNotSupported",
        "ErrorServerTimeOut": "ErrorUnknown",
    },
    prediction_date=wire.ticks,
)
# GetAccountInfo is the one operation of v1.2 that is here: no later version has it.
ACCOUNT = Version(TRAINING, "v1.2", "Custom_Vision_Training_1.2")
LATEST = _V34

VERSIONS: Mapping[tuple[str, str], Version] = {
    (version.api, version.name): version for version in (_V33, _V34, _P30, _P31)
}


def names(api: str) -> list[str]:
    """The versions of an API that are served, oldest first."""
    return [name for of, name in VERSIONS if of == api]
