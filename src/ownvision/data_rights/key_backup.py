"""The key store backed up apart from everything else, newest only: its keys, and the journal of erased ids.

One tar file. Whoever has it and a backup of rows and objects can read everything; whoever has an old one can read what
was erased since. So it replaces the one before, whose bytes are overwritten.
"""

import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import select

from ownvision.data_rights import backup
from ownvision.errors import OwnVisionError
from ownvision.store.database import Database
from ownvision.store.files import replacing, sync_folder, write_new
from ownvision.store.keys import INSTALLATION, JOURNAL, RETIRED, SIGNING, KeyStore, fingerprint
from ownvision.store.ledger import ACCOUNT, PROJECT
from ownvision.store.tables import Receipt
from ownvision.store.tables.base import UtcDateTime, now

FORMAT, VERSION = "ownvision-keys", 1
_MANIFEST = "keys.json"
_FOLDERS = (RETIRED, "accounts", "projects")
STATEMENTS = "receipts.jsonl"
_ANY_SIZE = (JOURNAL, STATEMENTS)
_NAME = re.compile(rf"(?:{'|'.join(_FOLDERS)})/[0-9a-z-]{{1,64}}\.key|{'|'.join((INSTALLATION, SIGNING, *_ANY_SIZE))}")
_KEY_BYTES = 4_096


@dataclass(frozen=True)
class KeyBackup:
    """What a file of keys says of itself.

    Attributes:
        made: When: every key that was there at that moment is in it.
        installation: Fingerprint of the installation's key.
        retired: Fingerprints of the keys that it has replaced.
    """

    made: datetime
    installation: str
    retired: frozenset[str]

    def opens(self, installation: str) -> bool:
        """Whether rows that were sealed by a key of this fingerprint can be opened."""
        return installation == self.installation or installation in self.retired


def back_up_keys(database: Database, keys: KeyStore, data: Path, file: Path, rows: Path | None = None) -> int:
    """Write the key store and the receipts into a file, in place of the one before.

    Args:
        database: Where the receipts are: a backup of rows that is restored may be older than they.
        keys: The key store.
        data: The data folder; the file may not lie in it.
        file: Where to.
        rows: Folder of the backup of rows; the file may not lie in it.

    Returns:
        How many keys there are in it.

    Raises:
        OwnVisionError: BadRequestInvalid, for a place that would undo what the file is for, or a file of another kind.
        OSError: The disk is full, or fails; the file is as it was.
    """
    check_place(data, file, rows)
    said = {"format": FORMAT, "version": VERSION, "made": now().isoformat(), "installation": keys.fingerprint()}
    count = 0
    with replacing(file) as target, tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, _MANIFEST, json.dumps(said, indent=2).encode() + b"\n")
        for name in _names(keys.folder):
            try:
                data_of = (keys.folder / name).read_bytes()
            except FileNotFoundError:
                continue  # destroyed meanwhile
            _add(tar, name, data_of)
            count += 1
        _add_receipts(tar, database, file.parent)
        _add_journal(tar, keys.folder / JOURNAL)
    return count


def read_key_backup(file: Path) -> KeyBackup:
    """What a file of keys says of itself.

    Raises:
        OwnVisionError: BadRequestInvalid: it is none.
    """
    with _opened(file) as tar:
        said = _manifest(file, tar)
        names = [Path(member.name) for member in _members(file, tar)]
    if Path(INSTALLATION) not in names:
        raise _invalid(file, "the installation's key is not in it")
    return replace(said, retired=frozenset(name.stem for name in names if name.parent == Path(RETIRED)))


def restore_keys(file: Path, folder: Path, receipts: Path) -> None:
    """Lay out a key store from its backup; the installation's key comes last, so what is cut short is no key store.

    Args:
        file: The backup.
        folder: Where to; what is there of a restore that was cut short is replaced.
        receipts: File for the receipts.

    Raises:
        OwnVisionError: BadRequestInvalid: the file is none, or damaged.
    """
    for part in (folder, *(folder / name for name in _FOLDERS)):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    installation: bytes | None = None
    with _opened(file) as tar:
        said = _manifest(file, tar)
        for member in _members(file, tar):
            if member.name in _ANY_SIZE:
                _extract(tar, member, folder / JOURNAL if member.name == JOURNAL else receipts)
                continue
            key = _read(tar, member)
            if member.name == INSTALLATION:
                installation = key
            else:
                (folder / member.name).unlink(missing_ok=True)
                write_new(folder / member.name, key, durable=True)
    if installation is None or fingerprint(installation) != said.installation:
        raise _invalid(file, "the installation's key is not in it")
    for part in (*(folder / name for name in _FOLDERS), folder):
        sync_folder(part)
    write_new(folder / INSTALLATION, installation, durable=True)
    sync_folder(folder)


