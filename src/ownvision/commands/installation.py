"""What every command on a data folder shares: its options, and opening the installation."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ownvision.client import ClientError
from ownvision.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ownvision.services.components import Components

RUN = "Run a service"
Data = Annotated[
    Path | None, typer.Option(help="Folder that holds database, objects and keys; default OWNVISION_DATA or ./data")
]
AccountName = Annotated[
    str | None, typer.Option("--account", help="User name of the account; not needed while there is one")
]
ProjectName = Annotated[str | None, typer.Option("--project", help="A project's name or id; default: the account")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


def settings_with(**given: Any) -> Settings:
    """The settings, with the options that were given."""
    return Settings(**{name: value for name, value in given.items() if value is not None})


@contextmanager
def installation(data: Path | None) -> Iterator["Components"]:
    """The parts of an installation that exists; a mistyped folder must not become a new one."""
    # Here and below the service is imported by the command that needs it: `--help` answers at once.
    from ownvision.data_rights import audit, recovery
    from ownvision.services.components import open_components
    from ownvision.store import occupancy
    from ownvision.store.audit import acting

    settings = settings_with(data=data)
    if not (settings.data / "keys").is_dir():
        start = f"`ownvision serve --data {settings.data}`"
        raise ClientError(f"There is no installation in {settings.data}; the first {start} makes one.")
    with occupancy.used(settings.data):
        recovery.check_finished(settings.data)
        components = open_components(settings)
        act = audit.of_command(_command())
        try:
            with acting(act):
                yield components
            audit.keep(components.database, act)
        finally:
            components.database.close()


def _command() -> str:
    # Typer carries a Click of its own, whose context the package `click` does not know.
    from typer._click.globals import get_current_context

    # Not `command_path`, which begins with however the program was called: `python -m ownvision.cli` is three words.
    context, words = get_current_context(silent=True), list[str]()
    while context is not None and context.parent is not None:
        words.insert(0, context.info_name or "")
        context = context.parent
    return " ".join(words)


def scope(session: "Session", account: str | None, project: str | None) -> tuple[str, str | None]:
    """Ids of the account of that user name and of its project of that name or id.

    Raises:
        OwnVisionError: There is no such account, or several and no name; NotFoundProject, with the names there are.
    """
    from ownvision.errors import OwnVisionError
    from ownvision.services import accounts, projects

    account_id = accounts.named(session, account).id
    if project is None:
        return account_id, None
    there = projects.all(session, account_id)
    found = next((row.id for row in there if project in (row.id, row.name)), None)
    if found is None:
        names = ", ".join(sorted(row.name for row in there)) or "none"
        raise OwnVisionError("NotFoundProject", f"There is no project {project!r}; there are: {names}.")
    return account_id, found
