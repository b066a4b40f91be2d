"""Alembic's entry: migrate the engine that `Database.migrate` hands over, all steps in one transaction."""

from typing import Any

from alembic import context

from ownvision.store.tables import Base


def _foreign_keys(connection: Any, state: str) -> None:
    # Rebuilding a table (SQLite can alter little) drops the old one, and a drop cascades; inside a transaction the
    # switch does nothing.
    if connection.dialect.name == "sqlite":
        connection.connection.driver_connection.execute(f"PRAGMA foreign_keys={state}")


with context.config.attributes["engine"].connect() as connection:
    _foreign_keys(connection, "OFF")
    try:
        context.configure(
            connection=connection, target_metadata=Base.metadata, render_as_batch=True, transactional_ddl=True
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    finally:
        _foreign_keys(connection, "ON")
