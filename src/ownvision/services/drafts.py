"""Drafts: what live learning says of a workspace while its images are tagged: a score, and suggestions.

A draft is no iteration: it has no model that is kept, and predicts for nobody. `live` makes it; a row is there while
live learning is switched on. `forgetting` empties it.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, select
from sqlalchemy.orm import Session, undefer

from ownvision.domains import DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.learning.backbones import BACKBONES
from ownvision.limits import Limits
from ownvision.services import projects, training
from ownvision.store import tally
from ownvision.store.tables import Draft, Image, Project, Tag

LEARNED, WAITING, FAILED = "learned", "waiting", "failed"  # outcomes of a fit
OFF, LEARNING, BEHIND, FRESH = "off", "learning", "behind", "fresh"  # states beside waiting and failed
ASCENDING, DESCENDING = "UncertaintyAscending", "UncertaintyDescending"
_NO_DETECTION = (
    "Live learning is for classification: a detector learns for a minute and more, not for a moment, so that a draft "
    "of it would never be of what was tagged last. Train the project, and use that iteration's suggestions."
)
_PAGE = 500


@dataclass(frozen=True)
class Live:
    """A project with live learning, and what its draft knows.

    Attributes:
        project_id: Which.
        revision: Of the workspace.
        basis: What its draft is to be made with (`basis`).
        forgotten: The draft's (`Draft.forgotten`).
        behind: Whether the draft is of something else than the workspace as it is.
        complete: Whether it suggests something for every untagged image.
    """

    project_id: str
    revision: int
    basis: str
    forgotten: int
    behind: bool
    complete: bool

    @property
    def due(self) -> bool:
        """Whether there is something to be done for it."""
        return self.behind or not self.complete


@dataclass(frozen=True)
class Suggested:
    """What a draft suggests for untagged images: of each the most probable tags.

    Attributes:
        tag_ids: What was learned.
        seqs: int64 [N], the images' `seq`.
        doubts: float32 [N], entropy in bits (`learning.uncertainty`).
        tags: int16 [N, K], positions in `tag_ids`, most probable first.
        probabilities: float32 [N, K].
    """

    tag_ids: list[str]
    seqs: NDArray[np.int64]
    doubts: NDArray[np.float32]
    tags: NDArray[np.int16]
    probabilities: NDArray[np.float32]

    def packed(self) -> bytes:
        """As `Draft.suggested` keeps it: an npz file."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            tag_ids=np.array(self.tag_ids, "S36"),
            seqs=self.seqs,
            doubts=self.doubts,
            tags=self.tags,
            probabilities=self.probabilities,
        )
        return buffer.getvalue()

    @staticmethod
    def unpacked(data: bytes) -> "Suggested":
        """The reverse of `packed`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            ids = [tag_id.decode() for tag_id in file["tag_ids"]]
            return Suggested(ids, file["seqs"], file["doubts"], file["tags"], file["probabilities"])


@dataclass(frozen=True)
class Suggestion:
    """What is suggested for one image: (tag, probability), most probable first."""

    image: Image
    uncertainty: float
    tags: list[tuple[Tag, float]]


def of(session: Session, project: Project) -> Draft | None:
    """The project's draft; None: live learning is switched off."""
    return session.get(Draft, project.id)


def switch_on(session: Session, project: Project) -> None:
    """Begin to follow a locked project; does nothing where that is so.

    Raises:
        OwnVisionError: BadRequestNotSupported, for a detection project.
    """
    if projects.is_detection(project):
        raise OwnVisionError("BadRequestNotSupported", _NO_DETECTION)
    if of(session, project) is None:
        session.add(Draft(project_id=project.id))
        session.flush()


def switch_off(session: Session, project: Project) -> None:
    """Follow a locked project no longer; its draft goes."""
    gone = session.execute(delete(Draft).where(Draft.project_id == project.id))
    tally.count(session, "drafts", gone.rowcount)  # type: ignore[attr-defined]


def lives(session: Session) -> list[Live]:
    """All projects that live learning follows: one quick look."""
    found = session.execute(
        select(
            Project.id,
            Project.revision,
            Project.domain_id,
            Project.classification_type,
            Draft.forgotten,
            Draft.revision.label("learned"),
            Draft.basis,
            Draft.complete,
        )
        .join(Draft, Draft.project_id == Project.id)
        .where(Project.closed.is_(None), Project.status == projects.SUCCEEDED)
    )
    lives = []
    for row in found:
        try:
            wanted = basis(row.domain_id, row.classification_type)
        except OwnVisionError:  # its backbone's weights are not here: the others go on
            continue
        behind = (row.learned, row.basis) != (row.revision, wanted)
        lives.append(Live(row.id, row.revision, wanted, row.forgotten, behind, row.complete))
    return lives


def basis(domain_id: str, classification_type: str) -> str:
    """What beside the data makes a draft: with another one it is not of the project as it is.

    Raises:
        OwnVisionError: The domain, or the weights of its backbone, are not here.
    """
    backbone = DOMAINS[domain_id].backbone
    return f"{training.RECIPE}/{BACKBONES[backbone].version}|{classification_type}"


