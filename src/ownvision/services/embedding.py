"""Embeddings: made from upload on by one low-priority job per project, so that training finds them ready.

They lie under their image's prefix as float16, encrypted like it and gone with it, named by backbone and preprocessing.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from ownvision.domains import DOMAINS
from ownvision.jobs import rows
from ownvision.jobs.leisure import leisurely
from ownvision.learning import pixels
from ownvision.learning.backbones import BACKBONES
from ownvision.services import outputs, projects
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.blobs import BlobDamaged, BlobExists, BlobMissing
from ownvision.store.keys import KeyMissing
from ownvision.store.tables import Blob, Image, Job, Project

Embeddings = NDArray[np.float16]

KIND = "embed"
_LOW_PRIORITY = 10
# Originals of one step lie in memory together: 16 of 6 MB at most.
_CHUNK = 16
_PAGE = 1_024
_BEAT_SECONDS = 0.5  # between looks at whether the job is still wanted
_ABSENT = (BlobMissing, BlobDamaged, KeyMissing)


class Unreadable(Exception):
    """An image has no embedding and none can be made: it was erased meanwhile, or its bytes are damaged.

    Attributes:
        image_id: Which.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.image_id = prefix.rstrip("./").rpartition("/")[2]


def ensure_embedding(session: Session, project: Project) -> None:
    """Queue the project's embed job, if it is a classifier's and none is open."""
    if not projects.is_detection(project):
        rows.enqueue(
            session,
            kind=KIND,
            account_id=project.account_id,
            project_id=project.id,
            subject=project.id,
            lane=rows.QUICK,
            priority=_LOW_PRIORITY,
        )


def embed(components: Components, claim: rows.Claim) -> None:
    """The embed job: make what is missing for the workspace, until a look finds nothing missing.

    It begins where the project's last one ended, and makes way for any other quick job that waits.

    Raises:
        rows.Stale, rows.Cancelled: As `rows.heartbeat`.
    """
    backbone, through = _beginning(components, claim)
    maker = _Maker(components, backbone, threads=1)
    beat = 0.0
    with leisurely() as at_leisure:
        while True:
            with components.database.read() as session:
                found = _beyond(session, claim.project_id, through, _PAGE)
            if not found:
                if _ended(components, claim, backbone, through):
                    return
                continue
            missing = maker.missing([ledger.image_prefix(claim.project_id, image_id) for _, image_id in found])
            for start in range(0, len(missing), _CHUNK):
                at_leisure.submit(maker.make, missing[start : start + _CHUNK]).result()
                if time.monotonic() - beat > _BEAT_SECONDS:
                    beat = time.monotonic()
                    rows.heartbeat(components.database, claim, None, components.settings.job_lease)
                    if _made_way(components, claim, backbone, through):
                        return
            through = found[-1][0]


def gather(
    components: Components, backbone: str, prefixes: Sequence[str], progress: Callable[[float], None]
) -> Embeddings:
    """Embeddings of images by their blob prefixes, read where they are there and made where not.

    Returns:
        float16 [N, D], in the order given.

    Raises:
        Unreadable: One can't be had.
    """
    maker = _Maker(components, backbone, components.settings.threads)
    missing = maker.missing(prefixes)
    # From the end: the embed job, if it runs at the same time, comes from the beginning.
    for start in range(0, len(missing), _CHUNK):
        maker.make(maker.missing(missing[::-1][start : start + _CHUNK]))
        progress(start / len(missing))
    result = np.empty((len(prefixes), BACKBONES[backbone].feature_dim), np.float16)
    for row, prefix in enumerate(prefixes):
        try:
            result[row] = np.frombuffer(components.blobs.read(prefix + maker.name), "<f2")
        except _ABSENT:
            raise Unreadable(prefix) from None
        if row % _PAGE == 0:
            progress(1.0)
    return result


def missing(components: Components, backbone: str, prefixes: Sequence[str]) -> list[str]:
    """Those of the images, by their blob prefixes, that have no embedding yet."""
    return _Maker(components, backbone, components.settings.threads).missing(prefixes)


