"""Figures as text, for a terminal: curves, confusion, durations."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from rich.table import Table

from ownvision.client.http import Json

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60
_MOST_TAGS = 20
_OTHER = "(none)"


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """Values as a line of bars from the least to the greatest; the mean of several where they are too many."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(place * len(values) / count) for place in range(count + 1)]
    shown = [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
    low, high = min(shown), max(shown)
    step = (high - low) / (len(_BARS) - 1) or 1.0
    return "".join(_BARS[round((value - low) / step)] for value in shown)


def course(points: Sequence[Json]) -> str:
    """A training's curve in a line or two."""
    losses = [float(point["loss"]) for point in points if point["loss"] is not None]
    held = [float(point["holdOut"]) for point in points if point["holdOut"] is not None]
    lines = [f"loss      {sparkline(losses)}  {losses[-1]:.3f}"] if losses else []
    lines += [f"hold-out  {sparkline(held)}  {100 * held[-1]:.1f} %"] if held else []
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"


def confusion(cells: Sequence[Json], names: Mapping[str, str]) -> Table:
    """A confusion matrix: rows are what is true, columns what was said; at most 20 tags, the most frequent ones."""
    counts = {(cell["tagId"], cell["predictedTagId"]): int(cell["count"]) for cell in cells}
    often: dict[str, int] = dict.fromkeys(names, 0)
    for (real, _), count in counts.items():
        if real is not None:
            often[real] = often.get(real, 0) + count
    shown: list[str | None] = list(sorted(often, key=lambda tag: -often[tag])[:_MOST_TAGS])
    shown.append(None)
    title = "true ↓, said →" + (f" (the {_MOST_TAGS} largest tags)" if len(often) > _MOST_TAGS else "")
    table = Table(title=title)
    for column in ["", *shown]:
        table.add_column(
            _OTHER if column is None else names.get(column, ""), justify="left" if column == "" else "right"
        )
    for real in shown:
        row = [str(counts.get((real, said), 0) or "·") for said in shown]
        table.add_row(_OTHER if real is None else names[real], *row)
    return table