def state(project: Project, draft: Draft | None) -> str:
    """off, learning (there is no draft yet), behind, fresh, waiting (for more images), or failed."""
    if draft is None:
        return OFF
    current = (draft.revision, draft.basis) == (
        project.revision,
        basis(project.domain_id, project.classification_type),
    )
    if draft.outcome is None or not current:
        return BEHIND if draft.outcome == LEARNED else LEARNING
    return FRESH if draft.outcome == LEARNED else draft.outcome


def waiting_tags(session: Session, project: Project, limits: Limits) -> list[tuple[Tag, int]]:
    """Tags that have too few images to be learned, with how many they have."""
    tags = list(session.scalars(select(Tag).where(Tag.project_id == project.id).order_by(Tag.name)))
    there = training.usable(session, project, tags)
    return [(tag, there[tag.id]) for tag in tags if there[tag.id] < limits.classification_images_per_tag]


def suggestions(
    session: Session, project: Project, *, take: int, sort_by: str, continuation: str | None
) -> tuple[list[Suggestion], str | None]:
    """One page of the images that are untagged now, by how unsure their suggestions are, and what leads to the next.

    A page goes on behind the place where the one before ended, also in a draft that was made meanwhile.

    Raises:
        OwnVisionError: NotFound, when live learning is off; BadRequest, for a `sort_by` or `continuation` that is none.
    """
    draft = session.scalar(select(Draft).where(Draft.project_id == project.id).options(undefer(Draft.suggested)))
    if draft is None:
        raise OwnVisionError("NotFound", f"Live learning of project {project.id} is off; switch it on first.")
    directions = {name.lower(): sign for name, sign in ((ASCENDING, 1), (DESCENDING, -1))}
    if sort_by.lower() not in directions:
        raise OwnVisionError("BadRequest", f"sortBy is {ASCENDING} or {DESCENDING}, not {sort_by!r}.")
    after = None if continuation is None else _place(continuation)
    if draft.suggested is None or take == 0:
        return [], None
    known = {tag.id: tag for tag in session.scalars(select(Tag).where(Tag.project_id == project.id))}
    said = Suggested.unpacked(draft.suggested)
    found: list[Suggestion] = []
    for row, image in _still_untagged(session, said, directions[sort_by.lower()], after):
        if len(found) == take:
            last = found[-1]
            return found, f"{last.uncertainty!r}:{last.image.seq}"
        pairs = zip(said.tags[row], said.probabilities[row], strict=True)
        named = [(known[said.tag_ids[tag]], float(share)) for tag, share in pairs if said.tag_ids[tag] in known]
        found.append(Suggestion(image, float(said.doubts[row]), named))
    return found, None


def _place(continuation: str) -> tuple[float, int]:
    doubt, _, seq = continuation.partition(":")
    try:
        return float(doubt), int(seq)
    except ValueError:
        raise OwnVisionError("BadRequest", "continuation is what an earlier page answered.") from None


def _still_untagged(
    session: Session, said: Suggested, direction: int, after: tuple[float, int] | None
) -> Iterator[tuple[int, Image]]:
    doubts, seqs = direction * said.doubts.astype(np.float64), said.seqs
    order = np.lexsort((seqs, doubts))
    if after is not None:
        doubt, seq = direction * after[0], after[1]
        order = order[(doubts[order] > doubt) | ((doubts[order] == doubt) & (seqs[order] > seq))]
    for start in range(0, len(order), _PAGE):
        part = order[start : start + _PAGE]
        there = _untagged(session, [int(seq) for seq in seqs[part]])
        yield from ((int(row), there[int(seqs[row])]) for row in part if int(seqs[row]) in there)


def _untagged(session: Session, seqs: Sequence[int]) -> dict[int, Image]:
    found = session.scalars(
        select(Image).where(
            Image.seq.in_(seqs), Image.until.is_(None), Image.tagged.is_(False), Image.restricted.is_(None)
        )
    )
    return {image.seq: image for image in found}


def shape(session: Session, project: Project, limits: Limits) -> dict[str, Any]:
    """All that there is to know of a project's draft, in the wire's form; moments are datetimes."""
    draft = of(session, project)
    score = None if draft is None or draft.score is None else dict(draft.score)
    per_tag = {} if score is None else score.pop("perTag")
    names = {tag.id: tag.name for tag in session.scalars(select(Tag).where(Tag.project_id == project.id))}
    few = [] if draft is None else waiting_tags(session, project, limits)
    return {
        "projectId": project.id,
        "enabled": draft is not None,
        "state": state(project, draft),
        "reason": None if draft is None else draft.reason,
        "revision": None if draft is None else draft.revision,
        "workspaceRevision": project.revision,
        "learned": None if draft is None else draft.learned,
        "score": score,
        "perTag": [{"id": id, "name": names[id], **one} for id, one in per_tag.items() if id in names],
        "waitingTags": [
            {"id": tag.id, "name": tag.name, "images": there, "needed": limits.classification_images_per_tag}
            for tag, there in few
        ],
        "suggestionsComplete": draft is not None and draft.outcome == LEARNED and draft.complete,
    }
