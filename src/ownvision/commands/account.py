"""`ownvision account`: accounts and their keys."""

import json
from typing import Annotated, Any

import typer

from ownvision.commands.installation import AsJson, Data, installation

app = typer.Typer(help="Accounts and their keys", no_args_is_help=True)


@app.command("show")
def account_show(
    name: Annotated[str | None, typer.Argument(help="User name; not needed while there is one account")] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Print an account with its keys."""
    from ownvision.services import accounts

    with installation(data) as components, components.database.read() as session:
        shown = accounts.describe(session, components.keys, accounts.named(session, name))
    _print_account(shown, as_json)


def _print_account(shown: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
        return
    flat = {
        "user name": shown["userName"],
        "e-mail": shown["email"],
        "tier": shown["tier"],
        "training key": shown["trainingKeys"]["primary"],
        "second training key": shown["trainingKeys"]["secondary"],
        "prediction key": shown["predictionKeys"]["primary"],
        "second prediction key": shown["predictionKeys"]["secondary"],
        "prediction resource id": shown["predictionResourceId"],
    }
    for name, value in flat.items():
        typer.echo(f"{name:<24}{value}")


@app.command("create")
def account_create(
    name: Annotated[str, typer.Argument(help="User name, one per account")],
    email: Annotated[str | None, typer.Option(help="E-mail; default NAME@localhost")] = None,
    tier: Annotated[str | None, typer.Option(help="Unlimited, F0 or S0; default OWNVISION_TIER")] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Make another account; it sees nothing of the others. The service may be running."""
    from ownvision.services import accounts

    with installation(data) as components, components.database.write() as session:
        account = accounts.create(
            session,
            components.keys,
            user_name=name,
            email=email or f"{name}@localhost",
            tier=tier or components.settings.tier,
        )
        shown = accounts.describe(session, components.keys, account)
    _print_account(shown, as_json)


@app.command("list")
def account_list(data: Data = None) -> None:
    """List the accounts."""
    from ownvision.services import accounts

    with installation(data) as components, components.database.read() as session:
        for row in accounts.all(session):
            typer.echo(f"{row.id}  {row.created:%Y-%m-%d}  {row.tier:<10} {row.user_name} <{row.email}>")


@app.command("rotate-key")
def account_rotate_key(
    kind: Annotated[str, typer.Argument(help="training or prediction")],
    slot: Annotated[str, typer.Argument(help="primary or secondary")],
    name: Annotated[str | None, typer.Option(help="User name; not needed while there is one account")] = None,
    data: Data = None,
) -> None:
    """Replace one key and print the new one; the old one stops working at once."""
    from ownvision.services import accounts

    with installation(data) as components, components.database.write() as session:
        key = accounts.rotate(session, components.keys, accounts.named(session, name), kind, slot)
    typer.echo(key)
