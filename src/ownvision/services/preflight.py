"""Before a training: how long it would take, and what is wrong with the data.

A job of the quick lane measures and looks; what it found stands in its row, by ids, and is put into words when it is
asked for. The row's result goes with the first image that goes (`coverage`), and the row as all jobs do.
"""

import hashlib
import io
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from ownvision.domains import DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.learning import examine, pixels
from ownvision.learning.backbones import BACKBONES
from ownvision.limits import Limits
from ownvision.services import embedding, estimating, fitting, outputs, projects, training
from ownvision.services.components import Components
from ownvision.services.frozen import Frozen, at_revision
from ownvision.store.tables import Image, ImageMetadata, Iteration, Job, Project, Tag

KIND = "examine"
# After whoever waits for an export, before embeddings that nobody waits for.
_PRIORITY = 5
_BEAT_SECONDS = 0.5
_MOST = 200  # findings of one kind
_FEW = 5  # images of a tag below which its labels can't be judged
_CROPS = 2_000  # boxes that are looked at
_CROP_SIDE = 640
# Keys of metadata that tell where a picture comes from.
SOURCES = ("source", "camera", "device", "session", "site", "location", "batch", "patient", "subject")


class _MadeWay(Exception):
    """The job was put back, since another waits."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with the data.

    Attributes:
        kind: A key of `SENTENCES`.
        images: Ids.
        tags: Ids.
        score: How sure, 0 to 1.
        numbers: What the sentence tells besides.
    """

    kind: str
    images: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    score: float = 1.0
    numbers: dict[str, float] = field(default_factory=dict)

    def shape(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "kind": self.kind,
            "images": self.images,
            "tags": self.tags,
            "score": round(self.score, 4),
            "numbers": self.numbers,
        }


def start(session: Session, project: Project) -> Job:
    """Queue a preflight of a locked project, or return the one under way; what an earlier one found goes."""
    session.execute(
        delete(Job)
        .where(Job.kind == KIND, Job.project_id == project.id, Job.state.not_in((rows.QUEUED, rows.RUNNING)))
        .execution_options(synchronize_session=False)
    )
    return rows.enqueue(
        session,
        kind=KIND,
        account_id=project.account_id,
        project_id=project.id,
        subject=project.id,
        lane=rows.QUICK,
        priority=_PRIORITY,
    )


def latest(session: Session, project: Project, limits: Limits) -> dict[str, Any]:
    """The project's preflight in words, as far as it is.

    Raises:
        OwnVisionError: NotFound: none was asked for, or an image was erased since it was made.
    """
    job = session.scalar(
        select(Job).where(Job.kind == KIND, Job.project_id == project.id).order_by(Job.created.desc()).limit(1)
    )
    over = job is not None and job.state == rows.DONE
    if job is None or (over and job.result is None):
        raise OwnVisionError(
            "NotFound", "There is no preflight of this project, or what it found is out of date; ask for one with POST."
        )
    result: dict[str, Any] = job.result or {}
    names = {tag.id: tag.name for tag in session.scalars(select(Tag).where(Tag.project_id == project.id))}
    return {
        "jobId": job.id,
        "state": job.state,
        "progress": float(job.progress),
        "error": job.error,
        "revision": result.get("revision"),
        "outOfDate": bool(result) and result["revision"] != project.revision,
        "images": result.get("images"),
        "refusal": training.refusal(session, project, limits),
        "estimate": result.get("estimate"),
        "estimateNote": result.get("note"),
        "trained": None if not result else _trained(session, project, result["revision"]),
        "counts": result.get("counts", {}),
        "findings": [
            {
                "kind": one["kind"],
                "sentence": sentence(one, names),
                "imageIds": one["images"],
                "tagIds": one["tags"],
                "score": one["score"],
            }
            for one in result.get("findings", [])
        ],
    }


def _trained(session: Session, project: Project, revision: int) -> dict[str, Any] | None:
    """What the training that followed took in truth."""
    iteration = session.scalar(
        select(Iteration)
        .where(Iteration.project_id == project.id, Iteration.revision == revision, Iteration.status == "Completed")
        .order_by(Iteration.number.desc())
        .limit(1)
    )
    return None if iteration is None else {"iterationId": iteration.id, "seconds": iteration.training_seconds}