def add_to_survivor(file: Path, keys: KeyStore, receipts: Path) -> None:
    """Add to a key store that has survived what only its backup knows: erased ids, then keys of what is not erased.

    Args:
        file: The backup.
        keys: What has survived; its installation's key is the one to use.
        receipts: File for the receipts.
    """
    known = set(keys.erased())
    with _opened(file) as tar:
        for member in _members(file, tar):
            if member.name == JOURNAL:
                lines = io.TextIOWrapper(tar.extractfile(member) or io.BytesIO())
                for kind, id in _entries(lines):
                    if (kind, id) not in known:
                        keys.journal(kind, [id])
            elif member.name == STATEMENTS:
                _extract(tar, member, receipts)
    dead = {id.rstrip("/") for kind, id in keys.erased() if kind in (PROJECT, ACCOUNT)}
    with _opened(file) as tar:
        if _manifest(file, tar).installation != keys.fingerprint():
            return  # wrapped by another key
        for member in _members(file, tar):
            place = Path(member.name)
            if place.parent.name in ("accounts", "projects") and place.stem not in dead:
                with suppress(FileExistsError):
                    write_new(keys.folder / place, _read(tar, member), durable=True)
    for part in _FOLDERS[1:]:
        sync_folder(keys.folder / part)


def read_receipts(file: Path) -> Iterator[Receipt]:
    """The receipts that a backup of keys brought."""
    times = {column.key: isinstance(column.type, UtcDateTime) for column in Receipt.__table__.columns}
    with file.open() as lines:
        for line in lines:
            said = {name: value for name, value in json.loads(line).items() if name in times}
            dates = {name: datetime.fromisoformat(value) for name, value in said.items() if times[name] and value}
            yield Receipt(**(said | dates))


def _add_receipts(tar: tarfile.TarFile, database: Database, folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as spool:
        with database.read() as session:
            for receipt in session.scalars(select(Receipt).order_by(Receipt.id).execution_options(yield_per=100)):
                said = {column.key: getattr(receipt, column.key) for column in Receipt.__table__.columns}
                spool.write(json.dumps(said, default=datetime.isoformat).encode() + b"\n")
        member = tarfile.TarInfo(STATEMENTS)
        member.size, member.mode = spool.tell(), 0o600
        spool.seek(0)
        tar.addfile(member, spool)


def _members(file: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """What is in a file of keys behind its manifest, each of a name and size that is to be expected."""
    size = file.stat().st_size
    for member in tar:
        if member.name == _MANIFEST:
            continue
        if not member.isfile() or not _NAME.fullmatch(member.name):
            raise _invalid(file, f"it holds {member.name!r}, which is no key")
        if member.name not in _ANY_SIZE and member.size > _KEY_BYTES:
            raise _invalid(file, f"{member.name} is too long for a key")
        if member.offset_data + member.size > size:
            raise _invalid(file, "it is cut short or damaged")
        yield member


def _entries(lines: io.TextIOWrapper) -> Iterator[tuple[str, str]]:
    for line in lines:
        kind, _, id = line.strip().partition(" ")
        if id:
            yield kind, id


def _names(folder: Path) -> Iterator[str]:
    yield INSTALLATION
    if (folder / SIGNING).exists():
        yield SIGNING
    for part in _FOLDERS:
        place = folder / part
        for name in sorted(os.listdir(place)) if place.is_dir() else ():
            if _NAME.fullmatch(f"{part}/{name}"):
                yield f"{part}/{name}"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    tar.addfile(member, io.BytesIO(data))


def _add_journal(tar: tarfile.TarFile, path: Path) -> None:
    """Last, so that it knows of everything whose key was passed over; as long as it is when we come to it."""
    if path.exists():
        with path.open("rb") as file:
            member = tarfile.TarInfo(JOURNAL)
            member.size, member.mode = os.fstat(file.fileno()).st_size, 0o600
            tar.addfile(member, file)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None
    with replacing(target) as file:
        shutil.copyfileobj(source, file)


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = tar.extractfile(member)
    assert source is not None
    return source.read()


def _manifest(file: Path, tar: tarfile.TarFile) -> KeyBackup:
    member = tar.next()
    if member is None or member.name != _MANIFEST or not member.isfile() or member.size > _KEY_BYTES:
        raise _invalid(file, "it does not begin as one")
    try:
        said = json.loads(_read(tar, member))
        known = (said["format"], said["version"]) == (FORMAT, VERSION)
        read = KeyBackup(datetime.fromisoformat(said["made"]), str(said["installation"]), frozenset())
    except (ValueError, KeyError, TypeError):
        raise _invalid(file, "it does not begin as one") from None
    if not known:
        raise _invalid(file, "it is of another version of OwnVision")
    return read


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, "r:") as tar:
            yield tar
    except tarfile.TarError:
        raise _invalid(file, "it is cut short or damaged") from None


def _invalid(file: Path, why: str) -> OwnVisionError:
    return OwnVisionError("BadRequestInvalid", f"{file} is no backup of keys: {why}.")


def check_place(data: Path, file: Path, rows: Path | None) -> None:
    """Refuse a place for the keys that would undo what their backup is for; see `back_up_keys`."""
    place = file.resolve()
    if place.is_relative_to(data.resolve()):
        raise OwnVisionError("BadRequestInvalid", f"{file} lies in the data folder: a backup must survive its loss.")
    inside = rows is not None and place.is_relative_to(rows.resolve())
    if inside or any((parent / backup.MARK).exists() for parent in place.parents):
        raise OwnVisionError(
            "BadRequestInvalid",
            f"{file} lies in a backup of rows and objects: together they could be read by whoever finds them, and "
            "keys of what is erased would be kept with it. Put the keys apart.",
        )
    if file.exists():
        read_key_backup(file)  # nothing of another kind is overwritten
