"""The work folder of a copy: what was fetched so far, so that a copy that was broken off goes on where it was.

Answers lie in a small database, pictures and archives as files beside it, each with its hash. Only the owner can read
the folder; it is removed when the copy is done, since nothing in it is encrypted. Memory does not grow with a project:
what is known of 100,000 images is on the disk.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ownvision.data_rights.azure_import.client import Unanswered

FOLDER = "imports"  # of work folders, in a data folder
DATABASE, LOCK = "copy.db", "lock"
FORMAT = "1"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS projects (id TEXT PRIMARY KEY, place INTEGER NOT NULL, shape TEXT NOT NULL);
-- How far a listing is: the next page's beginning, or "done".
CREATE TABLE IF NOT EXISTS steps (
    project TEXT NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY (project, name)
);
-- Tags of the workspace (iteration "") and of iterations.
CREATE TABLE IF NOT EXISTS tags (
    project TEXT NOT NULL, iteration TEXT NOT NULL, place INTEGER NOT NULL, id TEXT NOT NULL, shape TEXT NOT NULL,
    PRIMARY KEY (project, iteration, id)
);
-- `revision` orders the trained ones: 1, 2, …; the workspace comes after them.
CREATE TABLE IF NOT EXISTS iterations (
    project TEXT NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, revision INTEGER, shape TEXT NOT NULL,
    performance TEXT, PRIMARY KEY (project, id)
);
CREATE TABLE IF NOT EXISTS images (
    row INTEGER PRIMARY KEY, project TEXT NOT NULL, id TEXT NOT NULL, created TEXT NOT NULL, live INTEGER NOT NULL,
    uri TEXT NOT NULL, iteration TEXT NOT NULL, shape TEXT NOT NULL, seq INTEGER, UNIQUE (project, id)
);
-- What an image carries in the revisions `first` to `last`.
CREATE TABLE IF NOT EXISTS carried (
    image INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, content TEXT NOT NULL,
    tagged INTEGER NOT NULL, regions INTEGER NOT NULL, PRIMARY KEY (image, first)
) WITHOUT ROWID;
-- What an iteration said of an image while it was measured.
CREATE TABLE IF NOT EXISTS scores (
    iteration TEXT NOT NULL, place INTEGER NOT NULL, image TEXT NOT NULL, shape BLOB NOT NULL,
    PRIMARY KEY (iteration, image)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS exports (
    iteration TEXT NOT NULL, place INTEGER NOT NULL, shape TEXT NOT NULL, sha256 TEXT, size INTEGER, why TEXT,
    PRIMARY KEY (iteration, place)
);
CREATE TABLE IF NOT EXISTS predictions (
    row INTEGER PRIMARY KEY, project TEXT NOT NULL, id TEXT NOT NULL, created TEXT NOT NULL, iteration TEXT NOT NULL,
    shape BLOB NOT NULL, UNIQUE (project, id)
);
-- Pictures of images and predictions that were fetched; `why` where one can't be had.
CREATE TABLE IF NOT EXISTS pictures (
    project TEXT NOT NULL, id TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL, width INTEGER NOT NULL,
    height INTEGER NOT NULL, format TEXT NOT NULL, why TEXT, PRIMARY KEY (project, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS images_by_seq ON images (project, seq);
CREATE INDEX IF NOT EXISTS pictures_by_hash ON pictures (project, sha256);
"""


@dataclass(frozen=True)
class Fetched:
    """A picture that was fetched: its hash, bytes, upright size in pixels, format; `why` there is none."""

    sha256: str
    size: int
    width: int
    height: int
    format: str
    why: str | None = None


