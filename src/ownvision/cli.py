"""The command `ownvision`: one command per verb. What fails says why in one sentence and exits with 1."""

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from ownvision.client import ClientError
from ownvision.client import commands as client_commands
from ownvision.domains import DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.settings import Settings

if TYPE_CHECKING:
    from ownvision.services.components import Components

app = typer.Typer(
    name="ownvision",
    help="Custom Vision that you own. Every setting of `serve` is also an environment variable OWNVISION_…",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
account_app = typer.Typer(help="Accounts and their keys", no_args_is_help=True)
app.add_typer(account_app, name="account", rich_help_panel="Run a service")
client_commands.add_to(app)

RUN = "Run a service"
Data = Annotated[
    Path | None, typer.Option(help="Folder that holds database, objects and keys; default OWNVISION_DATA or ./data")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


def _settings(**given: Any) -> Settings:
    return Settings(**{name: value for name, value in given.items() if value is not None})


@contextmanager
def _installation(data: Path | None) -> Iterator["Components"]:
    """The parts of an installation that exists; a mistyped folder must not become a new one."""
    # Here and below the service is imported by the command that needs it: `--help` answers at once.
    from ownvision.services.components import open_components

    settings = _settings(data=data)
    if not (settings.data / "keys").is_dir():
        start = f"`ownvision serve --data {settings.data}`"
        raise ClientError(f"There is no installation in {settings.data}; the first {start} makes one.")
    components = open_components(settings)
    try:
        yield components
    finally:
        components.database.close()


@app.command(rich_help_panel=RUN)
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default 8000")] = None,
    data: Data = None,
) -> None:
    """Start the service and its job worker; the first start makes the account and its keys."""
    from ownvision.app import serve as run

    run(_settings(host=host, port=port, data=data))


@app.command(rich_help_panel=RUN)
def doctor(data: Data = None, as_json: AsJson = False) -> None:
    """Check every row against every file and every byte against its seal; exit code 1 when something is wrong."""
    from ownvision.data_rights.doctor import doctor as examine

    with _installation(data) as components:
        findings = list(examine(components))
    if as_json:
        rows = [{"kind": found.kind, "where": found.where, "message": found.message} for found in findings]
        typer.echo(json.dumps(rows, indent=2))
    elif findings:
        for found in findings:
            typer.echo(f"{found.kind}: {found.where}: {found.message}")
    else:
        typer.echo("Nothing is wrong.")
    if findings:
        raise typer.Exit(1)


@app.command(rich_help_panel=RUN)
def domains() -> None:
    """List the domains: what a project can start from."""
    for domain in sorted(DOMAINS.values(), key=lambda row: row.type):
        exports = ", ".join(domain.platforms) or "no export"
        typer.echo(f"{domain.id}  {domain.type:<16}{domain.name:<24}{domain.backbone:<20}{exports}")


@account_app.command("show")
def account_show(
    name: Annotated[str | None, typer.Argument(help="User name; not needed while there is one account")] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Print an account with its keys."""
    from ownvision.services import accounts

    with _installation(data) as components, components.database.read() as session:
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


@account_app.command("create")
def account_create(
    name: Annotated[str, typer.Argument(help="User name, one per account")],
    email: Annotated[str | None, typer.Option(help="E-mail; default NAME@localhost")] = None,
    tier: Annotated[str | None, typer.Option(help="Unlimited, F0 or S0; default OWNVISION_TIER")] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Make another account; it sees nothing of the others. The service may be running."""
    from ownvision.services import accounts

    with _installation(data) as components, components.database.write() as session:
        account = accounts.create(
            session,
            components.keys,
            user_name=name,
            email=email or f"{name}@localhost",
            tier=tier or components.settings.tier,
        )
        shown = accounts.describe(session, components.keys, account)
    _print_account(shown, as_json)


@account_app.command("list")
def account_list(data: Data = None) -> None:
    """List the accounts."""
    from ownvision.services import accounts

    with _installation(data) as components, components.database.read() as session:
        for row in accounts.all(session):
            typer.echo(f"{row.id}  {row.created:%Y-%m-%d}  {row.tier:<10} {row.user_name} <{row.email}>")


@account_app.command("rotate-key")
def account_rotate_key(
    kind: Annotated[str, typer.Argument(help="training or prediction")],
    slot: Annotated[str, typer.Argument(help="primary or secondary")],
    name: Annotated[str | None, typer.Option(help="User name; not needed while there is one account")] = None,
    data: Data = None,
) -> None:
    """Replace one key and print the new one; the old one stops working at once."""
    from ownvision.services import accounts

    with _installation(data) as components, components.database.write() as session:
        key = accounts.rotate(session, components.keys, accounts.named(session, name), kind, slot)
    typer.echo(key)


def main() -> None:
    """Entry point: errors that a person can mend are one sentence on stderr."""
    try:
        app()
    except (OwnVisionError, ClientError) as error:
        _fail(str(error))
    except ValidationError as error:
        first = error.errors()[0]
        _fail(f"The setting {'.'.join(map(str, first['loc']))} is wrong: {first['msg']}.")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror or error}{where}.")
    except Exception as error:
        sentence = _of_store(error)
        if sentence is None:
            raise
        _fail(sentence)


def _of_store(error: Exception) -> str | None:
    """What to say when the store can't be read; None for any other error."""
    from sqlalchemy.exc import SQLAlchemyError

    from ownvision.store.keys import KeyMissing

    if isinstance(error, KeyMissing):
        return f"A key can not be read: {error}"
    if isinstance(error, sqlite3.Error | SQLAlchemyError):
        # The driver's own words: SQLAlchemy adds the statement and its values, on lines of their own.
        return f"The database can not be read: {str(getattr(error, 'orig', None) or error).splitlines()[0]}."
    return None


def _fail(sentence: str) -> None:
    typer.echo(f"ownvision: {sentence}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
