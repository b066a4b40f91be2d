"""`ownvision lineage` and `ownvision policy`: what models learned from, and what becomes of them when it is erased."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ownvision.client import ClientError
from ownvision.commands.installation import AsJson, Data, installation

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ownvision.store.tables import Iteration, Project

app = typer.Typer(help="What models learned from", no_args_is_help=True)
policy = typer.Typer(help="What becomes of models whose images are erased", no_args_is_help=True)


@app.command("show")
def lineage_show(
    iteration: Annotated[str, typer.Argument(help="Id of the iteration")],
    take: Annotated[int, typer.Option(help="How many images to list", min=0)] = 50,
    skip: Annotated[int, typer.Option(help="How many to pass over first", min=0)] = 0,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """List what an iteration was trained on: first the erased images, with their receipts."""
    from ownvision.data_rights import lineage

    with installation(data) as components, components.database.read() as session:
        row = _iteration(session, iteration)
        there, erased = lineage.counts(session, row)
        entries = lineage.entries(session, row, skip, take)
    if as_json:
        shown = {
            "iterationId": row.id,
            "images": there,
            "erased": erased,
            "erasedImages": row.erased_count,
            "unlearning": row.unlearning,
            "entries": [entry.shape() for entry in entries],
        }
        typer.echo(json.dumps(shown, indent=2))
        return
    flag = f"; its model has learned from {row.erased_count} of these ({row.unlearning})" if row.erased_count else ""
    typer.echo(f"{row.name}: trained on {there} images that are there and {erased} that were erased{flag}")
    for entry in entries:
        state = "" if entry.receipt is None else f"  erased, receipt {entry.receipt}"
        again = "" if entry.unlearned is None else f"  unlearned {entry.unlearned:%Y-%m-%d %H:%M}"
        typer.echo(f"{entry.image_id}{state}{again}")


@app.command("of")
def lineage_of(
    images: Annotated[list[str], typer.Argument(help="Ids of images, there or erased")],
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """List the iterations, publish names and exports that learned from images."""
    from ownvision.data_rights import lineage
    from ownvision.services import accounts

    with installation(data) as components, components.database.read() as session:
        learned = [
            one for account in accounts.all(session) for one in lineage.learned_from(session, account.id, images)
        ]
    if as_json:
        typer.echo(json.dumps([one.shape() for one in learned], indent=2))
    elif not learned:
        typer.echo("No model learned from these.")
    else:
        for one in learned:
            name = one.iteration.publish_name
            published = "" if name is None else f", published as {name!r}"
            archives = "".join(f", exported to {export.platform}" for export in one.exports)
            forgotten = f", {one.unlearned} unlearned" if one.unlearned else ""
            typer.echo(
                f"{one.iteration.id}  {one.iteration.name}: {one.images} of them{forgotten}{published}{archives}"
            )


@policy.command("show")
def policy_show(
    project: Annotated[str, typer.Argument(help="Id of the project")],
    data: Data = None,
) -> None:
    """Print a project's policy."""
    with installation(data) as components, components.database.read() as session:
        typer.echo(project_row(session, project).erasure_policy)


@policy.command("set")
def policy_set(
    project: Annotated[str, typer.Argument(help="Id of the project")],
    chosen: Annotated[str, typer.Argument(metavar="POLICY", help="keep, retrain, unpublish or delete")],
    data: Data = None,
) -> None:
    """Choose a project's policy, for erasures from now on."""
    from ownvision.data_rights import policies

    with installation(data) as components, components.database.write() as session:
        row = project_row(session, project)
        policies.choose(row, chosen)
        typer.echo(row.erasure_policy)


def _iteration(session: "Session", id: str) -> "Iteration":
    from ownvision.store.tables import Iteration

    row = session.get(Iteration, id)
    if row is None:
        raise ClientError(f"There is no iteration {id} here.")
    return row


def project_row(session: "Session", id: str) -> "Project":
    """A project that is there, locked where the transaction writes.

    Raises:
        ClientError: There is none.
    """
    from ownvision.store.tables import Project

    row = session.get(Project, id, with_for_update=True)
    if row is None or row.closed is not None:
        raise ClientError(f"There is no project {id} here.")
    return row
