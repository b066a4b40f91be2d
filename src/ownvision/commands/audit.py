"""`ownvision audit`: who viewed, exported, changed or deleted what, and when."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ownvision.client import ClientError
from ownvision.commands.installation import AccountName, AsJson, Data, installation

if TYPE_CHECKING:
    from ownvision.data_rights.audit import Wanted

app = typer.Typer(help="The audit trail", no_args_is_help=True)

Since = Annotated[datetime | None, typer.Option("--from", help="Events of this time and later (UTC)")]
Until = Annotated[datetime | None, typer.Option("--to", help="Events before this time (UTC)")]
Kind = Annotated[str | None, typer.Option("--action", help="view, export, change or delete")]
OfProject = Annotated[str | None, typer.Option("--project", help="A project's id")]
By = Annotated[str | None, typer.Option("--actor", help="A key's id, operator, rule or link")]


def _wanted(
    since: datetime | None, until: datetime | None, action: str | None, project: str | None, actor: str | None
) -> "Wanted":
    from ownvision.data_rights.audit import Wanted

    return Wanted(since and since.replace(tzinfo=UTC), until and until.replace(tzinfo=UTC), action, project, actor)


@app.command("show")
def audit_show(
    account: AccountName = None,
    since: Since = None,
    until: Until = None,
    action: Kind = None,
    project: OfProject = None,
    actor: By = None,
    take: Annotated[int, typer.Option(help="How many, the newest ones", min=1)] = 50,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Print the newest events, the newest last."""
    import json

    from ownvision.data_rights import audit
    from ownvision.services import accounts

    wanted = _wanted(since, until, action, project, actor)
    with installation(data) as components, components.database.read() as session:
        events, _ = audit.page(session, accounts.named(session, account).id, wanted, take)
    shown = [audit.shape(row) for row in reversed(events)]
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
        return
    for one in shown:
        about = " ".join(str(one[name]) for name in ("projectId", "target") if name in one)
        times = f" ×{one['count']}" if one["count"] > 1 else ""
        typer.echo(f"{one['at']}  {one['actor']:<36}  {one['action']:<7} {one['operation']}{times}  {about}".rstrip())


@app.command("export")
def audit_export(
    out: Annotated[Path, typer.Argument(help="File to write, JSON Lines; - prints")],
    account: AccountName = None,
    since: Since = None,
    until: Until = None,
    action: Kind = None,
    project: OfProject = None,
    actor: By = None,
    data: Data = None,
) -> None:
    """Write all events, oldest first, one JSON object a line."""
    from ownvision.data_rights import audit
    from ownvision.services import accounts

    if str(out) != "-" and out.exists():
        raise ClientError(f"{out} is there already; nothing was written.")
    wanted = _wanted(since, until, action, project, actor)
    with installation(data) as components:
        with components.database.read() as session:
            account_id = accounts.named(session, account).id
        lines = audit.lines(components.database, account_id, wanted)
        if str(out) == "-":
            for line in lines:
                typer.echo(line, nl=False)
        else:
            with out.open("x") as file:
                file.writelines(lines)
