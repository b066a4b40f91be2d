"""The service assembled on one screen: components, application, worker, server."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ownvision.api import build
from ownvision.data_rights import recovery, rotation
from ownvision.services import accounts
from ownvision.services.components import open_components
from ownvision.settings import Settings
from ownvision.store import occupancy

log = logging.getLogger("ownvision.app")

_GRACE_SECONDS = 30  # for requests under way when the service is told to stop
_WORKER_STOP_SECONDS = 10.0
_RESTART_SECONDS = 1.0


def create(settings: Settings) -> FastAPI:
    """Open the data folder, bring its database up to date, make the first account, build the application.

    What was cut short when nobody was to be at work here comes to its end first.
    """
    rotation.finish(settings)
    recovery.finish(settings)
    components = open_components(settings)
    components.database.migrate()
    accounts.first_start(components)
    return build(components)


def serve(settings: Settings) -> None:
    """Serve until told to stop; requests under way are finished first."""
    _log_as_json()
    with occupancy.used(settings.data):
        _serve(settings)


def _serve(settings: Settings) -> None:
    app = create(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="warning",
        timeout_keep_alive=65,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    with worker(settings) if settings.worker else _nothing():
        _Server(config, app, settings).run()
    try:
        app.state.meter.close()
        app.state.trail.close()
    finally:
        app.state.components.database.close()


class _Server(uvicorn.Server):
    """Says where it listens; on SIGTERM it answers "not ready" until no request is under way, then closes."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings) -> None:
        super().__init__(config)
        self._app, self._settings = app, settings
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            shown = "127.0.0.1" if self._settings.host in ("0.0.0.0", "::") else self._settings.host
            print(
                f"OwnVision listens on http://{shown}:{port} "
                f"(keys: ownvision account show --data {self._settings.data})",
                flush=True,
            )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not uvicorn's own way, which raises the signal again at the end: a service told to stop has not failed.
        if self._app.state.draining:
            self.force_exit = self.should_exit = True
        self._app.state.draining = True
        if sig == signal.SIGTERM:
            self._draining = asyncio.get_running_loop().create_task(self._drain())
        else:
            self.should_exit = True

    async def _drain(self) -> None:
        for _ in range(_GRACE_SECONDS * 20):
            if self._app.state.metrics.in_flight == 0:
                break
            await asyncio.sleep(0.05)
        self.should_exit = True


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def worker(settings: Settings) -> Iterator[None]:
    """The job worker, in a process of its own, started again when it dies."""
    stop = threading.Event()
    # The worker dies with the thread that started it (PR_SET_PDEATHSIG), so this thread lives as long as the service.
    thread = threading.Thread(target=_supervise, args=(settings, stop), name="worker-supervisor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _supervise(settings: Settings, stop: threading.Event) -> None:
    environment = {
        **os.environ,
        **exported(settings),
        "OWNVISION_PARENT": str(os.getpid()),
        # VACUUM copies the database: the copy must lie where erasure can see it, not in the system's folder.
        "SQLITE_TMPDIR": str(settings.data.absolute()),
    }
    while not stop.is_set():
        process = subprocess.Popen(
            [sys.executable, "-m", "ownvision.jobs.worker"], env=environment, stdin=subprocess.DEVNULL
        )
        while process.poll() is None and not stop.wait(0.1):
            pass
        if process.poll() is None:
            _end(process)
        elif not stop.is_set():
            log.warning("The worker ended with status %s; starting it again.", process.returncode)
            stop.wait(_RESTART_SECONDS)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_WORKER_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def exported(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, for a child process: some may have come from the command line."""
    values = settings.model_copy(update={"data": settings.data.absolute()}).model_dump(mode="json")
    return {
        f"OWNVISION_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }


class _JsonLines(logging.Formatter):
    """Log records as JSON lines; those of requests are JSON already."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.name == "ownvision.request":
            return message
        line = {"time": record.created, "level": record.levelname, "logger": record.name, "message": message}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_as_json() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("ownvision").setLevel(logging.INFO)
