"""A preflight's estimate beside what the training then took: time within 30 % in nine of ten runs.

A real service in a folder of its own; classifiers on digits, in both domains' backbones, and detectors on generated
scenes. `first` is the estimate from a few steps, as it is told at once, but for embedding,
which the preflight itself does by then; `last` the one when it is done: a classifier's rests on a whole fit. Each
training is run twice after one preflight.
Writes benchmarks/results/learning_estimate.csv. Run: .venv/bin/python -m benchmarks.learning.estimate
"""

import base64
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.learning_digits import pictures
from benchmarks.results import Result, keep
from ownvision.client.http import TRAINING
from ownvision.client.local import Running, running_service

COMPACT, GENERAL = "0732100f-1a38-4e49-a514-c9b44c697ab5", "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
DETECTION = "a27d5ca5-bb19-49d8-a70a-fec086c47f5b"
WITHIN, SHARE = 0.3, 0.9
RUNS = 2
_BATCH = 64
CASES = (
    ("digits, compact", COMPACT, 100),
    ("digits, compact", COMPACT, 400),
    ("digits, compact", COMPACT, 1_700),
    ("digits, General", GENERAL, 100),
    ("digits, General", GENERAL, 1_000),
    ("scenes", DETECTION, 20),
    ("scenes", DETECTION, 60),
)

Entry = dict[str, Any]


def digits(client: httpx.Client, project: str, count: int) -> Iterator[Entry]:
    """Entries of CreateImagesFromFiles: digits with their tags."""
    files, labels = pictures()
    tags = [_tag(client, project, str(number)) for number in range(10)]
    for row in np.random.default_rng(0).permutation(len(files))[:count]:
        yield {"name": f"{row}.png", "contents": _text(files[row]), "tagIds": [tags[labels[row]]]}


def scenes(client: httpx.Client, project: str, count: int) -> Iterator[Entry]:
    """Two coloured squares on noise."""
    tags = [_tag(client, project, name) for name in ("red", "blue")]
    for seed in range(count):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(90, 170, (480, 640, 3)).astype(np.uint8)
        regions = []
        for place, (tag, colour) in enumerate(zip(tags, ((220, 40, 40), (40, 60, 220)), strict=True)):
            left, top, side = rng.uniform((0.02 + place / 2, 0.05, 0.15), (0.2 + place / 2, 0.6, 0.28))
            rows, columns = (slice(round(a * n), round((a + side) * n)) for a, n in ((top, 480), (left, 640)))
            pixels[rows, columns] = colour
            regions.append({"tagId": tag, "left": left, "top": top, "width": side, "height": side})
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
        yield {"name": f"{seed}.jpg", "contents": _text(buffer.getvalue()), "regions": regions}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _tag(client: httpx.Client, project: str, name: str) -> str:
    return str(_ok(client.post(f"{TRAINING}/projects/{project}/tags", params={"name": name}))["id"])


def _ok(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise RuntimeError(f"{answer.status_code}: {answer.text[:300]}")
    return answer.json()


def measured(client: httpx.Client, domain: str, count: int) -> tuple[Entry, Entry, list[float]]:
    """The first and the last estimate, and the seconds of the trainings that followed."""
    parameters = {"name": "Estimated", "domainId": domain}
    if domain != DETECTION:
        parameters["classificationType"] = "Multiclass"
    project = str(_ok(client.post(f"{TRAINING}/projects", params=parameters))["id"])
    entries = list((scenes if domain == DETECTION else digits)(client, project, count))
    for start in range(0, len(entries), _BATCH):
        body = {"images": entries[start : start + _BATCH]}
        _ok(client.post(f"{TRAINING}/projects/{project}/images/files", json=body))
    first: Entry = {}
    answer = _ok(client.post(f"/api/projects/{project}/preflight"))
    while answer["state"] in ("queued", "running"):
        time.sleep(0.02)
        answer = _ok(client.get(f"/api/projects/{project}/preflight"))
        first = first or answer["estimate"] or {}
    if answer["estimate"] is None:
        raise RuntimeError(f"no estimate: {answer['error'] or answer['estimateNote']}")
    seconds = []
    for _ in range(RUNS):
        iteration = _ok(client.post(f"{TRAINING}/projects/{project}/train", params={"forceTrain": "true"}))["id"]
        while _ok(client.get(f"/api/projects/{project}/iterations/{iteration}/progress"))["status"] == "Training":
            time.sleep(0.2)
        answer = _ok(client.get(f"/api/projects/{project}/preflight"))
        seconds.append(float(answer["trained"]["seconds"]))
    return first or answer["estimate"], answer["estimate"], seconds


def _seconds(estimate: Entry) -> float:
    return sum(float(part["seconds"]) for part in estimate["parts"] if part["what"] != "embed")


def _in(running: Running) -> list[Result]:
    results: list[Result] = []
    within: dict[str, list[bool]] = {"first": [], "last": []}
    headers = {"Training-Key": running.training_key}
    with httpx.Client(base_url=running.endpoint, headers=headers, timeout=600) as client:
        for name, domain, count in CASES:
            first, last, seconds = measured(client, domain, count)
            for number, actual in enumerate(seconds, 1):
                results.append(Result(f"{name}, {count}: training {number}", actual, "s"))
                for which, estimate in (("first", first), ("last", last)):
                    ratio = _seconds(estimate) / actual
                    within[which].append(abs(ratio - 1) <= WITHIN)
                    results.append(Result(f"{name}, {count}: {which} estimate / training {number}", ratio, ""))
            results.append(Result(f"{name}, {count}: memory estimated", last["memoryBytes"] / 1e6, "MB"))
            print(
                *(f"{row.what}: {row.value:.3g} {row.unit}" for row in results[-3 * RUNS - 1 :]), sep="\n", flush=True
            )
    return results + [
        Result(f"{which} estimates within 30 %, of {len(hits)}", sum(hits) / len(hits), "", SHARE, most=False)
        for which, hits in within.items()
    ]


def run() -> bool:
    """Measure all cases; whether nine of ten estimates are near enough."""
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder) / "data") as running:
        return keep("learning_estimate", _in(running))


if __name__ == "__main__":
    sys.exit(not run())
