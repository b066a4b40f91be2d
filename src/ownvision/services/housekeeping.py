"""What has to be tidied up now and then, and needs no job of its own."""

from sqlalchemy import select

from ownvision.store.database import Database
from ownvision.store.keys import KeyStore
from ownvision.store.tables import Account, Project

# A project's key is written before its row is committed: a young key may belong to a request still under way.
_YOUNG_SECONDS = 60.0


def destroy_stray_keys(database: Database, keys: KeyStore) -> list[str]:
    """Destroy the keys of projects and accounts that are no more; returns their ids."""
    with database.read() as session:
        projects = set(session.scalars(select(Project.id)))
        accounts = set(session.scalars(select(Account.id)))
    destroyed = []
    for kind, ids, known, destroy in (
        ("projects", keys.projects(), projects, keys.destroy_project),
        ("accounts", keys.accounts(), accounts, keys.destroy_account),
    ):
        for id in ids:
            if id not in known and keys.age(kind, id) > _YOUNG_SECONDS:
                destroy(id)
                destroyed.append(id)
    return destroyed
