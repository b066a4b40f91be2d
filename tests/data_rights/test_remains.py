"""`doctor --erased` finds each kind of leftover that is planted, and nothing where nothing is left."""

import json
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from ownvision.data_rights import erasure
from ownvision.data_rights.doctor import doctor
from ownvision.data_rights.remains import Ids, remains
from ownvision.services.components import Components, open_components
from ownvision.settings import Settings
from ownvision.store import ledger, pages
from ownvision.store.tables import Image, Job, Receipt, Tag
from tests.data_rights import homes
from tests.data_rights.homes import Home
from tests.services import trained as t

pytestmark = pytest.mark.slow


def lead_a_life(home: Home) -> None:
    """Something of each kind is erased, and all that must follow is done."""
    house = home.house
    first, second, *_ = home.images
    homes.erase_image(home, first)
    with house.database.write() as session:
        erasure.erase_images(session, homes.who(home), home.project.id, [second], all_iterations=False)
    homes.erase_tag(home, home.tags["oak of Ada"])
    homes.erase_prediction(home, home.prediction)
    homes.erase_export(home, home.export)
    garden = t.make_project(house, "Garden of Ada")
    t.upload(house, garden, [t.coloured(3, seed) for seed in range(3)], [])
    homes.erase_project(home, garden)
    account, _ = homes.another_account(house, "bob")
    homes.erase_account(home, account)
    homes.settle(house)


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("erased") / "data"
    home = homes.move_in(folder)
    lead_a_life(home)
    homes.settle(home.house)
    home.house.database.close()
    (folder.parent / "home.json").write_text(
        json.dumps([home.project.id, home.tags, home.images, home.iteration, home.export, home.prediction])
    )
    return folder


@pytest.fixture
def house(lived_in: Path, tmp_path: Path) -> Iterator[Components]:
    shutil.copytree(lived_in, tmp_path / "data")
    house = open_components(Settings(data=tmp_path / "data"))
    yield house
    house.database.close()


def _erased_image(house: Components) -> str:
    with house.database.read() as session:
        receipt = session.scalars(select(Receipt).where(Receipt.operation == "DeleteImages").order_by(Receipt.number))
        return str(next(iter(receipt)).subjects["images"][0])


def test_nothing_is_left_of_a_rich_life(house: Components) -> None:
    assert list(remains(house)) == []
    assert list(doctor(house)) == []
    with house.database.read() as session:
        assert {receipt.state for receipt in session.scalars(select(Receipt))} == {"signed"}


def _file(house: Components, name: str, content: bytes = b"x") -> None:
    path = house.settings.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _prefix(house: Components) -> str:
    return next(ledger.prefix_of(key) for key, _ in house.blobs.list() if key.endswith(".original"))


def _page(house: Components, plant: Callable[[bytearray, int, sqlite3.Connection], None]) -> None:
    """Change the database's file behind SQLite's back."""
    path = house.settings.data / "ownvision.db"
    house.database.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        data = bytearray(path.read_bytes())
        plant(data, size, connection)
        path.write_bytes(data)


def _stray_object(house: Components) -> None:
    _file(house, "objects/" + ledger.image_prefix(str(uuid.uuid4()), str(uuid.uuid4())) + "original")


def _thumbnail_without_ledger_row(house: Components) -> None:
    _file(house, "objects/" + _prefix(house).replace("images", "images") + "thumbnail")
    (house.settings.data / "objects" / (_prefix(house) + "original")).unlink()


def _something_beside_an_image(house: Components) -> None:
    _file(house, "objects/" + _prefix(house) + "copy")


def _temporary_object(house: Components) -> None:
    folder, _, name = _prefix(house).rpartition("/")
    _file(house, f"objects/{folder}/.{name}original.1a2b3c4d")


def _empty_folder(house: Components) -> None:
    (house.settings.data / "objects" / str(uuid.uuid4())).mkdir()


def _temporary_file(house: Components) -> None:
    _file(house, "etilqs_0123456789abcdef")


def _cached_model(house: Components) -> None:
    _file(house, "cache/model.onnx")


def _key_of_nothing(house: Components) -> None:
    _file(house, f"keys/projects/{uuid.uuid4()}.key")


def _id_in_a_file(house: Components) -> None:
    _file(house, "scrubbed", _erased_image(house).encode())


def _row_that_nothing_covers(house: Components) -> None:
    with house.database.write() as session:
        for image in session.scalars(select(Image).limit(1)):
            image.since, image.until = 10**6, 10**6 + 1
            image.tagged = False


def _row_of_an_erased_tag(house: Components) -> None:
    with house.database.write() as session:
        receipt = session.scalars(select(Receipt).where(Receipt.operation == "DeleteTag")).one()
        project_id = session.scalars(select(Image.project_id)).first()
        session.add(Tag(id=receipt.subjects["tags"][0], project_id=project_id, name="oak"))


