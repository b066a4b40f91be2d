"""A running service for the API's tests: a real server in a thread, driven over HTTP."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from PIL import Image as Picture

from ownvision import app as service
from ownvision.services import accounts
from ownvision.services.components import Components
from ownvision.settings import Settings
from tests import databases

TRAINING = "/customvision/v3.4-preview/training"
PREDICTION = "/customvision/v3.1/prediction"


@dataclass(frozen=True)
class Service:
    """A running service and its first account's keys."""

    url: str
    components: Components
    app: Any
    training_key: str
    prediction_key: str
    resource_id: str

    def client(self, version: str = "v3.4-preview", **options: Any) -> httpx.Client:
        """A client of the training API."""
        return httpx.Client(
            base_url=f"{self.url}/customvision/{version}/training",
            headers={"Training-Key": self.training_key},
            timeout=30,
            **options,
        )


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Service]:
    """A service on a free port, over a data folder."""
    settings = Settings(**{"data": folder, "worker": False, "min_free_bytes": 0, **options})
    databases.prepare(settings)
    app = service.create(settings)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, lifespan="off", log_config=None, loop="uvloop", http="httptools", ws="none")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    components = app.state.components
    with components.database.read() as session:
        shown = accounts.describe(session, components.keys, accounts.all(session)[0])
    with ExitStack() as stack:
        if settings.worker:
            stack.enter_context(service.worker(settings))
        stack.callback(components.database.close)
        stack.callback(app.state.meter.close)
        stack.callback(app.state.trail.close)
        stack.callback(thread.join)
        stack.callback(setattr, server, "should_exit", True)
        yield Service(
            f"http://127.0.0.1:{port}",
            components,
            app,
            shown["trainingKeys"]["primary"],
            shown["predictionKeys"]["primary"],
            shown["predictionResourceId"],
        )


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service that tests share; each makes a project of its own."""
    with running(tmp_path_factory.mktemp("data")) as started:
        yield started


@pytest.fixture(scope="session")
def client(api: Service) -> Iterator[httpx.Client]:
    """A client of the shared service's newest training API."""
    with api.client() as made:
        yield made


@pytest.fixture
def new_project(client: httpx.Client) -> Callable[..., str]:
    """Makes projects; gives their ids."""

    def make(**parameters: Any) -> str:
        answer = client.post("/projects", params={"name": "Test Project", **parameters})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    return make


@pytest.fixture
def project(new_project: Callable[..., str]) -> str:
    """A multilabel project."""
    return new_project()


@pytest.fixture
def detection(new_project: Callable[..., str]) -> str:
    """A detection project."""
    return new_project(domainId="da2e3a8a-40a5-4171-82f4-58522f70fbc1")


def jpeg(seed: int, width: int = 32, height: int = 24, **options: Any) -> bytes:
    """A small picture that differs with its seed."""
    buffer = io.BytesIO()
    colour = (seed * 37 % 256, seed // 7 % 256, seed % 256)
    Picture.new("RGB", (width, height), colour).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def new_tag(client: httpx.Client, project: str, name: str) -> str:
    """A tag's id."""
    return str(client.post(f"/projects/{project}/tags", params={"name": name}).json()["id"])


def upload(client: httpx.Client, project: str, seed: int, **parameters: Any) -> dict[str, Any]:
    """Upload one picture; gives its image."""
    answer = client.post(
        f"/projects/{project}/images", params=parameters, files={"imageData": (f"{seed}.jpg", jpeg(seed))}
    )
    assert answer.status_code == 200, answer.text
    image: dict[str, Any] = answer.json()["images"][0]["image"]
    return image
