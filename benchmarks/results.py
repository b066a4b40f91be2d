"""Results: printed, and kept as CSV with the day and the machine."""

import csv
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Result:
    """One measurement beside what it must reach.

    Attributes:
        what: What was measured.
        value: How much.
        unit: Of both numbers.
        limit: What it must reach; None for a peer or a part, which is only shown.
        most: Whether `limit` is the most allowed (else the least).
    """

    what: str
    value: float
    unit: str
    limit: float | None = None
    most: bool = True

    @property
    def kept(self) -> bool:
        """Whether the limit is kept."""
        if self.limit is None:
            return True
        return self.value <= self.limit if self.most else self.value >= self.limit


def keep(name: str, results: list[Result]) -> bool:
    """Print and write them; whether every limit is kept."""
    FOLDER.mkdir(exist_ok=True)
    day = datetime.now(UTC).date().isoformat()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    with (FOLDER / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "value", "unit", "limit", "kept", "day", "machine"])
        for row in results:
            limit = "" if row.limit is None else f"{'≤' if row.most else '≥'} {row.limit:g}"
            kept = "" if row.limit is None else ("yes" if row.kept else "no")
            writer.writerow([row.what, f"{row.value:.4g}", row.unit, limit, kept, day, machine])
            print(f"{name:8} {row.what:64} {row.value:10.4g} {row.unit:12} {limit:>12} {kept}")
    return all(row.kept for row in results)
