"""Accounts and their keys."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ownvision.store.tables.base import Base, new_id, now


class Account(Base):
    """Owns everything: projects, keys, quotas."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    user_name: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str]
    tier: Mapped[str]
    prediction_resource_id: Mapped[str]
    created: Mapped[datetime] = mapped_column(default=now)
    closed: Mapped[datetime | None]  # deleted: its keys and names are gone, a job removes what it holds


class ApiKey(Base):
    """A training or prediction key: its SHA-256 to look it up, sealed so that GetAccountInfo can show it."""

    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("account_id", "kind", "slot"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    kind: Mapped[str]  # training | prediction
    slot: Mapped[str]  # primary | secondary
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[datetime] = mapped_column(default=now)
