"""What the members of a travelling project's archive say. Every limit here holds for what a stranger sends.

In this order: ``project.json``, ``tags.json``; for each page of images ``images/N.json`` and each picture of it as
``images/SEQ``, or an empty ``images/SEQ.missing`` where it was erased meanwhile; for each iteration
``iterations/NUMBER.json``, ``iterations/NUMBER.onnx`` where it has a model, and ``iterations/NUMBER-N.json`` with its
scores; last ``counts.json``.
"""

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ownvision.learning.backbones import BACKBONES, BUILT_IN

FORMAT: Literal[1] = 1
PAGE = 256  # images
SCORED = 256  # scored images of one member
TRIALS = 1_000  # of one training's search
# Bytes of one member at most.
PROJECT_BYTES, JSON_BYTES, _MODEL_BYTES = 256 * 1024, 16 * 2**20, 256 * 2**20
_HEAD_BYTES = 16 * 2**20  # and what else a model has beside its backbone

WholeNumber = Annotated[int, Field(ge=0, lt=2**53)]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
TEXT = 16_384  # characters; what an account may set is checked again, and is less
Text = Annotated[str, Field(max_length=TEXT)]
Moment = Annotated[datetime, AwareDatetime]
_Base64 = Annotated[str, Field(max_length=4 * 2**20)]


def most_model_bytes() -> int:
    """Bytes of a model at most: models hold their backbone, and who registered a larger one takes such models in."""
    own = [0]
    for name in BACKBONES.keys() - BUILT_IN:
        with suppress(OSError):
            own.append(BACKBONES[name].weights().stat().st_size)
    return max(_MODEL_BYTES, max(own) + _HEAD_BYTES)


class _Member(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Counts(_Member):
    """How much of a project: all images and regions that the workspace or an iteration has, the workspace's tags."""

    images: WholeNumber
    tags: WholeNumber
    regions: WholeNumber
    iterations: WholeNumber


class ProjectMember(_Member):
    """``project.json``: what the project is, and how much it held when its token was made."""

    format: int
    revision: WholeNumber
    name: Text
    description: Text
    domain_id: Id
    classification_type: Text
    target_export_platforms: Annotated[list[Text], Field(max_length=32)]
    augmentation: dict[str, bool]
    counts: Counts


class TagRow(_Member):
    """A tag of the workspace."""

    id: Id
    name: Text
    description: Text | None
    type: Text
    created: Moment


class TagsMember(_Member):
    """``tags.json``: the workspace's tags, and the ids of those that only iterations still have."""

    tags: list[TagRow]
    former: list[Id]


class Interval(_Member):
    """The revisions `[since, until)` for which something holds; until None: it is in the workspace."""

    since: WholeNumber
    until: WholeNumber | None


class LinkRow(Interval):
    """An image carries a tag."""

    tag: Id
    created: Moment


class RegionRow(Interval):
    """A box: left, top, width, height relative to the upright picture, 0 to 1."""

    tag: Id
    box: tuple[float, float, float, float]
    created: Moment


class ImageRow(Interval):
    """An image with all that it carries or carried."""

    seq: WholeNumber
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: WholeNumber
    width: WholeNumber
    height: WholeNumber
    format: Text
    file_name: Text | None
    created: Moment
    metadata: dict[str, str]
    tags: list[LinkRow]
    regions: list[RegionRow]


class ImagesMember(_Member):
    """``images/N.json``."""

    images: Annotated[list[ImageRow], Field(min_length=1, max_length=PAGE)]


class FrozenTag(_Member):
    """A tag as an iteration saw it; `position` is its column in the model's output."""

    id: Id
    position: WholeNumber | None
    name: Text
    description: Text | None
    type: Text


class TrialMember(_Member):
    """One thing that a training tried, as `learning.search.Trial` reports it."""

    what: Text
    score: Annotated[float, Field(ge=0, le=1)] | None
    seconds: Annotated[float, Field(ge=0)]
    chosen: bool
    note: Text


class IterationMember(_Member):
    """``iterations/NUMBER.json``; `custom_base` is the number of the iteration it went on from.

    `left_out`: images of its revision that were restricted when it was fitted, by their number.
    `performance` is what another service measured (`store.tables.Iteration.origin`): then there is no model, and scores
    follow only where that service gave them.
    """

    number: Annotated[int, Field(ge=1, lt=2**31)]
    name: Text
    created: Moment
    last_modified: Moment
    trained_at: Moment | None
    revision: WholeNumber
    domain_id: Id
    classification_type: Text
    training_type: Text
    reserved_budget_in_hours: Annotated[int, Field(ge=0, lt=2**31)]
    training_seconds: Annotated[float, Field(ge=0)]
    selected_tags: list[Id]
    custom_base: int | None
    pipeline: Text
    tags: list[FrozenTag]
    left_out: list[WholeNumber] = []
    search: Annotated[list[TrialMember], Field(max_length=TRIALS)] | None = None
    performance: dict[str, Any] | None = None


class ScoredRow(_Member):
    """Scores and truth of one image, base64 of what `ScoredImage` keeps; `image` None: it was erased."""

    image: WholeNumber | None
    fold: Annotated[int, Field(ge=0, lt=1_000)]
    scores: _Base64
    truth: _Base64


class LineageRow(_Member):
    """An image that the iteration learned from and that was erased since, by its id where it was.

    `unlearned`: since when its model is one that was fitted without it.
    """

    image: Id
    receipt: Id
    unlearned: Moment | None = None


class ScoresMember(_Member):
    """``iterations/NUMBER-N.json``: a page of scored images, or of lineage."""

    scored: Annotated[list[ScoredRow], Field(max_length=SCORED)] = []
    erased: Annotated[list[LineageRow], Field(max_length=SCORED)] = []


class CountsMember(_Member):
    """``counts.json``: what the stream held, and what of the token's promise was erased since."""

    sent: Counts
    missing: Counts
