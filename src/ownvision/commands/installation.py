"""What every command on a data folder shares: its options, and opening the installation."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from ownvision.data_rights import recovery
    from ownvision.services.components import open_components
    from ownvision.store import occupancy

    settings = settings_with(data=data)
    if not (settings.data / "keys").is_dir():
        start = f"`ownvision serve --data {settings.data}`"
        raise ClientError(f"There is no installation in {settings.data}; the first {start} makes one.")
    with occupancy.used(settings.data):
        recovery.check_finished(settings.data)
        components = open_components(settings)
        try:
            yield components
        finally:
            components.database.close()
