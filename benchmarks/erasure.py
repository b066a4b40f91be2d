"""Deleting a project of 100,000 images, each with a picture and its features, beside `shutil.rmtree` of the same files.

The files are small: what is measured is what each costs whatever its size. `TMPDIR` says on which disk; on a busy one
look at the ratio to the peer.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.results import Result, keep
from ownvision.data_rights import closing, erasure, finishing, receipts
from ownvision.data_rights.who import OPERATOR, Who
from ownvision.services import accounts, projects
from ownvision.services.components import Components, open_components
from ownvision.settings import Settings
from ownvision.store import ledger
from ownvision.store.database import insert_all
from ownvision.store.tables import Blob, Image, ImageMetadata, ImageTag, Project, Tag
from ownvision.store.tables.base import new_id, now

IMAGES = int(os.environ.get("OWNVISION_BENCHMARK_IMAGES", "100000"))
DOMAIN = "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
NAMES = ("original", "embedding-efficientnet_lite0-12345678-f2-p1")
BYTES = 600
PART = 10_000


def run() -> bool:
    """What the caller waits for, what follows, and the peer."""
    with tempfile.TemporaryDirectory() as folder:
        components = open_components(Settings.model_validate({"data": Path(folder) / "data"}))
        components.database.migrate()
        accounts.first_start(components)
        project = _project(components)
        _fill(components, project)
        shutil.copytree(components.settings.data / "objects", Path(folder) / "peer")
        results = list(_measured(components, project, Path(folder) / "peer"))
        components.database.close()
    return keep("erasure", results)


def _measured(components: Components, project: Project, peer: Path) -> Iterator[Result]:
    disk = subprocess.run(
        ["stat", "-f", "-c", "%T", str(peer)], capture_output=True, text=True, check=True
    ).stdout.strip()
    began = time.perf_counter()
    shutil.rmtree(peer)
    bare = time.perf_counter() - began
    files = len(NAMES) * IMAGES

    began = time.perf_counter()
    with components.database.write() as session:
        receipt = erasure.erase_project(session, Who(project.account_id, OPERATOR), project.id)
    erasure.after_commit(components, receipt)
    yield Result(f"DeleteProject, {IMAGES:,} images on {disk}: the call", time.perf_counter() - began, "s", 1.0)

    began = time.perf_counter()
    closing.empty(components, project.id)
    taken = time.perf_counter() - began
    finishing.finish(components)
    with components.database.read() as session:
        done = receipts.get(session, receipt.id)
    assert done.state == "signed", done.state
    assert done.erased["images"]["count"] == done.erased["embeddings"]["count"] == IMAGES, done.erased
    yield Result("its files and rows removed", taken, "s")
    yield Result("files removed with their rows, counted", files / taken, "files/s", 5_000, most=False)
    yield Result("  shutil.rmtree of the same files (no rows, no counts)", files / bare, "files/s")
    yield Result("from the first file to the signed receipt", time.perf_counter() - began, "s")


def _project(components: Components) -> Project:
    with components.database.write() as session:
        return projects.create(
            session,
            components.keys,
            accounts.all(session)[0],
            name="Large",
            description=None,
            domain_id=DOMAIN,
            classification_type="Multilabel",
            target_export_platforms=[],
            limits=components.settings.limits,
        )


def _fill(components: Components, project: Project) -> None:
    """Rows written straight through the tables, files straight to their places."""
    tag_id, moment, data = new_id(), now(), secrets.token_bytes(BYTES)
    with components.database.write() as session:
        session.add(Tag(id=tag_id, project_id=project.id, name="tag", image_count=IMAGES))
    objects = components.settings.data / "objects"
    for start in range(0, IMAGES, PART):
        ids = [ledger.new_image_id(project.id) for _ in range(min(PART, IMAGES - start))]
        for id in ids:
            prefix = ledger.image_prefix(project.id, id)
            (objects / prefix).parent.mkdir(parents=True, exist_ok=True)
            for name in NAMES:
                (objects / (prefix + name)).write_bytes(data)
        with components.database.write() as session:
            seqs = range(start + 1, start + 1 + len(ids))
            insert_all(session, Blob, [_blob(project, id) for id in ids])
            insert_all(session, Image, [_image(project, id, seq) for id, seq in zip(ids, seqs, strict=True)])
            insert_all(
                session,
                ImageTag,
                [
                    {"project_id": project.id, "image_seq": seq, "tag_id": tag_id, "created": moment, "since": 1}
                    for seq in seqs
                ],
            )
            insert_all(
                session,
                ImageMetadata,
                [{"project_id": project.id, "image_seq": seq, "key": "site", "value": f"{seq}"} for seq in seqs],
            )


def _blob(project: Project, id: str) -> dict[str, object]:
    return {
        "prefix": ledger.image_prefix(project.id, id),
        "kind": "image",
        "account_id": project.account_id,
        "project_id": project.id,
        "state": ledger.LIVE,
    }


def _image(project: Project, id: str, seq: int) -> dict[str, object]:
    return {
        "seq": seq,
        "id": id,
        "project_id": project.id,
        "sha256": f"{seq:064}",
        "width": 640,
        "height": 480,
        "size": BYTES,
        "format": "JPEG",
        "file_name": f"{seq}.jpg",
        "tagged": True,
        "since": 1,
    }
