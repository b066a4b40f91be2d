"""Every form in which programs send pictures, and what is refused while it streams."""

import base64
import hashlib
import json
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.conftest import Service, jpeg, new_tag, running

pytestmark = pytest.mark.slow

MULTIPART = "multipart/form-data; boundary=xyz"


def _part(headers: str, data: bytes) -> bytes:
    return b"--xyz\r\n" + headers.encode() + b"\r\n\r\n" + data + b"\r\n"


def _send(client: httpx.Client, project: str, body: bytes, kind: str = MULTIPART) -> httpx.Response:
    return client.post(f"/projects/{project}/images", content=body, headers={"Content-Type": kind})


@pytest.mark.parametrize(
    ("headers", "source", "file_name"),
    [
        ('Content-Disposition: form-data; name="imageData"', '"imageData"', None),
        ("Content-Disposition: form-data; name=imageData", "imageData", None),
        ('Content-Disposition: form-data; name="0"; filename="hemlock_10.jpg"', '"hemlock_10.jpg"', "hemlock_10.jpg"),
        ("Content-Disposition: form-data; name=files[0]; filename=a.jpg", "a.jpg", "a.jpg"),
        (
            "Content-Type: application/octet-stream\r\n"
            'Content-Disposition: form-data; name=imageData; filename="E:\\git\\tag1\\hemlock_1.jpg"',
            '"E:\\git\\tag1\\hemlock_1.jpg"',
            "hemlock_1.jpg",
        ),
        ('content-disposition: form-data; name="x"; filename="größe.jpg"', '"größe.jpg"', "größe.jpg"),
        ("X-Nothing: here", "", None),
    ],
)
def test_a_part_is_an_image_whatever_it_is_called(
    api: Service, client: httpx.Client, project: str, headers: str, source: str, file_name: str | None
) -> None:
    data = jpeg(1)
    answer = _send(client, project, _part(headers, data) + b"--xyz--\r\n")
    assert answer.status_code == 200
    (result,) = answer.json()["images"]
    assert (result["sourceUrl"], result["status"]) == (source, "OK")
    assert httpx.get(result["image"]["originalImageUri"]).content == data
    record = client.get(f"{api.url}/api/projects/{project}/images/{result['image']['id']}").json()
    assert (record["fileName"], record["uploadedBy"]) == (file_name, "training primary")
    assert record["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "kind", ['multipart/form-data; boundary="xyz"', "Multipart/Form-Data; charset=utf-8; boundary=xyz"]
)
def test_the_boundary_may_be_quoted(client: httpx.Client, project: str, kind: str) -> None:
    body = _part('Content-Disposition: form-data; name="a"', jpeg(1)) + b"--xyz--\r\n"
    assert _send(client, project, body, kind).status_code == 200


@pytest.mark.parametrize("kind", ["application/octet-stream", "image/jpeg", ""])
def test_a_raw_body_is_one_image(client: httpx.Client, project: str, kind: str) -> None:
    assert _send(client, project, jpeg(5), kind).json()["images"][0]["status"] == "OK"


def test_a_body_may_come_in_chunks_of_any_size(client: httpx.Client, project: str) -> None:
    body = _part('Content-Disposition: form-data; name="a"', jpeg(1)) + b"--xyz--\r\n"

    def pieces() -> Iterator[bytes]:
        for index in range(len(body)):
            yield body[index : index + 1]

    answer = client.post(f"/projects/{project}/images", content=pieces(), headers={"Content-Type": MULTIPART})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"", "application/octet-stream", 400, "BadRequestImageStream"),
        (b"--xyz--\r\n", MULTIPART, 400, "BadRequestImageBatch"),
        (b"--xyz\r\nContent-Disposition: form-data; name=a\r\n\r\nabc", MULTIPART, 400, "BadRequestImageStream"),
        (b"no boundary here", MULTIPART, 400, "BadRequestImageStream"),
        (b"x", "multipart/form-data", 400, "BadRequestImageStream"),
        (b"{}", "application/json", 415, "UnsupportedMediaType"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "UnsupportedMediaType"),
        (b"hello", "text/plain", 415, "UnsupportedMediaType"),
    ],
)
def test_a_body_that_is_no_batch_is_refused_and_nothing_changes(
    client: httpx.Client, project: str, body: bytes, kind: str, status: int, code: str
) -> None:
    answer = _send(client, project, body, kind)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert client.get(f"/projects/{project}/images/count").json() == 0


