"""Restoring a backup: keys, objects, rows, and then the erasures since.

The file ``restoring`` stands in the data folder until all of it is done; no service opens before. While it says that
files are being copied, only another `restore-backup` can go on; once they are all there, `serve` can finish too.
"""

import json
import os
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ownvision.data_rights import backup, key_backup, replay, resealing
from ownvision.data_rights.backup import DATABASE, LIST, OBJECTS, ROWS, Manifest, Progress
from ownvision.errors import OwnVisionError
from ownvision.services.components import open_components
from ownvision.settings import Settings
from ownvision.store import occupancy
from ownvision.store.blobs.local import LocalBlobs
from ownvision.store.database import Database
from ownvision.store.files import replacing, sync_folder
from ownvision.store.keys import INSTALLATION, KeyStore

MARK = "restoring"
RECEIPTS = "restoring.receipts"  # those that the keys' backup brought, until they are among the rows
_COPYING, _REPLAYING = "copying", "replaying"
_BATCH = 512


@dataclass
class Restored:
    """What was restored.

    Attributes:
        manifest: Of the backup.
        objects: How many came back.
        dead: Objects that were left out, since the key they are sealed with is destroyed.
        damaged: Objects of the backup that are missing or not what was written.
        erased: How many of each kind were erased again.
    """

    manifest: Manifest
    objects: int = 0
    dead: int = 0
    damaged: list[str] = field(default_factory=list)
    erased: Counter[str] = field(default_factory=Counter)


