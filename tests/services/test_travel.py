"""A project travels: what leaves, what arrives, and what is refused of what a stranger sends."""

import pytest
from pathlib import Path
from collections.abc import Iterator
from ownvision.services.travel import arriving, tokens
from ownvision.services.components import Components
from ownvision.services import projects, uris
from tests.services import trained as t

BASE = "http://127.0.0.1:1"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    components = t.open_house(tmp_path / "data")
    yield components
    components.database.close()


def test_smoke(house):
    project = t.make_project(house, "Colours")
    t.fill(house, project, {"red": 10, "blue": 10})
    it = t.train(house, project)
    with house.database.write() as s:
        p = projects.get(s, project.account_id, project.id, lock=True)
        export = tokens.make(s, p, 7)
        token = uris.sign_project(house, BASE, p.id, export.id, export.expires)
    copy = arriving.start(house, project.account_id, BASE, token, None)
    assert copy.status == "Importing"
    t.work(house)
    with house.database.read() as s:
        c = projects.get(s, project.account_id, copy.id)
        from ownvision.store.tables import Job
        from sqlalchemy import select

        print([(j.kind, j.state, j.error, j.payload) for j in s.scalars(select(Job).where(Job.project_id == c.id))])
        assert c.status == "Succeeded"
        assert c.image_count == 20
