"""What a takeout is made from: this installation (`own`), or a service that is asked through its public API.

A source gives resources as the newest API shows them (v3.4's JSON, camelCase) and bytes beside them; it knows nothing
of archives. What `row` carries is what `services.travel` sends of a project, so that the archive can be restored;
the writer fills in where in the archive the bytes are, and sizes and hashes that the source does not know.

Everything is asked for once and in the order of the protocol's methods; an iterator is read to its end before the next
method is called. Nothing may be held open (transaction, connection) between two items.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from ownvision.data_rights.takeout.contents import (
    ExportRow,
    ExtraMember,
    IterationExtra,
    KeptImageRow,
    PredictionRow,
    SuggestionRow,
)
from ownvision.services.travel.contents import IterationMember, ProjectMember, ScoresMember, TagsMember

Shape = dict[str, Any]
Scope = Literal["account", "project", "selection"]
# Opens bytes anew each time, in parts; for what may be large.
Chunks = Callable[[], Iterator[bytes]]


class Missing(Exception):
    """What was asked for is no longer there, or can't be read: it is left out and counted as missing."""


@dataclass(frozen=True)
class Picture:
    """An image of the project, with its bytes.

    Attributes:
        shape: The API's Image. Addresses (keys that end in ``Uri``) may be there or not: the writer takes them out.
        row: The same for a restore. `sha256` is of what `read` gives, or "" for the writer to hash; `size` and `path`
            are the writer's to fill in; `seq` is ascending.
        read: Its bytes; called once, maybe from another thread. Raises `Missing`.
        in_workspace: False for one that only iterations still have.
    """

    shape: Shape
    row: KeptImageRow
    read: Callable[[], bytes]
    in_workspace: bool = True


@dataclass(frozen=True)
class Stored:
    """A stored prediction with its picture.

    Attributes:
        shape: The API's StoredImagePrediction.
        row: The same for a restore; `sha256` as a picture's.
        read: The picture's bytes. Raises `Missing`.
    """

    shape: Shape
    row: PredictionRow
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Exported:
    """An export with its archive; `chunks` raises `Missing`."""

    shape: Shape
    row: ExportRow
    chunks: Chunks | None = None  # None: there is no archive (it failed, or is being made)


@dataclass(frozen=True)
class Learned:
    """An iteration.

    Attributes:
        number: In the project, from 1; ascending over the iterations given.
        shape: The API's Iteration.
        tags: Its own tags: the API's Tag.
        performance: The API's IterationPerformance; None: not trained.
        performances: The API's ImagePerformance of every image it scored.
        model: ``model.onnx``; None: there is none to have. Raises `Missing`: the iteration is left out of the restore.
        row: The same for a restore; None: it can't be restored (not trained).
        extra: What travel leaves out.
        scores: Out-of-fold scores and lineage.
        exports: Of this iteration.
    """

    number: int
    shape: Shape
    tags: Sequence[Shape] = ()
    performance: Shape | None = None
    performances: Callable[[], Iterable[Shape]] = field(default=lambda: ())
    model: Chunks | None = None
    row: IterationMember | None = None
    extra: IterationExtra | None = None
    scores: Callable[[], Iterable[ScoresMember]] = field(default=lambda: ())
    exports: Callable[[], Iterable[Exported]] = field(default=lambda: ())


class ProjectSource(Protocol):
    """One project.

    Attributes:
        shape: The API's Project.
        detection: Whether tags belong to boxes.
        head: What the project is, for a restore; `head.counts` are what is promised: no more than that may come.
    """

    shape: Shape
    detection: bool
    head: ProjectMember

    def tags(self) -> Sequence[Shape]:
        """The workspace's tags: the API's Tag, oldest first."""

    def tag_rows(self) -> TagsMember:
        """The same for a restore, and the ids of tags that only iterations have."""

    def images(self) -> Iterator[Picture]:
        """All images of the workspace, and those that only iterations still have, by `row.seq`."""

    def iterations(self) -> Iterator[Learned]:
        """All iterations by number."""

    def predictions(self) -> Iterator[Stored]:
        """Stored predictions, oldest first."""

    def suggestions(self) -> Iterator[tuple[Shape, SuggestionRow]]:
        """The API's StoredSuggestedTagAndRegion, by image; and the same for a restore."""

    def extra(self) -> ExtraMember:
        """What travel leaves out of the project itself."""


class Source(Protocol):
    """An account, or one project of it.

    Attributes:
        scope: Of what it is a takeout; "selection": of images and predictions that were chosen.
        origin: What it was taken from, for the person: "OwnVision 0.3", "https://….cognitiveservices.azure.com".
        made: The moment to which it is true.
        total: About how many images and predictions there are, for the progress.
    """

    @property
    def scope(self) -> Scope:
        """See above."""

    origin: str
    made: datetime
    total: int

    def account(self) -> Shape | None:
        """GetAccountInfo's JSON with keys, ``rules`` and ``holds``; None: there is none to have."""

    def audit(self) -> Iterator[Shape]:
        """Audit events, oldest first."""

    def receipts(self) -> Iterator[Shape]:
        """Receipts of erasures, oldest first."""

    def projects(self) -> Iterator[ProjectSource]:
        """The projects, oldest first."""
