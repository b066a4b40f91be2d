"""The service's own OpenAPI: every operation is there under the original's name, and the service keeps to it."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import Service

OPERATIONS = {
    "GetAccountInfo",
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


@pytest.mark.slow
def test_the_service_keeps_to_its_schema_whatever_is_sent(api: Service, tmp_path: Path) -> None:
    run = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("st")), "run", f"{api.url}/openapi.json"),
            *("--header", f"Training-Key: {api.training_key}", "--header", f"Prediction-Key: {api.prediction_key}"),
            *("--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", "10", "--workers", "2"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5_000:]
