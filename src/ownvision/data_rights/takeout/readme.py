"""The page of a takeout that a person reads first."""

from collections.abc import Mapping, Sequence
from typing import Any

from ownvision.data_rights.takeout.contents import MEMBERS
from ownvision.data_rights.takeout.source import Source

_ABOUT = """\
# Your data

This archive holds {what} at {origin} had on {made:%Y-%m-%d at %H:%M} UTC. Whoever has it can see all of
it, and with `account.json`, where it is there, use the keys. Keep it as you would keep the pictures themselves.

## How much there is

{counts}

## What is where

{members}

JSON is what the Custom Vision API shows (version 3.4). Where it gave an address that expires, the place in this archive
stands instead. A line of a `.jsonl` file is one JSON value. A picture whose name another one had already, or that a
file system would not take, is called a little differently; `images.jsonl` has its name as it was given.

## What can be done with it

- Look at the pictures: they are as they were uploaded, in `images/` of each project.
- Give `annotations/` to other tools: COCO, Pascal VOC, YOLO, a table. Their pictures are those in `images/`; for
  VOC and YOLO run `python annotations/link.py` first, which puts the pictures where such tools look for them.
- Run a model: `model.onnx` is read by ONNX Runtime; `exports/` holds ready-made packages.
- Bring it back: `ownvision data import --data DIR THIS.zip` restores the projects, also elsewhere.
- Check that it is whole: `files.jsonl` has the SHA-256 of every file, `manifest.json` that of `files.jsonl`.
"""


_WHAT = {
    "account": "everything that an account",
    "project": "everything that a project",
    "selection": "the pictures that were chosen of what an account",
}


def text(source: Source, counts: Mapping[str, int], projects: Sequence[Mapping[str, Any]]) -> str:
    """The page.

    Args:
        source: What was taken out.
        counts: How much there is, by kind.
        projects: Name and folder of each.
    """
    lines = [f"| {kind} | {count} |" for kind, count in sorted(counts.items()) if kind != "missing"]
    table = "\n".join(["| what | how many |", "|---|---|", *lines])
    if counts.get("missing"):
        table += f"\n\n{counts['missing']} more were erased while the archive was made, and are not in it."
    named = "\n".join(f"- `{one['folder']}`: {_one_line(one['name'])}" for one in projects)
    members = "\n".join(["| file | what it is |", "|---|---|", *(f"| `{name}` | {what} |" for name, what in MEMBERS)])
    return _ABOUT.format(
        what=_WHAT[source.scope],
        origin=source.origin,
        made=source.made,
        counts=f"{table}\n\n{named}".strip(),
        members=members,
    )


def _one_line(name: str) -> str:
    return " ".join(name.split()).replace("`", "'")
