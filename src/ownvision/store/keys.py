"""Keys: small files in a store of their own, never in the database or its backups.

The installation's key wraps each account's, an account's wraps each of its projects'. Destroying a project's key makes
every object of the project unreadable, wherever a copy of it may lie. Wrapping is AES-256-GCM with the name as
additional data; purposes get keys of their own by HKDF-SHA256 (RFC 5869).
"""

import base64
import contextlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ownvision.store.files import is_hidden, overwrite, sync_folder, write_new

INSTALLATION, JOURNAL, RETIRED = "installation.key", "erased.journal", "retired"
SIGNING = "receipts.key"  # wrapped by the installation's key
NEXT = "installation.next"  # while there is one, a rotation is under way
RECEIPTS = "receipts"  # what the signing key is wrapped as


class KeyMissing(Exception):
    """A key is not there, or can't be unwrapped: what it sealed can't be read."""


class KeyStore:
    """The keys of one installation.

    Args:
        folder: Where the key files lie; made (0700) with a new installation key when missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in (folder, folder / "accounts", folder / "projects"):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._projects_folder = str(folder / "projects")
        self._projects: dict[str, tuple[tuple[int, int], bytes]] = {}
        path = folder / INSTALLATION
        if not path.exists():
            with contextlib.suppress(FileExistsError):  # another process makes the same installation
                _write_new(path, secrets.token_bytes(32))
        self._installation = path.read_bytes()
        if len(self._installation) != 32:
            raise KeyMissing(f"{path} must hold 32 bytes; restore it from its backup.")
        if (folder / NEXT).exists():
            raise KeyMissing(
                "A rotation of the installation's key was interrupted; `ownvision serve` and "
                "`ownvision rotate-installation-key` finish it."
            )
        self._uris = self._derive("uris")

    def readable(self) -> bool:
        """Whether the installation's key file can be read and is the one in use."""
        try:
            return (self.folder / INSTALLATION).read_bytes() == self._installation
        except OSError:
            return False

    def create_account(self, account_id: str) -> None:
        """A new key for an account, wrapped by the installation's."""
        _write_new(
            self._account_path(account_id), wrap(self._installation, secrets.token_bytes(32), f"account {account_id}")
        )

    def create_project(self, account_id: str, project_id: str) -> None:
        """A new key for a project, wrapped by its account's."""
        wrapped = wrap(self.account_key(account_id), secrets.token_bytes(32), f"project {project_id}")
        _write_new(self._project_path(project_id), account_id.encode() + b"\n" + wrapped)

    def account_key(self, account_id: str) -> bytes:
        """An account's key, 32 bytes.

        Raises:
            KeyMissing: It was destroyed, or can't be unwrapped.
        """
        return unwrap(self._installation, _read(self._account_path(account_id)), f"account {account_id}")

    def project_key(self, project_id: str) -> bytes:
        """A project's key, 32 bytes.

        Raises:
            KeyMissing: It was destroyed, here or by another process, or can't be unwrapped.
        """
        path = f"{self._projects_folder}/{project_id}.key"  # asked for every object: no `Path`
        try:
            found = os.stat(path)
        except FileNotFoundError:
            self._projects.pop(project_id, None)
            raise KeyMissing(f"The key of project {project_id} is gone.") from None
        seen = (found.st_ino, found.st_mtime_ns)
        cached = self._projects.get(project_id)
        if cached is not None and cached[0] == seen:
            return cached[1]
        account_id, _, wrapped = _read(Path(path)).partition(b"\n")
        key = unwrap(self.account_key(account_id.decode()), wrapped, f"project {project_id}")
        self._projects[project_id] = (seen, key)
        return key

    def owner_key(self, id: str) -> bytes:
        """The key of the project or account of this id, 32 bytes: what an object's key begins with.

        Raises:
            KeyMissing: There is neither, or it can't be unwrapped.
        """
        try:
            return self.project_key(id)
        except KeyMissing:
            if not self._account_path(id).exists():
                raise
            return self.account_key(id)

    def destroy_project(self, project_id: str) -> None:
        """Destroy a project's key; does nothing when it is gone already."""
        self._projects.pop(project_id, None)
        _shred(self._project_path(project_id))

    def destroy_account(self, account_id: str) -> None:
        """Destroy an account's key; does nothing when it is gone already."""
        _shred(self._account_path(account_id))

    def projects(self) -> list[str]:
        """Ids of the projects that have a key file."""
        return self._ids("projects")

    def accounts(self) -> list[str]:
        """Ids of the accounts that have a key file."""
        return self._ids("accounts")

    def age(self, kind: str, id: str) -> float:
        """Seconds since the key of one of `projects` or `accounts` was written; 0 when it is gone."""
        try:
            return time.time() - (self.folder / kind / f"{id}.key").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def strangers(self) -> list[str]:
        """Files in the folder that are no key's and not the journal: what a crash or a person left there."""
        known = {self.folder / name for name in (INSTALLATION, JOURNAL, SIGNING)}
        return sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_file() and path not in known and not self._is_key(path)
        )

    def seal(self, text: bytes, purpose: str) -> bytes:
        """Encrypt a short secret for one purpose with the installation's key.

        What is kept of it must stand in `data_rights.rotation.SEALED`, or it is lost when that key is replaced.
        """
        return seal(self._installation, text, purpose)

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """The secret that `seal` sealed.

        Raises:
            KeyMissing: It was sealed by another installation or for another purpose.
        """
        return unseal(self._installation, sealed, purpose)

    def signer(self) -> Ed25519PrivateKey:
        """The key that signs receipts, made at its first use.

        Raises:
            KeyMissing: It can't be unwrapped.
        """
        path = self.folder / SIGNING
        if not path.exists():
            with contextlib.suppress(FileExistsError):  # another process makes the same
                _write_new(path, wrap(self._installation, secrets.token_bytes(32), RECEIPTS))
        return Ed25519PrivateKey.from_private_bytes(unwrap(self._installation, _read(path), RECEIPTS))

    def sign_uri(self, message: bytes) -> str:
        """HMAC-SHA256 of a message, URL-safe base64."""
        return base64.urlsafe_b64encode(hmac.new(self._uris, message, sha256).digest()).decode().rstrip("=")

    def journal(self, kind: str, ids: Iterable[str]) -> None:
        """Note erased ids, durably, so that a restored backup can erase them again."""
        lines = "".join(f"{kind} {id}\n" for id in ids)
        if not lines:
            return
        path = self.folder / JOURNAL
        with self._lock:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                # A line that a crash cut short must not swallow the next.
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, (("\n" if torn else "") + lines).encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if size == 0:
                sync_folder(self.folder)

    def erased(self) -> Iterator[tuple[str, str]]:
        """(kind, id) of all that was erased."""
        path = self.folder / JOURNAL
        if path.exists():
            with path.open() as file:
                for line in file:
                    kind, _, id = line.strip().partition(" ")
                    yield kind, id

    def installation(self) -> bytes:
        """The installation's key, 32 bytes."""
        return self._installation

    def fingerprint(self) -> str:
        """What tells this installation's key from others, and says nothing of it."""
        return fingerprint(self._installation)

    def retired(self) -> dict[str, bytes]:
        """Installation keys that were replaced, by fingerprint: rows of an older backup are sealed with them.

        Raises:
            KeyMissing: One can't be unwrapped.
        """
        folder = self.folder / RETIRED
        names = sorted(path for path in folder.iterdir() if _is_whole(path)) if folder.is_dir() else []
        return {path.stem: unwrap(self._installation, path.read_bytes(), f"retired {path.stem}") for path in names}

    def _derive(self, purpose: str) -> bytes:
        return derive(self._installation, purpose)

    def _ids(self, kind: str) -> list[str]:
        return sorted(path.stem for path in (self.folder / kind).iterdir() if self._is_key(path))

    def _is_key(self, path: Path) -> bool:
        owners = (self.folder / "accounts", self.folder / "projects", self.folder / RETIRED)
        return path.parent in owners and _is_whole(path)

    def _account_path(self, account_id: str) -> Path:
        return self.folder / "accounts" / f"{account_id}.key"

    def _project_path(self, project_id: str) -> Path:
        return self.folder / "projects" / f"{project_id}.key"


