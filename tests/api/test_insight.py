"""Before, during and after a training, over HTTP and by command."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from ownvision.cli import app
from ownvision.client import charts
from ownvision.services import accounts
from tests.api.conftest import Service, running
from tests.services import trained as t

GONE = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of its own: its jobs are run by the tests."""
    with running(tmp_path_factory.mktemp("insight") / "data") as started:
        yield started


@pytest.fixture(scope="module")
def own(api: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{api.url}/api", headers={"Training-Key": api.training_key}, timeout=60) as made:
        yield made


@pytest.fixture(scope="module")
def trained(api: Service) -> tuple[str, list[str]]:
    """A project's id and those of two iterations."""
    project = t.make_project(api.components, "Colours")
    t.fill(api.components, project, {"red": 6, "blue": 6})
    ids = [t.train(api.components, project, force=force).id for force in (False, True)]
    return project.id, ids


def ok(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_preflight_is_asked_for_and_read(api: Service, own: httpx.Client, trained: tuple[str, list[str]]) -> None:
    path = f"/projects/{trained[0]}/preflight"
    assert own.get(path).status_code == 404
    begun = ok(own.post(path), 202)
    assert (begun["state"], begun["findings"]) == ("queued", [])
    assert ok(own.post(path), 202)["jobId"] == begun["jobId"]
    t.work(api.components)
    found = ok(own.get(path))
    assert (found["state"], found["images"], found["refusal"]) == ("done", 12, None)
    assert found["estimate"]["seconds"] > 0
    assert found["trained"]["iterationId"] == trained[1][1]
    assert found["counts"] == {"tiny tag": 2}
    jobs = ok(own.get(f"/projects/{trained[0]}/jobs"))
    assert "examine" in {job["kind"] for job in jobs}


def test_an_iteration_is_looked_at_in_detail(own: httpx.Client, trained: tuple[str, list[str]]) -> None:
    project, (first, second) = trained
    base = f"/projects/{project}/iterations/{second}"
    detail = ok(own.get(f"{base}/performance", params={"threshold": 0.3}))
    assert (detail["threshold"], detail["images"]) == (0.3, 12)
    assert detail["recall"] == 1.0
    assert sum(cell["count"] for cell in detail["confusion"]) == 12
    curves = ok(own.get(f"{base}/performance/curves", params={"points": 3}))
    assert [len(curve["points"]) <= 3 for curve in curves] == [True, True]
    wrong = ok(own.get(f"{base}/performance/wrong", params={"take": 2}))
    assert len(wrong) == 2
    assert wrong[0]["error"] >= wrong[1]["error"]
    assert wrong[0]["predictions"][0]["boundingBox"] is None
    compared = ok(own.get(f"{base}/compare", params={"with": first}))
    assert compared["images"] == 12
    assert compared["onlyFirstRightCount"] == compared["onlySecondRightCount"] == 0
    progress = ok(own.get(f"{base}/progress"))
    assert (progress["status"], progress["state"], progress["progress"]) == ("Completed", "done", 1.0)


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("performance", {"threshold": 1.5}),
        ("performance", {"overlapThreshold": -1}),
        ("performance/curves", {"points": 201}),
        ("performance/wrong", {"take": 257}),
        ("compare", {}),
        ("compare", {"with": "x"}),
    ],
)
def test_what_is_out_of_bounds_is_refused(
    own: httpx.Client, trained: tuple[str, list[str]], path: str, parameters: dict[str, Any]
) -> None:
    answer = own.get(f"/projects/{trained[0]}/iterations/{trained[1][0]}/{path}", params=parameters)
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "preflight"),
        ("POST", "preflight"),
        *(
            ("GET", f"iterations/{{iteration}}/{name}")
            for name in ("performance", "performance/curves", "performance/wrong", f"compare?with={GONE}", "progress")
        ),
        ("POST", "iterations/{iteration}/cancel"),
    ],
)
def test_another_account_finds_none_of_it(api: Service, trained: tuple[str, list[str]], method: str, path: str) -> None:
    with api.components.database.write() as session:
        name = f"stranger {len(accounts.all(session))}"
        account = accounts.create(session, api.components.keys, user_name=name, email="s@localhost", tier="Unlimited")
        key = accounts.describe(session, api.components.keys, account)["trainingKeys"]["primary"]
    there = f"{api.url}/api/projects/{trained[0]}/{path.format(iteration=trained[1][0])}"
    assert httpx.request(method, there, headers={"Training-Key": key}).status_code == 404


