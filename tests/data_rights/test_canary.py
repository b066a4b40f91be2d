"""Words planted in everything a client can send are all found before, and none of them after, each kind of erasure.

The service is killed while it erases, at moments that `OWNVISION_CANARY` seeds.
"""

import base64
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from ownvision.client.local import command, free_port, run, stop, wait_until_ready
from tests.data_rights import canary
from tests.data_rights.canary import Search, bmp, png, word

SEED = int(os.environ.get("OWNVISION_CANARY", "4"))
COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"
TRAINING = "/customvision/v3.4-preview/training"
ENVIRONMENT = {
    "OWNVISION_SCRUB_SECONDS": "0",
    "OWNVISION_URL_ALLOW": '["127.0.0.0/8"]',
    # Nobody listens there: what is to be sent waits.
    "OWNVISION_SMTP_HOST": "127.0.0.1",
    "OWNVISION_SMTP_PORT": "9",
}
pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Cage:
    """A service that can be killed, and the words that were planted in it."""

    folder: Path
    tap: str  # where an archive drips from
    dice: random.Random = field(default_factory=lambda: random.Random(SEED))
    words: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    endpoint: str = ""
    account: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "serve.log"

    @property
    def copied_keys(self) -> Path:
        return self.folder / "copied-keys"

    def start(self) -> None:
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command("serve", "--port", str(port), "--data", str(self.data)),
                stdout=output,
                stderr=output,
                env={**os.environ, **ENVIRONMENT},
            )
        wait_until_ready(self.endpoint, self.process, self.log)

    def kill(self) -> None:
        """Server and worker (it dies with its parent), at some moment; then both again."""
        assert self.process is not None
        time.sleep(self.dice.uniform(0.0, 0.4))
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.start()

    def client(self) -> httpx.Client:
        keys = {
            "Training-Key": self.account["trainingKeys"]["primary"],
            "Prediction-Key": self.account["predictionKeys"]["primary"],
        }
        return httpx.Client(base_url=self.endpoint, headers=keys, timeout=60, trust_env=False)

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self.client() as client:
            answer = client.request(method, path, **options)
        assert answer.status_code < 300, f"{method} {path}: {answer.text}"
        return answer

    def plant(self, where: str) -> str:
        self.words[where] = word()
        return self.words[where]

    def found(self) -> dict[str, set[str]]:
        return Search(self.words, self.copied_keys).found(self.data, self.log)

    def erase(self, *calls: tuple[str, str, dict[str, Any]], kill: bool = False) -> None:
        """Erase, be killed, and wait until the receipts are signed."""
        receipts = [
            self.call(method, path, **options).headers["OwnVision-Receipt"].rpartition("/")[2]
            for method, path, options in calls
        ]
        if kill:
            self.kill()
        for receipt in receipts:
            _until("the signing of a receipt", lambda receipt=receipt: self._signed(receipt))

    def _signed(self, receipt: str) -> bool:
        answer = httpx.get(f"{self.endpoint}/receipts/{receipt}", timeout=30, trust_env=False)
        return bool(answer.json()["state"] == "signed")


class _Dripping(BaseHTTPRequestHandler):
    """Gives out the beginning of an archive, and lets wait for the rest."""

    beginning = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-tar")
        self.send_header("Content-Length", "100000")
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(self.beginning)
            self.rfile.read(1)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def cage(tmp_path: Path) -> Iterator[Cage]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Dripping)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    cage = Cage(tmp_path, f"http://127.0.0.1:{server.server_port}")
    cage.start()
    yield cage
    if cage.process is not None:
        stop(cage.process)
    server.shutdown()
    server.server_close()


def _until(what: str, check: Any) -> Any:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not in time: {what}")


@dataclass
class Planted:
    """Ids of what holds the words."""

    project: str
    iteration: str
    export: str
    prediction: str
    late_tag: str
    kept: str  # an image that the iteration learned from
    erased: str  # another
    late: str  # an image that no iteration knows


def _upload(cage: Cage, at: str, name: str, picture: bytes, tags: str = "") -> str:
    answer = cage.call(
        "POST", f"{at}/images", params={"tagIds": tags} if tags else {}, files=[("imageData", (name, picture))]
    )
    return str(answer.json()["images"][0]["image"]["id"])


