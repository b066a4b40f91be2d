"""A copy from beginning to end: fetch, compare, fetch again what changed meanwhile, write the archive, look at it."""

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ownvision.data_rights.azure_import import checking, crawl
from ownvision.data_rights.azure_import.answers import Foreign
from ownvision.data_rights.azure_import.client import Resource, Unanswered
from ownvision.data_rights.azure_import.crawl import Copy, Watch
from ownvision.data_rights.azure_import.source import AzureSource
from ownvision.data_rights.azure_import.work import Work
from ownvision.data_rights.takeout import writer
from ownvision.limits import Limits
from ownvision.store.tables.base import now

_CHUNK = 2**20
_PICTURE = re.compile(r"projects/[^/]+/(images|predictions)/")
PART = ".part"
ARCHIVE = "archive.zip"


@dataclass
class Outcome:
    """What came of a copy.

    Attributes:
        counts: Of the archive, by kind.
        differences: Where it is not what the resource has: each a sentence without its end.
        notes: What a project here can't hold, and was left out or changed.
    """

    counts: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def of(endpoint: str, wanted: Sequence[str], account: str = "") -> dict[str, str]:
    """What a copy is known by, so that it can be gone on with."""
    return {"endpoint": endpoint, "wanted": json.dumps([account, *sorted(want.lower() for want in wanted)])}


def name(of: dict[str, str]) -> str:
    """The name of a copy's work folder in a data folder: the same for the same copy."""
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]


def gather(resource: Resource, work: Work, wanted: Sequence[str], watch: Watch) -> list[str]:
    """Fetch what is still missing of the projects; where the result is not what the resource has.

    A listing that does not fit what is counted at its end is made once more; what then still differs is told.

    Raises:
        Unanswered: The resource can't be read any further now; what was fetched is kept.
    """
    copy = Copy(resource, work, watch)
    try:
        differences = []
        for project in crawl.choose(copy, wanted):
            crawl.fetch(copy, project)
            found = checking.listing(copy, project)
            if found:
                work.forget(project)
                crawl.fetch(copy, project)
                found = checking.listing(copy, project)
            title = json.loads(work.one("SELECT shape FROM projects WHERE id = ?", project))["name"]
            differences += [f"{title}: {one}" for one in [*found, *checking.bytes_missing(work, project)]]
    except Foreign as error:
        raise Unanswered(f"{resource.foreign()} What is wrong: {error}.") from None
    return differences


def check_sizes(work: Work, limits: Limits) -> None:
    """Refuse what is larger than pictures may be here, before anything is made of it.

    Raises:
        Unanswered: With the setting that lets it in.
    """
    size, sides, aspect = next(
        work.rows(
            "SELECT COALESCE(MAX(size), 0), COALESCE(MAX(MAX(width, height)), 0), "
            "COALESCE(MAX(MAX(width, height) * 1.0 / MIN(width, height)), 1) FROM pictures WHERE why IS NULL"
        )
    )
    if size > limits.training_image_bytes:
        raise Unanswered(
            f"A picture has {size:,} bytes, here it may have {limits.training_image_bytes:,}; set "
            f"OWNVISION_LIMITS__TRAINING_IMAGE_BYTES={size} for this command and for the service."
        )
    if sides > limits.image_side or aspect > limits.image_aspect:
        raise Unanswered(
            f"A picture has a side of {sides:,} pixels, or sides as 1 to {aspect:.0f}, which is more than may be here; "
            "use --out."
        )


def write(work: Work, endpoint: str, watch: Watch) -> tuple[Path, Outcome]:
    """Write what was fetched as a takeout in the work folder, and look at it once more: every file against its hash.

    Args:
        work: With all that was fetched.
        endpoint: Of the resource.
        watch: Who is told.

    Raises:
        Unanswered: A picture in the work folder is damaged.
    """
    source, told = AzureSource(work, endpoint, now()), writer.Told()
    watch.begin("writing the archive", source.total)
    archive, done = work.folder / ARCHIVE, 0
    with open(os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        for chunk in writer.stream(source, work.folder, told):
            file.write(chunk)
            watch.advance(told.done - done)
            done = told.done
        file.flush()
        os.fsync(file.fileno())
    watch.begin("checking the archive", source.total)
    return archive, Outcome(told.counts, list(_wrong(archive, watch.advance)), source.notes)


def _wrong(archive: Path, step: Callable[[int], None]) -> Iterator[str]:
    """Files of an archive that are not what its own list says."""
    with zipfile.ZipFile(archive) as opened:
        manifest = json.loads(opened.read("manifest.json"))
        listed, digest = 0, hashlib.sha256()
        with opened.open("files.jsonl") as lines:
            for line in lines:
                digest.update(line)
                listed += 1
                row = json.loads(line)
                with opened.open(row["path"]) as file:
                    found = hashlib.sha256()
                    while chunk := file.read(_CHUNK):
                        found.update(chunk)
                if found.hexdigest() != row["sha256"]:
                    yield f"{row['path']} in the archive is not what was written"
                step(_PICTURE.match(row["path"]) is not None)
        if listed != manifest["files"] or digest.hexdigest() != manifest["files_sha256"]:
            yield "the archive's list of files is not what its manifest says"
