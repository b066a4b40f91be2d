"""A new installation key: every account's key is wrapped anew, and all that rows keep sealed by it is sealed anew.

The new key lies beside the old (``installation.next``) from the first step to the last, and each step may be done
twice: a rotation that was cut short goes on where it was, when the command or the service is next started. Until then
nothing else opens.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ownvision.data_rights import resealing
from ownvision.errors import OwnVisionError
from ownvision.settings import Settings
from ownvision.store import occupancy
from ownvision.store.database import Database
from ownvision.store.files import is_hidden, replacing, sync_folder, write_new
from ownvision.store.keys import INSTALLATION, NEXT, RECEIPTS, RETIRED, SIGNING, KeyMissing, fingerprint, unwrap, wrap


@dataclass(frozen=True)
class Rotated:
    """How much a new key has sealed anew."""

    accounts: int
    values: int


def rotate(settings: Settings) -> Rotated:
    """Replace the installation's key. Addresses that it had signed no longer work.

    Raises:
        OwnVisionError: Conflict: a service or a command is at work on the folder.
    """
    with occupancy.alone(settings.data):
        folder = settings.data / "keys"
        if not (folder / INSTALLATION).exists():
            raise OwnVisionError("BadRequestInvalid", f"There is no installation in {settings.data}.")
        if not (folder / NEXT).exists():
            write_new(folder / NEXT, secrets.token_bytes(32), durable=True)
            sync_folder(folder)
        return _finish(settings, folder)


def finish(settings: Settings) -> None:
    """Bring a rotation to its end that was cut short; called before anything opens."""
    folder = settings.data / "keys"
    if (folder / NEXT).exists():
        _finish(settings, folder)


def _finish(settings: Settings, folder: Path) -> Rotated:
    old, new = (folder / INSTALLATION).read_bytes(), (folder / NEXT).read_bytes()
    rotated = Rotated(0, 0)
    if old != new:
        _rewrap(folder / RETIRED, old, new, lambda id: f"retired {id}")
        _retire(folder / RETIRED, old, new)
        _rewrap(folder, old, new, lambda id: RECEIPTS, SIGNING)
        wrapped = _rewrap(folder / "accounts", old, new, lambda id: f"account {id}")
        rotated = Rotated(wrapped, _reseal(settings, old, new))
        with replacing(folder / INSTALLATION) as file:
            file.write(new)
    (folder / NEXT).unlink()
    for place in (folder, folder / RETIRED, folder / "accounts"):
        _remove_hidden(place)
        sync_folder(place)
    return rotated


def _rewrap(folder: Path, old: bytes, new: bytes, name: Callable[[str], str], pattern: str = "*.key") -> int:
    paths = [path for path in sorted(folder.glob(pattern)) if not is_hidden(path.name)]
    for path in paths:
        wrapped = path.read_bytes()
        try:
            unwrap(new, wrapped, name(path.stem))
        except KeyMissing:
            secret = unwrap(old, wrapped, name(path.stem))
            with replacing(path) as file:
                file.write(wrap(new, secret, name(path.stem)))
    return len(paths)


def _retire(folder: Path, old: bytes, new: bytes) -> None:
    """Keep the old key under the new: rows of an older backup are sealed with it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    id = fingerprint(old)
    with replacing(folder / f"{id}.key") as file:
        file.write(wrap(new, old, f"retired {id}"))


def _reseal(settings: Settings, old: bytes, new: bytes) -> int:
    database = Database(settings.sqlalchemy_url)
    try:
        database.migrate()
        with database.write() as session:
            return resealing.reseal_rows(session, new, [old])
    finally:
        database.close()


def _remove_hidden(folder: Path) -> None:
    for path in folder.iterdir():
        if is_hidden(path.name):
            path.unlink()
