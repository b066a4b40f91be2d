"""`ownvision preflight | performance | compare | cancel`: before, during and after a training."""

import json
import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from ownvision.client import charts, lookup
from ownvision.client.http import ClientError, Json, Service
from ownvision.client.options import (
    LOCAL,
    Account,
    Data,
    Endpoint,
    TrainingKey,
    answers,
    connected,
    notes,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the service's answer")]
Iteration = Annotated[
    str | None, typer.Option(help="Publish name, name or id; default: the newest published or trained")
]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="Least probability of a positive prediction")]
Overlap = Annotated[float, typer.Option(min=0, max=1, help="Least overlap of a box that is right (detection)")]
_SHOWN = 10  # findings of a kind, where not all are asked for


def preflight(
    project: str,
    every: Annotated[bool, typer.Option("--all", help="List every finding, with the images' ids")] = False,
    as_json: AsJson = False,
    endpoint: Endpoint = LOCAL,
    training_key: TrainingKey = None,
    data: Data = None,
    account: Account = None,
) -> None:
    """Say how long PROJECT's training would take, and what is wrong with its images, tags and boxes."""
    with connected(endpoint, training_key, None, data, account) as service:
        found = lookup.project(service, project)
        answer = service.start_preflight(found["id"])
        with Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), console=notes) as bars:
            bar = bars.add_task("Looking", total=1.0)
            while answer["state"] in ("queued", "running"):
                time.sleep(0.3)
                answer = service.preflight(found["id"])
                bars.update(bar, completed=answer["progress"])
    if answer["state"] != "done":
        raise ClientError(f"The preflight ended without a result: {answer['error'] or answer['state']}")
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    _print_estimate(answer)
    _print_findings(answer, every)


def _print_estimate(answer: Json) -> None:
    if answer["refusal"]:
        answers.print(answer["refusal"], markup=False)
    estimate = answer["estimate"]
    if estimate is None:
        answers.print(answer["estimateNote"] or "There is no estimate.", markup=False)
        return
    parts = ", ".join(
        f"{part['what']} {part['count']:,} × {charts.duration(part['seconds'])}"
        if part["count"] == 1
        else f"{part['what']} {part['count']:,} in {charts.duration(part['seconds'])}"
        for part in estimate["parts"]
        if part["seconds"] >= 0.05
    )
    answers.print(
        f"Training {answer['images']:,} images would take about {charts.duration(estimate['seconds'])} "
        f"and {estimate['memoryBytes'] / 1e9:.1f} GB of memory ({parts}).",
        markup=False,
    )


def _print_findings(answer: Json, every: bool) -> None:
    if not answer["findings"]:
        answers.print("Nothing is wrong with the data.")
    shown: dict[str, int] = {}
    for one in answer["findings"]:
        shown[one["kind"]] = shown.get(one["kind"], 0) + 1
        if every or shown[one["kind"]] <= _SHOWN:
            typer.echo(f"- {one['sentence']}{''.join(f' {image}' for image in one['imageIds'])}")
    for kind, count in answer["counts"].items():
        told = shown.get(kind, 0) if every else min(shown.get(kind, 0), _SHOWN)
        if count > told:
            typer.echo(f"  … and {count - told} more of kind {kind!r}")


def performance(
    project: str,
    iteration: Iteration = None,
    threshold: Threshold = 0.5,
    overlap: Overlap = 0.3,
    wrong: Annotated[int, typer.Option(min=0, max=256, help="How many of the most wrong images to list")] = 0,
    as_json: AsJson = False,
    endpoint: Endpoint = LOCAL,
    training_key: TrainingKey = None,
    data: Data = None,
    account: Account = None,
) -> None:
    """Print how good an iteration of PROJECT is per tag, and what it takes for what."""
    with connected(endpoint, training_key, None, data, account) as service:
        found = lookup.project(service, project)
        asked = lookup.iteration(service, found, iteration)
        detail = service.performance_detail(found["id"], asked["id"], threshold, overlap)
        worst = service.most_wrong(found["id"], asked["id"], overlap, wrong) if wrong else []
    if as_json:
        typer.echo(json.dumps({**detail, "mostWrong": worst}, indent=2))
        return
    title = f"{asked['name']}: {detail['images']} held-out images, {detail['folds']} folds, threshold {threshold:g}"
    answers.print(_figures(title, detail))
    answers.print(charts.confusion(detail["confusion"], {row["tagId"]: row["name"] for row in detail["perTag"]}))
    for image in worst:
        said = image["predictions"][0] if image["predictions"] else None
        what = "nothing" if said is None else f"{said['tagName']} {100 * said['probability']:.0f} %"
        typer.echo(f"{image['imageId']}  wrong by {image['error']:.2f}, said {what}")


