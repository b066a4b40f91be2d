"""`ownvision retention`: for how many days each kind of data is kept."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ownvision.commands.installation import AccountName, AsJson, Data, ProjectName, installation, scope

app = typer.Typer(help="Retention: for how long data is kept", no_args_is_help=True)
Kind = Annotated[str, typer.Argument(help="Kind of data, as `retention show` names it")]


@app.command("show")
def retention_show(
    account: AccountName = None, project: ProjectName = None, as_json: AsJson = False, data: Data = None
) -> None:
    """Print for how many days each kind is kept, and what says so."""
    _show(data, account, project, as_json)


@app.command("set")
def retention_set(
    kind: Kind,
    days: Annotated[int, typer.Argument(help="Days, from 1")],
    account: AccountName = None,
    project: ProjectName = None,
    data: Data = None,
) -> None:
    """Set a rule; it holds for what is there already too, shorter or longer. The service may be running."""
    from ownvision.data_rights import retention

    with installation(data) as components, components.database.write() as session:
        retention.put(session, *scope(session, account, project), kind, days)
    _show(data, account, project, False)


@app.command("unset")
def retention_unset(kind: Kind, account: AccountName = None, project: ProjectName = None, data: Data = None) -> None:
    """Take a rule away: the account's holds again, or the setting."""
    from ownvision.data_rights import retention

    with installation(data) as components, components.database.write() as session:
        retention.remove(session, *scope(session, account, project), kind)
    _show(data, account, project, False)


def _show(data: Path | None, account: str | None, project: str | None, as_json: bool) -> None:
    from ownvision.data_rights import retention

    with installation(data) as components, components.database.read() as session:
        kept = retention.effective(session, components.settings, *scope(session, account, project))
    if as_json:
        rows = [
            {"kind": one.kind, "days": one.days, "rule": one.by, "default": one.default, "setting": one.setting}
            for one in kept
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for one in kept:
        by = f"OWNVISION_{one.setting.upper()}" if one.by == "setting" else f"rule of the {one.by}"
        typer.echo(f"{one.kind:<14}{one.days:>6} days  {by}")
