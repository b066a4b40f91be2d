"""The command `ownvision`: one command per verb. What fails says why in one sentence and exits with 1."""

import json
import sqlite3
import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from ownvision.client import ClientError
from ownvision.client import commands as client_commands
from ownvision.commands import (
    account,
    audit,
    azure,
    backbone,
    backup,
    data,
    erase,
    hold,
    lineage,
    live,
    person,
    receipt,
    retention,
    search,
)
from ownvision.commands.installation import RUN, AsJson, Data, installation, settings_with
from ownvision.domains import DOMAINS, open_weights
from ownvision.errors import OwnVisionError

app = typer.Typer(
    name="ownvision",
    help="Custom Vision that you own. Every setting of `serve` is also an environment variable OWNVISION_…",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(account.app, name="account", rich_help_panel=RUN)
backup.add_to(app)
app.add_typer(backbone.app, name="backbone", rich_help_panel=RUN)
app.add_typer(audit.app, name="audit", rich_help_panel=RUN)
app.add_typer(person.app, name="person", rich_help_panel=RUN)
app.add_typer(data.app, name="data", rich_help_panel=RUN)
app.add_typer(lineage.app, name="lineage", rich_help_panel=RUN)
app.add_typer(lineage.policy, name="policy", rich_help_panel=RUN)
app.add_typer(live.app, name="live", rich_help_panel=RUN)
app.add_typer(erase.app, name="erase", rich_help_panel=RUN)
app.add_typer(hold.app, name="hold", rich_help_panel=RUN)
app.add_typer(azure.app, name="import", rich_help_panel=RUN)
app.add_typer(receipt.app, name="receipt", rich_help_panel=RUN)
app.add_typer(retention.app, name="retention", rich_help_panel=RUN)
search.add_to(app)
client_commands.add_to(app)


@app.command(rich_help_panel=RUN)
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default 8000")] = None,
    data: Data = None,
) -> None:
    """Start the service and its job worker; the first start makes the account and its keys."""
    from ownvision.app import serve as run

    run(settings_with(host=host, port=port, data=data))


@app.command(rich_help_panel=RUN)
def doctor(
    erased: Annotated[bool, typer.Option("--erased", help="Look for what erasures may have left instead")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Check every row against every file and every byte against its seal; exit code 1 when something is wrong."""
    from ownvision.data_rights.doctor import doctor as compare
    from ownvision.data_rights.remains import remains

    with installation(data) as components:
        findings = list((remains if erased else compare)(components))
    if as_json:
        rows = [{"kind": found.kind, "where": found.where, "message": found.message} for found in findings]
        typer.echo(json.dumps(rows, indent=2))
    elif findings:
        for found in findings:
            typer.echo(f"{found.kind}: {found.where}: {found.message}")
    else:
        typer.echo("Nothing is left of what was erased." if erased else "Nothing is wrong.")
    if findings:
        raise typer.Exit(1)


@app.command(rich_help_panel=RUN)
def domains(data: Data = None) -> None:
    """List the domains: what a project can start from."""
    open_weights(settings_with(data=data).weights_folder)
    for domain in sorted(DOMAINS.values(), key=lambda row: row.type):
        exports = ", ".join(domain.platforms) or "no export"
        typer.echo(f"{domain.id}  {domain.type:<16}{domain.name:<24}{domain.backbone:<20}{exports}")


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
