"""What stands before every operation: keys, versions, paths, methods, ids, headers, rates."""

import gzip
import json
import logging
import re
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ownvision.services import accounts
from tests.api.conftest import PREDICTION, TRAINING, Service, jpeg, running

NOBODY = "5d3c5b8e-0000-4000-8000-0123456789ab"
IDS = ",".join([str(uuid.uuid4())] * 257)
NO_KEY = {
    "error": {
        "code": "401",
        "message": "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid "
        "key for an active subscription and use a correct regional API endpoint for your resource.",
    }
}


@pytest.mark.parametrize("path", [f"{TRAINING}/projects", f"{TRAINING}/projects/no-guid", "/api/projects/x/jobs"])
def test_without_the_right_key_the_gateway_answers(api: Service, path: str) -> None:
    for headers in ({}, {"Training-Key": "wrong"}, {"Training-Key": ""}, {"Training-Key": api.prediction_key}):
        answer = httpx.get(api.url + path, headers=headers)
        assert (answer.status_code, answer.json()) == (401, NO_KEY)


def test_a_prediction_needs_a_prediction_key(api: Service) -> None:
    path = f"{api.url}{PREDICTION}/{uuid.uuid4()}/classify/iterations/x/image"
    assert httpx.post(path, content=b"x", headers={"Prediction-Key": api.training_key}).status_code == 401
    answer = httpx.post(path, content=b"x", headers={"prediction-KEY": api.prediction_key})
    assert (answer.status_code, answer.json()["code"]) == (404, "NotFoundProject")


def test_a_rotated_key_stops_at_once_and_the_other_stays(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        components = service.components
        with components.database.write() as session:
            account = accounts.all(session)[0]
            fresh = accounts.rotate(session, components.keys, account, "training", "primary")
            other = accounts.describe(session, components.keys, account)["trainingKeys"]["secondary"]
        answers = [
            httpx.get(f"{service.url}{TRAINING}/domains", headers={"Training-key": key}).status_code
            for key in (service.training_key, fresh, other)
        ]
        assert answers == [401, 200, 200]


def test_one_account_sees_nothing_of_another(tmp_path: Path) -> None:
    with running(tmp_path) as service, service.client() as client:
        components = service.components
        project = client.post("/projects", params={"name": "mine"}).json()["id"]
        tag = client.post(f"/projects/{project}/tags", params={"name": "t"}).json()["id"]
        with components.database.write() as session:
            other = accounts.create(session, components.keys, user_name="other", email="o@x", tier="Unlimited")
            key = accounts.describe(session, components.keys, other)["trainingKeys"]["primary"]
        client.headers["Training-Key"] = key
        assert client.get("/projects").json() == []
        for method, path in (
            ("GET", ""),
            ("PATCH", ""),
            ("DELETE", ""),
            ("GET", "/tags"),
            ("DELETE", f"/tags/{tag}"),
            ("GET", "/images"),
            ("DELETE", "/images?allImages=true"),
        ):
            answer = client.request(method, f"/projects/{project}{path}", json={} if method == "PATCH" else None)
            assert (answer.status_code, answer.json()["code"]) == (404, "NotFoundProject")
        assert client.post(f"/projects/{project}/images", content=jpeg(1)).json()["code"] == "NotFoundProject"
        assert client.get(f"{service.url}/api/projects/{project}/jobs").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/customvision",
        "/customvision/v3.9/training/projects",
        f"/customvision/v3.2/training/projects/{uuid.UUID(int=1)}/images",
        f"/customvision/v1.2/Training/projects/{uuid.UUID(int=1)}/images/tagged/count",
        f"{TRAINING}/nothing",
        f"{TRAINING}/projects/{uuid.uuid4()}/images/tagged/counts",
    ],
)
def test_an_unknown_path_or_version_is_the_gateways_404(api: Service, path: str) -> None:
    answer = httpx.get(api.url + path, headers={"Training-Key": api.training_key})
    assert (answer.status_code, answer.json()) == (404, {"statusCode": 404, "message": "Resource not found"})


@pytest.mark.parametrize(
    "path",
    [
        "//customvision/v3.4-preview/training/domains",
        "/customvision/v3.4-Preview/Training/Domains",
        "/CUSTOMVISION//v3.3///training/DOMAINS/",
        "/customvision/v3.3/training/%64omains?unknown=1",
    ],
)
def test_case_and_doubled_slashes_do_not_matter(api: Service, path: str) -> None:
    answer = httpx.get(api.url + path, headers={"TRAINING-KEY": api.training_key})
    assert answer.status_code == (404 if "%64" in path else 200)


