"""A plain data set as a new project: pictures are taken in as an upload takes them, with their tags and boxes.

The annotations are read to their end before anything is made. A run that was cut off is started again with the same
data set and name, and goes on in the same project.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from sqlalchemy import select
from sqlalchemy.orm import Session

from ownvision.data_rights.formats import Picture, coco, finding, folders, table, unpack, voc, yolo
from ownvision.data_rights.formats.catalogue import Catalogue
from ownvision.data_rights.formats.report import Report
from ownvision.data_rights.formats.unpack import Files
from ownvision.domains import DETECTION, DOMAINS, GENERAL
from ownvision.errors import OwnVisionError
from ownvision.limits import TIERS, Limits
from ownvision.services import accounts, images, intake, projects, regions, tags
from ownvision.services.components import Components
from ownvision.services.intake import Added
from ownvision.store.tables import Project

TAKEOUT = "takeout"
# In the order they are asked: what says more of its pictures comes first.
FORMATS: dict[str, ModuleType] = {"coco": coco, "voc": voc, "yolo": yolo, "table": table, "folders": folders}
_DETECTION_DOMAIN = next(domain.id for domain in DOMAINS.values() if domain.type == DETECTION)
_LEFT_OUT = {
    "ErrorImageFormat": "picture that is damaged, or no JPEG, PNG, GIF or BMP: left out",
    "ErrorImageSize": "picture of more bytes than an upload may have: left out",
    "ErrorImageDimensions": "picture with a longer side, or more drawn out, than an upload may have: left out",
    "ErrorTagLimitExceed": "picture with more tags than one may have: left out",
    "ErrorRegionLimitExceed": "picture with more boxes than one may have: left out",
}


@dataclass
class Summary:
    """What became of a data set.

    Attributes:
        project_id: The project.
        name: Its name.
        format: ``coco``, ``voc``, ``yolo``, ``table`` or ``folders``.
        detection: Whether it has boxes.
        read: Pictures that the data set names and has.
        pictures: Those that are the project's now.
        left_out: Those that could not be taken.
        duplicates: Those whose bytes another has, too: kept once, with the tags and boxes of all.
        tags: The project's tags.
        boxes: Boxes that the data set has.
        remarks: What was left out or changed, in sentences.
    """

    project_id: str
    name: str
    format: str
    detection: bool
    read: int
    pictures: int = 0
    left_out: int = 0
    duplicates: int = 0
    tags: int = 0
    boxes: int = 0
    remarks: list[str] = field(default_factory=list)


def detect(path: Path) -> str | None:
    """What a folder or zip file is: ``takeout``, a key of `FORMATS`, or None.

    Raises:
        OwnVisionError: BadRequestInvalid, for what is neither folder nor zip file, or hostile.
    """
    with unpack.opened(path) as files:
        return _format(files)


def _format(files: Files) -> str | None:
    if {"manifest.json", "files.jsonl"} <= set(files.names):
        return TAKEOUT
    return next((name for name, module in FORMATS.items() if module.recognises(files)), None)


def run(
    components: Components,
    account_id: str,
    path: Path,
    name: str | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Import a plain data set into a new project, or go on where a run of it was cut off.

    Args:
        components: Of this installation.
        account_id: Whose project it becomes.
        path: A folder or zip file.
        name: The project's; default the folder's or file's.
        report: Told how many pictures of how many are done; an error that it raises ends the run, which can be started
            again.

    Raises:
        OwnVisionError: BadRequestInvalid, for a data set that is refused, BadRequestTagName, BadRequestProject…, and
            quotas: nothing was changed. NotFoundProject, when the project is deleted meanwhile; ErrorUnknown, when a
            picture can't be stored: what was taken in stays, and the run can be started again.
    """
    with unpack.opened(path) as files, closing(Catalogue()) as catalogue:
        format = _format(files)
        if format is None or format == TAKEOUT:
            raise OwnVisionError("BadRequestInvalid", _no_data_set(path, format))
        remarks = Report()
        for part in FORMATS[format].read(files, remarks):
            catalogue.add(part)
        _complete(files, catalogue, remarks)
        wanted = _tag_names([*remarks.tags, *catalogue.tags], components.settings.limits, remarks)
        with components.database.write() as session:
            target = _target(session, components, account_id, name or path.stem, format, catalogue, remarks, wanted)
        summary = Summary(
            target.project_id, target.name, format, remarks.detection, len(catalogue), boxes=catalogue.boxes
        )
        done = 0
        report(done, summary.read)
        for batch in catalogue.pictures():
            _take_in(components, account_id, files, batch, target, remarks, summary)
            done += len(batch)
            report(done, summary.read)
    with components.database.write() as session:
        project = projects.get(session, account_id, target.project_id, lock=True)
        _finish(session, project, components.settings.limits, multilabel=target.multilabel)
        summary.pictures, summary.tags = project.image_count, len(set(target.tag_ids.values()))
    summary.duplicates = max(0, summary.read - summary.left_out - summary.pictures)
    summary.remarks = remarks.sentences()
    return summary


