"""Batches of 64 × 6 MB, in each form of upload: the server stays within 200 MB above idle."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import jpeg

CODE = "from ownvision.app import serve; from ownvision.settings import Settings; serve(Settings())"
MEGABYTES_ABOVE_IDLE = 200


def _picture(number: int) -> bytes:
    small = jpeg(number)
    return small + os.urandom(5_900_000 - len(small))  # what follows the end of a JPEG is ignored


def _multipart() -> Iterator[bytes]:
    for number in range(64):
        yield f'--xyz\r\nContent-Disposition: form-data; name="a"; filename="{number}.jpg"\r\n\r\n'.encode()
        yield _picture(number)
        yield b"\r\n"
    yield b"--xyz--\r\n"


def _files() -> Iterator[bytes]:
    yield b'{"images":['
    for number in range(64):
        comma = b"," if number else b""
        yield comma + f'{{"name":"{number}.jpg","contents":"'.encode()
        yield base64.b64encode(_picture(number)) + b'"}'
    yield b"]}"


def _urls() -> Iterator[bytes]:
    yield json.dumps({"images": [{"url": f"{_SITE[0]}/{number}"} for number in range(64)]}).encode()


class _Pictures(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        data = _picture(int(self.path.strip("/")))
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


_SITE: list[str] = []


@pytest.fixture(scope="module")
def site() -> Iterator[None]:
    """A server of 64 pictures."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pictures) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        _SITE.append(f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()
        thread.join()


def _resident(pid: int, line: str) -> int:
    for text in Path(f"/proc/{pid}/status").read_text().splitlines():
        if text.startswith(line):
            return int(text.split()[1]) // 1024
    raise AssertionError(line)


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("images", "multipart/form-data; boundary=xyz", _multipart),
        ("images/files", "application/json", _files),
        ("images/urls", "application/json", _urls),
    ],
)
@pytest.mark.usefixtures("site")
def test_the_largest_batch_fits_in_little_memory(tmp_path: Path, path: str, kind: str, body: object) -> None:
    assert callable(body)
    own = {"DATA": str(tmp_path), "PORT": "0", "WORKER": "false", "URL_ALLOW": '["127.0.0.0/8"]'}
    environment = {**os.environ, **{f"OWNVISION_{name}": value for name, value in own.items()}}
    process = subprocess.Popen([sys.executable, "-c", CODE], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        from ownvision.services import accounts
        from ownvision.services.components import open_components
        from ownvision.settings import Settings

        components = open_components(Settings(data=tmp_path))
        with components.database.read() as session:
            key = accounts.describe(session, components.keys, accounts.all(session)[0])["trainingKeys"]["primary"]
        components.database.close()
        with httpx.Client(base_url=f"{url}/customvision/v3.3/training", headers={"Training-Key": key}) as client:
            project = client.post("/projects?name=a").json()["id"]
            client.post(f"/projects/{project}/images", content=jpeg(999))  # loads what an upload needs
            idle = _resident(process.pid, "VmRSS")
            answer = client.post(
                f"/projects/{project}/{path}", content=body(), headers={"Content-Type": kind}, timeout=300
            )
            assert answer.status_code == 200, answer.text[:500]
            assert _resident(process.pid, "VmHWM") - idle <= MEGABYTES_ABOVE_IDLE
    finally:
        process.terminate()
        process.communicate()
