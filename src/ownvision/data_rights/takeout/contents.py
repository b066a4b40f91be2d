"""What the members of a takeout are: one table of names, and what ``restore/`` says beyond a travelling project.

Every limit holds for what a stranger sends.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ownvision.services.travel.contents import PAGE, ImageRow, Moment, RegionRow, Text, WholeNumber
from ownvision.services.travel.contents import Id as Id

FORMAT: Literal["ownvision-takeout"] = "ownvision-takeout"
VERSION: Literal[1] = 1
PATH = 240  # characters of a path in the archive, at most
_Path = Annotated[str, Field(max_length=1_024)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

# Every member, in the order of the archive: a pattern of its name and what it is; the README and the docs show it.
MEMBERS: tuple[tuple[str, str], ...] = (
    ("README.md", "What this archive is, in plain language, with counts"),
    ("account.json", "The account with its keys, retention rules and legal holds (only of a whole account)"),
    ("audit.jsonl", "Who viewed, exported, changed or deleted what and when; one event per line"),
    ("receipts.jsonl", "Receipts of erasures; one per line"),
    ("projects/NAME/project.json", "The project, as GetProject shows it"),
    ("projects/NAME/tags.json", "Its tags, as GetTags shows them"),
    ("projects/NAME/images/FILE", "Every picture, byte by byte as it was uploaded, under its own name"),
    ("projects/NAME/images.jsonl", "One image per line, as GetImages shows it, with path, fileName and sha256"),
    ("projects/NAME/iterations/NUMBER/iteration.json", "An iteration, as GetIteration shows it"),
    ("projects/NAME/iterations/NUMBER/search.json", "What its training tried beside quick training"),
    ("projects/NAME/iterations/NUMBER/tags.json", "The tags that it knows"),
    ("projects/NAME/iterations/NUMBER/performance.json", "How good it is, as GetIterationPerformance shows it"),
    ("projects/NAME/iterations/NUMBER/image-performances.jsonl", "What it said of each image while it was measured"),
    ("projects/NAME/iterations/NUMBER/model.onnx", "Its model"),
    ("projects/NAME/iterations/NUMBER/exports.json", "Its exports, as GetExports shows them"),
    ("projects/NAME/iterations/NUMBER/exports/PLATFORM-FLAVOR.zip", "An export's archive"),
    ("projects/NAME/predictions/ID.EXT", "The picture of a stored prediction"),
    ("projects/NAME/predictions.jsonl", "One stored prediction per line, as QueryPredictions shows it"),
    ("projects/NAME/suggestions.jsonl", "Suggested tags and regions, one image per line"),
    ("projects/NAME/annotations/coco.json", "All tags and boxes in the form of COCO"),
    ("projects/NAME/annotations/voc/", "The same in the form of Pascal VOC"),
    ("projects/NAME/annotations/yolo/", "The same in the form of YOLO"),
    ("projects/NAME/annotations/annotations.csv", "The same as a table"),
    ("projects/NAME/annotations/annotations.jsonl", "The same as JSON, one image per line"),
    ("projects/NAME/annotations/link.py", "Run once, it puts the pictures where tools for VOC and YOLO look for them"),
    ("projects/NAME/restore/", "What OwnVision needs to restore the project exactly"),
    ("files.jsonl", "Path, bytes and SHA-256 of every file before this one; one per line"),
    ("manifest.json", "Format, version, counts, and the SHA-256 of files.jsonl"),
)


class Member(BaseModel):
    """What ``restore/`` and the manifest hold: nothing else than is named here."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class KeptRegionRow(RegionRow):
    """A box with its id."""

    id: Id


class KeptImageRow(ImageRow):
    """An image as it travels, with what a copy elsewhere would not have: its id, and where its bytes are.

    `path` is within the project's folder; None: its bytes were gone when the archive was made.
    """

    id: Id
    path: _Path | None
    uploaded_by: Id | None = None
    restricted: Moment | None = None
    regions: list[KeptRegionRow]  # type: ignore[assignment] # narrower, and only read


class KeptImagesMember(Member):
    """``restore/images/N.json``."""

    images: Annotated[list[KeptImageRow], Field(min_length=1, max_length=PAGE)]


class IterationExtra(Member):
    """What travel leaves out of an iteration; `path` of the model is within the project's folder."""

    number: Annotated[int, Field(ge=1, lt=2**31)]
    id: Id
    publish_name: Text | None = None
    publish_resource_id: Annotated[str, Field(max_length=4_096)] | None = None
    is_default: bool = False
    unlearning: Text | None = None


class ExportRow(Member):
    """An export that is done; `path` None: its archive was gone."""

    id: Id
    number: WholeNumber  # the iteration's
    platform: Text
    flavor: Text
    created: Moment
    path: _Path | None = None
    sha256: _Sha256 | None = None


class PredictionRow(Member):
    """A stored prediction; `number` is the iteration's, `predictions` as `store.tables.Prediction` keeps them."""

    id: Id
    number: WholeNumber
    domain_id: Id
    application: Annotated[str, Field(max_length=4_096)] | None
    created: Moment
    uncertainty: float
    predictions: Annotated[list[dict[str, Any]], Field(max_length=100_000)]
    sha256: str  # "": the writer fills it in
    width: WholeNumber
    height: WholeNumber
    size: WholeNumber
    format: Text
    path: _Path | None = None


class PredictionsMember(Member):
    """``restore/predictions/N.json``."""

    predictions: Annotated[list[PredictionRow], Field(min_length=1, max_length=PAGE)]


class SuggestionRow(Member):
    """What an iteration suggests for an image; `image` is its `seq`."""

    image: WholeNumber
    number: WholeNumber
    created: Moment
    uncertainty: float
    predictions: Annotated[list[dict[str, Any]], Field(max_length=100_000)]


class SuggestionsMember(Member):
    """``restore/suggestions/N.json``."""

    suggestions: Annotated[list[SuggestionRow], Field(min_length=1, max_length=PAGE)]


class RuleRow(Member):
    """A retention rule of the project."""

    kind: Text
    days: WholeNumber


class ExtraMember(Member):
    """``restore/extra.json``: what travel leaves out of a project; the writer fills in iterations and exports."""

    id: Id
    created: Moment
    last_modified: Moment
    iterations_made: WholeNumber
    erasure_policy: Text = "keep"
    live_learning: bool = False
    rules: Annotated[list[RuleRow], Field(max_length=1_000)] = []
    iterations: list[IterationExtra] = []
    exports: list[ExportRow] = []
    predictions: WholeNumber = 0
    suggestions: WholeNumber = 0


class FileRow(Member):
    """A line of ``files.jsonl``."""

    path: _Path
    bytes: WholeNumber
    sha256: _Sha256


class Manifest(Member):
    """``manifest.json``: `files` and `bytes` count what ``files.jsonl`` names."""

    format: Literal["ownvision-takeout"]
    version: int
    made: Moment
    origin: Text
    scope: Literal["account", "project", "selection"]
    projects: list[dict[str, Any]]  # [{"name", "folder", "counts"}]
    counts: dict[str, WholeNumber]
    files: WholeNumber
    bytes: WholeNumber
    files_sha256: _Sha256
