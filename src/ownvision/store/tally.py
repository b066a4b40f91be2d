"""What an erasure removes, counted by kind: rows where they are deleted, files where the sweeper finds them."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.orm import Session

_COUNTED = "counted"  # in a session's info

# Every kind that a receipt counts, and what it is.
KINDS = {
    "images": "pictures, with the bytes of the files as they were uploaded",
    "fileNames": "the original names of those files",
    "metadata": "pairs of key and value given to images",
    "imageTags": "that an image carries a tag",
    "regions": "tagged boxes on images",
    "resized": "smaller copies of pictures",
    "thumbnails": "small copies of pictures",
    "embeddings": "features that a backbone saw in a picture",
    "suggestions": "suggested tags and regions",
    "scores": "an image's scores in an iteration; `scoresDetached`: those whose image is no longer named",
    "scoresDetached": "scores that stay as a pair of probability and truth, without their image",
    "drafts": "what live learning had learned: a score, and suggestions",
    "tags": "tags of a workspace",
    "iterations": "training runs",
    "iterationTags": "tags as an iteration learned them",
    "lineage": "ids of erased images that an iteration had learned from",
    "models": "trained models",
    "exports": "exported archives",
    "predictions": "stored predictions, with their pictures",
    "projects": "projects",
    "projectTokens": "tokens of ExportProject",
    "takeouts": "archives of an account or project",
    "notifications": "messages that were still to be sent",
    "addresses": "addresses of container, queue and webhook, and e-mail addresses that waited for a training",
    "jobs": "pieces of work, done or not",
    "jobsCancelled": "work that waited or was under way",
    "rules": "rules of retention, and legal holds that were lifted",
    "auditEvents": "entries of the audit trail",
    "keys": "API keys",
    "usage": "counts of predictions by month",
    "accounts": "accounts, with user name and e-mail",
    "otherFiles": "files of no known kind, such as what a crash had left",
}
_BY_NAME = {"resized": "resized", "thumbnail": "thumbnails", "model.onnx": "models"}
# Their rows are counted; of their files only the bytes.
_BY_FOLDER = {"exports": "exports", "takeouts": "takeouts"}
_ORIGINALS = {"images": "images", "predictions": "predictions"}

Tally = dict[str, dict[str, int]]


def count(session: Session, kind: str, rows: int) -> None:
    """Note that this transaction deletes so many rows of a kind; nobody need ask for it."""
    if rows:
        counted = session.info.setdefault(_COUNTED, {})
        counted[kind] = counted.get(kind, 0) + rows


def counted(session: Session) -> dict[str, int]:
    """What this transaction has deleted so far, by kind."""
    return dict(session.info.get(_COUNTED, {}))


def add(tally: Mapping[str, Mapping[str, int]], kind: str, rows: int, size: int = 0) -> Tally:
    """A tally ({kind: {"count", "bytes"}}) with so many more, and so many bytes more."""
    before = tally.get(kind, {"count": 0, "bytes": 0})
    return {
        **{name: dict(one) for name, one in tally.items()},
        kind: {"count": before["count"] + rows, "bytes": before["bytes"] + size},
    }


def of_files(files: Iterable[tuple[str, str, int]]) -> Tally:
    """A tally of stored files.

    Args:
        files: (key, its name below the owner's prefix, bytes as stored).
    """
    found: dict[str, dict[str, Any]] = {}
    for key, name, size in files:
        kind, rows = _kind(key, name)
        one = found.setdefault(kind, {"count": 0, "bytes": 0})
        one["count"] += rows
        one["bytes"] += size
    return found


def merged(tally: Mapping[str, Mapping[str, int]], other: Mapping[str, Mapping[str, int]]) -> Tally:
    """Both together."""
    both: Tally = {name: dict(one) for name, one in tally.items()}
    for kind, one in other.items():
        both = add(both, kind, one["count"], one["bytes"])
    return both


def _kind(key: str, name: str) -> tuple[str, int]:
    """A file's kind, and whether it counts as one more of it: an original's row is counted already."""
    folder = key.split("/", 2)[1]
    if name == "original" and folder in _ORIGINALS:
        return _ORIGINALS[folder], 0
    if name.startswith("embedding-"):
        return "embeddings", 1
    if name in _BY_NAME:
        return _BY_NAME[name], 1
    if folder in _BY_FOLDER:
        return _BY_FOLDER[folder], 0
    return "otherFiles", 1
