"""`ownvision backup`, `restore-backup`, `rotate-installation-key`."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ownvision.client import ClientError
from ownvision.commands.installation import RUN, Data, installation, settings_with
from ownvision.commands.stopping import Stopped, stoppable


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backup", rich_help_panel=RUN)(backup)
    app.command("restore-backup", rich_help_panel=RUN)(restore_backup)
    app.command("rotate-installation-key", rich_help_panel=RUN)(rotate_installation_key)


def backup(
    to: Annotated[Path | None, typer.Option(help="Folder for rows and objects, brought up to date")] = None,
    keys_to: Annotated[Path | None, typer.Option(help="File for the keys, replaced; keep it apart")] = None,
    data: Data = None,
) -> None:
    """Back up rows and objects, or the keys, or both; the service may be running."""
    from ownvision.data_rights.backup import Cancelled, back_up
    from ownvision.data_rights.key_backup import back_up_keys, check_place

    if to is None and keys_to is None:
        raise ClientError("Say where to: --to FOLDER for rows and objects, --keys-to FILE for the keys.")
    with installation(data) as components:
        if keys_to is not None:
            check_place(components.settings.data, keys_to, to)
        if to is not None:
            with stoppable() as stop:
                try:
                    made = back_up(components, to, progress=_Progress(), stopped=stop.is_set)
                except Cancelled:
                    raise Stopped(f"Stopped. The backup in {to} is as it was before.") from None
            manifest = made.manifest
            typer.echo(
                f"Backed up {manifest.objects:,} objects ({manifest.objects_bytes:,} bytes) and their rows to {to}: "
                f"{made.copied:,} new, {made.removed:,} erased since the backup before."
            )
            if manifest.lost:
                typer.echo(f"{manifest.lost:,} owners have lost their bytes; `ownvision doctor` names them.", err=True)
        if keys_to is not None:
            count = back_up_keys(components.database, components.keys, components.settings.data, keys_to, to)
            typer.echo(f"Backed up {count:,} keys and the journal of erased ids to {keys_to}. Keep it apart.")


def restore_backup(
    source: Annotated[Path, typer.Option("--from", help="Folder of the backup")],
    keys: Annotated[
        Path | None, typer.Option(help="The keys' backup; not needed where the folder `keys` has survived")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace rows and objects that are there")] = False,
    older_keys: Annotated[
        bool, typer.Option("--older-keys", help="Take keys that were backed up before the rows")
    ] = False,
    data: Data = None,
) -> None:
    """Restore a backup, and erase again what was erased since; the service must not run."""
    from ownvision.data_rights.recovery import restore

    settings = settings_with(data=data)
    restored = restore(source, keys, settings, replace=replace, older_keys=older_keys, progress=_Progress())
    typer.echo(f"Restored {restored.objects:,} objects and their rows of {restored.manifest.made[:19]} (UTC).")
    for kind, count in sorted(restored.erased.items()):
        typer.echo(f"Erased again: {count:,} × {kind}")
    if restored.damaged:
        typer.echo(f"{len(restored.damaged):,} objects of the backup are damaged or missing:", err=True)
        for key in restored.damaged:
            typer.echo(f"  {key}", err=True)
        raise typer.Exit(1)


def rotate_installation_key(data: Data = None) -> None:
    """Replace the installation's key, which wraps all others; the service must not run."""
    from ownvision.data_rights.rotation import rotate

    rotated = rotate(settings_with(data=data))
    typer.echo(
        f"The installation has a new key: {rotated.accounts:,} accounts' keys and {rotated.values:,} values are sealed "
        "with it. Addresses that were given out no longer work. Back up the keys anew (`ownvision backup --keys-to`)."
    )


class _Progress:
    """Says on the error stream how far it is, once a second, to a person who looks."""

    def __init__(self) -> None:
        self._said = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if sys.stderr.isatty() and time.monotonic() - self._said >= 1.0:
            self._said = time.monotonic()
            print(f"{stage}: {done / 2**20:,.0f} of {total / 2**20:,.0f} MiB", file=sys.stderr)
