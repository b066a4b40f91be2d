"""`ownvision import azure`: projects out of a live Custom Vision resource."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ownvision.client import ClientError
from ownvision.commands.installation import installation
from ownvision.commands.stopping import Stopped

if TYPE_CHECKING:
    from ownvision.data_rights.azure_import.copying import Outcome
    from ownvision.limits import Limits

app = typer.Typer(help="Bring projects here from elsewhere", no_args_is_help=True)
notes = Console(stderr=True)
_LONG_SECONDS = 5.0  # of waiting: a person should know why


@app.callback()
def group() -> None:
    """Bring projects here from elsewhere."""


@app.command("azure")
def import_azure(
    endpoint: Annotated[
        str,
        typer.Option(
            envvar="AZURE_TRAINING_ENDPOINT", help="The training resource, https://NAME.cognitiveservices.azure.com"
        ),
    ],
    training_key: Annotated[
        str, typer.Option(envvar="AZURE_TRAINING_KEY", help="Its key; better given as AZURE_TRAINING_KEY")
    ],
    project: Annotated[
        list[str] | None, typer.Option(help="Id or name of a project; may be given several times; default: all")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder of the OwnVision that gets the projects")] = None,
    account: Annotated[str | None, typer.Option(help="User name in --data, when it has several accounts")] = None,
    out: Annotated[Path | None, typer.Option(help="Archive to write instead: a takeout, FILE.zip")] = None,
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Calls of its API per second, at most")] = 8.0,
) -> None:
    """Copy projects out of a live Azure Custom Vision resource, into an OwnVision (--data) or an archive (--out).

    A copy that was broken off is simply started again: it goes on where it was.
    """
    if (data is None) == (out is None):
        raise ClientError("Say where to: --data DIR (an OwnVision) or --out FILE.zip (an archive).")
    wanted = list(dict.fromkeys(project or []))
    if out is not None:
        _to_archive(endpoint, training_key, wanted, out, rate)
    elif data is not None:
        _to_installation(endpoint, training_key, wanted, data, account, rate)


def _to_archive(endpoint: str, key: str, wanted: Sequence[str], out: Path, rate: float) -> None:
    from ownvision.data_rights.azure_import import copying

    work = out.with_name(out.name + copying.PART)
    if out.exists() and not work.is_dir():
        raise ClientError(f"{out} is there already; remove it, or give another name.")
    if not out.parent.is_dir():
        raise ClientError(f"There is no folder {out.parent}.")
    with _copied(endpoint, key, wanted, work, "", rate, None) as (archive, outcome):
        archive.replace(out)
    typer.echo(f"{out}: {_counts(outcome.counts)}, {out.stat().st_size:,} bytes.")
    _tell(outcome, f"remove {out} and start the command again")


def _to_installation(
    endpoint: str, key: str, wanted: Sequence[str], data: Path, account: str | None, rate: float
) -> None:
    from ownvision.commands import returning
    from ownvision.data_rights.azure_import import copying
    from ownvision.data_rights.azure_import.work import FOLDER
    from ownvision.services import accounts

    with installation(data) as components:
        with components.database.read() as session:
            account_id = accounts.named(session, account).id
        folder = components.settings.data / FOLDER
        work = folder / copying.name(copying.of(endpoint.strip().rstrip("/"), wanted, account_id))
        with _copied(endpoint, key, wanted, work, account_id, rate, components.settings.limits) as (archive, outcome):
            typer.echo(f"Fetched {_counts(outcome.counts)}.")
            returning.restore(components, account_id, archive, with_keys=False)
        with suppress(OSError):  # another copy may be under way
            folder.rmdir()
    _tell(outcome, "delete the project here and start the command again")


@contextmanager
def _copied(
    endpoint: str, key: str, wanted: Sequence[str], work: Path, account: str, rate: float, limits: "Limits | None"
) -> "Iterator[tuple[Path, Outcome]]":
    """An archive in the work folder, which is removed once the archive was put to use."""
    from ownvision.data_rights.azure_import import copying
    from ownvision.data_rights.azure_import.client import Resource, Unanswered
    from ownvision.data_rights.azure_import.work import Work

    kept = None
    try:
        with ExitStack() as stack:
            resource = Resource(endpoint, key, rate, waiting=_waiting)
            stack.callback(resource.close)
            kept = Work(work, copying.of(resource.endpoint, wanted, account))
            stack.callback(kept.close)
            with _Bars() as bars:
                try:
                    differences = copying.gather(resource, kept, wanted, bars)
                except Unanswered:
                    if kept.is_empty:
                        kept.remove()
                    raise
                if limits is not None:
                    copying.check_sizes(kept, limits)
                archive, outcome = copying.write(kept, resource.endpoint, bars)
            outcome.differences[:0] = differences
            yield archive, outcome
            kept.remove()
    except (Stopped, Unanswered) as error:
        raise ClientError(f"{error} {_again(work) if kept else ''}".strip()) from None
    except KeyboardInterrupt:
        raise ClientError(f"Stopped. {_again(work)}".strip()) from None


def _waiting(seconds: float) -> None:
    """A rate limit makes us wait."""
    if seconds >= _LONG_SECONDS:
        notes.print(f"The resource asks to wait for {seconds:.0f} seconds.")


def _again(work: Path) -> str:
    return f"What was fetched is kept in {work}: start the command again to go on." if work.is_dir() else ""


def _counts(counts: dict[str, int]) -> str:
    shown = ("projects", "images", "tags", "regions", "iterations", "exports", "predictions")
    return ", ".join(f"{counts[kind]} {kind}" for kind in shown if counts.get(kind))


def _tell(outcome: "Outcome", again: str) -> None:
    for note in outcome.notes:
        typer.echo(f"Note: {note}.")
    if outcome.differences:
        for difference in outcome.differences:
            typer.echo(f"Difference: {difference.rstrip('.')}.")
        raise ClientError(
            f"The copy is not wholly what the resource has: {len(outcome.differences)} differences, above. If it was "
            f"changed meanwhile, let it rest, {again}."
        )
    typer.echo("Compared with the resource: all images, tags and iterations are there, every file has its hash.")


class _Bars:
    """A bar for what is being done, on the error stream."""

    def __enter__(self) -> "_Bars":
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=notes)
        self._progress.start()
        self._task: TaskID | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, what: str, total: int | None) -> None:
        """Something begins."""
        if self._task is not None:
            self._progress.stop_task(self._task)
        self._task = self._progress.add_task(what, total=total)

    def advance(self, steps: int = 1) -> None:
        """So many steps of it are done."""
        if self._task is not None:
            self._progress.advance(self._task, steps)