def test_a_training_is_cancelled(api: Service, own: httpx.Client) -> None:
    project = t.make_project(api.components, "To cancel")
    t.fill(api.components, project, {"red": 5, "blue": 5})
    iteration = t.start(api.components, project)
    found = ok(own.post(f"/projects/{project.id}/iterations/{iteration.id}/cancel"))
    assert (found["state"], found["status"]) == ("cancelled", "Failed")
    assert own.post(f"/projects/{project.id}/iterations/{GONE}/cancel").status_code == 404


def command(api: Service, *arguments: str) -> Any:
    given = [*arguments, "--endpoint", api.url, "--training-key", api.training_key]
    return CliRunner().invoke(app, given)


def test_commands_print_what_the_service_says(api: Service, trained: tuple[str, list[str]]) -> None:
    shown = command(api, "performance", "Colours", "--wrong", "1")
    assert shown.exit_code == 0, shown.output
    assert "true ↓, said →" in shown.output
    assert "wrong by" in shown.output
    detail = json.loads(command(api, "performance", "Colours", "--json").output)
    assert detail["iterationId"] == trained[1][1]
    compared = command(api, "compare", "Colours", "Iteration 1", "Iteration 2")
    assert "only Iteration 1 is right of 0 images" in compared.output
    assert "Nothing is being trained there" in str(command(api, "cancel", "Colours").exception)


def while_working(api: Service, call: Callable[[], Any]) -> Any:
    """Run queued jobs as they come until the call is done."""
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(call()))
    caller.start()
    while caller.is_alive():
        t.work(api.components)
        caller.join(0.05)
    return answers[0]


@pytest.mark.slow
def test_a_preflight_and_a_training_are_waited_for(api: Service, trained: tuple[str, list[str]]) -> None:
    found = while_working(api, lambda: command(api, "preflight", "Colours"))
    assert found.exit_code == 0, found.output
    assert "Training 12 images would take about" in found.output.replace("\n", " ")
    assert "The tag “red” is on 6 images only" in found.output
    done = while_working(api, lambda: command(api, "train", "Colours", "--force"))
    assert done.exit_code == 0, done.output
    assert "Iteration 3" in done.output


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([1.0], "▁"), ([0, 7], "▁█"), ([3, 3, 3], "▁▁▁"), (list(range(16)), "▁▂▃▄▅▆▇█")],
)
def test_a_curve_is_drawn_as_a_line_of_bars(values: list[float], line: str) -> None:
    assert charts.sparkline(values, 8) == line


def test_a_course_shows_loss_and_hold_out() -> None:
    points = [{"loss": 2.0, "holdOut": None}, {"loss": 1.0, "holdOut": None}, {"loss": None, "holdOut": 0.75}]
    assert charts.course(points) == "loss      █▁  1.000\nhold-out  ▁  75.0 %"
    assert charts.course([]) == ""


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (59, "59 s"), (120, "2 min"), (7_200, "2.0 h")])
def test_a_duration_is_said_as_a_person_would(seconds: float, said: str) -> None:
    assert charts.duration(seconds) == said


def test_a_large_confusion_matrix_is_cut_to_its_largest_tags() -> None:
    names = {str(number): f"tag {number}" for number in range(30)}
    cells = [{"tagId": str(n), "predictedTagId": str(n), "count": n + 1} for n in range(30)]
    table = charts.confusion(cells, names)
    assert (len(table.columns), len(table.rows)) == (22, 21)
    assert "largest" in str(table.title)