def restore(
    source: Path,
    keys_file: Path | None,
    settings: Settings,
    *,
    replace: bool = False,
    older_keys: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Restored:
    """Restore a backup of rows and objects into a data folder, and erase again what was erased since.

    Args:
        source: The backup's folder.
        keys_file: The backup of the keys; None where the key store in the data folder has survived.
        settings: With the data folder.
        replace: Whether rows and objects that are there may be replaced.
        older_keys: Whether keys are taken that were backed up before the rows.
        progress: Told the stage, and how much of how much is done (bytes).

    Raises:
        OwnVisionError: BadRequestInvalid: what is given does not fit together, with nothing changed; Conflict: a
            service or a command is at work on the folder.
        OSError: The disk is full, or fails; the same command goes on.
    """
    data = settings.data
    manifest = backup.read_manifest(source)
    if manifest is None:
        raise _invalid(f"{source} holds no whole backup.")
    if settings.database_url is not None:
        raise _invalid("The rows are in a database of their own; restore it with its own tools.")
    with occupancy.alone(data):
        _check(data, source, manifest, replace=replace)
        survived = _check_keys(data, keys_file, manifest, older_keys=older_keys)
        _mark(data, _COPYING, manifest)
        restored = Restored(manifest)
        if not survived:
            assert keys_file is not None
            key_backup.restore_keys(keys_file, data / "keys", data / RECEIPTS)
        keys = KeyStore(data / "keys")
        if survived and keys_file is not None:
            key_backup.add_to_survivor(keys_file, keys, data / RECEIPTS)
        _remove_rows(data)
        _copy_objects(source, data, keys, restored, progress)
        _copy_rows(source, data, manifest)
        _mark(data, _REPLAYING, manifest)
        restored.erased = _finish(settings)
        return restored


def finish(settings: Settings) -> None:
    """Erase again what a restored backup brought back, if that was not done yet; called before anything opens.

    Raises:
        OwnVisionError: Conflict: the backup was not restored to its end.
    """
    if (settings.data / MARK).exists():
        if json.loads((settings.data / MARK).read_text())["stage"] != _REPLAYING:
            raise OwnVisionError(
                "Conflict",
                f"A backup was being restored to {settings.data} and did not come to its end; run "
                "`ownvision restore-backup` again.",
            )
        _finish(settings)


def check_finished(data: Path) -> None:
    """Refuse to work on a folder whose restore is not at its end.

    Raises:
        OwnVisionError: Conflict.
    """
    if (data / MARK).exists():
        raise OwnVisionError(
            "Conflict",
            f"{data} was restored from a backup, but what was erased since is not erased again yet; run "
            "`ownvision restore-backup` again, or start the service, which finishes it.",
        )


def _finish(settings: Settings) -> Counter[str]:
    said = json.loads((settings.data / MARK).read_text())
    components = open_components(settings)
    try:
        components.database.migrate()
        resealing.reseal(components.database, components.keys)
        _add_receipts(components.database, settings.data / RECEIPTS)
        erased = replay.replay(components, (said["journal_bytes"], said["journal_sha256"]))
    finally:
        components.database.close()
    (settings.data / RECEIPTS).unlink(missing_ok=True)
    (settings.data / MARK).unlink()
    sync_folder(settings.data)
    return erased


def _add_receipts(database: Database, file: Path) -> None:
    """The proof of what was erased after the rows were backed up; what was open then is as they say now."""
    if file.exists():
        with database.write() as session:
            for receipt in key_backup.read_receipts(file):
                session.merge(receipt)


def _mark(data: Path, stage: str, manifest: Manifest) -> None:
    said = {
        "stage": stage,
        "journal_bytes": manifest.journal_bytes,
        "journal_sha256": manifest.journal_sha256,
    }
    with replacing(data / MARK) as file:
        file.write(json.dumps(said).encode())


def _check(data: Path, source: Path, manifest: Manifest, *, replace: bool) -> None:
    rows = source / ROWS / manifest.rows
    for path, expected in ((rows / DATABASE, manifest.rows_sha256), (rows / LIST, manifest.list_sha256)):
        if backup.digest(path)[1] != expected:
            raise _invalid(f"{path} is not what was written; this backup can't be restored.")
    if (data / MARK).exists():
        return  # the same again
    if (data / DATABASE).exists() and not replace:
        raise _invalid(f"{data} holds an installation; with --replace its rows and objects are replaced.")
    here = sum(size for _, size in backup.walk(data / OBJECTS)) if replace else 0
    backup.need_space(data, manifest.rows_bytes * 2 + manifest.objects_bytes - here, "The backup")


def _check_keys(data: Path, keys_file: Path | None, manifest: Manifest, *, older_keys: bool) -> bool:
    """Whether the key store in the folder has survived; that the keys fit the rows."""
    there = data / "keys" / INSTALLATION
    if there.exists():
        keys = KeyStore(data / "keys")
        if manifest.installation not in (keys.fingerprint(), *keys.retired()):
            raise _invalid(f"The keys in {data} are of another installation than the backup.")
        if keys_file is not None:
            key_backup.read_key_backup(keys_file)
        return True
    if keys_file is None:
        raise _invalid(f"There are no keys in {data}; give their backup with --keys.")
    said = key_backup.read_key_backup(keys_file)
    if not older_keys and said.made < manifest.moment:
        raise _invalid(
            f"The keys were backed up on {said.made:%Y-%m-%d %H:%M:%S}, before the rows "
            f"({manifest.moment:%Y-%m-%d %H:%M:%S}): what was made in between can't be read, and what was erased in "
            "between would come back. Give the newest backup of the keys, or accept this with --older-keys."
        )
    if not said.opens(manifest.installation):
        raise _invalid(f"The keys in {keys_file} are of another installation than the backup.")
    return False


def _remove_rows(data: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        (data / f"{DATABASE}{suffix}").unlink(missing_ok=True)
    sync_folder(data)


def _copy_objects(source: Path, data: Path, keys: KeyStore, restored: Restored, progress: Progress) -> None:
    """The objects that the rows name and whose key is there; what else lies in the folder goes."""
    target = data / OBJECTS
    shutil.rmtree(target, ignore_errors=True)
    blobs = LocalBlobs(target)
    owners = {*keys.projects(), *keys.accounts()}
    done, since_sync = 0, 0
    with closing(backup.opened(source / ROWS / restored.manifest.rows / DATABASE)) as rows:
        for key, sha256 in backup.listed(source / ROWS / restored.manifest.rows / LIST):
            if key.partition("/")[0] not in owners:
                restored.dead += 1
                continue
            if not backup.is_live(rows, key):
                continue
            (target / key).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                size, copied = backup.copy_file(source / OBJECTS / key, target / key)
            except FileNotFoundError:
                size, copied = 0, ""
            if copied != sha256:
                restored.damaged.append(key)
            restored.objects += bool(copied)
            done, since_sync = done + size, since_sync + 1
            if since_sync == _BATCH:
                since_sync = 0
                progress("objects", done, restored.manifest.objects_bytes)
    blobs.sync()


def _copy_rows(source: Path, data: Path, manifest: Manifest) -> None:
    hidden = data / f".{DATABASE}"
    backup.copy_file(source / ROWS / manifest.rows / DATABASE, hidden)
    descriptor = os.open(hidden, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    with closing(sqlite3.connect(hidden)) as connection:
        answer = connection.execute("PRAGMA quick_check").fetchone()[0]
    if answer != "ok":
        raise _invalid(f"The backup's rows are damaged: {answer}.")
    hidden.rename(data / DATABASE)
    sync_folder(data)


def _invalid(message: str) -> OwnVisionError:
    return OwnVisionError("BadRequestInvalid", message)
