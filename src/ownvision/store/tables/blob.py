"""The ledger: every byte has an owner, every owner a row."""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from ownvision.store.tables.base import Base, now

# The data map (`data_rights.inventory`) says of each what it is; one that is not here can't be stored.
KINDS = (
    "image",
    "prediction",
    "iteration",
    "export",
    "takeout",
    "rows",
    "tag",
    "project",
    "account",
    "model",
    "archive",
)


class _Kind(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is not None and value not in KINDS:
            raise ValueError(f"{value!r} is no kind of the ledger; name it in KINDS and in the data map")
        return value


class Blob(Base):
    """A key prefix and what becomes of it: pending, live, doomed, counted (in its receipt), gone.

    The row is committed alone before the first byte is written. No foreign keys: it outlives what it was for.
    """

    __tablename__ = "blobs"
    __table_args__ = (
        Index("ix_blobs_state_due", "state", "due"),
        Index("ix_blobs_project", "project_id", "state"),
        Index("ix_blobs_receipt", "receipt", "state"),
    )

    prefix: Mapped[str] = mapped_column(String(200), primary_key=True)  # ends in "/" or "."
    kind: Mapped[str] = mapped_column(_Kind)
    account_id: Mapped[str] = mapped_column(String(36))
    project_id: Mapped[str] = mapped_column(String(36))
    state: Mapped[str] = mapped_column(default="pending")
    # pending: when its lease lapses; doomed: now, NULL while a job empties it; gone: until when it is swept again
    due: Mapped[datetime | None]
    created: Mapped[datetime] = mapped_column(default=now)
    receipt: Mapped[str | None] = mapped_column(String(36))  # of the erasure that doomed it
