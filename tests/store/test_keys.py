"""Keys: wrapped, on disk before they are used, gone when destroyed."""

import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ownvision.store.keys import KeyMissing, KeyStore
from tests.store.conftest import ACCOUNT, PROJECT


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    store = KeyStore(tmp_path / "keys")
    store.create_account(ACCOUNT)
    store.create_project(ACCOUNT, PROJECT)
    return store


def test_keys_outlive_the_process_and_lie_wrapped(keys: KeyStore) -> None:
    key = keys.project_key(PROJECT)
    assert len(key) == 32
    assert KeyStore(keys.folder).project_key(PROJECT) == key
    for path in keys.folder.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert key not in path.read_bytes()
        assert keys.account_key(ACCOUNT) not in path.read_bytes()


@pytest.mark.parametrize(
    "create", [lambda keys: keys.create_account(ACCOUNT), lambda keys: keys.create_project(ACCOUNT, PROJECT)]
)
def test_a_key_is_never_replaced(keys: KeyStore, create: Callable[[KeyStore], None]) -> None:
    before = keys.project_key(PROJECT)
    with pytest.raises(FileExistsError):
        create(keys)
    assert KeyStore(keys.folder).project_key(PROJECT) == before


def test_a_destroyed_key_is_gone_for_every_process_and_destroying_it_again_does_nothing(keys: KeyStore) -> None:
    other = KeyStore(keys.folder)
    assert other.project_key(PROJECT)
    for _ in range(2):
        keys.destroy_project(PROJECT)
    for store in (keys, other):  # `other` had it in memory
        with pytest.raises(KeyMissing):
            store.project_key(PROJECT)
    assert keys.projects() == []
    keys.destroy_account(ACCOUNT)
    with pytest.raises(KeyMissing):
        keys.account_key(ACCOUNT)
    assert keys.accounts() == []


def test_a_project_without_its_accounts_key_can_not_be_read(keys: KeyStore) -> None:
    keys.destroy_account(ACCOUNT)
    with pytest.raises(KeyMissing):
        KeyStore(keys.folder).project_key(PROJECT)


def test_a_project_key_of_another_installation_can_not_be_used(keys: KeyStore, tmp_path: Path) -> None:
    other = KeyStore(tmp_path / "others")
    other.create_account(ACCOUNT)
    path = keys.folder / "projects" / f"{PROJECT}.key"
    (other.folder / "projects" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(KeyMissing):
        other.project_key(PROJECT)


def test_what_was_sealed_opens_only_for_its_purpose(keys: KeyStore) -> None:
    sealed = keys.seal(b"a training key", "api-key 1")
    assert b"training" not in sealed
    assert KeyStore(keys.folder).open(sealed, "api-key 1") == b"a training key"
    with pytest.raises(KeyMissing):
        keys.open(sealed, "api-key 2")
    with pytest.raises(KeyMissing):
        keys.open(sealed[:5], "api-key 1")


def test_a_signature_is_the_same_after_a_restart_and_fits_into_an_address(keys: KeyStore) -> None:
    signature = keys.sign_uri(b"/i-1?se=2")
    assert signature == KeyStore(keys.folder).sign_uri(b"/i-1?se=2")
    assert signature != keys.sign_uri(b"/i-1?se=3")
    assert set(signature) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def test_the_journal_keeps_every_id_also_after_a_line_that_a_crash_cut_short(keys: KeyStore) -> None:
    keys.journal("image", ["1", "2"])
    with (keys.folder / "erased.journal").open("a") as file:
        file.write("image 3")
    keys.journal("project", ["4"])
    keys.journal("image", [])
    assert list(KeyStore(keys.folder).erased()) == [("image", "1"), ("image", "2"), ("image", "3"), ("project", "4")]
    assert stat.S_IMODE((keys.folder / "erased.journal").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["projects/notes.txt", "accounts/.x.key.1234", "spare.key", "more/deep/a.key"])
def test_a_file_that_is_no_key_is_a_stranger(keys: KeyStore, name: str) -> None:
    keys.journal("image", ["1"])
    assert keys.strangers() == []
    path = keys.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    assert keys.strangers() == [name]
    assert (keys.projects(), keys.accounts()) == ([PROJECT], [ACCOUNT])


def test_processes_that_start_at_once_share_one_installation_key(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from ownvision.store.keys import KeyStore; "
        "print(KeyStore(pathlib.Path(sys.argv[1])).sign_uri(b'x'))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "keys")], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert all(process.returncode == 0 for process in processes)


def test_an_installation_key_cut_short_is_refused(keys: KeyStore) -> None:
    (keys.folder / "installation.key").write_bytes(b"short")
    assert not keys.readable()
    with pytest.raises(KeyMissing, match="32 bytes"):
        KeyStore(keys.folder)
