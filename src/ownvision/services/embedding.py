"""Embeddings: made from upload on by one low-priority job per project, so that training finds them ready.

They lie under their image's prefix as float16, encrypted like it, named by backbone and preprocessing.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from ownvision.domains import DOMAINS
from ownvision.jobs import rows
from ownvision.learning.backbones import BACKBONES
from ownvision.services import projects
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.blobs import BlobDamaged, BlobExists, BlobMissing
from ownvision.store.keys import KeyMissing
from ownvision.store.tables import Image, Project

_CHUNK = 32
_LOW_PRIORITY = 10


def ensure_embedding(session: Session, project: Project) -> None:
    """Queue the project's embed job, if it is a classifier's and none is open."""
    if not projects.is_detection(project):
        rows.enqueue(
            session,
            kind="embed",
            account_id=project.account_id,
            project_id=project.id,
            subject=project.id,
            lane=rows.QUICK,
            priority=_LOW_PRIORITY,
        )


def embed(components: Components, claim: rows.Claim) -> None:
    """The embed job: make what is missing for the workspace, until a look finds nothing missing.

    Raises:
        rows.Stale, rows.Cancelled: As `rows.heartbeat`.
    """

    def progress(share: float) -> None:
        rows.heartbeat(components.database, claim, share, components.settings.job_lease)

    seen = 0
    while True:
        with components.database.read() as session:
            project = session.get(Project, claim.project_id)
            if project is None:
                raise rows.Stale(claim.job_id)
            backbone = DOMAINS[project.domain_id].backbone
            todo = session.execute(
                select(Image.seq, Image.id)
                .where(Image.project_id == project.id, Image.until.is_(None), Image.seq > seen)
                .order_by(Image.seq)
                .limit(256)
            ).all()
        if todo:
            gather(components, backbone, [ledger.image_prefix(claim.project_id, row.id) for row in todo], progress)
            seen = todo[-1].seq
            continue
        with components.database.write() as session:
            newer = session.scalar(
                select(Image.seq)
                .where(Image.project_id == claim.project_id, Image.until.is_(None), Image.seq > seen)
                .limit(1)
            )
            if newer is None:
                # Under the writer's lock: an upload that commits after this finds no open job and queues another.
                rows.finish(session, claim)
                return


def gather(
    components: Components, backbone: str, prefixes: Sequence[str], progress: Callable[[float], None]
) -> NDArray[np.float16]:
    """Embeddings of images by their blob prefixes, read where they are there and made where not.

    Returns:
        float16 [N, D], in the order given; a row of zeros for an image that was erased meanwhile.
    """
    from ownvision.learning.classify import Embedder

    name = f"embedding-{BACKBONES[backbone].version}"
    features = sum(BACKBONES[backbone].blocks)
    result = np.zeros((len(prefixes), features), np.float16)
    embedder: Embedder | None = None
    for start in range(0, len(prefixes), _CHUNK):
        missing = []
        for row in range(start, min(start + _CHUNK, len(prefixes))):
            stored = _read(components, prefixes[row] + name)
            if stored is not None and len(stored) == 2 * features:
                result[row] = np.frombuffer(stored, "<f2")
            else:
                missing.append(row)
        originals = {row: _read(components, prefixes[row] + "original") for row in missing}
        there = [(row, data) for row, data in originals.items() if data is not None]
        if there:
            embedder = embedder or Embedder(backbone, components.settings.threads)
            made = embedder([data for _, data in there]).astype("<f2")
            for (row, _), embedding in zip(there, made, strict=True):
                result[row] = embedding
                _write(components, prefixes[row] + name, embedding.tobytes())
        progress(min(1.0, (start + _CHUNK) / len(prefixes)))
    return result


def _read(components: Components, key: str) -> bytes | None:
    try:
        return components.blobs.read(key)
    except (BlobMissing, BlobDamaged, KeyMissing):
        return None


def _write(components: Components, key: str, data: bytes) -> None:
    try:
        # Not durable: an embedding that is lost is made again.
        components.blobs.put_new(key, data, durable=False)
    except (BlobExists, KeyMissing, OSError):
        return
