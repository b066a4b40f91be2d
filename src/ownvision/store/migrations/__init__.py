"""The schema's versions, one file each; Alembic runs them, `newest` names the last without loading Alembic."""

import re
from pathlib import Path

_ID = re.compile(r"^revision(?:: str)? = \"(\w+)\"", re.MULTILINE)


def newest() -> str:
    """The id of the newest version: file names begin with a growing number."""
    last = max((Path(__file__).parent / "versions").glob("[0-9]*.py"))
    found = _ID.search(last.read_text())
    assert found is not None, f"{last} names no revision"
    return found[1]