def derive(installation: bytes, purpose: str) -> bytes:
    """A key of an installation's for one purpose, 32 bytes."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(installation)


def fingerprint(installation: bytes) -> str:
    """What tells one installation's key from others."""
    return derive(installation, "fingerprint")[:16].hex()


def seal(installation: bytes, text: bytes, purpose: str) -> bytes:
    """See `KeyStore.seal`."""
    return wrap(derive(installation, "seal"), text, purpose)


def unseal(installation: bytes, sealed: bytes, purpose: str) -> bytes:
    """See `KeyStore.open`."""
    return unwrap(derive(installation, "seal"), sealed, purpose)


def _is_whole(path: Path) -> bool:
    return path.suffix == ".key" and not is_hidden(path.name)


def wrap(key: bytes, secret: bytes, name: str) -> bytes:
    """A secret encrypted under a key; `name` is authenticated with it."""
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(key).encrypt(nonce, secret, name.encode())


def unwrap(key: bytes, wrapped: bytes, name: str) -> bytes:
    """The secret that `wrap` encrypted.

    Raises:
        KeyMissing: With another key, or under another name.
    """
    try:
        return AESGCM(key).decrypt(wrapped[:12], wrapped[12:], name.encode())
    except (InvalidTag, ValueError):
        raise KeyMissing(f"The {name} was sealed with another key.") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise KeyMissing(f"There is no key {path.name}.") from None


def _write_new(path: Path, data: bytes) -> None:
    write_new(path, data, durable=True)
    sync_folder(path.parent)


def _shred(path: Path) -> None:
    try:
        with path.open("r+b") as file:
            overwrite(file)
        path.unlink()
    except FileNotFoundError:
        return
    sync_folder(path.parent)
