"""The service's own OpenAPI: every operation is there under the original's name, and the service keeps to it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ownvision.wire.versions import LATEST, VERSIONS
from tests.api.conftest import Service, running

OPERATIONS = {
    "GetDomains",
    "GetDomain",
    "GetProjects",
    "CreateProject",
    "GetProject",
    "UpdateProject",
    "DeleteProject",
    "TrainProject",
    "ExportProject",
    "ImportProject",
    "GetArtifact",
    "GetImages",
    "GetImageCount",
    "GetImagesByIds",
    "GetTaggedImages",
    "GetTaggedImageCount",
    "GetUntaggedImages",
    "GetUntaggedImageCount",
    "CreateImagesFromData",
    "CreateImagesFromFiles",
    "CreateImagesFromUrls",
    "CreateImagesFromPredictions",
    "DeleteImages",
    "UpdateImageMetadata",
    "CreateImageTags",
    "DeleteImageTags",
    "CreateImageRegions",
    "DeleteImageRegions",
    "GetTags",
    "CreateTag",
    "GetTag",
    "UpdateTag",
    "DeleteTag",
    "GetIterations",
    "GetIteration",
    "UpdateIteration",
    "DeleteIteration",
    "GetIterationPerformance",
    "GetImagePerformances",
    "GetImagePerformanceCount",
    "PublishIteration",
    "UnpublishIteration",
    "GetExports",
    "ExportIteration",
    "QueryPredictions",
    "DeletePrediction",
    "QuickTestImage",
    "QuickTestImageUrl",
    "ClassifyImage",
    "ClassifyImageWithNoStore",
    "ClassifyImageUrl",
    "ClassifyImageUrlWithNoStore",
    "DetectImage",
    "DetectImageWithNoStore",
    "DetectImageUrl",
    "DetectImageUrlWithNoStore",
    "SuggestTagsAndRegions",
    "QuerySuggestedImages",
    "QuerySuggestedImageCount",
    "PutWebhook",
    "GetWebhook",
    "DeleteWebhook",
}
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "unsupported_method,ignored_auth"
)


def test_every_operation_is_documented_with_its_errors(api: Service) -> None:
    document = httpx.get(f"{api.url}/openapi.json").json()
    found = [operation for item in document["paths"].values() for operation in item.values()]
    assert {operation["operationId"] for operation in found} >= OPERATIONS
    for operation in found:
        if operation["operationId"] in OPERATIONS:
            assert {"401", "404", "default"} <= set(operation["responses"])
            assert operation["security"]
            assert operation["summary"]


def test_each_versions_document_has_the_operations_the_original_had(api: Service) -> None:
    counts = {"v1.2": 34, "v2.0": 41, "v2.1": 41, "v2.2": 41, "v3.0": 43, "v3.1": 46, "v3.2": 48, "v3.3": 52}
    for version, count in {**counts, "v3.4-preview": 52}.items():
        document = httpx.get(f"{api.url}/openapi/training/{version}.json").json()
        found = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
        assert len(found) == len(set(found))
        assert len({id.partition("_")[0] for id in found}) == count, version
    for version, count in {"v1.0": 4, "v1.1": 4, "v2.0": 4, "v3.0": 8, "v3.1": 8}.items():
        document = httpx.get(f"{api.url}/openapi/prediction/{version}.json").json()
        assert sum(len(item) for item in document["paths"].values()) == count, version
    assert httpx.get(f"{api.url}/openapi/training/v1.1.json").status_code == 404


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of its own: what is made up and accepted, such as a hold, changes other answers."""
    with running(tmp_path_factory.mktemp("fuzzed")) as started:
        yield started


def _schemathesis(api: Service, document: str, examples: int, folder: Path) -> None:
    run = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("st")), "run", f"{api.url}{document}"),
            *("--header", f"Training-Key: {api.training_key}", "--header", f"Prediction-Key: {api.prediction_key}"),
            # One worker: two parse at the same time, for which Python 3.11's parser is not made (gh-106905).
            *("--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", str(examples), "--workers", "1"),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-12_000:]


@pytest.mark.slow
def test_the_service_keeps_to_its_schema_whatever_is_sent(fuzzed: Service, tmp_path: Path) -> None:
    _schemathesis(fuzzed, "/openapi.json", 10, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "version"), [key for key, at in VERSIONS.items() if at is not LATEST], ids=lambda part: part
)
def test_every_version_keeps_to_its_schema(fuzzed: Service, name: str, version: str, tmp_path: Path) -> None:
    _schemathesis(fuzzed, f"/openapi/{name}/{version}.json", 2, tmp_path)
