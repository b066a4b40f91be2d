"""What judges the answers finds what is wrong with them; these tests need no client."""

import json
from typing import Any

import pytest

from tests.conformance import wire
from tests.conformance.report import PAGE

ID = "00000000-0000-4000-8000-000000000001"
TAG = [
    ["id", "id", "str", []],
    ["name", "name", "str", []],
    ["description", "description", "str", []],
    ["type", "type", "str", ["Regular", "Negative"]],
    ["image_count", "imageCount", "int", []],
]
IMAGE = [
    ["id", "id", "str", []],
    ["created", "created", "iso-8601", []],
    ["tags", "tags", "[ImageTag]", []],
]
IMAGE_TAG = [["tag_name", "tagName", "str", []]]
PERFORMANCE = [["recall", "recall", "float", []]]
SUMMARY = [["is_batch_successful", "isBatchSuccessful", "bool", []]]
CLIENT: dict[str, Any] = {
    "kind": "client",
    "versions": {"training": "v3.3", "prediction": "v3.1"},
    "operations": {
        "training": {"get_tag": ["project_id", "tag_id"], "get_images": ["project_id"], "delete_tag": []},
        "prediction": {},
    },
    "schema": {
        "training": {
            "Tag": TAG,
            "Image": IMAGE,
            "ImageTag": IMAGE_TAG,
            "TagPerformance": PERFORMANCE,
            "ImageCreateSummary": SUMMARY,
        },
        "prediction": {},
    },
}
GOOD = {"id": ID, "name": "red", "description": None, "type": "Regular", "imageCount": 3}
HEADERS = {"Content-Type": "application/json; charset=utf-8", "apim-request-id": ID}


def exchange(raw: Any, declared: str = "Tag", **changed: Any) -> dict[str, Any]:
    return {
        "kind": "exchange",
        "api": "training",
        "operation": "get_tag",
        "declared": declared,
        "status": 200,
        "headers": HEADERS,
        "body": json.dumps(raw),
    } | changed


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != key}


@pytest.mark.parametrize(
    "line",
    [
        exchange(GOOD),
        exchange([GOOD, GOOD], "[Tag]"),
        exchange({ID: 3}, "{int}"),
        exchange(3, "int"),
        exchange({"id": ID, "created": "2019-03-21T01:31:11.6094494"}, "Image"),
        exchange({"id": ID, "created": "2019-03-21T01:31:11", "tags": [{"tagName": "red"}]}, "Image"),
        exchange({"isBatchSuccessful": False}, "ImageCreateSummary", status=207),
        exchange(None, declared=None, status=204, body=""),
        exchange(None, "stream", headers=HEADERS | {"Content-Type": "application/octet-stream"}, body=""),
    ],
)
def test_an_answer_as_the_original_gives_it_is_right(line: dict[str, Any]) -> None:
    assert list(wire.of_exchange(line, CLIENT)) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (exchange(without("type")), "Tag.type: is left out"),
        (exchange(GOOD | {"name": None}), "Tag.name: is null"),
        (exchange(GOOD | {"colour": "red"}), "Tag: has colour, which v3.3 does not know"),
        (exchange(without("id") | {"id": ID}), "Tag: keys are in the order name, description, type, imageCount, id"),
        (exchange(GOOD | {"id": ID.upper().replace("8", "A")}), "is no id"),
        (exchange(GOOD | {"type": "regular"}), "Tag.type: 'regular' is none of Regular, Negative"),
        (exchange(GOOD | {"imageCount": 3.0}), "Tag.imageCount: 3.0 is no int"),
        (exchange(GOOD | {"imageCount": True}), "Tag.imageCount: True is no int"),
        (exchange({"recall": 1}, "TagPerformance"), "TagPerformance.recall: 1 is no float"),
        (exchange([GOOD | {"name": 3}], "[Tag]"), "Tag.name: 3 is no str"),
        (exchange(GOOD, "[Tag]"), "is no list"),
        (exchange([], "Tag"), "is no Tag"),
        (exchange([], "{int}"), "is no map"),
        (exchange({"id": ID, "created": "2019-03-21T01:31:11.6Z"}, "Image"), "is not how v3.3 writes dates"),
        (
            exchange({"id": ID, "created": "2019-03-21T01:31:11", "tags": [{"tagName": None}]}, "Image"),
            "Image.tags/ImageTag.tagName: is null",
        ),
        (exchange(GOOD, status=201), "answered 201, not 200"),
        (exchange({"isBatchSuccessful": False}, "ImageCreateSummary"), "answered 200, not 207"),
        (exchange(GOOD, headers=HEADERS | {"Content-Type": "application/json"}), "Content-Type is 'application/json'"),
        (exchange(None, "stream", body=""), "Content-Type is 'application/json; charset=utf-8'"),
        (exchange(GOOD, headers={"Content-Type": HEADERS["Content-Type"]}), "apim-request-id is None"),
        (exchange(None, declared=None, status=200, body=""), "answered 200 with '', not 204"),
        (exchange(None, declared=None, status=204, body="{}"), "answered 204 with '{}', not 204"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(line: dict[str, Any], said: str) -> None:
    found = list(wire.of_exchange(line, CLIENT))
    assert len(found) == 1
    assert said in found[0]


GATEWAY = '{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}'
UNKNOWN = '{"code":"NotFoundProject","message":"There is none."}'


@pytest.mark.parametrize(
    ("case", "version", "status", "body", "right"),
    [
        ("wrong key", "v3.3", 401, GATEWAY, True),
        ("wrong key", "v3.3", 403, GATEWAY, False),
        ("wrong key", "v3.3", 401, '{"message":"no"}', False),
        ("unknown project", "v3.3", 404, UNKNOWN, True),
        ("unknown project", "v1.2", 404, '{"Code":"NotFoundProject","Message":"There is none."}', True),
        ("unknown project", "v1.2", 404, UNKNOWN, False),
        ("unknown project", "v2.0", 404, '{"code":"NotFound","message":"There is none."}', False),
        ("unknown project", "v2.0", 404, "<html>", False),
    ],
)
def test_a_refusal_is_judged_by_status_and_body(case: str, version: str, status: int, body: str, right: bool) -> None:
    found = list(wire.of_refusal({"case": case, "status": status, "body": body}, version))
    assert (found == []) is right


def test_an_operation_or_parameter_that_was_forgotten_is_a_problem() -> None:
    lines = [
        CLIENT,
        exchange(GOOD),
        {"kind": "problem", "operation": "get_images", "text": "it is empty"},
        {"kind": "unfinished", "step": "tags", "text": "it broke"},
        {"kind": "supplied", "parameters": {"get_tag": ["tag_id"], "get_images": ["project_id"], "delete_tag": []}},
    ]
    assert wire.judge(lines, {}).found() == [
        "training v3.3 GetTag: parameter project_id was never sent",
        "training v3.3 GetImages: it is empty",
        "training v3.3 DeleteTag: was not called",
        "step tags: it broke",
    ]
    assert wire.judge(lines, {"get_tag.project_id": "for a reason"}).problems["training"]["GetTag"] == []


def served_operations() -> set[str]:
    """The operationIds that the service documents for the API of the original."""
    from ownvision.api import application

    return {
        route.operation_id
        for router in application._ROUTERS
        for route in router.routes
        if getattr(route, "path", "").startswith("/customvision")
    }


@pytest.mark.parametrize("operation", sorted(served_operations()))
def test_every_operation_stands_in_the_conformance_page(operation: str) -> None:
    assert f"| `{operation}` |" in PAGE.read_text()