def _plant(cage: Cage) -> Planted:
    """Words in every field and byte that a client can send."""
    made = run(
        "account",
        "create",
        cage.plant("account name"),
        "--email",
        f"{cage.plant('account e-mail')}@example.org",
        "--json",
        "--data",
        str(cage.data),
    )
    cage.account = json.loads(made)
    cage.words["training key"] = cage.account["trainingKeys"]["primary"]
    cage.words["prediction key"] = cage.account["predictionKeys"]["secondary"]
    project = cage.call(
        "POST",
        f"{TRAINING}/projects",
        params={
            "name": cage.plant("project name"),
            "description": cage.plant("project description"),
            "domainId": COMPACT,
            "classificationType": "Multiclass",
        },
    ).json()["id"]
    at = f"{TRAINING}/projects/{project}"
    tags = [
        cage.call(
            "POST",
            f"{at}/tags",
            params={"name": cage.plant(f"tag name {n}"), "description": cage.plant(f"tag description {n}")},
        ).json()["id"]
        for n in range(2)
    ]
    kept = _upload(cage, at, f"{cage.plant('kept file name')}.bmp", bmp(cage.plant("kept pixels"), 1), tags[0])
    erased = _upload(
        cage, at, f"{cage.plant('erased file name')}.png", png(cage.plant("erased comment"), (9, 9, 200)), tags[1]
    )
    cage.words["erased EXIF"] = cage.words["erased comment"][::-1]
    for image, name in ((kept, "kept"), (erased, "erased")):
        pair = {cage.plant(f"{name} metadata key"): cage.plant(f"{name} metadata value")}
        cage.call("POST", f"{at}/images/metadata", params={"imageIds": image}, json=pair)
    for number in range(5):
        _upload(cage, at, f"{number}.bmp", bmp(word(), 10 + number), tags[0])
        _upload(cage, at, f"{number}.png", png(word(), (9, 9, 100 + number)), tags[1])
    secret = f"whsec_{cage.plant('webhook secret').ljust(40, 'A')}"
    webhook = {"url": f"http://127.0.0.1:9/{cage.plant('webhook address')}", "secret": secret}
    cage.call("PUT", f"/api/projects/{project}/webhook", json=webhook)
    mail = f"{cage.plant('notification e-mail')}@example.org"
    trained = cage.call("POST", f"{at}/train", params={"notificationEmailAddress": mail, "forceTrain": "true"}).json()[
        "id"
    ]
    _until("training", lambda: cage.call("GET", f"{at}/iterations/{trained}").json()["status"] == "Completed")
    cage.call("PATCH", f"{at}/iterations/{trained}", json={"name": cage.plant("iteration name")})
    cage.call(
        "POST",
        f"{at}/iterations/{trained}/publish",
        params={"publishName": cage.plant("publish name"), "predictionId": cage.account["predictionResourceId"]},
    )
    cage.call(
        "POST",
        f"/customvision/v3.1/prediction/{project}/classify/iterations/{cage.words['publish name']}/image",
        params={"application": cage.plant("application")},
        files={"imageData": ("x.bmp", bmp(cage.plant("prediction pixels"), 77))},
    )
    (prediction,) = cage.call("POST", f"{at}/predictions/query", json={"orderBy": "Newest"}).json()["results"]
    cage.call("POST", f"{at}/iterations/{trained}/export", params={"platform": "ONNX"})
    _until("export", lambda: cage.call("GET", f"{at}/iterations/{trained}/export").json()[0]["status"] == "Done")
    # Of the workspace alone: the iteration keeps what the tags were called.
    cage.call("PATCH", f"{at}/tags/{tags[0]}", json={"name": cage.plant("tag name since"), "type": "Regular"})
    late_tag = cage.call(
        "POST",
        f"{at}/tags",
        params={"name": cage.plant("late tag name"), "description": cage.plant("late tag description")},
    ).json()["id"]
    late = _upload(cage, at, f"{cage.plant('late file name')}.bmp", bmp(cage.plant("late pixels"), 2), late_tag)
    spare = cage.call("POST", f"{TRAINING}/projects", params={"name": "spare"}).json()["id"]
    leaving = cage.call("GET", f"{TRAINING}/projects/{spare}/export").json()["token"]
    _Dripping.beginning = httpx.get(leaving, trust_env=False).content[:2048]
    token = cage.plant("import token")
    address = f"{cage.tap}/prjexp-{'a' * 32}/project-export-info?id={token}&sig=x&se=x"
    cage.call("POST", f"{TRAINING}/projects/import", params={"token": address})
    return Planted(project, trained, _export_id(cage), prediction["id"], late_tag, kept, erased, late)


