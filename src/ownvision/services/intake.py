"""Taking in images: bytes are checked, stored and made durable first; then one transaction makes them a project's.

Pictures are read one at a time and in parallel threads, so a batch of 64 × 6 MB never lies in memory at once.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.learning import pixels
from ownvision.limits import TIERS, Limits
from ownvision.services import accounts, images, projects, regions
from ownvision.services.components import Components
from ownvision.services.embedding import ensure_embedding
from ownvision.services.images import ImageView, RegionView
from ownvision.services.regions import Box
from ownvision.store import ledger
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.database import insert_all
from ownvision.store.keys import KeyMissing
from ownvision.store.tables import Image, ImageMetadata, ImageTag, Prediction, Project, Region, Tag
from ownvision.store.tables.base import new_id, now

OK, DUPLICATE = "OK", "OKDuplicate"
_STATUS_BY_REASON = {
    "format": "ErrorImageFormat",
    "truncated": "ErrorImageFormat",
    "dimensions": "ErrorImageDimensions",
    "aspect": "ErrorImageDimensions",
}
# Decoding, hashing and sealing release the interpreter lock: as many at once as there are cores.
_THREADS = os.cpu_count() or 2
_POOL = ThreadPoolExecutor(_THREADS, thread_name_prefix="intake")


@dataclass(frozen=True)
class Picture:
    """One image to be taken in.

    Attributes:
        source: What the result calls it: URL, file name (in quotes for multipart) or prediction id.
        read: Gives the bytes, once; None when there are none because of `status`.
        status: `OK`, or why it can't be taken (``ErrorSource``, ``ErrorImageSize``, …).
        file_name: The name to keep.
        tag_ids: Tags of this image beside the batch's.
        boxes: Its regions (detection).
    """

    source: str
    read: Callable[[], bytes] | None
    status: str = OK
    file_name: str | None = None
    tag_ids: Sequence[str] = ()
    boxes: Sequence[Box] = ()


@dataclass(frozen=True)
class Added:
    """What became of one picture."""

    source: str
    status: str
    view: ImageView | None = None


@dataclass(frozen=True)
class Kept:
    """What became of bytes that should be an image's: under its prefix when `status` is `OK`, else nothing was."""

    status: str
    info: pixels.ImageInfo | None = None
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class _Checked:
    """A picture whose bytes lie under the prefix of `id`, or `status` saying why not."""

    picture: Picture
    id: str
    status: str
    info: pixels.ImageInfo | None = None
    sha256: str = ""
    size: int = 0