def _no_data_set(path: Path, format: str | None) -> str:
    if format == TAKEOUT:
        return f"{path.name} is a takeout of an OwnVision: it is restored, not imported as a plain data set."
    return (
        f"{path.name} holds no picture (JPEG, PNG, GIF or BMP) that annotations name, nor folders of pictures: COCO, "
        "Pascal VOC, YOLO, CSV, JSON-Lines and a folder per class are read. Nothing was changed."
    )


def _complete(files: Files, catalogue: Catalogue, report: Report) -> None:
    """Refuse a data set without pictures, and say what its annotations pass over."""
    if not len(catalogue):
        raise OwnVisionError(
            "BadRequestInvalid",
            "None of the pictures that the annotations name is in the data set: put them into the same folder or zip "
            f"file. Nothing was changed. {' '.join(report.sentences())}".rstrip(),
        )
    for name in finding.pictures(files):
        if name not in catalogue:
            report.remark("picture that no annotation names: left out", name)
    report.detection = report.detection or catalogue.boxes > 0
    if report.detection and (unboxed := catalogue.unboxed):
        report.remark("tag of a picture without a box of it: left out, in a detection project tags belong to boxes",
                      "counted over all pictures", unboxed)  # fmt: skip


def _tag_names(names: Sequence[str], limits: Limits, report: Report) -> dict[str, str]:
    """The tags to be made by how the data set calls them."""
    wanted: dict[str, str] = {}
    for name in dict.fromkeys(names):
        tag = " ".join(name.splitlines()) if "\n" in name else name
        if tag != name:
            report.remark("tag with a line feed in its name: written with a space", tag)
        if not tag.strip() or len(tag) > limits.name_characters:
            raise OwnVisionError(
                "BadRequestTagName",
                f"The data set has a tag named {tag[:60]!r}; a tag needs a name of 1 to {limits.name_characters} "
                "characters. Nothing was changed.",
            )
        wanted[name] = tag
    return wanted


@dataclass
class _Target:
    """The project that pictures go into, with the ids of its tags by the data set's names."""

    project_id: str
    name: str
    tag_ids: Mapping[str, str]
    multilabel: bool


def _target(
    session: Session,
    components: Components,
    account_id: str,
    name: str,
    format: str,
    catalogue: Catalogue,
    report: Report,
    wanted: Mapping[str, str],
) -> _Target:
    """The project of a run that was cut off, or a new one with its tags.

    While pictures come in, the description says what is being imported: a run that is started again knows by it the
    project it began.
    """
    account = accounts.get(session, account_id)
    limits, tier = components.settings.limits, TIERS[account.tier]
    marker = f"The import of this {format} data set is not finished ({catalogue.fingerprint()[:16]})."
    project = session.scalar(
        select(Project).where(
            Project.account_id == account_id,
            Project.closed.is_(None),
            Project.name == name,
            Project.description == marker,
        )
    )
    if tier.images_per_project is not None and len(catalogue) > tier.images_per_project:
        raise OwnVisionError(
            "BadRequestImageExceededCount",
            f"The data set has {len(catalogue)} pictures; this tier allows {tier.images_per_project} per project. "
            "Nothing was changed.",
        )
    if project is None:
        project = projects.create(
            session,
            components.keys,
            account,
            name=name,
            description=marker,
            domain_id=_DETECTION_DOMAIN if report.detection else GENERAL,
            classification_type="Multilabel" if catalogue.most_tags > 1 else "Multiclass",
            target_export_platforms=[],
            limits=limits,
        )
    known = {view.name: view.id for view in tags.all(session, project)}
    for tag in dict.fromkeys(wanted.values()):
        if tag not in known:
            known[tag] = tags.create(session, project, tag, None, None, limits, tier).id
    ids = {original: known[tag] for original, tag in wanted.items()}
    return _Target(project.id, project.name, ids, multilabel=catalogue.most_tags > 1)


