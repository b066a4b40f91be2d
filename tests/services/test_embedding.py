import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from ownvision.domains import DOMAINS
from ownvision.jobs import rows, runner
from ownvision.learning.backbones import BACKBONES
from ownvision.services import embedding, projects
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.tables import Job, Project
from tests.services import trained as t

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Components]:
    house = t.open_house(tmp_path / "data")
    yield house
    house.database.close()


@pytest.fixture
def project(home: Components) -> Project:
    return t.make_project(home, "Colours")


def embeddings(house: Components) -> int:
    return len([key for key, _ in house.blobs.list() if ".embedding-" in key])


def test_uploads_are_embedded_by_one_job_and_training_makes_what_is_missing(home: Components, project: Project) -> None:
    t.fill(home, project, {"red": 5, "blue": 5})
    with home.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1
    assert embeddings(home) == 0
    embedding.embed(home, t.claim(home, rows.QUICK))
    assert embeddings(home) == 10
    with home.database.read() as session:
        done = session.scalars(select(Job)).one()
    assert done.state == "done"
    assert json.loads(json.dumps(done.payload))["through"] == 10
    t.upload(home, project, [t.coloured(2, 0)], [])
    t.start(home, project)
    runner.run(home, t.claim(home))
    assert embeddings(home) == 10  # untagged: training has no use for it
    embedding.embed(home, t.claim(home, rows.QUICK))
    assert embeddings(home) == 11
    with home.database.write() as session:
        locked = projects.get(session, project.account_id, project.id, lock=True)
        locked.domain_id = t.GENERAL
        embedding.ensure_embedding(session, locked)
    t.work(home)
    assert embeddings(home) == 22
    names = {key.partition(".")[2] for key, _ in home.blobs.list() if ".embedding-" in key}
    assert names == {f"embedding-{BACKBONES[DOMAINS[id].backbone].version}" for id in (t.COMPACT, t.GENERAL)}


def test_embedding_makes_way_for_other_quick_jobs_and_goes_on_after(home: Components, project: Project) -> None:
    t.upload(home, project, [t.coloured(0, seed) for seed in range(20)], [])
    held = t.claim(home, rows.QUICK)
    with home.database.write() as session:
        rows.enqueue(
            session, kind="export", account_id=project.account_id, project_id=project.id, subject="x", lane=rows.QUICK
        )
    embedding.embed(home, held)
    assert 0 < embeddings(home) < 20
    assert t.claim(home, rows.QUICK).kind == "export"
    embedding.embed(home, t.claim(home, rows.QUICK))
    assert embeddings(home) == 20


def test_a_damaged_picture_does_not_stop_the_others_from_being_embedded(home: Components, project: Project) -> None:
    (lost, *_) = t.upload(home, project, [t.coloured(0, seed) for seed in range(3)], [])
    home.blobs.delete_prefix(ledger.image_prefix(project.id, lost))
    embedding.embed(home, t.claim(home, rows.QUICK))
    assert embeddings(home) == 2


def test_a_detection_project_has_no_embed_job(home: Components) -> None:
    t.upload(home, t.make_project(home, "boxes", domain_id=t.DETECTION), [t.coloured(0, 0)], [])
    assert rows.claim(home.database, rows.QUICK, 60.0) is None
