"""Where a tool looks for pictures that an archive holds once, under ``images/``: a list for ``link.py``."""

from pathlib import Path

from ownvision.data_rights.formats import Entry
from ownvision.data_rights.formats.text import quoted

LINKS = "links.jsonl"
_SCRIPT = Path(__file__).with_name("link.py")


def line(picture_path: str, link: str) -> str:
    """A line of a format's ``links.jsonl``: the picture as seen from there, and where a tool looks for it."""
    return f'{{"picture":{quoted(f"../../{picture_path}")},"link":{quoted(link)}}}\n'


def script() -> Entry:
    """``link.py``, which puts them there."""
    return "link.py", iter([_SCRIPT.read_bytes()])