def _export_id(cage: Cage) -> str:
    with sqlite3.connect(cage.data / "ownvision.db") as connection:
        return str(connection.execute("SELECT id FROM exports").fetchone()[0])


# What is gone after each step, by how the names of the words begin.
LATE_IMAGE = ("late file name", "late pixels")
LATE_TAG = ("late tag",)
ERASED_IMAGE = ("erased ",)
PREDICTION = ("prediction pixels", "application")
ITERATION = ("iteration name", "publish name", "kept ", "tag name 0", "notification e-mail")
PROJECT = ("project ", "tag ", "webhook")


def test_no_word_is_left_after_each_kind_of_erasure(cage: Cage) -> None:
    planted = _plant(cage)
    at = f"{TRAINING}/projects/{planted.project}"
    shutil.copytree(cage.data / "keys", cage.copied_keys)
    places = cage.found()
    assert set(cage.words) == set(places)
    backup, keys = cage.folder / "backup", cage.folder / "keys.tar"
    run("backup", "--data", str(cage.data), "--to", str(backup), "--keys-to", str(keys))

    gone: tuple[str, ...] = ("import token",)  # it goes when nothing has come from there for long

    def check(*more: str) -> None:
        nonlocal gone
        gone += more
        left = set(cage.found())
        left.discard("import token")
        expected = {name for name in cage.words if not name.startswith(gone)}
        assert left == expected, f"left over: {left - expected}; lost: {expected - left}"

    images = f"{at}/images"
    exports = f"/api/projects/{planted.project}/iterations/{planted.iteration}/exports"
    cage.erase(
        ("DELETE", images, {"params": {"imageIds": f"{planted.kept},{planted.late}"}}),
        ("DELETE", f"{at}/tags/{planted.late_tag}", {}),
        ("DELETE", images, {"params": {"imageIds": planted.erased, "allIterations": "true"}}),
        ("DELETE", f"{at}/predictions", {"params": {"ids": planted.prediction}}),
        ("DELETE", f"{exports}/{planted.export}", {}),
        kill=True,
    )
    # Of the image that was deleted from the workspace alone and that the iteration holds, every word is still there.
    check(*LATE_IMAGE, *LATE_TAG, *ERASED_IMAGE, *PREDICTION)
    assert not list(cage.data.rglob("archive.zip"))
    cage.call("DELETE", f"{at}/iterations/{planted.iteration}/publish")
    cage.erase(("DELETE", f"{at}/iterations/{planted.iteration}", {}))
    check(*ITERATION)
    cage.erase(("DELETE", at, {}), kill=True)
    check(*PROJECT)
    cage.erase(("DELETE", "/api/account", {"json": {"userName": cage.words["account name"]}}))
    check("account", "training key", "prediction key")
    assert canary.rows(cage.data) > 0
    _remains_none(cage.data)

    run("backup", "--data", str(cage.data), "--keys-to", str(keys))
    restored = cage.folder / "restored"
    run("restore-backup", "--from", str(backup), "--keys", str(keys), "--data", str(restored))
    assert Search(cage.words, cage.copied_keys).found(restored) == {}
    assert run("doctor", "--data", str(restored)) == "Nothing is wrong.\n"
    _remains_none(restored)


def _remains_none(data: Path) -> None:
    assert json.loads(run("doctor", "--erased", "--json", "--data", str(data))) == []


@pytest.mark.parametrize("before", range(3))
def test_a_word_is_found_in_each_form(tmp_path: Path, before: int) -> None:
    marker = word()
    text = "é" * before + marker
    said = [
        text.encode(),
        text.encode("utf-16"),
        text.encode().hex().encode(),
        base64.b64encode(b"x" * before + marker.encode() + b"yyy"),
        bmp(marker, 1),
        png(marker, (1, 2, 3)),
    ]
    for content in said:
        assert any(form in content for form in canary.forms(marker))
        assert not any(form in content for form in canary.forms(word()))