def test_every_answer_carries_the_originals_headers(api: Service) -> None:
    for path in (f"{TRAINING}/domains", "/nothing", "/health/live"):
        answer = httpx.get(api.url + path, headers={"Training-Key": api.training_key})
        assert str(uuid.UUID(answer.headers["apim-request-id"])) == answer.headers["request-id"]
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"] == "application/json; charset=utf-8"


def test_other_methods_are_told_which_there_are(api: Service) -> None:
    url = f"{api.url}{TRAINING}/projects"
    answer = httpx.put(url)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    answer = httpx.options(url)
    assert (answer.status_code, answer.headers["Allow"], answer.content) == (204, "GET, HEAD, OPTIONS, POST", b"")
    shown = httpx.get(url, headers={"Training-Key": api.training_key})
    answer = httpx.head(url, headers={"Training-Key": api.training_key})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == shown.headers["content-length"]


@pytest.mark.parametrize("id", ["x", "123", "%00", "{" + NOBODY + "}", NOBODY + "0"])
def test_what_is_no_guid_is_a_bad_request(client: httpx.Client, id: str) -> None:
    answer = client.get(f"/projects/{id}")
    assert (answer.status_code, answer.json()["code"]) == (400, "BadRequest")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/domains/{}", "NotFoundDomain"),
        ("GET", "/projects/{}", "NotFoundProject"),
        ("GET", "/projects/{project}/tags/{}", "NotFoundTag"),
        ("DELETE", "/projects/{project}/tags/{}", "NotFoundTag"),
        ("GET", "/projects/{project}/tags?iterationId={}", "NotFoundIteration"),
        ("GET", "/projects/{project}/images?iterationId={}", "NotFoundIteration"),
        ("GET", "/projects/{project}/images/count?iterationId={}", "NotFoundIteration"),
        ("DELETE", "/projects/{project}/images/tags?imageIds={}&tagIds={}", "NotFoundImage"),
    ],
)
def test_what_is_not_there_says_what(client: httpx.Client, project: str, method: str, path: str, code: str) -> None:
    answer = client.request(method, path.replace("{project}", project).replace("{}", str(uuid.uuid4())))
    assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert set(answer.json()) == {"code", "message"}


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "/projects", "BadRequestRequiredParamIsNull"),
        ("POST", "/projects?name=", "BadRequestProjectName"),
        ("POST", "/projects?name=a&domainId=x", "BadRequest"),
        ("POST", f"/projects?name=a&domainId={NOBODY}", "BadRequestProjectUnknownDomain"),
        ("POST", "/projects?name=a&classificationType=both", "BadRequestProjectUnknownClassification"),
        ("POST", "/projects?name=a&targetExportPlatforms=ONNX,Toaster", "BadRequestProjectUnsupportedExportPlatform"),
        ("POST", "/projects/{project}/tags", "BadRequestRequiredParamIsNull"),
        ("POST", "/projects/{project}/tags?name=a&type=odd", "BadRequestTagType"),
        ("PATCH", "/projects/{project}", "BadRequestRequiredParamIsNull"),
        ("GET", "/projects/{project}/images?take=257", "BadRequest"),
        ("GET", "/projects/{project}/images?take=-1", "BadRequest"),
        ("GET", "/projects/{project}/images?take=many", "BadRequest"),
        ("GET", "/projects/{project}/images?skip=99999999999", "BadRequest"),
        ("GET", "/projects/{project}/images?orderBy=Suggested", "BadRequest"),
        ("GET", "/projects/{project}/images?taggingStatus=no", "BadRequest"),
        ("GET", "/projects/{project}/images?$filter=oops", "BadRequest"),
        ("GET", "/projects/{project}/images?tagIds=x", "BadRequestInvalidIds"),
        ("GET", "/projects/{project}/images?tagIds=" + IDS[:776], "BadRequestExceededBatchSize"),
        ("GET", "/projects/{project}/images/id?imageIds=" + IDS, "BadRequestExceededBatchSize"),
        ("DELETE", "/projects/{project}/images", "BadRequestRequiredParamIsNull"),
        ("DELETE", "/projects/{project}/images?allImages=maybe", "BadRequest"),
        ("DELETE", f"/projects/{{project}}/images?imageIds={NOBODY}", "BadRequestInvalidIds"),
        ("DELETE", "/projects/{project}/images/tags?imageIds=", "BadRequestRequiredParamIsNull"),
        ("DELETE", "/projects/{project}/images/regions", "BadRequestRequiredParamIsNull"),
        ("DELETE", "/projects/{project}/predictions", "BadRequestRequiredParamIsNull"),
        ("POST", "/projects/{project}/images/tags", "BadRequestRequiredParamIsNull"),
        ("POST", "/projects/{project}/images/metadata", "BadRequestRequiredParamIsNull"),
    ],
)  # fmt: skip
def test_bad_parameters_say_what_is_wrong(
    client: httpx.Client, project: str, method: str, path: str, code: str
) -> None:
    answer = client.request(method, path.replace("{project}", project))
    assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "BadRequest"),
        (b'{"name": 1}', "application/json", 400, "BadRequest"),
        (b'{"name": "\\ud800"}', "application/json", 400, "BadRequest"),
        (b"[" * 50_000, "application/json", 400, "BadRequest"),
        (b"\xff\xfe", "application/json", 400, "BadRequest"),
        (b"<a/>", "application/xml", 415, "UnsupportedMediaType"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "UnsupportedMediaType"),
    ],
)
def test_a_bad_body_is_refused(
    client: httpx.Client, project: str, body: bytes, kind: str, status: int, code: str
) -> None:
    answer = client.patch(f"/projects/{project}", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_an_empty_body_with_a_type_is_no_body(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8", "Content-Length": "0"}
    assert client.post("/projects?name=a", headers=headers).status_code == 200
    assert client.get("/projects", headers=headers).status_code == 200


def test_above_a_tiers_rate_the_gateway_says_when_to_come_again(tmp_path: Path) -> None:
    with running(tmp_path, tier="F0") as service, service.client() as client:
        answers = [client.get("/domains") for _ in range(15)]
        late = next(answer for answer in answers if answer.status_code != 200)
        assert answers.index(late) == 10
        assert (late.status_code, late.headers["Retry-After"]) == (429, "1")
        assert late.json()["error"]["message"] == (
            "Requests to the GetDomains Operation under Custom_Vision_Training_3.4 have exceeded rate limit of your "
            "current Custom_Vision.Training F0 pricing tier. Please retry after 1 second. To increase your rate limit "
            "switch to a paid tier."
        )


def test_a_failure_that_nobody_foresaw_says_nothing_of_the_inside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(tmp_path) as service, service.client() as client:
        project = client.post("/projects", params={"name": "a"}).json()["id"]
        with service.components.database.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE tags")
        answer = client.get(f"/projects/{project}/tags")
        assert (answer.status_code, answer.json()["code"]) == (500, "ErrorUnknown")
        assert "tags" not in answer.text
        assert "sql" not in answer.text.lower()
        assert answer.headers["request-id"] in caplog.text


def _logged(caplog: pytest.LogCaptureFixture, request_id: str) -> dict[str, Any]:
    until = time.monotonic() + 5  # the line is written after the answer
    while time.monotonic() < until:
        for record in list(caplog.records):
            if record.name == "ownvision.request" and request_id in record.message:
                line: dict[str, Any] = json.loads(record.message)
                return line
    raise AssertionError("no line was logged")


def test_a_request_is_logged_by_its_route_alone(
    api: Service, client: httpx.Client, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "ownvision.request"):
        answer = client.post(f"/projects/{project}/tags?name=secret")
        line = _logged(caplog, answer.headers["request-id"])
    assert line["request"] == answer.headers["request-id"]
    assert (line["method"], line["status"]) == ("POST", 200)
    assert line["route"] == "/customvision/{version}/training/projects/{projectId}/tags"
    assert "secret" not in caplog.text
    assert api.training_key not in caplog.text


def test_health_and_metrics_need_no_key(api: Service, client: httpx.Client, project: str) -> None:
    assert httpx.get(f"{api.url}/health/live").json() == {"status": "live"}
    ready = httpx.get(f"{api.url}/health/ready")
    assert (ready.status_code, set(ready.json()["checks"].values())) == (200, {True})
    text = httpx.get(f"{api.url}/metrics").text
    assert re.search(
        r'ownvision_requests_total\{method="POST",route="/customvision/\{version\}/training/projects",status="200"\}',
        text,
    )
    assert project not in text


def test_the_service_is_not_ready_while_it_drains_or_its_worker_is_dead(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.app.state.draining = True
        assert httpx.get(f"{service.url}/health/ready").json()["checks"]["staying"] is False
        service.app.state.draining = False
        service.components.settings.worker = True
        assert httpx.get(f"{service.url}/health/ready").json()["checks"]["worker"] is False
        (tmp_path / "worker.alive").touch()
        assert httpx.get(f"{service.url}/health/ready").status_code == 200
        (tmp_path / "keys" / "installation.key").write_bytes(b"x" * 32)
        assert httpx.get(f"{service.url}/health/ready").json()["checks"]["keys"] is False


def test_the_account_shows_its_keys_and_quotas(api: Service, client: httpx.Client, project: str) -> None:
    for path in ("/customvision/v1.2/Training/account", "/customvision/v1.2/training/Account"):
        shown = httpx.get(api.url + path, headers={"Training-Key": api.training_key}).json()
        assert list(shown) == ["UserName", "Email", "Keys", "Quotas"]
        assert shown["Keys"]["TrainingKeys"]["PrimaryKey"] == api.training_key
        assert shown["Keys"]["PredictionKeys"]["PrimaryKey"] == api.prediction_key
        assert project in [entry["ProjectId"] for entry in shown["Quotas"]["PerProject"]]


def test_a_page_of_any_origin_may_call_with_a_key(api: Service) -> None:
    asked = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "prediction-key,content-type",
    }
    preflight = httpx.options(f"{api.url}{PREDICTION}/{NOBODY}/classify/iterations/x/image", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert preflight.headers["access-control-allow-headers"] == "prediction-key,content-type"
    assert "access-control-allow-credentials" not in preflight.headers
    answer = httpx.get(f"{api.url}{TRAINING}/domains", headers={"Origin": "https://shop.example"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "*")
    assert "apim-request-id" in answer.headers["access-control-expose-headers"]


def test_origins_can_be_named_or_none(tmp_path: Path) -> None:
    for allowed, wanted in ((["https://ours.example"], "https://ours.example"), ([], None)):
        with running(tmp_path / str(len(allowed)), cors_origins=allowed) as service:
            for origin in ("https://ours.example", "https://theirs.example"):
                answer = httpx.get(f"{service.url}{TRAINING}/domains", headers={"Origin": origin})
                given = answer.headers.get("access-control-allow-origin")
                assert given == (wanted if origin == wanted else None)


def test_long_lists_are_packed_for_those_who_ask_and_pictures_never(api: Service, client: httpx.Client) -> None:
    plain = client.get("/domains", headers={"Accept-Encoding": "identity"})
    packed = client.get("/domains", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == plain.json()
    assert packed.num_bytes_downloaded < plain.num_bytes_downloaded / 2


def test_a_packed_body_is_read_and_its_limit_is_that_of_the_plain_one(api: Service, client: httpx.Client) -> None:
    project = client.post("/projects", params={"name": "packed"}).json()["id"]
    packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    change = gzip.compress(b'{"name":"unpacked"}')
    assert client.patch(f"/projects/{project}", content=change, headers=packed).json()["name"] == "unpacked"
    bomb = gzip.compress(b'{"name":"' + b"x" * 50_000_000 + b'"}')
    assert client.patch(f"/projects/{project}", content=bomb, headers=packed).status_code == 413
    for body, encoding, status in (
        (change[:-6], "gzip", 400),
        (b"not packed", "gzip", 400),
        (change, "br", 415),
    ):
        answer = client.patch(f"/projects/{project}", content=body, headers={**packed, "Content-Encoding": encoding})
        assert (answer.status_code, "message" in answer.json()) == (status, True)
    assert client.get(f"/projects/{project}").json()["name"] == "unpacked"


def test_names_of_parameters_are_known_in_any_case(client: httpx.Client, project: str) -> None:
    for seed in range(3):
        client.post(f"/projects/{project}/images", files={"imageData": (f"{seed}.jpg", jpeg(seed))})
    assert len(client.get(f"/projects/{project}/images?TAKE=2&Skip=0&ORDERby=oldest&unknown=1").json()) == 2


def test_a_body_comes_in_pieces_or_after_a_continue(api: Service, client: httpx.Client, project: str) -> None:
    def pieces() -> Iterator[bytes]:
        data = jpeg(77)
        for start in range(0, len(data), 100):
            yield data[start : start + 100]

    octets = {"Content-Type": "application/octet-stream"}
    chunked = client.post(f"/projects/{project}/images", content=pieces(), headers=octets)
    assert chunked.json()["images"][0]["status"] == "OK"
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        data = jpeg(78)
        headers = {
            "Host": host,
            "Training-Key": api.training_key,
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(data)),
            "Expect": "100-continue",
            "Connection": "close",
        }
        head = [f"POST {TRAINING}/projects/{project}/images HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        raw.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
        assert raw.recv(1024).startswith(b"HTTP/1.1 100")
        raw.sendall(data)
        answer = b"".join(iter(lambda: raw.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"status":"OK"' in answer


def test_xml_is_neither_read_nor_written(client: httpx.Client, project: str) -> None:
    answer = client.get("/domains", headers={"Accept": "application/xml"})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    refused = client.patch(f"/projects/{project}", content=b"<a/>", headers={"Content-Type": "application/xml"})
    assert (refused.status_code, refused.json()["code"]) == (415, "UnsupportedMediaType")
