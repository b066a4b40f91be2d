"""A person's request over HTTP: search by form and JSON, takeout, restriction, erasure with its number typed back."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from ownvision.data_rights import takeouts
from ownvision.jobs import rows, runner
from tests.api.conftest import Service, jpeg, upload

pytestmark = pytest.mark.slow

PATH = "/api/account/person"
SEED = 77_000


@pytest.fixture
def own(api: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, headers={"Training-Key": api.training_key}, timeout=60) as made:
        yield made


def search(own: httpx.Client, **options: Any) -> list[dict[str, Any]]:
    answer = own.post(f"{PATH}/search", **options)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["found"]
    return found


def test_what_is_found_is_taken_out_restricted_and_erased(
    api: Service, own: httpx.Client, client: httpx.Client, new_project: Callable[..., str]
) -> None:
    project, other = new_project(), new_project()
    first, second = upload(client, project, SEED)["id"], upload(client, other, SEED)["id"]
    kept = upload(client, project, SEED + 1)["id"]
    filters = {"projectIds": [project, other], "like": 0.9999, "fileName": f"{SEED + 1}.jpg"}
    by_name = search(own, json={"fileName": f"{SEED}.jpg"})
    assert {one["id"] for one in by_name} == {first, second}
    form = {"filters": (None, json.dumps(filters)), "picture": ("them.jpg", jpeg(SEED))}
    both = search(own, files=form)
    assert {one["id"]: one["by"][0] for one in both} == {first: "bytes", second: "bytes", kept: "fileName"}
    assert httpx.get(both[0]["thumbnailUri"]).status_code == httpx.get(both[0]["imageUri"]).status_code == 200
    assert both[0]["workspace"]
    assert both[0]["fileName"] == f"{SEED}.jpg"

    chosen = {"images": [first, second]}
    began = own.post(f"{PATH}/takeouts", json=chosen).json()
    work(api)
    done = own.get(f"/api/account/takeouts/{began['id']}").json()
    archive = zipfile.ZipFile(io.BytesIO(httpx.get(done["downloadUri"]).content))
    listed = [name for name in archive.namelist() if name.endswith("images.jsonl")]
    assert sorted(json.loads(archive.read(name))["id"] for name in listed) == sorted([first, second])
    assert "account.json" not in archive.namelist()
    assert archive.read("audit.jsonl") == archive.read("receipts.jsonl") == b""

    assert own.post(f"{PATH}/restrict", json=chosen).json() == {"changed": 2}
    assert all(one["restricted"] for one in search(own, json={"fileName": f"{SEED}.jpg"}))
    assert own.post(f"{PATH}/restrict", json={**chosen, "restricted": False}).json() == {"changed": 2}

    assert own.post(f"{PATH}/erase", json={**chosen, "confirm": 3}).status_code == 400
    erased = own.post(f"{PATH}/erase", json={**chosen, "confirm": 2})
    assert (erased.status_code, erased.json()["learned"]) == (202, [])
    assert erased.headers["OwnVision-Receipt"] == erased.json()["receipt"]
    receipt = httpx.get(erased.json()["receipt"]).json()
    assert sorted(receipt["subjects"]["images"]) == sorted([first, second])
    assert search(own, json={"fileName": f"{SEED}.jpg"}) == []
    assert httpx.get(both[0]["imageUri"]).status_code == 404
    assert [one["id"] for one in search(own, json={"fileName": f"{SEED + 1}.jpg"})] == [kept]


def work(api: Service) -> None:
    while (claim := rows.claim(api.components.database, rows.QUICK, 60.0)) is not None:
        runner.run(api.components, claim)
        assert claim.kind != takeouts.KIND or claim.asked_by


@pytest.mark.parametrize(
    "options",
    [
        {"json": {}},
        {"json": {"sha256": "short"}},
        {"json": {"fileName": "x", "take": 0}},
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        {"content": b"no picture", "headers": {"Content-Type": "application/octet-stream"}},
        {"content": b"", "headers": {"Content-Type": "application/octet-stream"}},
        {"files": {"filters": (None, '{"fileName": "x"}')}},
        {"files": {"filters": (None, "[]"), "picture": ("x.jpg", b"x")}},
    ],
)
def test_a_search_that_can_not_be_read_is_refused(own: httpx.Client, options: dict[str, Any]) -> None:
    answer = own.post(f"{PATH}/search", **options)
    assert (answer.status_code, set(answer.json())) == (400, {"code", "message"})


@pytest.mark.parametrize("action", ["takeouts", "restrict", "erase"])
def test_ids_that_are_not_this_accounts_change_nothing(own: httpx.Client, project: str, action: str) -> None:
    body = {"images": [project], "predictions": [], "confirm": 1}
    answer = own.post(f"{PATH}/{action}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "BadRequestInvalidIds")