def _id_in_a_row(house: Components) -> None:
    with house.database.write() as session:
        for job in session.scalars(select(Job).limit(1)):
            job.payload = {"note": f"about {_erased_image(house)} and more"}


def _plain_id_in_a_long_row(house: Components) -> None:
    with house.database.write() as session:
        for job in session.scalars(select(Job).limit(1)):
            # It lies across two overflow pages.
            job.payload = {"note": "." * 4_000 + uuid.UUID(_erased_image(house)).hex + "." * 9_000}


def _id_as_bytes_in_a_row(house: Components) -> None:
    house.database.close()
    with closing(sqlite3.connect(house.settings.data / "ownvision.db")) as connection:
        connection.execute("UPDATE jobs SET payload = ?", (b"..." + uuid.UUID(_erased_image(house)).bytes_le,))
        connection.commit()


def _free_page(house: Components) -> None:
    def plant(data: bytearray, size: int, connection: sqlite3.Connection) -> None:
        count = len(data) // size
        # A trunk of one leaf at the end of the file.
        data += bytes(2 * size)
        data[count * size : count * size + 12] = (
            (0).to_bytes(4, "big") + (1).to_bytes(4, "big") + (count + 2).to_bytes(4, "big")
        )
        data[(count + 1) * size + 100 : (count + 1) * size + 103] = b"Ada"
        data[28:32] = (count + 2).to_bytes(4, "big")
        data[32:40] = (count + 1).to_bytes(4, "big") + (2).to_bytes(4, "big")

    _page(house, plant)


def _slack(house: Components) -> None:
    def plant(data: bytearray, size: int, connection: sqlite3.Connection) -> None:
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'accounts'").fetchone()[0]
        at = (root - 1) * size
        assert data[at] == 13, "a leaf"
        free = at + 8 + 2 * int.from_bytes(data[at + 3 : at + 5], "big")
        data[free + 100 : free + 117] = b"Ada's old address"

    _page(house, plant)


def _log(house: Components) -> None:
    house.database.close()
    (house.settings.data / "ownvision.db-wal").write_bytes(b"Ada" * 1000)
    # SQLite would see that it is none and begin anew.
    (house.settings.data / "ownvision.db-wal").rename(house.settings.data / "ownvision.db-wal2")


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (_stray_object, "stray object"),
        (_thumbnail_without_ledger_row, "stray object"),
        (_something_beside_an_image, "stray object"),
        (_temporary_object, "stray object"),
        (_empty_folder, "stray folder"),
        (_temporary_file, "stray file"),
        (_cached_model, "stray file"),
        (_log, "stray file"),
        (_key_of_nothing, "stray key"),
        (_id_in_a_file, "id"),
        (_row_that_nothing_covers, "row"),
        (_row_of_an_erased_tag, "row"),
        (_id_in_a_row, "id"),
        (_plain_id_in_a_long_row, "id"),
        (_id_as_bytes_in_a_row, "id"),
        (_free_page, pages.FREE),
        (_slack, pages.SLACK),
    ],
)
def test_each_planted_leftover_is_found(house: Components, plant: Callable[[Components], None], kind: str) -> None:
    plant(house)
    assert {finding.kind for finding in remains(house)} == {kind}


def test_what_lies_in_the_write_ahead_log_is_found_while_it_can_not_be_emptied(house: Components) -> None:
    with house.database.read() as reading:
        reading.scalars(select(Job)).all()
        with house.database.write() as session:
            for job in session.scalars(select(Job).limit(1)):
                job.payload = {"note": _erased_image(house)}
        with house.database.write() as session:
            for job in session.scalars(select(Job).limit(1)):
                job.payload = {}
        assert {finding.kind for finding in remains(house)} == {"log", "id"}
    assert {finding.kind for finding in remains(house)} <= {"slack"}


def test_an_erasure_that_is_not_at_its_end_is_called_so(house: Components) -> None:
    with house.database.read() as session:
        image = session.scalars(select(Image).where(Image.until.is_(None))).first()
        assert image is not None
    home = Home(house, t.make_project(house, "Park"))
    (id,) = t.upload(house, home.project, [t.coloured(1, 77)], [])
    homes.erase_image(home, id)
    assert "unfinished" in {finding.kind for finding in remains(house)}
    homes.settle(house)
    assert list(remains(house)) == []


@pytest.mark.parametrize(
    "form",
    [
        lambda id: str(id).encode(),
        lambda id: str(id).upper().encode(),
        lambda id: str(id).encode("utf-16-le"),
        lambda id: str(id).encode("utf-16-be"),
        lambda id: id.hex.encode(),
        lambda id: id.bytes,
        lambda id: id.bytes_le,
    ],
)
def test_an_id_is_found_in_each_form_wherever_it_begins(form: Callable[[uuid.UUID], bytes]) -> None:
    id = uuid.uuid4()
    for before in range(20):
        assert Ids([str(id)]).within(bytes(range(60, 60 + before)) + form(id) + b"0") == {str(id)}
    assert Ids([str(uuid.uuid4())]).within(form(id)) == set()
