"""What is remembered is forgotten with the next commit, whoever makes it."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from ownvision.api.memo import Memo
from ownvision.services.components import open_components
from ownvision.settings import Settings
from tests import databases


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_commit_of_anyone_makes_it_read_again(tmp_path: Path, elsewhere: bool) -> None:
    components = open_components(Settings(data=tmp_path))
    database = components.database
    databases.migrate(database)
    memo = Memo(database)
    reads = []

    def read() -> int:
        reads.append(1)
        return len(reads)

    assert [memo.get("a", read) for _ in range(3)] == [1, 1, 1]
    statement = (
        "INSERT INTO accounts (id, user_name, email, tier, prediction_resource_id, created)"
        " VALUES ('a', 'a', 'a', 'a', 'a', '2026-01-01')"
    )
    if elsewhere:
        with sqlite3.connect(tmp_path / "ownvision.db") as other:
            other.execute(statement)
        other.close()
    else:
        with database.write() as session:
            session.connection().exec_driver_sql(statement)
    assert memo.peek("a") is None
    assert [memo.get("a", read) for _ in range(3)] == [2, 2, 2]
    database.close()


def test_what_was_read_before_a_commit_is_not_remembered_after_it(tmp_path: Path) -> None:
    components = open_components(Settings(data=tmp_path))
    databases.migrate(components.database)
    memo = Memo(components.database)

    def overtaken() -> str:
        with components.database.write() as session:
            session.connection().exec_driver_sql("DELETE FROM accounts WHERE id = 'nobody' OR 1")
            session.connection().exec_driver_sql(
                "INSERT INTO accounts (id, user_name, email, tier, prediction_resource_id, created)"
                " VALUES ('b', 'b', 'b', 'b', 'b', '2026-01-01')"
            )
        return "old"

    read: Callable[[], str] = overtaken
    assert memo.get("a", read) == "old"
    assert memo.peek("a") is None
    components.database.close()
