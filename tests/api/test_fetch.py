"""A picture by URL, and nothing that only the server can reach."""

import http.server
import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from ownvision.limits import Limits
from ownvision.services import outbound
from tests.api.conftest import Service, jpeg, running, upload

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", False),
        ("2606:4700::1111", False),
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("172.16.0.1", True),
        ("192.168.1.1", True),
        ("169.254.169.254", True),
        ("100.64.0.1", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("255.255.255.255", True),
        ("::1", True),
        ("::", True),
        ("fe80::1", True),
        ("fc00::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:8.8.8.8", False),
        ("64:ff9b::7f00:1", True),
        ("64:ff9b::808:808", False),
        ("64:ff9b:1::808:808", True),
        ("::7f00:1", True),
        ("::a01:203", True),
        ("::ffff:0:7f00:1", True),
        ("fec0::1", True),
        ("feff::1", True),
        ("4000::1", True),
        ("2002:7f00:1::", True),
        ("ff02::1", True),
    ],
)
def test_private_addresses_are_refused(address: str, expected: bool) -> None:
    assert outbound.refused(ipaddress.ip_address(address), []) is expected


def test_a_network_that_is_allowed_is_not_refused() -> None:
    allowed = [ipaddress.ip_network("10.0.0.0/8")]
    assert not outbound.refused(ipaddress.ip_address("10.1.2.3"), allowed)
    assert not outbound.refused(ipaddress.ip_address("::ffff:10.1.2.3"), allowed)
    assert outbound.refused(ipaddress.ip_address("192.168.0.1"), allowed)


class _Site(http.server.BaseHTTPRequestHandler):
    """Pictures, and ways to lead astray."""

    asked, left = threading.Event(), threading.Event()  # for the slow one, and of its caller

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.partition("?")[2])
            self.end_headers()
            return
        if path == "/loop":
            self.send_response(301)
            self.send_header("Location", "/loop")
            self.end_headers()
            return
        if path == "/slow":
            self.asked.set()
            self.connection.settimeout(20)
            with suppress(OSError):
                if self.rfile.read(1) == b"":
                    self.left.set()
            return
        if path == "/large" and "?" in self.path:
            self.asked.wait(20)
        self.send_response(404 if path == "/missing" else 200)
        self.end_headers()
        data = jpeg(77) + (bytes(7_000_000) if path == "/large" else b"")
        with suppress(BrokenPipeError, ConnectionResetError):  # the service stops reading at its cap
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def _site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _statuses(client: httpx.Client, project: str, *urls: str) -> list[str]:
    answer = client.post(f"/projects/{project}/images/urls", json={"images": [{"url": url} for url in urls]})
    assert answer.status_code in (200, 207), answer.text
    assert [item["sourceUrl"] for item in answer.json()["images"]] == list(urls)
    return [item["status"] for item in answer.json()["images"]]


@pytest.fixture(scope="module")
def allowing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """A service that may fetch from 127.0.0.1, and a site there."""
    with running(tmp_path_factory.mktemp("data"), url_allow=["127.0.0.1/32"]) as service, _site() as site:
        yield service, site


def test_pictures_come_by_url_and_redirects_are_followed(allowing: tuple[Service, str]) -> None:
    service, site = allowing
    with service.client() as client:
        project = client.post("/projects", params={"name": "a"}).json()["id"]
        assert _statuses(client, project, f"{site}/a%20b.jpg", f"{site}/to/x?{site}/again.jpg") == ["OK", "OKDuplicate"]
        assert _statuses(
            client, project, f"{site}/large", f"{site}/missing", f"{site}/loop", f"{site}/to/y?/c.jpg"
        ) == [
            "ErrorImageSize",
            "ErrorSource",
            "ErrorSource",
            "OKDuplicate",
        ]


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2:1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.2]/",
        "http://169.254.169.254/latest/meta-data",
        "http://0x7f000002/",
        "http://2130706434/",
        "file:///etc/passwd",
        "ftp://example.com/a.jpg",
        "http://user@127.0.0.2/",
        "no url",
        "http://",
        "http://127.0.0.1:99999/",
        "http://example.com:abc/x.png",
        "http://example.com/\u0001x.png",
        "http://exa\u0000mple.com/",
        "http://example.com/" + "x" * 70_000,
        "http://[::1",
        "http://[v1.x]/",
        "http://" + "a" * 300 + ".com/",
        "http://é..com/",
        "http://xn--/",
        "",
    ],
)
def test_neither_a_url_nor_a_redirect_leads_inside(allowing: tuple[Service, str], target: str) -> None:
    service, site = allowing
    with service.client() as client:
        project = client.post("/projects", params={"name": "a"}).json()["id"]
        assert _statuses(client, project, target, f"{site}/to/x?{target}")[0] == "ErrorSource"
        answer = client.post(f"/projects/{project}/quicktest/url", json={"url": target})
        assert (answer.status_code, answer.json()["code"]) == (400, "BadRequestImageUrl")
        if target.isprintable() and 0 < len(target) < 1_000:  # what can stand in a header
            assert _statuses(client, project, f"{site}/to/x?{target}") == ["ErrorSource"]


