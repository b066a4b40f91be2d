"""The SDK's two clients, pictures that a model can tell apart, and waiting with a deadline."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from azure.cognitiveservices.vision.customvision.prediction import CustomVisionPredictionClient
from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient
from msrest.authentication import ApiKeyCredentials
from PIL import Image, ImageDraw

from ownvision.client.local import Running

SHAPES = ("circle", "square")
COLOURS = {"circle": (200, 40, 40), "square": (40, 60, 200)}


@pytest.fixture(scope="session")
def clients_of(service: Running) -> Callable[[dict[str, Any]], tuple[Any, Any]]:
    """(training client, prediction client) of an account."""

    def make(account: dict[str, Any]) -> tuple[Any, Any]:
        training = ApiKeyCredentials(in_headers={"Training-key": account["trainingKeys"]["primary"]})
        prediction = ApiKeyCredentials(in_headers={"Prediction-key": account["predictionKeys"]["primary"]})
        return (
            CustomVisionTrainingClient(service.endpoint, training),
            CustomVisionPredictionClient(service.endpoint, prediction),
        )

    return make


@pytest.fixture(scope="session")
def trainer(service: Running, clients_of: Callable[[dict[str, Any]], tuple[Any, Any]]) -> Any:
    return clients_of(service.account)[0]


@pytest.fixture(scope="session")
def predictor(service: Running, clients_of: Callable[[dict[str, Any]], tuple[Any, Any]]) -> Any:
    return clients_of(service.account)[1]


def scene(seed: int, shapes: tuple[str, ...], side: int = 240) -> tuple[bytes, list[tuple[str, tuple[float, ...]]]]:
    """A PNG of shapes on a noisy ground, and (shape, (left, top, width, height)) of each, from 0 to 1."""
    random = np.random.default_rng(seed)
    ground = random.integers(120, 200) + random.normal(0, 12, (side, side, 3))
    canvas = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    boxes = []
    for place, shape in enumerate(shapes):
        # Each shape has a column of its own, so that none lies over another.
        column = side // len(shapes)
        size = int(random.integers(column // 3, column * 4 // 5))
        left = place * column + int(random.integers(0, column - size))
        top = int(random.integers(0, side - size))
        corners = (left, top, left + size, top + size)
        if shape == "circle":
            draw.ellipse(corners, fill=COLOURS[shape])
        else:
            draw.rectangle(corners, fill=COLOURS[shape])
        boxes.append((shape, (left / side, top / side, size / side, size / side)))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue(), boxes


def wait_for(ask: Callable[[], Any], arrived: Callable[[Any], bool], seconds: float = 60.0) -> Any:
    """Ask until the answer has arrived; fails with the last answer at the deadline."""
    deadline = time.monotonic() + seconds
    answer = ask()
    while not arrived(answer):
        assert time.monotonic() < deadline, f"after {seconds} s still {answer}"
        time.sleep(0.05)
        answer = ask()
    return answer


def trained(trainer: Any, project: Any, iteration: Any, seconds: float = 60.0) -> Any:
    """The iteration once it is no longer training; it must have completed."""
    done = wait_for(
        lambda: trainer.get_iteration(project.id, iteration.id), lambda it: it.status != "Training", seconds
    )
    assert done.status == "Completed", done.training_error_details
    return done


@pytest.fixture
def picture_server() -> Iterator[Callable[[bytes], str]]:
    """Serves bytes on this machine: give it a picture, get its URL."""
    pictures: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = pictures.get(self.path)
            self.send_response(200 if data else 404)
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def add(data: bytes) -> str:
        path = f"/{len(pictures)}.png"
        pictures[path] = data
        return f"http://127.0.0.1:{server.server_port}{path}"

    yield add
    server.shutdown()
    thread.join()
    server.server_close()
