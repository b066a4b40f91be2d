"""A new installation key opens everything the old one did, and a rotation that is killed goes on where it was."""

import ast
import base64
import os
import sys
from pathlib import Path

import pytest

from ownvision.data_rights import resealing, rotation
from ownvision.data_rights.backup import back_up
from ownvision.data_rights.doctor import doctor
from ownvision.data_rights.key_backup import back_up_keys
from ownvision.data_rights.recovery import restore
from ownvision.data_rights.rotation import rotate
from ownvision.errors import OwnVisionError
from ownvision.services import accounts, notices, projects, storage, uris, webhooks
from ownvision.services.components import Components, open_components
from ownvision.services.travel import source
from ownvision.services.webhooks import Webhook
from ownvision.settings import Settings
from ownvision.store import occupancy
from ownvision.store.keys import NEXT, KeyMissing
from ownvision.store.tables import Iteration, Job, Notification, Project
from tests.services import trained as t

SOURCE = Path(resealing.__file__).parents[1]


def _furnish(house: Components) -> str:
    """A project whose row, and whose iteration, message and job, keep something sealed; its id."""
    project = t.make_project(house, "Trees")
    t.upload(house, project, [t.coloured(0, 1)], [])
    keys = house.keys
    with house.database.write() as session:
        row = projects.get(session, project.account_id, project.id, lock=True)
        storage.keep(session, keys, row, {storage.CONTAINER: "https://c?sig=1", storage.QUEUE: "https://q?sig=2"})
        webhooks.keep(session, keys, row, Webhook("https://w", "whsec_" + "A" * 32))
        iteration = Iteration(
            project_id=row.id,
            number=1,
            name="Iteration 1",
            status="Failed",
            revision=1,
            domain_id=row.domain_id,
            classification_type="Multilabel",
            pipeline="",
        )
        session.add(iteration)
        session.flush()
        sealed = keys.seal(b"ada@example.org", notices.email_purpose(iteration.id))
        iteration.notify_email = sealed
        event = {"type": notices.TRAINING, "iterationId": iteration.id, "status": "Failed"}
        session.add(Notification(project_id=row.id, channel=notices.EMAIL, event=event, recipient=sealed))
        payload = source.recognised(house, "http://here", f"https://there/prjexp-{'a' * 32}/project-export-info?id=1")
        session.add(
            Job(
                account_id=row.account_id,
                project_id=row.id,
                kind="x",
                lane="quick",
                subject=row.id,
                state="done",
                payload=payload,
            )
        )
    return project.id


def _all_opens(house: Components, project_id: str) -> list[object]:
    """What everything that is sealed says."""
    keys = house.keys
    with house.database.read() as session:
        project = session.get_one(Project, project_id)
        iteration = session.query(Iteration).one()
        message = session.query(Notification).one()
        job = session.query(Job).filter_by(kind="x").one()
        assert iteration.notify_email is not None
        assert message.recipient is not None

        return [
            accounts.describe(session, keys, accounts.all(session)[0]),
            storage.kept(keys, project),
            webhooks.of(keys, project),
            keys.open(iteration.notify_email, notices.email_purpose(iteration.id)),
            keys.open(message.recipient, notices.email_purpose(iteration.id)),
            keys.open(base64.b64decode(job.payload["address"]), source.PURPOSE),
            [house.blobs.read(key) for key, _ in house.blobs.list()],
        ]


def test_everything_opens_with_the_new_key_and_addresses_of_before_do_not(tmp_path: Path) -> None:
    house = t.open_house(tmp_path / "data")
    project_id = _furnish(house)
    before, fingerprint = _all_opens(house, project_id), house.keys.fingerprint()
    address = uris.sign(house, "http://x", uris.image_path(project_id, project_id, "original"))
    path, _, query = address.removeprefix("http://x").partition("?")
    assert uris.resolve(house, path, query).project_id == project_id
    house.database.close()
    rotated = rotate(house.settings)
    assert (rotated.accounts, rotated.values) == (1, 4 + 3 + 1 + 1 + 1)
    house = open_components(house.settings)
    assert _all_opens(house, project_id) == before
    assert house.keys.fingerprint() != fingerprint
    assert list(house.keys.retired()) == [fingerprint]
    with pytest.raises(OwnVisionError, match="not signed by this service"):
        uris.resolve(house, path, query)
    assert list(doctor(house)) == []
    house.database.close()
    rotate(house.settings)
    house = open_components(house.settings)
    assert _all_opens(house, project_id) == before
    assert len(house.keys.retired()) == 2
    house.database.close()


_EVENTS = {"open", "os.rename", "os.remove", "os.link", "sqlite3.connect"}


def _die_at(step: int, settings: Settings) -> bool:
    """Rotate in a process that ends before the so-manieth file is opened, renamed or removed; whether it did."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count(event: str, arguments: tuple[object, ...]) -> None:
            if event in _EVENTS and str(settings.data) in str(arguments[0]):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

        sys.addaudithook(count)
        try:
            rotate(settings)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.slow
def test_a_rotation_that_is_killed_at_any_step_goes_on_and_nothing_opens_before(tmp_path: Path) -> None:
    house = t.open_house(tmp_path / "data")
    project_id = _furnish(house)
    before = _all_opens(house, project_id)
    house.database.close()
    interrupted = 0
    for step in range(2, 200, 7):
        if not _die_at(step, house.settings):
            break
        if (house.settings.data / "keys" / NEXT).exists():
            interrupted += 1
            with pytest.raises(KeyMissing, match="interrupted"):
                open_components(house.settings)
        rotation.finish(house.settings)
        house = open_components(house.settings)
        assert _all_opens(house, project_id) == before
        assert list(doctor(house)) == []
        house.database.close()
    assert interrupted > 3


def test_rows_of_a_backup_before_the_rotation_open_with_the_keys_of_after(tmp_path: Path) -> None:
    house = t.open_house(tmp_path / "data")
    project_id = _furnish(house)
    before = _all_opens(house, project_id)
    back_up(house, tmp_path / "backup")
    house.database.close()
    rotate(house.settings)
    house = open_components(house.settings)
    back_up_keys(house.database, house.keys, house.settings.data, tmp_path / "keys.tar")
    house.database.close()
    settings = Settings(data=tmp_path / "restored")
    restore(tmp_path / "backup", tmp_path / "keys.tar", settings)
    house = open_components(settings)
    assert _all_opens(house, project_id) == before
    house.database.close()


def test_a_rotation_needs_the_folder_alone(tmp_path: Path) -> None:
    house = t.open_house(tmp_path / "data")
    with occupancy.used(house.settings.data), pytest.raises(OwnVisionError, match="stop it first"):
        rotate(house.settings)
    house.database.close()


def _sealing(path: Path) -> list[str]:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [f"{path.relative_to(SOURCE)}:{call.lineno}" for call in calls if getattr(call.func, "attr", "") == "seal"]


def test_whatever_is_sealed_stands_in_the_table() -> None:
    found = [place for path in sorted(SOURCE.rglob("*.py")) for place in _sealing(path)]
    assert len(found) == len(SEALED_AT), f"{found}: complete data_rights/resealing.py, then the list here"
    assert [place.partition(":")[0] for place in found] == SEALED_AT


# A call of `KeyStore.seal` each; what it seals is one of `resealing.COLUMNS` or `PAYLOADS`.
SEALED_AT = [
    "services/accounts.py",
    "services/accounts.py",
    "services/notices.py",
    "services/storage.py",
    "services/travel/source.py",
    "services/webhooks.py",
]
