"""`ownvision live`: a draft that follows while images are tagged."""

import json
from typing import Annotated, Any

import typer

from ownvision.commands.installation import AsJson, Data, installation
from ownvision.commands.lineage import project_row

app = typer.Typer(help="Live learning: a draft follows each change of images and tags", no_args_is_help=True)
_Project = Annotated[str, typer.Argument(help="Id of the project")]


@app.command("on")
def live_on(project: _Project, data: Data = None) -> None:
    """Switch live learning on; the running service follows within moments."""
    from ownvision.services import drafts

    with installation(data) as components, components.database.write() as session:
        drafts.switch_on(session, project_row(session, project))
    typer.echo("Live learning is on.")


@app.command("off")
def live_off(project: _Project, data: Data = None) -> None:
    """Switch live learning off; the draft goes."""
    from ownvision.data_rights import holds
    from ownvision.services import drafts

    with installation(data) as components, components.database.write() as session:
        row = project_row(session, project)
        holds.check(session, row.account_id, row.id)
        drafts.switch_off(session, row)
    typer.echo("Live learning is off.")


@app.command("show")
def live_show(
    project: _Project,
    take: Annotated[int, typer.Option(help="How many suggestions to list, the surest first", min=0)] = 0,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Show how far a project's draft is, how good, and what it suggests for images that nobody tagged."""
    from ownvision.services import drafts

    with installation(data) as components, components.database.read() as session:
        row = project_row(session, project)
        shape = drafts.shape(session, row, components.settings.limits)
        found: list[drafts.Suggestion] = []
        if take:
            found, _ = drafts.suggestions(session, row, take=take, sort_by=drafts.ASCENDING, continuation=None)
        suggested: list[dict[str, Any]] = [
            {
                "imageId": one.image.id,
                "uncertainty": one.uncertainty,
                "predictions": [{"tagName": tag.name, "probability": share} for tag, share in one.tags],
            }
            for one in found
        ]
    if as_json:
        learned = shape["learned"]
        shown = {**shape, "learned": None if learned is None else learned.isoformat(), "suggestions": suggested}
        typer.echo(json.dumps(shown, indent=2))
        return
    _print(shape)
    for image in suggested:
        tags = ", ".join(f"{one['tagName']} {one['probability']:.2f}" for one in image["predictions"])
        typer.echo(f"{image['imageId']}  {tags}")


def _print(shape: dict[str, Any]) -> None:
    reason = "" if shape["reason"] is None else f": {shape['reason']}"
    typer.echo(f"{shape['state']}{reason}")
    score = shape["score"]
    if score is not None:
        typer.echo(
            f"revision {shape['revision']} of {shape['workspaceRevision']}, {score['images']} images: "
            f"accuracy {score['accuracy']:.3f}, precision {score['precision']:.3f}, recall {score['recall']:.3f}"
        )
    for tag in shape["perTag"]:
        typer.echo(f"  {tag['name']}: precision {tag['precision']:.3f}, recall {tag['recall']:.3f}")
    for tag in shape["waitingTags"]:
        typer.echo(f"  {tag['name']}: not learned yet, {tag['images']} of {tag['needed']} images")