def add_images(
    components: Components,
    account_id: str,
    project_id: str,
    key_id: str | None,
    pictures: Sequence[Picture],
    *,
    tag_ids: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> list[Added]:
    """Take a batch of pictures into a project's workspace; one result each, in order.

    Raises:
        OwnVisionError: BadRequestImageBatch, BadRequestExceededBatchSize, BadRequestImageTags, BadRequestImageRegions,
            BadRequestImageMetadata…, BadRequestImageExceededCount: nothing was changed.
    """
    limits = components.settings.limits
    pictures = [replace(picture, boxes=[regions.clipped(box) for box in picture.boxes]) for picture in pictures]
    with components.database.read() as session:
        project = projects.get(session, account_id, project_id)
        known = _check_batch(session, project, pictures, tag_ids, metadata or {}, limits)
    checked = [
        _Checked(picture, ledger.new_image_id(project_id), _status(picture, tag_ids, known, limits))
        for picture in pictures
    ]
    with _released(components, project_id, checked):
        stored = _stored(components, account_id, project_id, checked)
        with components.database.write() as session:
            return _record(session, account_id, project_id, key_id, stored, tag_ids, metadata or {}, limits)


def _check_batch(
    session: Session,
    project: Project,
    pictures: Sequence[Picture],
    tag_ids: Sequence[str],
    metadata: Mapping[str, str],
    limits: Limits,
) -> dict[str, str]:
    """Refuse a batch as a whole; gives the types of the project's tags by id."""
    projects.check_arrived(project)
    if not pictures:
        raise OwnVisionError("BadRequestImageBatch", "The batch holds no image.")
    if len(pictures) > limits.batch_images:
        raise OwnVisionError(
            "BadRequestExceededBatchSize", f"A batch takes {limits.batch_images} images, not {len(pictures)}."
        )
    if len(tag_ids) > limits.batch_tags:
        raise OwnVisionError(
            "BadRequestExceededBatchSize", f"A batch takes {limits.batch_tags} tags, not {len(tag_ids)}."
        )
    images.check_metadata(metadata, limits)
    if any(picture.boxes for picture in pictures):
        regions.check_detection(project)
    if projects.is_detection(project) and (tag_ids or any(picture.tag_ids for picture in pictures)):
        raise OwnVisionError(
            "BadRequestImageTags", "In a detection project tags belong to regions: send regions, not tagIds."
        )
    known = {tag.id: tag.type for tag in session.scalars(select(Tag).where(Tag.project_id == project.id))}
    unknown = [tag_id for tag_id in tag_ids if tag_id not in known]
    if unknown:
        raise OwnVisionError("BadRequestImageTags", f"There is no tag {unknown[0]} in this project.")
    _check_quota(session, project, len(pictures))
    return known


def _check_quota(session: Session, project: Project, coming: int) -> None:
    quota = TIERS[accounts.get(session, project.account_id).tier].images_per_project
    if quota is not None and project.image_count + coming > quota:
        raise OwnVisionError(
            "BadRequestImageExceededCount",
            f"This tier allows {quota} images per project; {project.image_count} are there already.",
        )


def _status(picture: Picture, tag_ids: Sequence[str], known: Mapping[str, str], limits: Limits) -> str:
    carried = {*tag_ids, *picture.tag_ids, *(box.tag_id for box in picture.boxes)}
    if picture.status != OK or picture.read is None:
        return picture.status if picture.status != OK else "ErrorSource"
    if not carried <= set(known):
        return "ErrorInvalidTag"
    if images.mixes_negative({known[tag_id] for tag_id in carried}, len(carried)):
        return "ErrorNegativeAndRegularTagOnSameImage"
    if len(carried) > limits.tags_per_image:
        return "ErrorTagLimitExceed"
    if len(picture.boxes) > limits.regions_per_image:
        return "ErrorRegionLimitExceed"
    return OK


@contextmanager
def _released(components: Components, project_id: str, checked: Sequence[_Checked]) -> Iterator[None]:
    """Give reserved prefixes back at once when taking in fails, instead of when their lease lapses."""
    try:
        yield
    except BaseException:
        with suppress(SQLAlchemyError), components.database.write() as session:
            prefixes = [ledger.image_prefix(project_id, item.id) for item in checked]
            ledger.release(session, prefixes)
        raise


def within(info: pixels.ImageInfo, limits: Limits) -> bool:
    """Whether a picture's sides keep the limits that are set, which may be narrower than those of decoding."""
    longer, shorter = max(info.width, info.height), min(info.width, info.height)
    return longer <= limits.image_side and longer <= limits.image_aspect * shorter


def _stored(components: Components, account_id: str, project_id: str, checked: Sequence[_Checked]) -> list[_Checked]:
    """Check and write the pictures that can be taken, under reserved prefixes, and make them durable together."""
    waiting = [item for item in checked if item.status == OK]
    if not waiting:
        return list(checked)
    reserved: Future[None] = Future()
    # Decoding begins while the prefixes are reserved; no byte is written before they are.
    results = _POOL.map(
        lambda part: [_store(components, project_id, item, reserved) for item in part],
        [waiting[start::_THREADS] for start in range(_THREADS)],
    )
    try:
        prefixes = [ledger.image_prefix(project_id, item.id) for item in waiting]
        ledger.reserve(components.database, [(prefix, "image", account_id, project_id) for prefix in prefixes])
        reserved.set_result(None)
    except BaseException as error:
        reserved.set_exception(error)
    written = {item.id: item for part in results for item in part}
    components.blobs.sync()
    return [written.get(item.id, item) for item in checked]


def _store(components: Components, project_id: str, item: _Checked, reserved: Future[None]) -> _Checked:
    """Check one picture's bytes and write them under its prefix once it is reserved, not yet durable."""
    assert item.picture.read is not None  # `_status` saw to it
    try:
        data = item.picture.read()
    except (BlobMissing, BlobDamaged):
        return replace(item, status="ErrorSource")  # a prediction that went meanwhile
    kept = keep(components, project_id, item.id, data, reserved=reserved.result)
    return replace(item, status=kept.status, info=kept.info, sha256=kept.sha256, size=kept.size)


def keep(
    components: Components,
    project_id: str,
    image_id: str,
    data: bytes,
    *,
    examine: Callable[[bytes], pixels.ImageInfo] = pixels.verify,
    reserved: Callable[[], None] = lambda: None,
) -> Kept:
    """Check the bytes of one image and write them under its prefix, not yet durable.

    Args:
        components: Of this installation.
        project_id: The image's project.
        image_id: The image's.
        data: The bytes.
        examine: Sees whether they are a picture; `pixels.inspect` will do for what was verified here before.
        reserved: Waits until the prefix is reserved.

    Raises:
        OwnVisionError: NotFoundProject, when the project was deleted meanwhile.
    """
    limits = components.settings.limits
    if len(data) > limits.training_image_bytes:
        return Kept("ErrorImageSize")
    try:
        info = examine(data)
    except pixels.BadImage as error:
        return Kept(_STATUS_BY_REASON[error.reason])
    if not within(info, limits):
        return Kept("ErrorImageDimensions")
    sha256 = hashlib.sha256(data).hexdigest()
    reserved()
    try:
        components.blobs.put_new(ledger.image_prefix(project_id, image_id) + "original", data, durable=False)
    except KeyMissing:
        raise OwnVisionError("NotFoundProject", f"Project {project_id} was deleted meanwhile.") from None
    except OSError:
        return Kept("ErrorStorage")
    return Kept(OK, info, sha256, len(data))


def _record(
    session: Session,
    account_id: str,
    project_id: str,
    key_id: str | None,
    checked: Sequence[_Checked],
    tag_ids: Sequence[str],
    metadata: Mapping[str, str],
    limits: Limits,
) -> list[Added]:
    """Make stored pictures images of a project; the same bytes are kept once. Few statements however many there are."""
    project = projects.lock(session, account_id, project_id)
    tag_rows = {tag.id: tag for tag in session.scalars(select(Tag).where(Tag.project_id == project.id))}
    by_sha = {
        image.sha256: image
        for image in session.scalars(
            select(Image).where(
                Image.project_id == project.id,
                Image.sha256.in_([item.sha256 for item in checked if item.status == OK]),
                Image.until.is_(None),
            )
        )
    }
    types = {tag.id: tag.type for tag in tag_rows.values()}
    outcomes: list[tuple[_Checked, str]] = []
    fresh: dict[str, _Checked] = {}
    for item in checked:
        status = item.status
        if status == OK and (item.sha256 in by_sha or item.sha256 in fresh):
            status = DUPLICATE
        elif status == OK:
            # Asked again under the lock: tags may have been deleted or become Negative since.
            status = _status(item.picture, tag_ids, types, limits)
        if status == OK:
            fresh[item.sha256] = item
        outcomes.append((item, status))
    _check_quota(session, project, len(fresh))
    shown = _insert(session, project, key_id, fresh, tag_ids, metadata, tag_rows)
    live = [ledger.image_prefix(project.id, item.id) for item in fresh.values()]
    ledger.make_live(session, live)
    ledger.doom(session, list({ledger.image_prefix(project.id, item.id) for item in checked} - set(live)))
    if fresh:
        ensure_embedding(session, project)
    if by_sha:
        names = {tag.id: tag.name for tag in tag_rows.values()}
        there = images.views(session, project, list(by_sha.values()), None, names)
        shown |= {view.image.sha256: view for view in there}
    session.flush()
    return [
        Added(item.picture.source, status, shown[item.sha256] if status in (OK, DUPLICATE) else None)
        for item, status in outcomes
    ]


def _insert(
    session: Session,
    project: Project,
    key_id: str | None,
    fresh: Mapping[str, _Checked],
    tag_ids: Sequence[str],
    metadata: Mapping[str, str],
    tag_rows: Mapping[str, Tag],
) -> dict[str, ImageView]:
    """Insert new images (by SHA-256) with what they carry, and say how each looks; one statement per table."""
    if not fresh:
        return {}
    moment = now()
    insert_all(session, Image, [_row(project, key_id, item, moment, tag_ids) for item in fresh.values()])
    ids = [item.id for item in fresh.values()]
    images_by_sha = {image.sha256: image for image in session.scalars(select(Image).where(Image.id.in_(ids)))}
    validity = {"project_id": project.id, "created": moment, "since": project.revision, "until": None}
    links: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    shown: dict[str, ImageView] = {}
    for sha256, item in fresh.items():
        image = images_by_sha[sha256]
        carried = _carried(item, tag_ids)
        links += [{**validity, "image_seq": image.seq, "tag_id": tag_id} for tag_id in carried]
        placed = [(new_id(), box) for box in item.picture.boxes]
        boxes += [{**validity, "id": id, "image_seq": image.seq, **vars(box)} for id, box in placed]
        pairs += [
            {"image_seq": image.seq, "project_id": project.id, "key": key, "value": value}
            for key, value in metadata.items()
        ]
        shown[sha256] = ImageView(
            image,
            [(tag_id, None, moment) for tag_id in carried],
            [RegionView(id=id, tag_name=None, created=moment, **vars(box)) for id, box in placed],
            dict(metadata),
        )
    for table, values in ((ImageTag, links), (Region, boxes), (ImageMetadata, pairs)):
        insert_all(session, table, values)
    for tag_id, count in Counter(link["tag_id"] for link in links).items():
        tag_rows[tag_id].image_count += count
    project.image_count += len(fresh)
    project.tagged_count += sum(1 for view in shown.values() if view.tags)
    return shown


def _carried(item: _Checked, tag_ids: Sequence[str]) -> list[str]:
    """The tags an item brings, each once, in the order given."""
    return list(dict.fromkeys([*tag_ids, *item.picture.tag_ids, *(box.tag_id for box in item.picture.boxes)]))


def _row(
    project: Project, key_id: str | None, item: _Checked, moment: datetime, tag_ids: Sequence[str]
) -> dict[str, Any]:
    assert item.info is not None  # an item that is OK was checked
    return {
        "id": item.id,
        "project_id": project.id,
        "sha256": item.sha256,
        "width": item.info.width,
        "height": item.info.height,
        "size": item.size,
        "format": item.info.format,
        "file_name": item.picture.file_name,
        "uploaded_by": key_id,
        "created": moment,
        "tagged": bool(_carried(item, tag_ids)),
        "since": project.revision,
        "until": None,
    }


def add_from_predictions(
    components: Components,
    account_id: str,
    project_id: str,
    key_id: str | None,
    entries: Sequence[tuple[str, Sequence[str], Sequence[Box]]],
    *,
    tag_ids: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> list[Added]:
    """Turn stored predictions (id, tags, boxes) into training images: id and bytes go over, the prediction goes.

    Raises:
        OwnVisionError: as `add_images`.
    """
    limits = components.settings.limits
    with components.database.read() as session:
        project = projects.get(session, account_id, project_id)
        rows = {
            row.id: row
            for row in session.scalars(
                select(Prediction).where(
                    Prediction.project_id == project_id, Prediction.id.in_([entry[0] for entry in entries])
                )
            )
        }
        pictures = [
            Picture(
                source=id,
                read=_reader(components, rows[id]) if id in rows else None,
                status=OK if id in rows else "ErrorSource",
                tag_ids=own_tags,
                boxes=[regions.clipped(box) for box in boxes],
            )
            for id, own_tags, boxes in entries
        ]
        known = _check_batch(session, project, pictures, tag_ids, metadata or {}, limits)
    seen: set[str] = set()
    checked = []
    for picture in pictures:
        # An id named twice goes over once; its double has the same bytes and is a duplicate like any other.
        own = picture.status == OK and picture.source not in seen
        seen.add(picture.source)
        id = picture.source if own else ledger.new_image_id(project_id)
        checked.append(_Checked(picture, id, _status(picture, tag_ids, known, limits)))
    with _released(components, project_id, checked):
        stored = _stored(components, account_id, project_id, checked)
        with components.database.write() as session:
            results = _record(session, account_id, project_id, key_id, stored, tag_ids, metadata or {}, limits)
            _take_over(session, project_id, results)
            return results


def _take_over(session: Session, project_id: str, results: Sequence[Added]) -> None:
    """Predictions that became images are predictions no more."""
    gone = [result.source for result in results if result.status in (OK, DUPLICATE)]
    chosen = select(Prediction).where(Prediction.id.in_(gone), Prediction.project_id == project_id)
    for row in session.scalars(chosen):
        ledger.doom(session, [ledger.prediction_prefix(project_id, row.id)])
        session.delete(row)


def _reader(components: Components, row: Prediction) -> Callable[[], bytes]:
    key = ledger.prediction_prefix(row.project_id, row.id) + "original"
    return lambda: components.blobs.read(key)
