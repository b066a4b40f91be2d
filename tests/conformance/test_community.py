"""Community clients from PyPI, unmodified, do their main job: cvsutils (v3.3) and custom-vision-client (v1.0)."""

import json
import os
import re
import subprocess
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from ownvision.client.local import Running
from tests.conformance import environments, gateway, results
from tests.conformance.environments import CUSTOM_VISION_CLIENT, CVSUTILS, Client
from tests.conformance.gateway import Gateway
from tests.conformance.wire import Report

pytestmark = [pytest.mark.conformance, pytest.mark.service, pytest.mark.train, pytest.mark.timeout(1200)]

HOST = "southcentralus.api.cognitive.microsoft.com"
COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"
_TRAINING = "/customvision/v3.3/training"
_PROJECT = f"{_TRAINING}/projects/{{id}}"
_ITERATION = f"{_PROJECT}/iterations/{{id}}"
KINDS: Mapping[tuple[str, str], str] = {
    ("GET", f"{_TRAINING}/domains"): "GetDomains",
    ("GET", "/customvision/v3.2/training/domains/{id}"): "GetDomain",
    ("GET", f"{_TRAINING}/projects"): "GetProjects",
    ("POST", f"{_TRAINING}/projects"): "CreateProject",
    ("GET", _PROJECT): "GetProject",
    ("PATCH", _PROJECT): "UpdateProject",
    ("POST", f"{_PROJECT}/train"): "TrainProject",
    ("POST", f"{_PROJECT}/images"): "CreateImagesFromData",
    ("GET", f"{_PROJECT}/images/count"): "GetImageCount",
    ("GET", f"{_PROJECT}/images/tagged"): "GetTaggedImages",
    ("GET", f"{_PROJECT}/images/tagged/count"): "GetTaggedImageCount",
    ("GET", f"{_PROJECT}/images/untagged"): "GetUntaggedImages",
    ("GET", f"{_PROJECT}/images/untagged/count"): "GetUntaggedImageCount",
    ("POST", f"{_PROJECT}/images/tags"): "CreateImageTags",
    ("POST", f"{_PROJECT}/images/regions"): "CreateImageRegions",
    ("GET", f"{_PROJECT}/tags"): "GetTags",
    ("POST", f"{_PROJECT}/tags"): "CreateTag",
    ("GET", f"{_PROJECT}/iterations"): "GetIterations",
    ("GET", _ITERATION): "GetIteration",
    ("DELETE", _ITERATION): "DeleteIteration",
    ("GET", f"{_ITERATION}/performance"): "GetIterationPerformance",
    ("POST", f"{_ITERATION}/publish"): "PublishIteration",
    ("DELETE", f"{_ITERATION}/publish"): "UnpublishIteration",
    ("GET", f"{_ITERATION}/export"): "GetExports",
    ("POST", f"{_ITERATION}/export"): "ExportIteration",
    ("POST", f"{_PROJECT}/predictions/query"): "QueryPredictions",
    ("POST", "/customvision/v3.0/prediction/{id}/classify/iterations/{id}/image/nostore"): "ClassifyImageWithNoStore",
    ("POST", "/customvision/v3.0/prediction/{id}/detect/iterations/detector/image/nostore"): "DetectImageWithNoStore",
}
"""The 26 kinds of request to the training API that cvsutils has, and its two of prediction."""
_OLDEST = "/customvision/v1.0"
OLDEST_KINDS: Mapping[tuple[str, str], str] = {
    ("POST", f"{_OLDEST}/Training/projects"): "CreateProject",
    ("GET", f"{_OLDEST}/Training/projects/{{id}}/tags"): "GetTags",
    ("POST", f"{_OLDEST}/Training/projects/{{id}}/tags"): "CreateTag",
    ("POST", f"{_OLDEST}/Training/projects/{{id}}/images/image"): "CreateImagesFromData",
    ("POST", f"{_OLDEST}/Training/projects/{{id}}/train"): "TrainProject",
    ("POST", f"{_OLDEST}/Prediction/{{id}}/image"): "PredictImage",
    ("POST", f"{_OLDEST}/Prediction/{{id}}/url"): "PredictImageUrl",
}


