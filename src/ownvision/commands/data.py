"""`ownvision data`: what is held about a person, to see and to take away."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ownvision.client import ClientError
from ownvision.commands import returning
from ownvision.commands.archive import PartFile
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


@app.command("export")
def data_export(
    out: Annotated[Path, typer.Option(help="The archive; a file that is there is not replaced")],
    project: ProjectName = None,
    account: AccountName = None,
    data: Data = None,
) -> None:
    """Take everything of an account, or of one project, out into one ZIP archive; the service may be running."""
    from ownvision.data_rights.takeout import writer
    from ownvision.data_rights.takeout.own import Own
    from ownvision.services.travel.leaving import Withdrawn
    from ownvision.store.tables.base import now

    with installation(data) as components:
        with components.database.read() as session:
            account_id, project_id = scope(session, account, project)
        source, told = Own(components, account_id, project_id, now()), writer.Told()
        with PartFile(out) as file, returning.progress() as bar:
            task = bar.add_task("Exporting", total=source.total or None)
            try:
                for part in writer.stream(source, out.absolute().parent, told):
                    file.write(part)
                    bar.update(task, completed=told.done)
            except Withdrawn:
                raise ClientError("What was to be taken out was deleted meanwhile; nothing was kept.") from None
            size = file.keep()
    typer.echo(f"{out}: {size:,} bytes; {_counted(told.counts)}")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "nothing"


@app.command("import")
def data_import(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A takeout, or a data set: a ZIP archive or folder")],
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Give the account the keys that the takeout holds; its own end")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name of the project that a data set becomes")] = None,
    account: AccountName = None,
    data: Data = None,
) -> None:
    """Restore a takeout, or import a data set (COCO, Pascal VOC, YOLO, CSV, JSON-Lines, a folder per class)."""
    from ownvision.data_rights.formats import importing
    from ownvision.data_rights.takeout import reading

    with installation(data) as components:
        with components.database.read() as session:
            account_id, _ = scope(session, account, None)
        if path.is_file() and (reading.is_takeout(path) or importing.detect(path) == importing.TAKEOUT):
            returning.restore(components, account_id, path, with_keys=with_keys)
            return
        if with_keys:
            raise ClientError("--with-keys is for takeouts; a data set has no keys.")
        returning.import_plain(components, account_id, path, name)


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