class Work:
    """A work folder, held by one process.

    Args:
        folder: Where; made when missing.
        of: What is copied; a folder of another copy is refused.

    Raises:
        Unanswered: Another process has it, or it is of another copy.
    """

    def __init__(self, folder: Path, of: Mapping[str, str]) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(folder, 0o700)
        self.folder = folder
        self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise Unanswered(f"Another process is copying into {folder}; wait for it.") from None
        os.close(os.open(folder / DATABASE, os.O_RDWR | os.O_CREAT, 0o600))
        self._db = sqlite3.connect(folder / DATABASE, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            self._claim({"format": FORMAT, **of})
        except sqlite3.DatabaseError:
            self.close()
            raise Unanswered(f"{folder} holds no copy that can be gone on with; remove it.") from None
        except Unanswered:
            self.close()
            raise

    def _claim(self, of: Mapping[str, str]) -> None:
        there = dict(self.rows("SELECT name, value FROM facts WHERE name IN ('format', 'endpoint', 'wanted')"))
        if there and there != dict(of):
            raise Unanswered(
                f"{self.folder} is of another copy ({there.get('endpoint')}); finish that one, or remove the folder."
            )
        self.many("INSERT OR IGNORE INTO facts VALUES (?, ?)", of.items())

    def close(self) -> None:
        """Give the folder back; what it holds stays."""
        self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self) -> None:
        """Remove the folder with all that it holds."""
        self.close()
        shutil.rmtree(self.folder)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was fetched yet."""
        return self.one("SELECT 1 FROM projects") is None

    # --- rows

    def rows(self, statement: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """What a query finds, one after the other."""
        yield from self._db.execute(statement, values)

    def one(self, statement: str, *values: Any) -> Any:
        """The first column of the first row; None where there is none."""
        found = self._db.execute(statement, values).fetchone()
        return None if found is None else found[0]

    def put(self, statement: str, *values: Any) -> int:
        """Write; the id of a new row."""
        return self._db.execute(statement, values).lastrowid or 0

    def many(self, statement: str, rows: Iterable[Iterable[Any]]) -> None:
        """Write many rows alike."""
        self._db.executemany(statement, [tuple(row) for row in rows])

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is written in this block, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # --- how far it is

    def state(self, project: str, step: str) -> str | None:
        """How far a step is."""
        found: str | None = self.one("SELECT state FROM steps WHERE project = ? AND name = ?", project, step)
        return found

    def reach(self, project: str, step: str, state: str) -> None:
        """Record how far a step is."""
        self.put("INSERT OR REPLACE INTO steps VALUES (?, ?, ?)", project, step, state)

    def forget(self, project: str) -> None:
        """Forget what was listed of a project; pictures, predictions and archives stay."""
        iterations = "SELECT id FROM iterations WHERE project = ?"
        with self.together():
            self.put("DELETE FROM carried WHERE image IN (SELECT row FROM images WHERE project = ?)", project)
            self.put(f"DELETE FROM scores WHERE iteration IN ({iterations})", project)
            self.put("DELETE FROM images WHERE project = ?", project)
            self.put("DELETE FROM tags WHERE project = ?", project)
            self.put("DELETE FROM iterations WHERE project = ?", project)
            self.put("DELETE FROM steps WHERE project = ?", project)

    # --- files

    def picture_path(self, project: str, id: str) -> Path:
        """Where a picture lies."""
        return self.folder / "pictures" / project / id[:2] / id

    def archive_path(self, iteration: str, place: int) -> Path:
        """Where an export's archive lies."""
        return self.folder / "exports" / iteration / str(place)

    def write(self, path: Path, data: Iterable[bytes]) -> tuple[str, int]:
        """Write a file that is there whole or not at all; its SHA-256 and bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)  # the work folder itself is closed to others
        part = path.with_name(path.name + ".part")
        digest, size = hashlib.sha256(), 0
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for chunk in data:
                digest.update(chunk)
                size += file.write(chunk)
        part.replace(path)
        return digest.hexdigest(), size

    def fetched(self, project: str, id: str) -> Fetched | None:
        """What is known of a picture; None: it is still to be fetched."""
        found = self._db.execute(
            "SELECT sha256, size, width, height, format, why FROM pictures WHERE project = ? AND id = ?", (project, id)
        ).fetchone()
        return None if found is None else Fetched(*found)

    def keep(self, project: str, id: str, picture: Fetched) -> None:
        """Record a picture."""
        self.put(
            "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            project,
            id,
            picture.sha256,
            picture.size,
            picture.width,
            picture.height,
            picture.format,
            picture.why,
        )

    def read_picture(self, project: str, id: str, sha256: str) -> bytes:
        """A picture's bytes, which are those that were fetched.

        Raises:
            Unanswered: They are not; it will be fetched again.
        """
        try:
            data = self.picture_path(project, id).read_bytes()
        except FileNotFoundError:
            data = b""
        if hashlib.sha256(data).hexdigest() != sha256:
            self.put("DELETE FROM pictures WHERE project = ? AND id = ?", project, id)
            raise Unanswered("A picture in the work folder is damaged; start the command again: it is fetched anew.")
        return data


def abandoned(data: Path) -> Iterator[Path]:
    """The work folders in a data folder that no process is at."""
    there = data / FOLDER
    for folder in sorted(there.iterdir()) if there.is_dir() else ():
        try:
            with (folder / LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        except OSError:
            pass  # not even begun, or no folder of a copy
        yield folder


def packed(shape: Any) -> bytes:
    """JSON as bytes that take little room."""
    return zlib.compress(json.dumps(shape).encode(), 1)


def unpacked(data: bytes) -> Any:
    """What `packed` took."""
    return json.loads(zlib.decompress(data))
