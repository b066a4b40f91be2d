"""Writes what `docs/data-map.md` generates from the data map: ``python -m tests.data_rights.page``."""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from ownvision.data_rights import inventory, retention
from ownvision.data_rights.inventory import KINDS, Kind, Notes, Rows
from ownvision.settings import Settings

PAGE = Path(__file__).parents[2] / "docs/data-map.md"
BEGIN, END = "<!-- generated: {} -->", "<!-- end -->"


def parts() -> dict[str, str]:
    """The generated parts of the page, by name."""
    return {
        "original": "\n".join(_kinds(inventory.ORIGINAL)),
        "beside": "\n".join(_kinds(inventory.BESIDE)),
        "machinery": "\n".join(_machinery(inventory.MACHINERY)),
        "places": "\n".join(_places()),
        "tables": "\n".join(_tables()),
    }


def written(page: str) -> str:
    """The page with its generated parts as they must be.

    Raises:
        ValueError: A part has no place in the page.
    """
    for name, text in parts().items():
        begin = BEGIN.format(name)
        if begin not in page:
            raise ValueError(f"the page has no {begin}")
        page = re.sub(f"{begin}.*?{END}", lambda _, b=begin, t=text: f"{b}\n{t}\n{END}", page, flags=re.DOTALL)  # type: ignore[misc]
    return page


def _kinds(kinds: Iterable[Kind]) -> Iterator[str]:
    yield "| what | why | kept | see | in a takeout | delete |"
    yield "|---|---|---|---|---|---|"
    for kind in kinds:
        note = f" ({kind.without})" if kind.without else ""
        exported = ", ".join(f"`{one.strip()}`" for one in kind.export.split(",") if one.strip())
        cells = (
            f"**{kind.name}**: {kind.what}",
            kind.why,
            _kept(kind),
            _named(kind.view),
            (exported or "–") + note,
            _named(kind.delete),
        )
        yield f"| {' | '.join(cells)} |"


def _machinery(kinds: Iterable[Kind]) -> Iterator[str]:
    yield "| what | why | kept | why it is in no takeout |"
    yield "|---|---|---|---|"
    for kind in kinds:
        yield f"| **{kind.name}**: {kind.what} | {kind.why} | {_kept(kind)} | {kind.without} |"


def _kept(kind: Kind) -> str:
    if kind.retention is None:
        return f"{kind.kept} (`OWNVISION_{kind.setting.upper()}`)" if kind.setting else kind.kept
    term = retention.TERMS[kind.retention]
    more = f" + {term.beyond}" if term.beyond else ""
    return f"{term.default(Settings())} days (`OWNVISION_{term.setting.upper()}`{more}) {kind.kept}"


def _named(ways: Iterable[str]) -> str:
    return ", ".join(f"`{way}`" for way in ways) or "–"


def _places() -> Iterator[str]:
    yield "| where | what |"
    yield "|---|---|"
    for kind in KINDS:
        for place in kind.places:
            if not isinstance(place, Rows | Notes):
                yield f"| {place} | {kind.name} |"


def _tables() -> Iterator[str]:
    by_table: dict[str, list[str]] = defaultdict(list)
    for kind in KINDS:
        for place in kind.places:
            if isinstance(place, Rows):
                by_table[place.table].append(f"{kind.name}: {', '.join(f'`{one}`' for one in place.columns)}")
            elif isinstance(place, Notes):
                by_table["blobs"].append(str(place))
    yield "| table | what its columns hold |"
    yield "|---|---|"
    for table in sorted(by_table):
        yield f"| `{table}` | {'; '.join(by_table[table])} |"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
    sys.exit(0)
