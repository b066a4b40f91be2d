"""What every command on a data folder shares: its options, and opening the installation."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from ownvision.client import ClientError
from ownvision.settings import Settings

if TYPE_CHECKING:
    from ownvision.services.components import Components

RUN = "Run a service"
Data = Annotated[
    Path | None, typer.Option(help="Folder that holds database, objects and keys; default OWNVISION_DATA or ./data")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


def settings_with(**given: Any) -> Settings:
    """The settings, with the options that were given."""
    return Settings(**{name: value for name, value in given.items() if value is not None})


@contextmanager
def installation(data: Path | None) -> Iterator["Components"]:
    """The parts of an installation that exists; a mistyped folder must not become a new one."""
    # Here and below the service is imported by the command that needs it: `--help` answers at once.
    from ownvision.data_rights import audit
    from ownvision.services.components import open_components
    from ownvision.store.audit import acting

    settings = settings_with(data=data)
    if not (settings.data / "keys").is_dir():
        start = f"`ownvision serve --data {settings.data}`"
        raise ClientError(f"There is no installation in {settings.data}; the first {start} makes one.")
    components = open_components(settings)
    act = audit.of_command(_command())
    try:
        with acting(act):
            yield components
        audit.keep(components.database, act)
    finally:
        components.database.close()


def _command() -> str:
    context = click.get_current_context(silent=True)
    return "" if context is None else context.command_path.partition(" ")[2]
