"""A rich life of an installation: everything that leaves something behind, done to a running service."""

import io
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image as Pillow
from sqlalchemy import update

from ownvision.client.local import Running
from ownvision.store.database import Database
from ownvision.store.tables import Prediction
from ownvision.store.tables.base import new_id, now

_COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"
_SECONDS = 200.0  # the machine may be busy


def live(service: Running, look: Callable[[], None]) -> bytes:
    """Make two projects, use all that can be used in one, delete the other; returns a takeout of the first.

    Args:
        service: Which.
        look: Called when there is most to see, before anything is deleted.
    """
    with httpx.Client(
        base_url=service.endpoint,
        headers={"Training-Key": service.training_key, "Prediction-Key": service.prediction_key},
        timeout=60,
        trust_env=False,
    ) as http:
        life = _Life(http)
        project = life.project("Trees")
        life.fill(project)
        iteration = life.train(project)
        life.use(project, iteration, service.resource_id)
        life.go_on(project, iteration)
        archive = life.take_out()
        look()
        life.grow_old(project, service.data)
        # Rows that only an erasure makes: lineage, an entry of the journal, a key destroyed.
        life.delete(f"{project}/images", allImages="true", allIterations="true")
        second = life.project("Birds")
        life.delete(second)
        for name in ("keys/erased.journal", "scrubbed", "keys/receipts.key"):
            _until((service.data / name).exists)
    return archive


class _Life:
    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def call(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        base = path if path.startswith("/") else f"/customvision/v3.4-preview/training/projects{path and '/' + path}"
        answer = self.http.request(method, base, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content and "json" in answer.headers["content-type"] else answer.content

    def delete(self, path: str, **params: str) -> None:
        self.call("DELETE", path, 202 if params else 204, params=params)

    def project(self, name: str) -> str:
        project: str = self.call("POST", "", params={"name": name, "domainId": _COMPACT})["id"]
        return project

    def fill(self, project: str) -> None:
        for colour, tag_name in enumerate(("oak", "elm")):
            tag = self.call("POST", f"{project}/tags", params={"name": tag_name})["id"]
            files = {f"{tag_name} {seed}.png": _png(colour, seed) for seed in range(6)}
            self.call("POST", f"{project}/images", params={"tagIds": tag}, files=files)
        self.call("POST", f"{project}/images", files={"untagged.png": _png(0, 99, width=1_700, height=100)})

    def train(self, project: str) -> str:
        iteration: str = self.call("POST", f"{project}/train")["id"]
        _until(lambda: self.call("GET", f"{project}/iterations/{iteration}")["status"] == "Completed")
        return iteration

    def go_on(self, project: str, iteration: str) -> None:
        """Train once more, from an iteration: what such a training tried is kept."""
        base = {"customBaseModelInfo": {"projectId": project, "iterationId": iteration}}
        further = self.call("POST", f"{project}/train", params={"forceTrain": "true"}, json=base)["id"]
        _until(lambda: self.call("GET", f"{project}/iterations/{further}")["status"] == "Completed")

    def use(self, project: str, iteration: str, resource: str) -> None:
        of_iteration = f"{project}/iterations/{iteration}"
        self.call("POST", f"{of_iteration}/publish", params={"publishName": "trees", "predictionId": resource})
        self.call("POST", f"{of_iteration}/export", params={"platform": "ONNX"})
        _until(lambda: self.call("GET", f"{of_iteration}/export")[0]["status"] == "Done")
        predict = f"/customvision/v3.0/prediction/{project}/classify/iterations/trees/image"
        self.call("POST", predict, files={"seen.png": _png(1, 77, width=1_700, height=100)})
        stored = self.stored(project)
        untagged = self.call("GET", f"{project}/images/untagged")
        for picture in (*stored, *untagged):
            for name in ("resizedImageUri", "thumbnailUri", "originalImageUri"):
                self.http.get(picture[name]).raise_for_status()
        ids = [image["id"] for image in untagged]
        self.call(
            "POST", f"{project}/tagsandregions/suggestions", params={"iterationId": iteration, "imageIds": ids[0]}
        )
        self.call("GET", f"{project}/export")

    def take_out(self) -> bytes:
        path = f"/api/account/takeouts/{self.call('POST', '/api/account/takeouts')['id']}"
        _until(lambda: self.call("GET", path)["status"] != "Exporting")
        return self.http.get(self.call("GET", path)["downloadUri"]).raise_for_status().content

    def grow_old(self, project: str, data: Path) -> None:
        """Stored predictions are kept for a day, but for as long as a hold is there; they are two days old."""
        hold = self.call("POST", f"/api/projects/{project}/holds", json={"reason": "case 7"})["id"]
        with closing(Database(f"sqlite:///{data / 'ownvision.db'}")) as database, database.write() as session:
            session.execute(update(Prediction).values(created=now() - timedelta(days=2)))
        rule = {"kind": "predictions", "days": 1}
        self.call("PUT", f"/api/projects/{project}/retention", json=rule)
        self.call("DELETE", f"{project}/predictions", 400, params={"ids": new_id()})
        assert self.stored(project), "a legal hold did not keep them"
        self.call("DELETE", f"/api/projects/{project}/holds/{hold}", 204)
        _until(lambda: not self.stored(project))

    def stored(self, project: str) -> list[Any]:
        found: list[Any] = self.call("POST", f"{project}/predictions/query", json={"orderBy": "Newest"})["results"]
        return found


def _png(colour: int, seed: int, width: int = 48, height: int = 48) -> bytes:
    noise = np.random.default_rng(100 * colour + seed).integers(0, 60, (height, width, 3))
    noise[..., colour] += 150
    buffer = io.BytesIO()
    Pillow.fromarray(noise.astype(np.uint8)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not done():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)


def files(folder: Path) -> set[str]:
    """Paths of all files in a folder, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
