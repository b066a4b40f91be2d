"""The default engine: a fresh subprocess for each job."""

import os
import subprocess
import sys
from dataclasses import dataclass

from ownvision.jobs.rows import Claim
from ownvision.settings import Settings

_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Child:
    """A running job's process."""

    claim: Claim
    process: "subprocess.Popen[bytes]"

    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """End the process; its job is taken up again later."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(settings: Settings, claim: Claim) -> Child:
    """Start a claimed job in a process of its own, which ends when this one does."""
    environment = {**os.environ, **exported(settings), "OWNVISION_PARENT": str(os.getpid())}
    command = [sys.executable, "-m", "ownvision.jobs.runner", claim.job_id, str(claim.token)]
    return Child(claim, subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))


def exported(settings: Settings) -> dict[str, str]:
    """The settings a child needs that may have come from the command line."""
    return {
        "OWNVISION_DATA": str(settings.data.absolute()),
        **({"OWNVISION_DATABASE_URL": settings.database_url} if settings.database_url else {}),
    }
