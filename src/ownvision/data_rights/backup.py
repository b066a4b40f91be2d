"""Backups: the rows first, then the objects they name, into a folder that always holds one whole backup.

```
FOLDER/backup.json              which rows are whole: replaced last, by renaming
       rows/MOMENT/ownvision.db objects.sha256     the rows, and a line for every object they name
       objects/…                the objects as they are, encrypted; of the last backup and of this one while it is made
```
Objects never change, so only those that are not there yet are copied. Keys are never here: `key_backup`.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from ownvision.data_rights.doctor import FILES
from ownvision.errors import OwnVisionError
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.blobs.local import LocalBlobs
from ownvision.store.files import is_hidden, replacing, sync_folder
from ownvision.store.keys import JOURNAL, KeyStore
from ownvision.store.tables import Backup, Blob
from ownvision.store.tables.base import now

FORMAT, VERSION = "ownvision-backup", 1
MARK, ROWS, OBJECTS = "backup.json", "rows", "objects"
DATABASE, LIST = "ownvision.db", "objects.sha256"
_LOCK = "lock"
_PART = 1 << 20
_BATCH, _BATCH_BYTES = 64, 64 << 20
# A file system is not filled to the last byte: the service may live on the same one.
_SPARE = 64 << 20

Progress = Callable[[str, int, int], None]
Stopped = Callable[[], bool]


class Cancelled(Exception):
    """It was told to stop; the backup before is as it was."""


@dataclass(frozen=True)
class Manifest:
    """What ``backup.json`` says.

    Attributes:
        format: `FORMAT`.
        version: `VERSION`.
        made: When the rows were as they are here, ISO 8601.
        installation: Fingerprint of the installation's key.
        rows: Folder of the rows, below ``rows/``.
        rows_bytes: Size of the database.
        rows_sha256: Its SHA-256.
        objects: How many objects the rows name.
        objects_bytes: Their size as stored.
        list_sha256: SHA-256 of the list of objects.
        erased_meanwhile: Owners whose bytes were erased while the backup was made.
        lost: Owners whose bytes are not there although nobody erased them: `ownvision doctor` tells more.
        journal_bytes: Length of the journal of erased ids when the rows were read.
        journal_sha256: SHA-256 of so much of it.
    """

    format: str
    version: int
    made: str
    installation: str
    rows: str
    rows_bytes: int
    rows_sha256: str
    objects: int
    objects_bytes: int
    list_sha256: str
    erased_meanwhile: int
    lost: int
    journal_bytes: int
    journal_sha256: str

    @property
    def moment(self) -> datetime:
        """When the rows were as they are here."""
        return datetime.fromisoformat(self.made)


@dataclass(frozen=True)
class Made:
    """A finished backup, and how much of it was new."""

    manifest: Manifest
    copied: int
    copied_bytes: int
    removed: int


def back_up(
    components: Components,
    folder: Path,
    *,
    progress: Progress = lambda stage, done, total: None,
    stopped: Stopped = lambda: False,
) -> Made:
    """Bring a backup folder up to date; the service may be at work.

    Args:
        components: Of the installation.
        folder: Where the backup lies; made when missing.
        progress: Told the stage, and how much of how much is done (bytes).
        stopped: Asked often; True ends it.

    Raises:
        Cancelled: `stopped` said so.
        OwnVisionError: BadRequestInvalid, for a folder that can't take it; nothing was changed.
        OSError: The disk is full, or fails; the backup before is as it was.
    """
    _check_place(components, folder)
    with _only_one(folder):
        before = _compatible(components.keys, folder)
        _drop_generations(folder, before)
        with components.database.write() as session:
            # Before the rows are read: a receipt that is signed meanwhile must know of this backup.
            session.add(Backup())
        journal = digest(components.keys.folder / JOURNAL)
        generation = folder / ROWS / now().strftime("%Y-%m-%dT%H-%M-%S-%fZ")
        generation.mkdir(parents=True, mode=0o700)
        size = _snapshot(components, generation / DATABASE, progress, stopped)
        made = now()
        with closing(opened(generation / DATABASE)) as rows:
            copy = _Copy(components, folder, rows, progress, stopped)
            copy.run(generation / LIST, None if before is None else folder / ROWS / before.rows / LIST)
            erased, lost = _missing(components, folder, rows)
        manifest = Manifest(
            format=FORMAT,
            version=VERSION,
            made=made.isoformat(),
            installation=components.keys.fingerprint(),
            rows=generation.name,
            rows_bytes=size,
            rows_sha256=digest(generation / DATABASE)[1],
            objects=copy.objects,
            objects_bytes=copy.bytes,
            list_sha256=digest(generation / LIST)[1],
            erased_meanwhile=erased,
            lost=lost,
            journal_bytes=journal[0],
            journal_sha256=journal[1],
        )
        for place in (generation, folder / ROWS, folder):
            sync_folder(place)
        LocalBlobs(folder / OBJECTS).sync()
        with replacing(folder / MARK) as file:
            file.write(json.dumps(asdict(manifest), indent=2).encode() + b"\n")
        _drop_generations(folder, manifest)
        return Made(manifest, copy.copied, copy.copied_bytes, _drop_objects(folder, generation / LIST))


def read_manifest(folder: Path) -> Manifest | None:
    """What a backup folder says of its whole backup; None when it has none yet.

    Raises:
        OwnVisionError: BadRequestInvalid: it is not understood.
    """
    try:
        said: dict[str, Any] = json.loads((folder / MARK).read_text())
        manifest = Manifest(**said)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise _invalid(f"{folder / MARK} is not what a backup writes.") from None
    if (manifest.format, manifest.version) != (FORMAT, VERSION) or Path(manifest.rows).name != manifest.rows:
        raise _invalid(f"{folder / MARK} is of another version of OwnVision ({manifest.format} {manifest.version}).")
    return manifest


def listed(path: Path) -> Iterator[tuple[str, str]]:
    """Key and SHA-256 of the objects in a list, in `walk`'s order."""
    with path.open() as file:
        for line in file:
            sha256, _, name = line.rstrip("\n").partition("  ")
            yield name.removeprefix(f"{OBJECTS}/"), sha256