def _take_in(
    components: Components,
    account_id: str,
    files: Files,
    batch: Sequence[Picture],
    target: _Target,
    report: Report,
    summary: Summary,
) -> None:
    """Upload a batch; what is there already gets what these pictures carry beside."""
    largest = components.settings.limits.training_image_bytes
    uploads = [_upload(files, picture, target, largest, summary.detection) for picture in batch]
    size = components.settings.limits.batch_images
    again: list[tuple[Added, intake.Picture]] = []
    for start in range(0, len(uploads), size):
        part = uploads[start : start + size]
        for added, upload in zip(
            intake.add_images(components, account_id, target.project_id, None, part), part, strict=True
        ):
            if added.status == intake.DUPLICATE:
                again.append((added, upload))
            elif added.status in _LEFT_OUT:
                report.remark(_LEFT_OUT[added.status], added.source)
                summary.left_out += 1
            elif added.status != intake.OK:
                raise OwnVisionError(
                    "ErrorUnknown",
                    f"{added.source} could not be stored ({added.status}): see to the disk, then start the import "
                    "again; it goes on in the same project.",
                )
    if again:
        with components.database.write() as session:
            project = projects.lock(session, account_id, target.project_id)
            _merge(session, project, again, components.settings.limits, target, report)


def _upload(files: Files, picture: Picture, target: _Target, largest: int, detection: bool) -> intake.Picture:
    name = picture.path.rpartition("/")[2]
    if files.size(picture.path) > largest:
        return intake.Picture(picture.path, None, "ErrorImageSize")
    return intake.Picture(
        picture.path,
        lambda: _bytes(files, picture.path, largest),
        file_name=name,
        tag_ids=() if detection else [*dict.fromkeys(target.tag_ids[tag] for tag in picture.tags)],
        boxes=[regions.Box(target.tag_ids[box.tag], box.left, box.top, box.width, box.height) for box in picture.boxes],
    )


def _bytes(files: Files, name: str, largest: int) -> bytes:
    """A picture's bytes; none when the archive is damaged there, which is no picture then."""
    try:
        return unpack.read(files, name, largest)
    except OwnVisionError:
        return b""


def _merge(
    session: Session,
    project: Project,
    again: Sequence[tuple[Added, intake.Picture]],
    limits: Limits,
    target: _Target,
    report: Report,
) -> None:
    if projects.is_detection(project):
        entries = [
            regions.RegionEntry(added.view.image.id, box)
            for added, upload in again
            for box in upload.boxes
            if added.view is not None
        ]
        _, _, over = regions.add(session, project, entries, limits)
        if over:
            report.remark("box of a picture that has as many as one may have: left out", again[0][0].source, len(over))
        return
    pairs = [(added.view.image.id, tag) for added, upload in again for tag in upload.tag_ids if added.view is not None]
    created, duplicated, exceeded = images.add_tags(session, project, pairs, limits)
    if exceeded:
        report.remark("tag of a picture that has as many as one may have: left out", again[0][0].source, len(exceeded))
    carried = defaultdict(set)
    for image_id, tag_id in (*created, *duplicated):
        carried[image_id].add(tag_id)
    live = images.views(session, project, list(images.live(session, project, carried).values()), None, {})
    target.multilabel = target.multilabel or any(len(view.tags) > 1 for view in live)


def _finish(session: Session, project: Project, limits: Limits, *, multilabel: bool) -> None:
    """Take the mark of an unfinished import away; the same picture in two folders makes a multilabel project."""
    settings = {"classificationType": "Multilabel"} if multilabel and not projects.is_detection(project) else {}
    projects.update(session, project, {"description": "", "settings": settings}, limits)
