"""`ownvision upload | train | predict | export`: the shell's way through the public API."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ownvision.client import folders, insight, lookup
from ownvision.client.http import ClientError, Json, Service
from ownvision.client.options import (
    LOCAL,
    Account,
    Data,
    Endpoint,
    PredictionKey,
    TrainingKey,
    answers,
    connected,
    notes,
)

DOMAIN_HELP = 'Name or id; a name such as "General (compact)" may stand in both types'


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=notes)


def upload(
    project: str,
    folder: Path,
    domain: Annotated[str, typer.Option(help=f"Domain of a project that is new. {DOMAIN_HELP}")] = "General",
    multilabel: Annotated[bool, typer.Option(help="A new project takes several tags per image")] = False,
    endpoint: Endpoint = LOCAL,
    training_key: TrainingKey = None,
    prediction_key: PredictionKey = None,
    data: Data = None,
    account: Account = None,
) -> None:
    """Upload FOLDER, one sub-folder per tag, into PROJECT; project and tags are made when they are missing.

    An upload that was interrupted is simply started again: what is there already is recognised.
    """
    by_tag = folders.pictures_by_tag(folder)
    counts: Counter[str] = Counter()
    with connected(endpoint, training_key, prediction_key, data, account) as service:
        found = lookup.find_project(service, project)
        if found is None:
            kind = "Multilabel" if multilabel else "Multiclass"
            domain_id = lookup.domain(service, domain, "Classification")["id"]
            found = service.create_project(project, domain_id, kind)
            notes.print(f"Created project {project}.")
        known = {tag["name"]: tag["id"] for tag in service.tags(found["id"])}
        with _progress() as progress:
            bar = progress.add_task("Uploading", total=sum(len(paths) for paths in by_tag.values()))
            for name, paths in by_tag.items():
                if name is not None and name not in known:
                    known[name] = service.create_tag(found["id"], name)["id"]
                for batch in folders.batches(paths):
                    for file_name, status in _upload_batch(service, found, batch, known.get(name) if name else None):
                        counts[status] += 1
                        if not status.startswith("OK"):
                            notes.print(f"{name or '.'}/{file_name}: {status}")
                    progress.advance(bar, len(batch))
    failed = sum(number for status, number in counts.items() if not status.startswith("OK"))
    answers.print(f"{counts['OK']} uploaded, {counts['OKDuplicate']} there already, {failed} refused.")
    if failed:
        raise ClientError(f"{failed} of {counts.total()} pictures were refused, for the reasons above.")


def _upload_batch(
    service: Service, project: Json, batch: list[tuple[str, bytes]], tag_id: str | None
) -> list[tuple[str, str]]:
    results = service.upload(project["id"], batch, [tag_id] if tag_id else [])
    again = [result["image"] for result in results if result["status"] == "OKDuplicate" and result.get("image")]
    # The same picture in two folders carries two tags, where the project allows it.
    if tag_id and project["settings"]["classificationType"] == "Multilabel":
        missing = [image["id"] for image in again if tag_id not in {tag["tagId"] for tag in image.get("tags") or []}]
        if missing:
            service.add_tag(project["id"], missing, tag_id)
    return [(name, result["status"]) for (name, _), result in zip(batch, results, strict=True)]


def train(
    project: str,
    domain: Annotated[str | None, typer.Option(help=f"Change to this domain first. {DOMAIN_HELP}")] = None,
    publish: Annotated[str | None, typer.Option(help="Publish the iteration by this name")] = None,
    force: Annotated[bool, typer.Option(help="Train although nothing changed")] = False,
    prediction_resource_id: Annotated[
        str | None,
        typer.Option(envvar="OWNVISION_PREDICTION_RESOURCE_ID", help="What --publish needs; --data knows it"),
    ] = None,
    endpoint: Endpoint = LOCAL,
    training_key: TrainingKey = None,
    prediction_key: PredictionKey = None,
    data: Data = None,
    account: Account = None,
) -> None:
    """Train PROJECT, wait for the iteration and print how well it does per tag."""
    if publish is not None and prediction_resource_id is None:
        if data is None:
            raise ClientError("To publish, give --prediction-resource-id (`ownvision account show` has it) or --data.")
        prediction_resource_id = str(lookup.local_account(data, account)["predictionResourceId"])
    with connected(endpoint, training_key, prediction_key, data, account) as service:
        found = lookup.project(service, project)
        if domain is not None:
            kind = lookup.domain_by_id(service, found["settings"]["domainId"])["type"]
            found = service.set_domain(found, lookup.domain(service, domain, kind)["id"])
        iteration = service.train(found["id"], force)
        started = iteration["id"]
        iteration = insight.watch(service, found["id"], iteration, lambda: service.iteration(found["id"], started))
        if iteration["status"] != "Completed":
            reason = iteration.get("trainingErrorDetails") or "no reason was given"
            raise ClientError(f"{iteration['name']} failed: {reason}")
        answers.print(performance_table(iteration["name"], service.performance(found["id"], iteration["id"])))
        if publish is not None and prediction_resource_id is not None:
            service.publish(found["id"], iteration["id"], publish, prediction_resource_id)
            answers.print(f"Published as {publish}.")


def performance_table(title: str, performance: Json) -> Table:
    """Precision, recall and average precision of each tag and of all, in percent."""
    table = Table("tag", "precision", "recall", "AP", title=title)
    for row in sorted(performance["perTagPerformance"], key=lambda row: str(row["name"])):
        table.add_row(row["name"], *_percentages(row))
    table.add_section()
    table.add_row("all", *_percentages(performance))
    return table


def _percentages(row: Json) -> list[str]:
    values = (row["precision"], row["recall"], row["averagePrecision"])
    return ["–" if value is None else f"{100 * value:.1f} %" for value in values]


def predict(
    project: str,
    images: list[Path],
    iteration: Annotated[str | None, typer.Option(help="Publish name or name of the iteration to ask")] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least probability to print")] = 0.1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the service's answers, one JSON object a line")
    ] = False,
    endpoint: Endpoint = LOCAL,
    training_key: TrainingKey = None,
    prediction_key: PredictionKey = None,
    data: Data = None,
    account: Account = None,
) -> None:
    """Ask what is on the IMAGES; the newest published iteration answers, else the newest that is trained."""
    with connected(endpoint, training_key, prediction_key, data, account) as service:
        found = lookup.project(service, project)
        asked = lookup.iteration(service, found, iteration)
        kind = lookup.domain_by_id(service, found["settings"]["domainId"])["type"]
        route = "detect" if kind == "ObjectDetection" else "classify"
        for path in images:
            if not path.is_file():
                raise ClientError(f"There is no file {path}.")
            picture = path.read_bytes()
            if asked["publishName"] and service.has_prediction_key:
                answer = service.predict(found["id"], route, asked["publishName"], picture)
            else:
                answer = service.quick_test(found["id"], asked["id"], picture)
            if as_json:
                typer.echo(json.dumps({"file": str(path), **answer}))
            else:
                _print_prediction(path, answer, threshold)


def _print_prediction(path: Path, answer: Json, threshold: float) -> None:
    shown = [row for row in answer["predictions"] if row["probability"] >= threshold]
    typer.echo(str(path) + ("" if shown else "  nothing above the threshold"))
    for row in sorted(shown, key=lambda row: -float(row["probability"])):
        typer.echo(f"  {100 * row['probability']:5.1f} %  {row['tagName']}{_box(row.get('boundingBox'))}")


def _box(box: dict[str, Any] | None) -> str:
    if not box:
        return ""
    return "  " + " ".join(f"{side} {box[side]:.3f}" for side in ("left", "top", "width", "height"))


def export(
    project: str,
    out: Annotated[Path, typer.Option(help="File to write the archive to")],
    platform: Annotated[str, typer.Option(help="Platform, such as ONNX")] = "ONNX",
    flavor: Annotated[str | None, typer.Option(help="Flavor, where the platform has several")] = None,
    iteration: Annotated[str | None, typer.Option(help="Publish name or name of the iteration to export")] = None,
    endpoint: Endpoint = LOCAL,
    training_key: TrainingKey = None,
    prediction_key: PredictionKey = None,
    data: Data = None,
    account: Account = None,
) -> None:
    """Export an iteration of PROJECT as an archive that runs anywhere; its domain must be a compact one."""
    with connected(endpoint, training_key, prediction_key, data, account) as service:
        found = lookup.project(service, project)
        asked = lookup.iteration(service, found, iteration)
        made = _exported(service, found["id"], asked["id"], platform, flavor)
        if made is None:
            service.start_export(found["id"], asked["id"], platform, flavor)
        with Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=notes
        ) as progress:
            progress.add_task(f"Exporting {asked['name']} for {platform}", total=None)
            while made is None or made["status"] == "Exporting":
                time.sleep(0.2)
                made = _exported(service, found["id"], asked["id"], platform, flavor)
        if made["status"] != "Done":
            raise ClientError(f"The export of {asked['name']} for {platform} failed.")
        # Written beside and renamed: an interrupted download leaves no file that looks whole.
        partial = out.with_name(out.name + ".part")
        with service.download(made["downloadUri"]) as stream, partial.open("wb") as file:
            for chunk in stream.iter_bytes():
                file.write(chunk)
        partial.replace(out)
    answers.print(f"{out}: {out.stat().st_size:,} bytes")


def _exported(service: Service, project_id: str, iteration_id: str, platform: str, flavor: str | None) -> Json | None:
    wanted = (platform.lower(), (flavor or "").lower())
    for row in service.exports(project_id, iteration_id):
        if (row["platform"].lower(), (row["flavor"] or "").lower()) == wanted and row["status"] != "Failed":
            return row
    return None


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (upload, train, predict, export):
        app.command(rich_help_panel="Work with a running service")(command)
    insight.add_to(app)