class _Maker:
    """Makes and stores embeddings by one backbone; its network is loaded only when there is something to make."""

    def __init__(self, components: Components, backbone: str, threads: int) -> None:
        self.name = f"embedding-{BACKBONES[backbone].version}"
        self._components = components
        self._backbone = backbone
        self._threads = threads
        self._embed: Callable[[Sequence[bytes]], NDArray[np.float32]] | None = None

    def missing(self, prefixes: Sequence[str]) -> list[str]:
        """Those without an embedding."""
        return [prefix for prefix in prefixes if not self._components.blobs.exists(prefix + self.name)]

    def make(self, prefixes: Sequence[str]) -> None:
        """Embed the originals under these prefixes; one that can't be read or decoded is passed over."""
        originals: list[tuple[str, bytes]] = []
        for prefix in prefixes:
            with suppress(*_ABSENT):
                originals.append((prefix, self._components.blobs.read(prefix + "original")))
        made = self._vectors(originals)
        live = self._live([prefix for prefix, _ in made])
        for prefix, vector in made:
            if prefix in live:  # nothing is written where an image is being erased
                # Not durable: an embedding that is lost is made again.
                with suppress(BlobExists, KeyMissing):
                    self._components.blobs.put_new(prefix + self.name, vector.tobytes(), durable=False)

    def _vectors(self, originals: Sequence[tuple[str, bytes]]) -> list[tuple[str, Embeddings]]:
        if not originals:
            return []
        if self._embed is None:
            from ownvision.learning.classify import Embedder

            self._embed = Embedder(self._backbone, self._threads)
        try:
            vectors = self._embed([data for _, data in originals]).astype("<f2")
        except pixels.BadImage:
            return [] if len(originals) == 1 else [pair for one in originals for pair in self._vectors([one])]
        return [(prefix, vector) for (prefix, _), vector in zip(originals, vectors, strict=True)]

    def _live(self, prefixes: Sequence[str]) -> set[str]:
        with self._components.database.read() as session:
            return set(session.scalars(select(Blob.prefix).where(Blob.prefix.in_(prefixes), Blob.state == ledger.LIVE)))


def _beginning(components: Components, claim: rows.Claim) -> tuple[str, int]:
    """The project's backbone, and up to which `seq` its images have been seen for it."""
    with components.database.read() as session:
        project = session.get(Project, claim.project_id)
        if project is None:
            raise rows.Stale(claim.job_id)
        backbone = DOMAINS[project.domain_id].backbone
        last = session.scalar(
            select(Job.payload)
            .where(Job.kind == KIND, Job.subject == claim.project_id, Job.state == rows.DONE)
            .order_by(Job.finished.desc())
            .limit(1)
        )
    seen = last is not None and last.get("version") == BACKBONES[backbone].version
    return backbone, int(last["through"]) if seen and last else 0


def _beyond(session: Session, project_id: str, through: int, limit: int) -> list[tuple[int, str]]:
    found = session.execute(
        select(Image.seq, Image.id)
        .where(Image.project_id == project_id, Image.until.is_(None), Image.seq > through)
        .order_by(Image.seq)
        .limit(limit)
    )
    return [(seq, image_id) for seq, image_id in found]


def _ended(components: Components, claim: rows.Claim, backbone: str, through: int) -> bool:
    """End the job, unless images came meanwhile.

    Under the writer's lock: an upload that commits after this finds no open job and queues another.
    """
    with components.database.write() as session:
        if _beyond(session, claim.project_id, through, 1):
            return False
        _finish(session, claim, backbone, through)
    return True


def _made_way(components: Components, claim: rows.Claim, backbone: str, through: int) -> bool:
    """Where another quick job waits: end this one, and queue its continuation behind."""
    waits = select(Job.id).where(Job.state == rows.QUEUED, Job.lane == claim.lane, Job.priority < _LOW_PRIORITY)
    with components.database.read() as session:
        if session.scalar(waits.limit(1)) is None:
            return False
    with components.database.write() as session:
        _finish(session, claim, backbone, through)
        project = session.get(Project, claim.project_id)
        if project is not None:
            ensure_embedding(session, project)
    return True


def _finish(session: Session, claim: rows.Claim, backbone: str, through: int) -> None:
    outputs.hold(session, claim)
    session.get_one(Job, claim.job_id).payload = {"version": BACKBONES[backbone].version, "through": through}
    rows.finish(session, claim)
