"""What the last run of the suite found, one file per client below `.conformance/results/`."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tests.conformance.environments import CACHE, Client
from tests.conformance.wire import Report

FOLDER = CACHE / "results"


def keep(client: Client, report: Report) -> None:
    """Keep what came of a client's run."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.]+", "-", client.name).strip("-")
    (FOLDER / f"{name}.json").write_text(json.dumps({"client": client.name, **asdict(report)}, indent=1))


def all() -> Iterator[dict[str, Any]]:
    """What was kept, by name."""
    for path in sorted(FOLDER.glob("*.json")):
        yield json.loads(path.read_text())
