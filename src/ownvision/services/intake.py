"""Taking in images: bytes are checked, stored and made durable first; then one transaction makes them a project's.

Pictures are read one at a time and in parallel threads, so a batch of 64 × 6 MB never lies in memory at once.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.learning import pixels
from ownvision.limits import TIERS, Limits
from ownvision.services import accounts, images, projects, regions
from ownvision.services.components import Components
from ownvision.services.embedding import ensure_embedding
from ownvision.services.images import ImageView
from ownvision.services.regions import Box
from ownvision.store import ledger
from ownvision.store.tables import Image, Prediction, Project, Tag
from ownvision.store.tables.base import new_id

OK, DUPLICATE = "OK", "OKDuplicate"
_STATUS_BY_REASON = {
    "format": "ErrorImageFormat",
    "truncated": "ErrorImageFormat",
    "dimensions": "ErrorImageDimensions",
    "aspect": "ErrorImageDimensions",
}
# Decoding, hashing and sealing release the interpreter lock: as many at once as there are cores.
_POOL = ThreadPoolExecutor(max_workers=os.cpu_count() or 2, thread_name_prefix="intake")


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
class _Checked:
    """A picture whose bytes lie under the prefix of `id`, or `status` saying why not."""

    picture: Picture
    id: str
    status: str
    info: pixels.ImageInfo | None = None
    sha256: str = ""
    size: int = 0
    existing: str | None = None  # id of the workspace image with the same bytes


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
        _check_batch(session, project, pictures, tag_ids, metadata or {}, limits)
        known = _known_tags(session, project)
    checked = _statuses(pictures, tag_ids, known, limits)
    waiting = [item for item in checked if item.status == OK]
    if waiting:
        ledger.reserve(
            components.database,
            [(ledger.image_prefix(project_id, item.id), "image", account_id, project_id) for item in waiting],
        )
        stored = dict(zip((item.id for item in waiting), _store_all(components, project_id, waiting), strict=True))
        components.blobs.sync()
        checked = [stored.get(item.id, item) for item in checked]
    with components.database.write() as session:
        return _record(session, account_id, project_id, key_id, checked, tag_ids, metadata or {}, limits)


def _check_batch(
    session: Session,
    project: Project,
    pictures: Sequence[Picture],
    tag_ids: Sequence[str],
    metadata: Mapping[str, str],
    limits: Limits,
) -> None:
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
    known = _known_tags(session, project)
    unknown = [tag_id for tag_id in tag_ids if tag_id not in known]
    if unknown:
        raise OwnVisionError("BadRequestImageTags", f"There is no tag {unknown[0]} in this project.")
    quota = TIERS[accounts.get(session, project.account_id).tier].images_per_project
    if quota is not None and project.image_count + len(pictures) > quota:
        raise OwnVisionError(
            "BadRequestImageExceededCount",
            f"This tier allows {quota} images per project; {project.image_count} are there already.",
        )


def _known_tags(session: Session, project: Project) -> dict[str, str]:
    return {tag.id: tag.type for tag in session.scalars(select(Tag).where(Tag.project_id == project.id))}


def _statuses(
    pictures: Sequence[Picture], tag_ids: Sequence[str], known: Mapping[str, str], limits: Limits
) -> list[_Checked]:
    return [_Checked(picture, new_id(), _status(picture, tag_ids, known, limits)) for picture in pictures]


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


def _store_all(components: Components, project_id: str, items: Sequence[_Checked]) -> Iterable[_Checked]:
    return _POOL.map(lambda item: _store(components, project_id, item), items)


def _store(components: Components, project_id: str, item: _Checked) -> _Checked:
    """Check one picture's bytes and write them under its reserved prefix, not yet durable."""
    limits = components.settings.limits
    assert item.picture.read is not None  # `_status` saw to it
    data = item.picture.read()
    if len(data) > limits.training_image_bytes:
        return replace(item, status="ErrorImageSize")
    try:
        info = pixels.verify(data)
    except pixels.BadImage as error:
        return replace(item, status=_STATUS_BY_REASON[error.reason])
    sha256 = hashlib.sha256(data).hexdigest()
    with components.database.read() as session:
        existing = _same_bytes(session, project_id, sha256)
    if existing is None:
        try:
            components.blobs.put_new(ledger.image_prefix(project_id, item.id) + "original", data, durable=False)
        except OSError:
            return replace(item, status="ErrorStorage")
    return replace(item, info=info, sha256=sha256, size=len(data), existing=existing)