def test_what_is_no_picture_gets_a_status_beside_its_good_neighbour(client: httpx.Client, project: str) -> None:
    whole = jpeg(1, 400, 300)
    answer = client.post(
        f"/projects/{project}/images",
        files=[
            ("a", ("good.jpg", whole)),
            ("b", ("text.jpg", b"hello")),
            ("c", ("cut.jpg", whole[: len(whole) // 2])),
            ("d", ("wide.jpg", jpeg(2, 3000, 10))),
            ("e", ("again.jpg", whole)),
            ("f", ("large.jpg", whole + bytes(6_000_000))),
        ],
    )
    assert answer.status_code == 207
    assert answer.json()["isBatchSuccessful"] is False
    assert [(item["sourceUrl"], item["status"], item["image"] is None) for item in answer.json()["images"]] == [
        ('"good.jpg"', "OK", False),
        ('"text.jpg"', "ErrorImageFormat", True),
        ('"cut.jpg"', "ErrorImageFormat", True),
        ('"wide.jpg"', "ErrorImageDimensions", True),
        ('"again.jpg"', "OKDuplicate", False),
        ('"large.jpg"', "ErrorImageSize", True),
    ]
    assert client.get(f"/projects/{project}/images/count").json() == 1


def test_an_older_version_names_only_statuses_it_knows(api: Service, project: str) -> None:
    with api.client("v3.3") as older:
        answer = older.post(f"/projects/{project}/images", files={"a": ("wide.jpg", jpeg(2, 3000, 10))})
    assert answer.json()["images"][0]["status"] == "ErrorImageSize"


@pytest.mark.parametrize("count", [64, 65])
def test_a_batch_takes_64_pictures(client: httpx.Client, project: str, count: int) -> None:
    files = [("a", (f"{index}.jpg", jpeg(index))) for index in range(count)]
    answer = client.post(f"/projects/{project}/images", files=files)
    if count == 64:
        assert answer.status_code == 200
        assert [item["sourceUrl"] for item in answer.json()["images"]] == [f'"{index}.jpg"' for index in range(64)]
    else:
        assert (answer.status_code, answer.json()["code"]) == (400, "BadRequestExceededBatchSize")


def _file(name: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"name": name, "contents": base64.b64encode(data).decode(), **more}


def test_files_come_as_base64_with_tags_and_metadata(client: httpx.Client, project: str) -> None:
    tag, other = new_tag(client, project, "one"), new_tag(client, project, "two")
    noise = jpeg(9, 900, 700, quality=100, comment=bytes(60_000))
    batch = {
        "images": [_file("small.jpg", jpeg(1)), _file("big.jpg", noise, tagIds=[other])],
        "tagIds": [tag],
        "metadata": {"site": "north"},
    }
    # .NET escapes the plus and slash of base64.
    body = json.dumps(batch).replace("+", "\\u002B").replace("/", "\\/")
    answer = client.post(
        f"/projects/{project}/images/files", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["images"]
    assert (first["sourceUrl"], first["image"]["metadata"]) == ("small.jpg", {"site": "north"})
    assert {item["tagId"] for item in second["image"]["tags"]} == {tag, other}
    assert httpx.get(second["image"]["originalImageUri"]).content == noise


def test_file_entries_fail_one_by_one(client: httpx.Client, project: str) -> None:
    entries = [
        {"name": "empty", "contents": ""},
        {"name": "none"},
        {"name": "no base64", "contents": "@@@"},
        _file("large", jpeg(1) + bytes(6_000_000)),
        {"name": "endless", "contents": "A" * 12_000_000},
        _file("good", jpeg(1)),
    ]
    answer = client.post(f"/projects/{project}/images/files", json={"images": entries})
    assert answer.status_code == 207
    assert [(item["sourceUrl"], item["status"]) for item in answer.json()["images"]] == [
        ("empty", "ErrorSource"),
        ("none", "ErrorSource"),
        ("no base64", "ErrorImageFormat"),
        ("large", "ErrorImageSize"),
        ("endless", "ErrorImageSize"),
        ("good", "OK"),
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "BadRequestRequiredParamIsNull"),
        (b"{", "BadRequest"),
        (b"[]", "BadRequest"),
        (b'{"images": [', "BadRequest"),
        (b'{"images": "' + b"a" * 40_000, "BadRequest"),
        (b"[" * 100_000, "BadRequest"),
        (b'{"images": []}', "BadRequestImageBatch"),
        (b'{"images": [{"contents": "QQ==", "tagIds": ["x"]}]}', "BadRequest"),
        (json.dumps({"images": [{"name": "a"}] * 65}).encode(), "BadRequestExceededBatchSize"),
    ],
)
def test_a_file_batch_that_can_not_be_read_is_refused(
    client: httpx.Client, project: str, body: bytes, code: str
) -> None:
    answer = client.post(
        f"/projects/{project}/images/files", content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, code)


LONG = "x" * 20_000


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"metadata": {"site": LONG}}, "BadRequestImageMetadataValue"),
        ({"metadata": {LONG: "north"}}, "BadRequestImageMetadataKey"),
        ({"images": [_file(LONG, jpeg(1))]}, "BadRequest"),
        ({"images": [_file("x" * 12_000_000, jpeg(1))]}, "BadRequest"),
        ({"images": [_file("a", jpeg(1), tagIds=[LONG])]}, "BadRequest"),
        ({"tagIds": [LONG]}, "BadRequest"),
        ({"unknown": LONG}, "BadRequest"),
    ],
)
def test_only_contents_may_be_long(client: httpx.Client, project: str, change: dict[str, Any], code: str) -> None:
    contents = base64.b64encode(jpeg(9, 900, 700, quality=100, comment=bytes(60_000))).decode()
    batch = {"images": [{"name": "good", "contents": contents}], **change}
    answer = client.post(f"/projects/{project}/images/files", json=batch)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert client.get(f"/projects/{project}/images/count").json() == 0


