"""Restoring from the command line: by the service's worker where one runs, else by the command itself."""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ownvision.client import ClientError
from ownvision.commands.stopping import Stopped, stoppable

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ownvision.data_rights.takeout.restoring import Coming
    from ownvision.services.components import Components
    from ownvision.store.tables import Job

_POLL_SECONDS = 0.1


def progress() -> Progress:
    """A bar on the error stream, so that what a command answers can be piped."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def restore(components: "Components", account_id: str, path: Path, *, with_keys: bool) -> None:
    """Restore a takeout whole, or nothing of it.

    Raises:
        OwnVisionError, ClientError: It can't be restored; nothing of it is kept.
    """
    from ownvision.data_rights.takeout import restoring

    logging.getLogger("ownvision").addHandler(logging.NullHandler())  # what fails is told in one sentence, below
    with stoppable() as stop:
        # Closed before the work begins, which opens it anew: the list of what it holds is large.
        with ExitStack() as stack:
            archive = restoring.opened(path, stack)
            keys = restoring.keys_for(components, account_id, archive) if with_keys else None
            coming = restoring.start(components, account_id, path, archive)
            del archive
        try:
            _followed(components, coming, stop)
            failed = [job.error or job.state for job in _jobs(components, coming) if job.state != "done"]
            if failed:
                raise ClientError(failed[0])
            if keys is not None:
                restoring.take_keys(components, account_id, keys)
        except BaseException:
            _remove(components, account_id, coming)
            raise
    for one in coming:
        typer.echo(f"{one.project_id}  {one.name}")


def import_plain(components: "Components", account_id: str, path: Path, name: str | None) -> None:
    """Import a data set that is no takeout.

    Raises:
        OwnVisionError: It can't be imported.
    """
    from ownvision.data_rights.formats import importing

    with progress() as bar:
        task = bar.add_task("Importing", total=None)
        summary = importing.run(
            components, account_id, path, name, lambda done, total: bar.update(task, completed=done, total=total)
        )
    for remark in summary.remarks:
        typer.echo(remark, err=True)
    typer.echo(f"{summary.project_id}  {summary.name}: {summary.pictures} images, {summary.tags} tags")


def _followed(components: "Components", coming: "Sequence[Coming]", stop: threading.Event) -> None:
    """Wait until all have ended, and work at them where no worker does.

    Raises:
        Stopped: It was asked to.
    """
    from ownvision.jobs import worker

    lock = worker.alone(components.settings.data)
    working = threading.Thread(target=_work, args=(components, coming, stop))
    try:
        if lock is not None:
            working.start()
        with progress() as bar:
            tasks = {one.job_id: bar.add_task(f"Restoring {one.name}", total=1.0) for one in coming}
            while True:
                if stop.is_set():
                    raise Stopped("Stopped. Nothing of it was kept here.")
                jobs = _jobs(components, coming)
                for job in jobs:
                    bar.update(tasks[job.id], completed=job.progress)
                if all(job.state not in ("queued", "running") for job in jobs):
                    return
                if lock is None:
                    lock = _taken_over(components, working)
                time.sleep(_POLL_SECONDS)
    except BaseException:
        stop.set()
        _cancel(components, coming)
        raise
    finally:
        if working.is_alive():
            working.join()
        if lock is not None:
            lock.close()


def _taken_over(components: "Components", working: threading.Thread) -> IO[str] | None:
    """The lock, and the work with it, once the service that had it has ended."""
    from ownvision.jobs import rows, worker
    from ownvision.jobs.handlers import on_failed

    lock = worker.alone(components.settings.data)
    if lock is not None:
        rows.recover(components.database, on_failed, rows.any_running())
        working.start()
    return lock


def _work(components: "Components", coming: "Sequence[Coming]", stop: threading.Event) -> None:
    from ownvision.jobs import rows, runner

    for one in coming:
        claim = None if stop.is_set() else rows.take(components.database, one.job_id, components.settings.job_lease)
        if claim is not None:
            runner.run(components, claim)


def _jobs(components: "Components", coming: "Sequence[Coming]") -> "list[Job]":
    from sqlalchemy import select

    from ownvision.store.tables import Job

    with components.database.read() as session:
        return list(session.scalars(select(Job).where(Job.id.in_([one.job_id for one in coming]))))


def _cancel(components: "Components", coming: "Sequence[Coming]") -> None:
    from ownvision.jobs import rows

    with components.database.write() as session:
        rows.cancel(session, [one.project_id for one in coming])


def _remove(components: "Components", account_id: str, coming: "Sequence[Coming]") -> None:
    """Remove the projects again, whatever had arrived in them."""
    from ownvision.data_rights import erasure
    from ownvision.data_rights.who import OPERATOR, Who
    from ownvision.errors import OwnVisionError

    _cancel(components, coming)
    for one in coming:
        with components.database.write() as session:
            try:
                _unpublish(session, account_id, one.project_id)
                receipt = erasure.erase_project(session, Who(account_id, OPERATOR), one.project_id)
            except OwnVisionError as error:
                typer.echo(f"Project {one.name} is left, empty: {error}", err=True)
                continue
        erasure.after_commit(components, receipt)


def _unpublish(session: "Session", account_id: str, project_id: str) -> None:
    """What had just been published again must not keep its project from being removed."""
    from ownvision.services import iterations, projects

    project = projects.to_delete(session, account_id, project_id)
    for row in iterations.all(session, project):
        if row.publish_name is not None:
            iterations.unpublish(session, project, row.id)
