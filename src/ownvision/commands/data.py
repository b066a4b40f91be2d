"""`ownvision data`: what is held about a person, to see and to take away."""

import json
from typing import TYPE_CHECKING

import typer

from ownvision.commands.installation import AccountName, AsJson, Data, ProjectName, installation, scope

if TYPE_CHECKING:
    from ownvision.data_rights.census import Census, Held
    from ownvision.data_rights.inventory import Kind

app = typer.Typer(help="Your data: see it, take it away", no_args_is_help=True)
_ROW = "{:<30}{:>10}{:>12}  {:<12}{}"


@app.command("show")
def data_show(
    account: AccountName = None, project: ProjectName = None, as_json: AsJson = False, data: Data = None
) -> None:
    """Print every kind of data that is held, how much of it there is, and how to see, take and delete it."""
    from ownvision.data_rights import census

    with installation(data) as components, components.database.read() as session:
        taken = census.take(session, components, *scope(session, account, project))
    if as_json:
        typer.echo(json.dumps(_shape(taken), indent=2))
    else:
        _print(taken)


def _shape(taken: "Census") -> dict[str, object]:
    return {
        "accountId": taken.account_id,
        "projectId": taken.project_id,
        "holds": [
            {"id": hold.id, "projectId": hold.project_id, "reason": hold.reason, "created": hold.created.isoformat()}
            for hold in taken.holds
        ],
        "kinds": [
            {**held.shape(), "oldest": None if held.oldest is None else held.oldest.isoformat()} for held in taken.kinds
        ],
    }


def _print(taken: "Census") -> None:
    typer.echo(_ROW.format("", "count", "size", "oldest", "kept"))
    for held in taken.kinds:
        typer.echo(_ROW.format(*_cells(held)).rstrip())
        for name, text in _ways(held.kind):
            typer.secho(f"    {name:<8}{text}", dim=True)
    for hold in taken.holds:
        where = "the account" if hold.project_id is None else f"project {hold.project_id}"
        typer.echo(
            f"A legal hold is on {where} since {hold.created:%Y-%m-%d} (hold {hold.id}): nothing of it is erased."
        )
    typer.echo("Sizes are of files; * marks files that are encrypted. --json says where each kind lives, and why.")


def _cells(held: "Held") -> tuple[str, ...]:
    return (
        held.kind.name,
        "" if held.count is None else f"{held.count:,}",
        "" if not held.files or held.bytes is None else f"{size(held.bytes)}{'*' if held.sealed else ' '}",
        "" if held.oldest is None else f"{held.oldest:%Y-%m-%d}",
        held.until(),
    )


def _ways(kind: "Kind") -> list[tuple[str, str]]:
    ways = (
        ("see", ", ".join(kind.view)),
        ("take", kind.export),
        ("delete", ", ".join(kind.delete)),
        ("note", kind.without),
    )
    return [(name, text) for name, text in ways if text]


def size(count: int) -> str:
    """Bytes for a person: 1,234 B, 5.6 kB, 7.8 MB, 9.0 GB, powers of ten."""
    if count < 10_000:
        return f"{count:,} B"
    for unit, of in (("kB", 10**3), ("MB", 10**6), ("GB", 10**9)):
        if count < 1_000 * of or unit == "GB":
            return f"{count / of:,.1f} {unit}"
    raise AssertionError