def walk(root: Path, below: str = "") -> Iterator[tuple[str, int]]:
    """Keys and sizes of all files below a folder, each folder's entries by name; one folder at a time is in memory."""
    try:
        with os.scandir(root / below) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        key = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from walk(root, key)
            continue
        try:
            yield key, entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue  # removed while we look


def need_space(folder: Path, size: int, what: str) -> None:
    """See that so many bytes fit.

    Raises:
        OwnVisionError: BadRequestInvalid, saying how much is missing.
    """
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise _invalid(f"{what} needs {size + _SPARE:,} bytes; {folder} has {free:,} left.")


def copy_file(source: Path, target: Path, stopped: Stopped = lambda: False) -> tuple[int, str]:
    """Copy a file, and give its size and SHA-256; what was of that name is replaced."""
    hashed, size = hashlib.sha256(), 0
    with source.open("rb", buffering=0) as reading, _made(target) as writing:
        while part := reading.read(_PART):
            if stopped():
                raise Cancelled
            hashed.update(part)
            writing.write(part)
            size += len(part)
    return size, hashed.hexdigest()


def _made(target: Path) -> IO[bytes]:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return os.fdopen(descriptor, "wb")


def _invalid(message: str) -> OwnVisionError:
    return OwnVisionError("BadRequestInvalid", message)