def sentence(finding: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What a finding says, for a person."""
    tags = [f"“{names[id]}”" if id in names else "a tag that is gone" for id in finding["tags"]] + ["", ""]
    return SENTENCES[finding["kind"]].format(first=tags[0], second=tags[1], **finding["numbers"])


SENTENCES = {
    "copy across tags": "These two images are one picture, but one carries {first} and the other {second}.",
    "wrong tag": "This image carries {first}; from all the others one would say {second}.",
    "doubtful tag": "This image carries {first}; nothing that the other images teach speaks for it.",
    "missing tag": "This image does not carry {first}; from all the others one would say it should.",
    "wrong box tag": "A box on this image carries {first}; what is in it looks like {second}.",
    "copy": "These two images are one picture saved twice: it counts double, and flatters the scores.",
    "no image": "The tag {first} is on no image.",
    "tiny tag": "The tag {first} is on {images:.0f} images only; scores of so few say little. Add some.",
    "unbalanced tag": "The tag {first} is on {images:.0f} images, another on {most:.0f}: it is easily missed.",
    "box outside": "A box of {first} lies outside of the picture, or has no area.",
    "box two tags": "Two boxes on the same spot carry {first} and {second}.",
    "box twice": "A box of {first} is there twice.",
    "box small": "A box of {first} is less than 1 % of the picture wide or high; hardly anything of it is left to see.",
    "box thin": "A box of {first} is more than 15 times as long as it is wide.",
    "box large": "A box of {first} covers nearly the whole picture.",
    "sources": "The metadata names {sources:.0f} sources. Scores are measured on pictures of the same sources as were "
    "learned from: on pictures from others expect less, and keep some of those aside to test with.",
    "one source": "All images of {first} come from one source, which other tags do not share: the model may learn the "
    "source instead of the thing.",
}


def run(components: Components, claim: rows.Claim) -> None:
    """Job: measure, look, and note both in the job's row.

    Raises:
        rows.Stale, rows.Cancelled: As `rows.heartbeat`.
        OwnVisionError: An image can't be read.
    """
    try:
        _run(components, claim)
    except _MadeWay:
        return
    except embedding.Unreadable as error:
        raise OwnVisionError(
            "ErrorFeaturizationServiceUnavailable",
            f"Image {error.image_id} can't be read; delete it and upload it anew.",
        ) from None


def _run(components: Components, claim: rows.Claim) -> None:
    beat = _Beat(components, claim)
    with components.database.read() as session:
        project = session.get(Project, claim.project_id)
        if project is None:
            raise rows.Cancelled(claim.job_id)
        tags = list(session.scalars(select(Tag).where(Tag.project_id == project.id).order_by(Tag.name)))
        frozen = at_revision(session, project.id, project.revision, {tag.id: tag.type for tag in tags})
        findings = _of_sources(session, project, frozen)
    findings += _of_tags(frozen)
    multilabel, detects = project.classification_type == "Multilabel", projects.is_detection(project)
    if detects:
        findings += _of_boxes(frozen)
    estimate, note = _estimate(components, frozen, project.domain_id, multilabel, beat)
    _keep(components, claim, project.revision, frozen, estimate, note, findings, done=False)
    if frozen.images:
        more, measured = _of_images(components, frozen, project.domain_id, multilabel, beat)
        findings += more
        if estimate is not None and measured is not None:
            estimate, note = measured, ""
    _keep(components, claim, project.revision, frozen, estimate, note, findings, done=True)


class _Beat:
    """Notes progress, and puts the job back where another one waits."""

    def __init__(self, components: Components, claim: rows.Claim) -> None:
        self._components, self._claim, self._said = components, claim, 0.0

    def __call__(self, share: float) -> None:
        if time.monotonic() - self._said < _BEAT_SECONDS:
            return
        database = self._components.database
        rows.heartbeat(database, self._claim, min(share, 0.99), self._components.settings.job_lease)
        self._said = time.monotonic()
        waits = select(Job.id).where(Job.state == rows.QUEUED, Job.lane == self._claim.lane, Job.priority < _PRIORITY)
        with database.read() as session:
            waiting = session.scalar(waits.limit(1)) is not None
        if waiting and rows.give_back(database, self._claim):
            raise _MadeWay

    def scaled(self, start: float, end: float) -> Callable[[float], None]:
        """The same for a part of the work, told its own share."""
        return lambda share: self(start + (end - start) * share)


def _estimate(
    components: Components, frozen: Frozen, domain_id: str, multilabel: bool, beat: _Beat
) -> tuple[estimating.Estimate | None, str]:
    """What a training would take, or why that is not known."""
    try:
        return (
            estimating.estimate(components, frozen, domain_id, multilabel, beat.scaled(0, 0.3)),
            "",
        )
    except ImportError:
        return None, training.INSTALL_TRAIN
    except (ValueError, pixels.BadImage):
        return None, "There is not enough to train with yet."


def _keep(
    components: Components,
    claim: rows.Claim,
    revision: int,
    frozen: Frozen,
    estimate: estimating.Estimate | None,
    note: str,
    findings: Sequence[Finding],
    *,
    done: bool,
) -> None:
    counts = Counter(one.kind for one in findings)
    kept = [one for kind in SENTENCES for one in _best([one for one in findings if one.kind == kind])]
    with components.database.write() as session:
        outputs.hold(session, claim)
        session.get_one(Job, claim.job_id).result = {
            "revision": revision,
            "images": len(frozen.images),
            "estimate": None if estimate is None else estimate.shape(),
            "note": note,
            "counts": dict(counts),
            "findings": [one.shape() for one in kept],
        }
        if done:
            rows.finish(session, claim)


def _best(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda one: -one.score)[:_MOST]


def _of_tags(frozen: Frozen) -> list[Finding]:
    kinds = {"tiny": "tiny tag", "unbalanced": "unbalanced tag"}
    return [
        Finding(
            kinds[one.kind] if one.images else "no image",
            tags=[frozen.tag_ids[one.tag]],
            numbers={"images": float(one.images), "most": float(one.most)},
        )
        for one in examine.thin_tags(frozen.labels)
    ]


def _of_boxes(frozen: Frozen) -> list[Finding]:
    images = [
        (np.array([box[1:] for box in image.boxes]).reshape(-1, 4), np.array([box[0] for box in image.boxes], np.int64))
        for image in frozen.images
    ]
    return [
        Finding(
            f"box {one.kind}",
            [frozen.images[one.row].id],
            [frozen.tag_ids[images[one.row][1][index]] for index in one.boxes],
        )
        for one in examine.odd_boxes(images)
    ]


def _of_sources(session: Session, project: Project, frozen: Frozen) -> list[Finding]:
    """Pictures of several sources, where the metadata tells; folds mix them, so that scores flatter."""
    told = session.execute(
        select(Image.id, ImageMetadata.key, ImageMetadata.value)
        .join(Image, Image.seq == ImageMetadata.image_seq)
        .where(
            ImageMetadata.project_id == project.id,
            Image.until.is_(None),
            func.lower(ImageMetadata.key).in_(SOURCES),
        )
    ).all()
    by_key: dict[str, dict[str, str]] = defaultdict(dict)
    for image_id, key, value in told:
        by_key[key.lower()][image_id] = value
    found = []
    for source_of in by_key.values():
        sources = set(source_of.values())
        if not 2 <= len(sources) <= len(source_of) / 2:
            continue
        found.append(Finding("sources", numbers={"sources": float(len(sources))}))
        of_tag: dict[int, set[str | None]] = defaultdict(set)
        for image in frozen.images:
            for tag in image.tags:
                of_tag[tag].add(source_of.get(image.id))
        for tag, own in of_tag.items():
            others = set().union(*(of for other, of in of_tag.items() if other != tag))
            if len(own) == 1 and None not in own and not own & others:
                found.append(Finding("one source", tags=[frozen.tag_ids[tag]]))
    return found[:_MOST]


def _of_images(
    components: Components, frozen: Frozen, domain_id: str, multilabel: bool, beat: _Beat
) -> tuple[list[Finding], estimating.Estimate | None]:
    """Copies and doubtful labels; and, where a classifier was fitted for that, what that took."""
    domain = DOMAINS[domain_id]
    vectors, reading = _vectors(components, frozen, domain.backbone, beat)
    findings = _copies(frozen, examine.finest(vectors, BACKBONES[domain.backbone].blocks))
    beat(0.8)
    if domain.type != "Classification":
        return findings + _of_crops(components, frozen, domain.backbone, beat), None
    begun = time.perf_counter()
    keys = [bytes.fromhex(image.sha256) for image in frozen.images]
    doubts = _doubts(vectors, frozen.labels, multilabel, keys, BACKBONES[domain.backbone].blocks, beat)
    fit = time.perf_counter() - begun
    if doubts is None:
        return findings, None
    for doubt in doubts:
        image = frozen.images[doubt.row]
        tags = [frozen.tag_ids[tag] for tag in (doubt.given, doubt.likely) if tag is not None]
        kind = "missing tag" if doubt.given is None else "doubtful tag" if doubt.likely is None else "wrong tag"
        findings.append(Finding(kind, [image.id], tags, doubt.score))
    return findings, estimating.of_fit(frozen, reading, fit)


def _vectors(components: Components, frozen: Frozen, backbone: str, beat: _Beat) -> tuple[NDArray[np.float16], float]:
    """All embeddings, and the seconds that reading one took once they were there."""
    missing = embedding.missing(components, backbone, frozen.prefixes)
    embedding.gather(components, backbone, missing, beat.scaled(0.3, 0.6))
    begun = time.perf_counter()
    vectors = embedding.gather(components, backbone, frozen.prefixes, beat.scaled(0.6, 0.7))
    return vectors, (time.perf_counter() - begun) / len(frozen.images)


def _copies(frozen: Frozen, features: NDArray[np.floating]) -> list[Finding]:
    exact = examine.exact_copies([bytes.fromhex(image.sha256) for image in frozen.images])
    known = {(pair.first, pair.second) for pair in exact}
    near = [pair for pair in examine.near_copies(features) if (pair.first, pair.second) not in known]
    found = []
    for pair in [*exact, *near]:
        first, second = frozen.images[pair.first], frozen.images[pair.second]
        only = [sorted(set(a.tags) - set(b.tags)) for a, b in ((first, second), (second, first))]
        across = all(only)
        tags = [frozen.tag_ids[tags[0]] for tags in only] if across else []
        found.append(Finding("copy across tags" if across else "copy", [first.id, second.id], tags, pair.similarity))
    return found


def _doubts(
    vectors: NDArray[np.floating],
    labels: NDArray[np.bool_],
    multilabel: bool,
    keys: Sequence[bytes],
    blocks: Sequence[int],
    beat: _Beat,
) -> list[examine.Doubt] | None:
    """Doubtful labels; None where there is nothing to tell apart."""
    from ownvision.learning import classify

    known = labels.sum(0) >= _FEW
    if known.sum() < (1 if multilabel else 2) or (not multilabel and (labels.sum(1) != 1).any()):
        return None  # training refuses it, and says why
    try:
        fitted = classify.fit(
            vectors, labels, multilabel=multilabel, keys=keys, blocks=blocks, progress=beat.scaled(0.8, 0.99)
        )
    except ValueError:
        return None
    doubts = examine.mislabelled(fitted.out_of_fold, labels, multilabel=multilabel)
    return [one for one in doubts if one.given is None or known[one.given]]


def _of_crops(components: Components, frozen: Frozen, backbone: str, beat: _Beat) -> list[Finding]:
    """Tags of boxes that what is in the box speaks against; of so many boxes at most, evenly chosen."""
    from ownvision.learning.classify import Embedder

    boxes = [(row, place) for row, image in enumerate(frozen.images) for place in range(len(image.boxes))]
    chosen = [boxes[i] for i in np.linspace(0, len(boxes) - 1, min(len(boxes), _CROPS)).round().astype(int).tolist()]
    by_image: dict[int, list[int]] = defaultdict(list)
    for row, place in chosen:
        by_image[row].append(place)
    embed = Embedder(backbone, components.settings.threads)
    parts, keys, tags, owners = [], [], [], []
    for number, (row, places) in enumerate(by_image.items()):
        image = frozen.images[row]
        crops = _crops(fitting.original(components, frozen.prefixes[row]), [image.boxes[place] for place in places])
        if crops:
            parts.append(embed(crops).astype(np.float16))
            keys += [hashlib.sha256(crop).digest() for crop in crops]
            tags += [image.boxes[place][0] for place in places]
            owners += [row] * len(crops)
        beat(0.8 + 0.1 * number / len(by_image))
    present = sorted(set(tags))
    if len(present) < 2:
        return []
    labels = np.array(tags)[:, None] == np.array(present)
    doubts = _doubts(np.concatenate(parts), labels, False, keys, BACKBONES[backbone].blocks, beat) or []
    return [
        Finding(
            "wrong box tag",
            [frozen.images[owners[doubt.row]].id],
            [frozen.tag_ids[present[tag]] for tag in (doubt.given, doubt.likely) if tag is not None],
            doubt.score,
        )
        for doubt in doubts
    ]


def _crops(data: bytes, boxes: Sequence[tuple[int, float, float, float, float]]) -> list[bytes]:
    """What is in each box, with a tenth around it, as files; nothing where the picture can't be decoded."""
    try:
        rgb = pixels.load(data, _CROP_SIDE, _CROP_SIDE)
    except pixels.BadImage:
        return []
    crops = []
    for _, left, top, width, height in boxes:
        across, down = _span(left, width), _span(top, height)
        buffer = io.BytesIO()
        Pillow.fromarray(np.ascontiguousarray(rgb[down, across])).save(buffer, "PNG", compress_level=1)
        crops.append(buffer.getvalue())
    return crops


def _span(start: float, side: float) -> slice:
    """Pixels of a side of a box and a tenth of it before and behind, two at least."""
    low, high = (round(float(np.clip(end, 0, 1)) * _CROP_SIDE) for end in (start - side / 10, start + side * 1.1))
    low = min(low, _CROP_SIDE - 2)
    return slice(low, max(high, low + 2))