def _same_bytes(session: Session, project_id: str, sha256: str) -> str | None:
    return session.scalar(
        select(Image.id).where(Image.project_id == project_id, Image.sha256 == sha256, Image.until.is_(None))
    )


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
    project = projects.lock(session, account_id, project_id)
    tag_rows = {tag.id: tag for tag in session.scalars(select(Tag).where(Tag.project_id == project.id))}
    results: list[tuple[_Checked, str, Image | None]] = []
    live: list[str] = []
    by_sha: dict[str, Image] = {}
    for item in checked:
        status, image = item.status, None
        if status == OK:
            image = by_sha.get(item.sha256)
            if image is None:
                # Asked again under the lock: another request may have brought the same bytes meanwhile.
                existing = _same_bytes(session, project.id, item.sha256)
                image = None if existing is None else session.scalar(select(Image).where(Image.id == existing))
            if image is not None:
                status = DUPLICATE
            elif item.existing is not None:
                # Its twin was deleted between check and record, and these bytes were not written for its sake.
                status, image = "ErrorStorage", None
            elif not _tags_still_there(item, tag_ids, tag_rows):
                status = "ErrorInvalidTag"
            else:
                image = _new_image(session, project, key_id, item, tag_ids, metadata, tag_rows)
                by_sha[item.sha256] = image
                live.append(ledger.image_prefix(project.id, item.id))
        results.append((item, status, image))
    ledger.make_live(session, live)
    kept = set(live)
    unused = [
        ledger.image_prefix(project.id, item.id) for item in checked if item.info is not None or item.status != OK
    ]
    ledger.doom(session, [prefix for prefix in unused if prefix not in kept])
    if live:
        ensure_embedding(session, project)
    session.flush()
    made = [image for _, _, image in results if image is not None]
    shown = {
        view.image.id: view
        for view in images.views(session, project, list({image.id: image for image in made}.values()), None, {})
    }
    return [
        Added(item.picture.source, status, None if image is None else shown[image.id])
        for item, status, image in results
    ]


def _tags_still_there(item: _Checked, tag_ids: Sequence[str], tag_rows: Mapping[str, Tag]) -> bool:
    carried = {*tag_ids, *item.picture.tag_ids, *(box.tag_id for box in item.picture.boxes)}
    return carried <= set(tag_rows)


def _new_image(
    session: Session,
    project: Project,
    key_id: str | None,
    item: _Checked,
    tag_ids: Sequence[str],
    metadata: Mapping[str, str],
    tag_rows: dict[str, Tag],
) -> Image:
    assert item.info is not None  # an item that is OK was checked
    image = Image(
        id=item.id,
        project_id=project.id,
        sha256=item.sha256,
        width=item.info.width,
        height=item.info.height,
        size=item.size,
        format=item.info.format,
        file_name=item.picture.file_name,
        uploaded_by=key_id,
        tagged=False,
        since=project.revision,
    )
    session.add(image)
    session.flush()
    project.image_count += 1
    carried: set[str] = set()
    for tag_id in dict.fromkeys([*tag_ids, *item.picture.tag_ids]):
        images.link(session, project, image, tag_rows[tag_id])
        carried.add(tag_id)
    regions.place(session, project, image, item.picture.boxes, tag_rows, carried)
    if metadata:
        images.set_metadata(session, image, metadata)
    return image


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
        _check_batch(session, project, pictures, tag_ids, metadata or {}, limits)
        known = _known_tags(session, project)
    checked = [
        _Checked(
            picture, picture.source if picture.status == OK else new_id(), _status(picture, tag_ids, known, limits)
        )
        for picture in pictures
    ]
    waiting = [item for item in checked if item.status == OK]
    if waiting:
        ledger.reserve(
            components.database,
            [(ledger.image_prefix(project_id, item.id), "image", account_id, project_id) for item in waiting],
        )
        stored = dict(zip((item.id for item in waiting), _store_all(components, project_id, waiting), strict=True))
        components.blobs.sync()
        checked = [stored.get(item.id, item) for item in checked]
    with components.database.write() as session:
        results = _record(session, account_id, project_id, key_id, checked, tag_ids, metadata or {}, limits)
        gone = [result.source for result in results if result.status in (OK, DUPLICATE)]
        for row in session.scalars(
            select(Prediction).where(Prediction.id.in_(gone), Prediction.project_id == project_id)
        ):
            ledger.doom(session, [ledger.prediction_prefix(project_id, row.id)])
            session.delete(row)
        return results


def _reader(components: Components, row: Prediction) -> Callable[[], bytes]:
    key = ledger.prediction_prefix(row.project_id, row.id) + "original"
    return lambda: components.blobs.read(key)