def _check_place(components: Components, folder: Path) -> None:
    if not components.database.is_sqlite:
        raise _invalid(
            "The rows are in a database of their own: back it up with its own tools (pg_dump) first, then the folder "
            "`objects`; `--keys-to` works as always."
        )
    data, place = components.settings.data.resolve(), folder.resolve()
    if place.is_relative_to(data) or data.is_relative_to(place):
        raise _invalid(f"A backup in {folder} would lie in the data folder, or around it; choose another place.")
    if folder.exists() and not (folder / MARK).exists():
        strangers = sorted({path.name for path in folder.iterdir()} - {ROWS, OBJECTS, _LOCK, "lost+found"})
        if strangers:
            raise _invalid(f"{folder} holds {strangers[0]}, which is no backup's; choose an empty folder.")


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / OBJECTS).mkdir(mode=0o700, exist_ok=True)
    with (folder / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OwnVisionError("Conflict", f"Another backup is being written to {folder}.") from None
        yield


def _compatible(keys: KeyStore, folder: Path) -> Manifest | None:
    before = read_manifest(folder)
    if before is not None and before.installation not in (keys.fingerprint(), *keys.retired()):
        raise _invalid(f"{folder} holds the backup of another installation; choose another folder.")
    return before


def _drop_generations(folder: Path, kept: Manifest | None) -> None:
    """Remove the rows of all backups but one: of those that were cut short, and of the one before."""
    for path in (folder / ROWS).glob("*"):
        if kept is None or path.name != kept.rows:
            shutil.rmtree(path)


def _snapshot(components: Components, target: Path, progress: Progress, stopped: Stopped) -> int:
    """The rows as they are at one moment, without a byte of any that was deleted; writers don't wait."""
    source = Path(str(components.database.engine.url.database))
    size = source.stat().st_size
    need_space(target.parent, size, "A copy of the rows")
    progress("rows", 0, size)
    with closing(sqlite3.connect(source, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete=ON")
        connection.set_progress_handler(stopped, 100_000)
        target.touch(mode=0o600)
        try:
            connection.execute("VACUUM INTO ?", (str(target),))
        except sqlite3.OperationalError as error:
            if stopped():
                raise Cancelled from None
            raise OSError(f"the rows could not be copied: {error}") from error
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)  # SQLite leaves that to us
    os.close(descriptor)
    size = target.stat().st_size
    progress("rows", size, size)
    return size


def opened(database: Path) -> sqlite3.Connection:
    """The rows of a backup, to read."""
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def is_live(rows: sqlite3.Connection, key: str) -> bool:
    """Whether some rows name an object."""
    query = "SELECT 1 FROM blobs WHERE prefix = ? AND state = 'live'"
    return rows.execute(query, (ledger.prefix_of(key),)).fetchone() is not None


def _missing(components: Components, folder: Path, rows: sqlite3.Connection) -> tuple[int, int]:
    """Owners whose bytes are not in the backup: how many were erased meanwhile, and how many are lost."""
    erased = lost = 0
    for prefix, kind in rows.execute("SELECT prefix, kind FROM blobs WHERE state = 'live'"):
        if kind not in FILES or (folder / OBJECTS / (prefix + FILES[kind])).exists():
            continue
        with components.database.read() as session:
            blob = session.get(Blob, prefix)
            if blob is not None and blob.state == ledger.LIVE:
                lost += 1
            else:
                erased += 1
    return erased, lost


def _drop_objects(folder: Path, list_file: Path) -> int:
    """Remove what the newest rows don't name: it was erased since, or a copy was cut short."""
    removed = 0
    names = listed(list_file)
    next_name = next(names, None)
    for key, _ in walk(folder / OBJECTS):
        while next_name is not None and _parts(next_name[0]) < _parts(key):
            next_name = next(names, None)
        if next_name is None or next_name[0] != key:
            (folder / OBJECTS / key).unlink()
            removed += 1
    _drop_empty(folder / OBJECTS)
    return removed


def _drop_empty(root: Path) -> None:
    for place, _, _ in os.walk(root, topdown=False):
        if place != str(root) and not os.listdir(place):
            os.rmdir(place)


def _parts(key: str) -> list[str]:
    return key.split("/")


def digest(path: Path) -> tuple[int, str]:
    """Length and SHA-256 of a file; of nothing where there is none."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), sha256
    except FileNotFoundError:
        return 0, hashlib.sha256().hexdigest()


class _Copy:
    """Copies the objects that some rows name and writes their list."""

    def __init__(
        self, components: Components, folder: Path, rows: sqlite3.Connection, progress: Progress, stopped: Stopped
    ) -> None:
        self.source, self.target = components.settings.data / OBJECTS, folder / OBJECTS
        self.rows, self.progress, self.stopped = rows, progress, stopped
        self.blobs = LocalBlobs(self.target)
        self.objects = self.bytes = self.copied = self.copied_bytes = self.planned = 0
        self.waiting: list[tuple[Path, Path]] = []  # whole files that wait for their name until they are durable
        self.waiting_bytes = 0

    def run(self, list_file: Path, list_before: Path | None) -> None:
        """Copy what is new and write the list of everything."""
        self.planned = sum(size for key, size in self._named() if not self._there(key, size))
        need_space(self.target, self.planned, "A copy of the objects that are new")
        before = iter(()) if list_before is None else listed(list_before)
        known = next(before, None)
        with list_file.open("w") as file:
            for key, size in self._named():
                while known is not None and _parts(known[0]) < _parts(key):
                    known = next(before, None)
                sha256 = known[1] if known is not None and known[0] == key else None
                taken = self._take(key, size, sha256)
                if taken is not None:
                    self.objects += 1
                    self.bytes += size
                    file.write(f"{taken}  {OBJECTS}/{key}\n")
            self._settle()
            file.flush()
            os.fsync(file.fileno())

    def _named(self) -> Iterator[tuple[str, int]]:
        for key, size in walk(self.source):
            if self.stopped():
                raise Cancelled
            if not is_hidden(key.rpartition("/")[2]) and is_live(self.rows, key):
                yield key, size

    def _there(self, key: str, size: int) -> bool:
        try:
            return os.stat(self.target / key).st_size == size
        except FileNotFoundError:
            return False

    def _take(self, key: str, size: int, sha256: str | None) -> str | None:
        """The SHA-256 of an object that is in the backup now; None when it was erased meanwhile."""
        target = self.target / key
        if self._there(key, size):
            return sha256 or digest(target)[1]
        hidden = target.with_name(f".{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            copied, sha256 = copy_file(self.source / key, hidden, self.stopped)
        except FileNotFoundError:
            hidden.unlink(missing_ok=True)
            return None
        self.copied += 1
        self.copied_bytes += copied
        self.waiting.append((hidden, target))
        self.waiting_bytes += copied
        if len(self.waiting) >= _BATCH or self.waiting_bytes >= _BATCH_BYTES:
            self._settle()
        return sha256

    def _settle(self) -> None:
        """Name the files of a batch, now that their bytes are on the disk."""
        if not self.waiting:
            return
        self.blobs.sync()
        for hidden, target in self.waiting:
            hidden.rename(target)
        self.waiting, self.waiting_bytes = [], 0
        self.progress("objects", self.copied_bytes, self.planned)
