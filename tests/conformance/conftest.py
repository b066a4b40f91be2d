"""One service, one set of pictures and one trained detector for the whole suite."""

import functools
import json
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from ownvision.client.local import Running
from tests.conformance import pictures

TRAINING_SECONDS = 600.0


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    pictures.write(folder)
    return folder


@pytest.fixture(scope="session")
def pictures_url(picture_folder: Path) -> Iterator[str]:
    """Where the service fetches pictures from when it is given a URL."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    handler = functools.partial(Handler, directory=str(picture_folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def detection(service: Running, picture_folder: Path) -> dict[str, str]:
    """A published detector of one tag; training it takes a minute, so every client asks the same one."""
    root = service.endpoint + "/customvision/v3.4-preview/training"
    with httpx.Client(headers={"Training-Key": service.training_key}, timeout=120.0) as client:

        def post(path: str, **options: Any) -> Any:
            return client.post(root + path, **options).raise_for_status().json()

        domains = client.get(root + "/domains").raise_for_status().json()
        domain = next(d for d in domains if d["type"] == "ObjectDetection" and d["name"] == "General (compact)")
        project = post("/projects", params={"name": "Detector of the suite", "domainId": domain["id"]})["id"]
        here = f"/projects/{project}"
        tag = post(here + "/tags", params={"name": "disc"})["id"]
        for name, (left, top, width, height) in json.loads((picture_folder / "scenes.json").read_text()).items():
            made = post(here + "/images", files={"imageData": (picture_folder / name).read_bytes()})
            image = made["images"][0]["image"]["id"]
            if name == "scene_16.jpg":
                untagged = image
                continue
            region = {"imageId": image, "tagId": tag, "left": left, "top": top, "width": width, "height": height}
            post(here + "/images/regions", json={"regions": [region]})
        iteration = post(here + "/train")
        deadline = time.monotonic() + TRAINING_SECONDS
        while iteration["status"] == "Training":
            assert time.monotonic() < deadline, "the detector is still training"
            time.sleep(0.5)
            iteration = client.get(f"{root}{here}/iterations/{iteration['id']}").raise_for_status().json()
        assert iteration["status"] == "Completed", iteration
        named = {"publishName": "detector", "predictionId": service.resource_id}
        post(f"{here}/iterations/{iteration['id']}/publish", params=named)
    return {"project": project, "iteration": iteration["id"], "published": "detector", "untagged": untagged}


@pytest.fixture(scope="session")
def facts(
    service: Running,
    picture_folder: Path,
    pictures_url: str,
    detection: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The file that a driver is handed."""
    path = tmp_path_factory.mktemp("facts") / "facts.json"
    path.write_text(
        json.dumps(
            {
                "endpoint": service.endpoint,
                "training_key": service.training_key,
                "prediction_key": service.prediction_key,
                "resource_id": service.resource_id,
                "pictures": str(picture_folder),
                "pictures_url": pictures_url,
                "detection": detection,
            }
        )
    )
    return path
