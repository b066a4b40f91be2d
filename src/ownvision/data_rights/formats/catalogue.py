"""The pictures of a data set brought together from the parts that a reader gives, in memory that does not grow."""

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from ownvision.data_rights.formats import Box, Picture

_SCHEMA = """
CREATE TABLE picture (id INTEGER PRIMARY KEY, path TEXT UNIQUE NOT NULL);
CREATE TABLE carried (picture INTEGER, tag INTEGER, PRIMARY KEY (picture, tag)) WITHOUT ROWID;
CREATE TABLE box (
    id INTEGER PRIMARY KEY, picture INTEGER, tag INTEGER, left REAL, top REAL, width REAL, height REAL,
    UNIQUE (picture, tag, left, top, width, height)
);
"""
_PAGE = 64


class Catalogue:
    """Pictures by their path, each with all its tags and boxes once.

    It lies in a database without a name, which SQLite keeps in memory, writes to a temporary file when it gets large,
    and removes with this object.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-32768;")
        self._database.executescript(_SCHEMA)
        self._database.execute("BEGIN")  # one transaction, which nobody needs to end
        self._tags: dict[str, int] = {}

    def close(self) -> None:
        """Remove it."""
        self._database.close()

    def add(self, part: Picture) -> None:
        """Add a picture, or what else a picture carries."""
        execute = self._database.execute
        execute("INSERT OR IGNORE INTO picture (path) VALUES (?)", (part.path,))
        if not part.tags and not part.boxes:
            return
        (id,) = execute("SELECT id FROM picture WHERE path = ?", (part.path,)).fetchone()
        for tag in part.tags:
            execute("INSERT OR IGNORE INTO carried VALUES (?, ?)", (id, self._tag(tag)))
        for box in part.boxes:
            execute(
                "INSERT OR IGNORE INTO box (picture, tag, left, top, width, height) VALUES (?, ?, ?, ?, ?, ?)",
                (id, self._tag(box.tag), box.left, box.top, box.width, box.height),
            )

    def pictures(self) -> Iterator[list[Picture]]:
        """All of them in the order in which they came, 64 at a time."""
        names = {id: name for name, id in self._tags.items()}
        after = 0
        while page := self._rows("SELECT id, path FROM picture WHERE id > ? ORDER BY id LIMIT ?", after, _PAGE):
            ids = {row[0]: Picture(row[1]) for row in page}
            first, after = page[0][0], page[-1][0]
            for id, tag in self._rows("SELECT picture, tag FROM carried WHERE picture BETWEEN ? AND ?", first, after):
                ids[id].tags.append(names[tag])
            for id, tag, *sides in self._rows(
                "SELECT picture, tag, left, top, width, height FROM box WHERE picture BETWEEN ? AND ? ORDER BY id",
                first,
                after,
            ):
                ids[id].boxes.append(Box(names[tag], *sides))
            yield list(ids.values())

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM picture")[0][0])

    def __contains__(self, path: str) -> bool:
        return bool(self._rows("SELECT 1 FROM picture WHERE path = ?", path))

    @property
    def tags(self) -> list[str]:
        """Names of the tags that are carried, as they came."""
        return list(self._tags)

    @property
    def boxes(self) -> int:
        """How many boxes there are."""
        return int(self._rows("SELECT count(*) FROM box")[0][0])

    @property
    def most_tags(self) -> int:
        """How many tags the picture with most of them has."""
        return int(
            self._rows("SELECT max(0, max(n)) FROM (SELECT count(*) n FROM carried GROUP BY picture)")[0][0] or 0
        )

    @property
    def unboxed(self) -> int:
        """How many times a picture carries a tag without a box of it."""
        query = """SELECT count(*) FROM carried c WHERE NOT EXISTS
                   (SELECT 1 FROM box b WHERE b.picture = c.picture AND b.tag = c.tag)"""
        return int(self._rows(query)[0][0])

    def fingerprint(self) -> str:
        """A hash of all it holds."""
        digest = hashlib.sha256()
        for page in self.pictures():
            digest.update(repr(page).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def _tag(self, name: str) -> int:
        if name not in self._tags:
            self._tags[name] = len(self._tags) + 1
        return self._tags[name]

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._database.execute(query, values).fetchall()