def test_a_name_that_resolves_to_a_private_address_is_refused(client: httpx.Client, project: str) -> None:
    with _site() as site:
        port = site.rpartition(":")[2]
        assert _statuses(client, project, f"http://localhost:{port}/", site) == ["ErrorSource", "ErrorSource"]


def test_the_services_own_addresses_are_read_without_a_call(api: Service, client: httpx.Client, project: str) -> None:
    image = upload(client, project, 5)
    other = client.post("/projects", params={"name": "copy"}).json()["id"]
    urls = [image["originalImageUri"], image["resizedImageUri"], image["thumbnailUri"]]
    assert _statuses(client, other, *urls) == ["OK", "OKDuplicate", "OKDuplicate"]
    broken = image["originalImageUri"].replace("sig=", "sig=x")
    assert _statuses(client, other, broken, f"{api.url}/health/live") == ["ErrorSource", "ErrorSource"]
    client.delete(f"/projects/{project}/images", params={"imageIds": image["id"]})
    assert _statuses(client, other, image["originalImageUri"]) == ["ErrorSource"]


def test_a_damaged_picture_fails_alone(tmp_path: Path) -> None:
    with running(tmp_path) as service, service.client() as client:
        project, other = (client.post("/projects", params={"name": name}).json()["id"] for name in "ab")
        image = upload(client, project, 5)
        (file,) = (tmp_path / "objects").rglob(f"*{image['id']}*original")
        good = upload(client, project, 6)
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        assert _statuses(client, other, image["originalImageUri"], good["originalImageUri"]) == ["ErrorSource", "OK"]
        answer = client.post(f"/projects/{other}/quicktest/url", json={"url": image["originalImageUri"]})
        assert (answer.status_code, answer.json()["code"]) == (400, "BadRequestImageUrl")


def test_when_one_fetch_ends_a_batch_the_others_end_too(tmp_path: Path) -> None:
    limits = Limits(training_image_bytes=8_000_000)
    options: dict[str, Any] = {"url_allow": ["127.0.0.1/32"], "limits": limits, "url_timeout": 60}
    with running(tmp_path / "data", **options) as service, service.client() as client, _site() as site:
        project = client.post("/projects", params={"name": "a"}).json()["id"]
        # Where the spool's file can't be made, the second large picture has no room.
        no_folder = tmp_path / "file"
        no_folder.touch()
        service.components.settings.data = no_folder
        urls = [f"{site}/slow", f"{site}/large?1", f"{site}/large?2"]
        body = {"images": [{"url": url} for url in urls]}
        assert client.post(f"/projects/{project}/images/urls", json=body).status_code == 507
        assert _Site.left.wait(20)


def test_addresses_given_out_are_public_and_read_as_our_own(tmp_path: Path) -> None:
    with running(tmp_path, public_url="https://vision.example/base/") as service, service.client() as client:
        project = client.post("/projects", params={"name": "a"}).json()["id"]
        image = upload(client, project, 5)
        assert image["originalImageUri"].startswith("https://vision.example/base/i-")
        other = client.post("/projects", params={"name": "copy"}).json()["id"]
        assert _statuses(client, other, image["originalImageUri"]) == ["OK"]


@pytest.mark.parametrize("count", [0, 65])
def test_a_batch_of_urls_has_its_bounds(client: httpx.Client, project: str, count: int) -> None:
    answer = client.post(f"/projects/{project}/images/urls", json={"images": [{"url": "http://x"}] * count})
    assert answer.status_code == 400
    assert answer.json()["code"] == ("BadRequestExceededBatchSize" if count else "BadRequestImageBatch")
