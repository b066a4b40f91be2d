"""`ownvision search`: what an advanced training tried."""

import json
from typing import Annotated

import typer

from ownvision.client import ClientError
from ownvision.commands.installation import RUN, AsJson, Data, installation


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("search", rich_help_panel=RUN)(search)


def search(
    iteration: Annotated[str, typer.Argument(help="Id of the iteration")],
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """List what an iteration's training tried, and what was chosen."""
    from ownvision.services import iterations
    from ownvision.store.tables import Iteration

    with installation(data) as components, components.database.read() as session:
        row = session.get(Iteration, iteration)
        if row is None:
            raise ClientError(f"There is no iteration {iteration} here.")
        shown = iterations.searched(row)
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
        return
    typer.echo(f"{shown['trainingType']} training, {shown['seconds']:.0f} s, {shown['budgetHours']} h reserved")
    for trial in shown["trials"]:
        score = "     –" if trial["score"] is None else f"{trial['score']:6.1%}"
        mark = "*" if trial["chosen"] else " "
        typer.echo(f"{mark} {score} {trial['seconds']:7.1f} s  {trial['what']}: {trial['note']}")