def clean(**added: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | added


def write_dataset(folder: Path, pictures: Path) -> Path:
    """cvsutils' own format: a line of picture and label for each, and the labels' names."""
    folder.mkdir()
    lines = []
    for label, name in enumerate(("blue", "red")):
        for number in range(8):
            file = f"{name}_{number:02}.jpg"
            (folder / file).write_bytes((pictures / file).read_bytes())
            lines.append(f"{file} {label}")
    (folder / "labels.txt").write_text("blue\nred\n")
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    return folder / "images.txt"


def write_boxes(folder: Path, pictures: Path, *numbers: int) -> Path:
    """The same with boxes: a file for each picture, in an archive, which is the one form that cvsutils can read."""
    folder.mkdir()
    boxes = json.loads((pictures / "scenes.json").read_text())
    lines = []
    for name in (f"scene_{number:02}.jpg" for number in numbers):
        left, top, width, height = (round(240 * value) for value in boxes[name])
        (folder / name).write_bytes((pictures / name).read_bytes())
        with zipfile.ZipFile(folder / "labels.zip", "a") as archive:
            archive.writestr(f"{name}.txt", f"0 {left} {top} {left + width} {top + height}\n")
        lines.append(f"{name} labels.zip@{name}.txt")
    (folder / "labels.txt").write_text("disc\n")
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    return folder / "images.txt"


def store_prediction(service: Running, project: str, picture: Path) -> None:
    """cvsutils itself predicts without storing, and downloads what others stored."""
    address = f"{service.endpoint}/customvision/v3.1/prediction/{project}/detect/iterations/detector/image"
    headers = {"Prediction-Key": service.prediction_key, "Content-Type": "application/octet-stream"}
    httpx.post(address, content=picture.read_bytes(), headers=headers, timeout=120.0).raise_for_status()


def upload_untagged(service: Running, project: str, picture: Path) -> None:
    """cvsutils tags all that it uploads, and asks for untagged images only where there are some."""
    address = f"{service.endpoint}{_TRAINING}/projects/{project}/images"
    headers = {"Training-Key": service.training_key, "Content-Type": "application/octet-stream"}
    httpx.post(address, content=picture.read_bytes(), headers=headers, timeout=120.0).raise_for_status()


def answered(kinds: Mapping[tuple[str, str], str], passing: Gateway) -> dict[str, set[str]]:
    """The operations of each API that were answered well."""
    operations: dict[str, set[str]] = {"training": set(), "prediction": set()}
    for kind in passing.kinds():
        if kind in kinds:
            operations["prediction" if "/prediction/" in kind[1].lower() else "training"].add(kinds[kind])
    return operations


def keep(client: Client, versions: dict[str, str], operations: Mapping[str, set[str]], problems: list[str]) -> None:
    # A job that came out wrong proves none of its operations.
    found = {api: dict.fromkeys(names, problems) for api, names in operations.items()}
    results.keep(client, Report(versions, found))


def test_cvsutils_does_its_job(
    service: Running, picture_folder: Path, detection: dict[str, str], tmp_path: Path
) -> None:
    commands = environments.python_of(CVSUTILS).parent
    with gateway.running(service.endpoint) as passing:
        environment = clean(
            CVS_ENDPOINT=passing.address,
            CVS_TRAINING_KEY=service.training_key,
            CVS_PREDICTION_KEY=service.prediction_key,
            CVS_PREDICTION_RESOURCE_ID=service.resource_id,
        )

        def cvs(command: str, *arguments: str, typed: str = "") -> str:
            done = subprocess.run(
                [str(commands / f"cvs_{command}"), *arguments],
                cwd=tmp_path, env=environment, input=typed, capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"cvs_{command}: {done.stdout}\n{done.stderr}\n{passing.seen[-5:]}"
            return done.stdout

        def word_after(text: str, output: str) -> str:
            return output.partition(text)[2].split()[0]

        try:
            assert f"id: {COMPACT}, name: General (compact), type: image_classification" in cvs("get_domains")
            name = f"of cvsutils {time.time_ns()}"
            dataset = write_dataset(tmp_path / "colours", picture_folder)
            cvs("validate_dataset", str(dataset))
            made = cvs("create_project", str(dataset), "--project_name", name)
            project = word_after("Created project: ", made)
            assert "Uploaded 16 images" in made
            trained = cvs("train_project", project, "--domain_id", COMPACT, "--type", "multiclass")
            iteration = word_after("iteration_id=", trained)
            assert "Average Precision=" in trained
            listed = cvs("list_projects", "--verbose")
            assert f"{project}: {name}. " in listed
            assert f"{iteration}: Iteration 1. Domain: {COMPACT}. Published: None" in listed
            shown = cvs("show_project", project)
            assert "The number of images: 16" in shown
            assert f"Domain: {COMPACT}" in shown
            predicted = cvs("predict_image", project, iteration, str(picture_folder / "red_20.jpg"))
            assert predicted.split("Published the iteration to ")[1].split()[1] == "Unpublished"
            assert re.search(r"^(\w+) +: [01]\.", predicted, re.MULTILINE)[1] == "red"
            cvs("predict_dataset", project, iteration, str(dataset), "predicted")
            assert len((tmp_path / "predicted/images.txt").read_text().splitlines()) == 16
            cvs("export_model", project, iteration, "onnx", "--output", "model.zip")
            assert "model.onnx" in zipfile.ZipFile(tmp_path / "model.zip").namelist()
            upload_untagged(service, project, picture_folder / "red_11.jpg")
            cvs("download_project", project, "downloaded")
            assert len((tmp_path / "downloaded/images.txt").read_text().splitlines()) == 16

            boxes = write_boxes(tmp_path / "boxes", picture_folder, 0, 1, 2)
            made = cvs("create_project", str(boxes), "--project_name", "boxes of cvsutils")
            assert "Uploaded 3 images" in made
            more = write_boxes(tmp_path / "more", picture_folder, 3)
            added = cvs("add_images", word_after("Created project: ", made), str(more), typed="y\n")
            assert "Uploaded 1 images." in added
            detector, trained_detector = detection["project"], detection["iteration"]
            predicted = cvs("predict_image", detector, trained_detector, str(picture_folder / "scene_03.jpg"))
            assert re.search(r"^disc +: 0\.\d+ box: \(", predicted, re.MULTILINE)
            store_prediction(service, detector, picture_folder / "scene_03.jpg")
            cvs("download_predictions", detector, trained_detector, "predictions")
            assert (tmp_path / "predictions/labels.txt").read_text() == "disc\n"
            cvs("remove_iteration", project, iteration)
            problems: list[str] = []
        except AssertionError as error:
            problems = [str(error)]
            raise
        finally:
            operations = answered(KINDS, passing)
            # The one kind of request that it sends to v3.2 is no proof of v3.3.
            operations["training"].discard("GetDomain")
            keep(CVSUTILS, {"training": "v3.3", "prediction": "v3.0"}, operations, problems)
        missing = set(KINDS) - passing.kinds()
        assert not missing, f"never sent: {sorted(missing)}"


def of_custom_vision_client(found: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with what custom-vision-client made of the answers."""
    project = found["project"]
    for name in ("Id", "Name", "Created", "LastModified", "CurrentIterationId"):
        if not isinstance(project[name], str):
            yield f"the project's {name} is {project[name]!r}"
    if [(tag["Name"], tag["ImageCount"]) for tag in found["tags"]] != [("red", 0), ("blue", 0)]:
        yield f"the tags are {found['tags']}"
    if found["taken tag"] is not None:
        yield "a tag was made twice"
    for name in ("red images", "blue images"):
        statuses = [image["Status"] for image in found[name]["Images"]]
        if statuses != ["OK"] * 10 or found[name]["IsBatchSuccessful"] is not True:
            yield f"the {name} are {statuses}"
    training = found["training"]
    if training["ProjectId"] != project["Id"] or training["Status"] not in ("Training", "Completed"):
        yield f"the training is {training}"
    if not found.get("trained again", "").startswith("Unable to train."):
        yield "it was trained again without a change"
    for name, tag in (("file", "red"), ("url", "blue")):
        best = max(found[name], key=lambda each: each["Probability"])
        if best["Tag"] != tag or not isinstance(best["Probability"], float):
            yield f"the {name} is {found[name]}"


def test_custom_vision_client_does_its_job(service: Running, facts: Path, tmp_path: Path) -> None:
    pem = gateway.certificate(tmp_path, HOST)
    python = environments.python_of(CUSTOM_VISION_CLIENT)
    with gateway.running(service.endpoint, pem) as passing:
        done = subprocess.run(
            [str(python), str(environments.HERE / "custom_vision_client_driver.py"), str(facts)],
            cwd=tmp_path,
            env=clean(HTTPS_PROXY=passing.address, https_proxy=passing.address, REQUESTS_CA_BUNDLE=str(pem)),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    problems = [] if done.returncode == 0 else [done.stderr.strip().rpartition("\n")[2]]
    if not problems:
        found: dict[str, Any] = json.loads(done.stdout)
        problems = list(of_custom_vision_client(found))
    keep(CUSTOM_VISION_CLIENT, {"training": "v1.0", "prediction": "v1.0"}, answered(OLDEST_KINDS, passing), problems)
    assert not problems, f"{problems}\n{done.stderr}\n{passing.seen}"