def _figures(title: str, detail: Json) -> Table:
    table = Table("tag", "count", "precision", "recall", "AP", title=title)
    for row in sorted(detail["perTag"], key=lambda row: str(row["name"])):
        table.add_row(row["name"], f"{row['count']:,}" if "count" in row else "", *_spread(row))
    table.add_section()
    table.add_row("all", "", *_spread(detail))
    return table


def _spread(row: Json) -> list[str]:
    names = ("precision", "recall", "averagePrecision")
    return [f"{100 * row[name]:.1f} ± {100 * row[name + 'StdDeviation']:.1f} %" for name in names]


def compare(
    project: str,
    first: Annotated[str, typer.Argument(help="Publish name, name or id of an iteration")],
    second: Annotated[str, typer.Argument(help="The other's")],
    threshold: Threshold = 0.5,
    overlap: Overlap = 0.3,
    as_json: AsJson = False,
    endpoint: Endpoint = LOCAL,
    training_key: TrainingKey = None,
    data: Data = None,
    account: Account = None,
) -> None:
    """Compare two iterations of PROJECT on the images that both were measured on."""
    with connected(endpoint, training_key, None, data, account) as service:
        found = lookup.project(service, project)
        ids = [lookup.iteration(service, found, name)["id"] for name in (first, second)]
        answer = service.compare(found["id"], ids[0], ids[1], threshold, overlap)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    for one in answer["iterations"]:
        answers.print(_figures(f"{one['name']}: {one['rightImages']} of {answer['images']} images right", one))
    names = [one["name"] for one in answer["iterations"]]
    for name, key in zip(names, ("onlyFirstRight", "onlySecondRight"), strict=True):
        typer.echo(f"only {name} is right of {answer[key + 'Count']} images")


def cancel(
    project: str,
    iteration: Annotated[str | None, typer.Option(help="Name or id; default: the one in training")] = None,
    endpoint: Endpoint = LOCAL,
    training_key: TrainingKey = None,
    data: Data = None,
    account: Account = None,
) -> None:
    """Stop PROJECT's training; the iteration has failed then, and everything else stays as it is."""
    with connected(endpoint, training_key, None, data, account) as service:
        found = lookup.project(service, project)
        rows = [row for row in service.iterations(found["id"]) if row["status"] == "Training"]
        if iteration is not None:
            rows = [row for row in rows if iteration in (row["name"], row["id"])]
        if not rows:
            raise ClientError("Nothing is being trained there.")
        service.cancel_training(found["id"], rows[0]["id"])
    answers.print(f"{rows[0]['name']} is being stopped.", markup=False)


def watch(service: Service, project_id: str, iteration: Json, again: Callable[[], Json]) -> Json:
    """Show a training's progress until it ends; the iteration then.

    Args:
        service: That trains.
        project_id: Whose.
        iteration: The one in training.
        again: Gives the iteration as it is now.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[left]}"))
    told = ""
    with Progress(*columns, console=notes) as bars:
        bar = bars.add_task(f"Training {iteration['name']}", total=1.0, left="")
        while iteration["status"] == "Training":
            time.sleep(0.5)
            state = service.training_progress(project_id, iteration["id"])
            left = state["secondsLeft"]
            bars.update(
                bar,
                completed=state["progress"],
                left=f"waits for {state['queuedBefore']} others"
                if state["state"] == "queued" and state["queuedBefore"]
                else ""
                if left is None
                else f"{charts.duration(left)} left",
            )
            told = charts.course(state["curve"]) or told
            iteration = again()
    if told:
        notes.print(told, markup=False, highlight=False)
    return iteration


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (preflight, performance, compare, cancel):
        app.command(rich_help_panel="Work with a running service")(command)