def test_contents_that_look_like_a_marker_are_no_picture(client: httpx.Client, project: str) -> None:
    images = [{"name": "a", "contents": "\ue000ownvision-long-string\ue000²"}]
    answer = client.post(f"/projects/{project}/images/files", json={"images": images})
    assert (answer.status_code, answer.json()["images"][0]["status"]) == (207, "ErrorImageFormat")


def _raw(url: str, head: str, body: bytes = b"") -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=20)
    connection.sendall(head.replace("\n", "\r\n").encode() + body)
    return connection


def _status(connection: socket.socket) -> int:
    return int(connection.recv(65536).split(b" ")[1])


def test_a_body_that_stops_coming_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path, body_timeout=0.2) as service, service.client() as client:
        project = client.post("/projects", params={"name": "a"}).json()["id"]
        head = (
            f"POST /customvision/v3.3/training/projects/{project}/images HTTP/1.1\nHost: x\n"
            f"Training-Key: {service.training_key}\n{{}}\n\n"
        )
        for length in ("Content-Length: 100000", "Transfer-Encoding: chunked"):
            with _raw(service.url, head.format(length)) as connection:
                assert _status(connection) == 408


def test_a_body_that_drips_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path, body_timeout=0.5, body_rate=1_000) as service, service.client() as client:
        project = client.post("/projects", params={"name": "a"}).json()["id"]
        head = (
            f"POST /customvision/v3.3/training/projects/{project}/images HTTP/1.1\nHost: x\n"
            f"Training-Key: {service.training_key}\nContent-Length: 100000\n\n"
        )
        with _raw(service.url, head) as connection:
            for _ in range(200):
                if select.select([connection], [], [], 0.02)[0]:
                    break
                connection.sendall(b"x")
            else:
                raise AssertionError("it was never given up")
            assert _status(connection) == 408


@pytest.mark.parametrize("path", ["images/files", "images/tags", "images"])
def test_a_body_declared_larger_than_any_batch_is_refused_unread(api: Service, project: str, path: str) -> None:
    head = (
        f"POST /customvision/v3.3/training/projects/{project}/{path} HTTP/1.1\nHost: x\n"
        f"Training-Key: {api.training_key}\nContent-Type: {{}}\nContent-Length: 900000000\n\n"
    )
    kind = "application/octet-stream" if path == "images" else "application/json"
    with _raw(api.url, head.format(kind)) as connection:
        assert _status(connection) == 413


def test_a_body_that_never_ends_is_cut_off(api: Service, project: str) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b'["x",' * 10_000

    with api.client() as client:
        try:
            status = client.post(
                f"/projects/{project}/images/tags", content=endless(), headers={"Content-Type": "application/json"}
            ).status_code
        except (httpx.WriteError, httpx.ReadError):
            status = 413  # the connection was closed while the client was still sending
    assert status == 413


def test_a_wrong_key_is_refused_before_the_body(api: Service, project: str) -> None:
    head = (
        f"POST /customvision/v3.3/training/projects/{project}/images HTTP/1.1\nHost: x\n"
        "Training-Key: wrong\nContent-Type: application/octet-stream\nContent-Length: 1000000\n\n"
    )
    with _raw(api.url, head) as connection:
        assert _status(connection) == 401


def test_uploads_are_refused_when_the_disk_is_nearly_full(tmp_path: Path) -> None:
    with running(tmp_path) as service, service.client() as client:
        project = client.post("/projects", params={"name": "a"}).json()["id"]
        service.components.settings.min_free_bytes = 2**60
        answer = client.post(f"/projects/{project}/images", content=jpeg(1))
        assert answer.status_code == 507
        assert client.get(f"{service.url}/health/ready").status_code == 503
        assert client.delete(f"/projects/{project}").status_code == 204
