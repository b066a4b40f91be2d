"""`ownvision hold`: legal holds, which keep everything from being erased."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ownvision.commands.installation import AccountName, AsJson, Data, ProjectName, installation, scope

if TYPE_CHECKING:
    from ownvision.store.tables import LegalHold

app = typer.Typer(help="Legal holds: nothing is erased while there is one", no_args_is_help=True)


@app.command("place")
def hold_place(
    reason: Annotated[str, typer.Argument(help="Why nothing may be erased")],
    account: AccountName = None,
    project: ProjectName = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Place a hold on a project, or on the whole account. The service may be running."""
    from ownvision.data_rights import holds

    with installation(data) as components, components.database.write() as session:
        hold = holds.place(session, *scope(session, account, project), reason)
    _print([hold], as_json)


@app.command("list")
def hold_list(
    account: AccountName = None, project: ProjectName = None, as_json: AsJson = False, data: Data = None
) -> None:
    """List the holds in an account, or those that hold a project."""
    from ownvision.data_rights import holds

    with installation(data) as components, components.database.read() as session:
        found = holds.all(session, *scope(session, account, project))
    _print(found, as_json)


@app.command("lift")
def hold_lift(
    hold_id: Annotated[str, typer.Argument(help="The hold's id, from `hold list`")],
    account: AccountName = None,
    data: Data = None,
) -> None:
    """Lift a hold: erasing is possible again, and retention goes on within moments."""
    from ownvision.data_rights import holds

    with installation(data) as components, components.database.write() as session:
        holds.lift(session, *scope(session, account, None), hold_id)
    typer.echo(f"Hold {hold_id} is lifted.")


def _print(found: "list[LegalHold]", as_json: bool) -> None:
    if as_json:
        rows = [
            {"id": one.id, "projectId": one.project_id, "reason": one.reason, "created": one.created.isoformat()}
            for one in found
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for one in found:
        where = "the account" if one.project_id is None else f"project {one.project_id}"
        typer.echo(f"{one.id}  {one.created:%Y-%m-%d}  {where}  {one.reason}")
