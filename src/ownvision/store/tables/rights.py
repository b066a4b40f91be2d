"""What a person's rights over their data need: receipts, takeouts, the audit trail, retention, holds, backups."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ownvision.store.tables.base import Base, new_id, now


class Receipt(Base):
    """The statement of one erasure: opened in its transaction, signed once nothing of it is left anywhere.

    No foreign keys: an account's chain of receipts outlives it. The id is the address nobody can guess.
    """

    __tablename__ = "receipts"
    __table_args__ = (UniqueConstraint("account_id", "number"), Index("ix_receipts_state", "state"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(String(36))
    number: Mapped[int]  # in the account's chain, from 1
    state: Mapped[str] = mapped_column(default="open")  # open | signed
    operation: Mapped[str]  # what was asked, by the API's name for it
    key_id: Mapped[str | None] = mapped_column(String(36))  # by which key; None: by the operator or a rule
    subjects: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # ids of what was asked to go, by data kind
    erased: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # {data kind: {"count", "bytes"}}
    kept: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)  # [{"kind", "count", "why"}]
    asked: Mapped[datetime] = mapped_column(default=now)
    signed: Mapped[datetime | None]
    statement: Mapped[str | None]  # the canonical JSON that was signed
    signature: Mapped[str | None]  # Ed25519, base64
    # Models that had learned from what was erased: [{"iterationId", "projectId", "images", "published", "exports",
    # "outcome"}] (`data_rights.policies`)
    learned: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    settled: Mapped[datetime | None]  # when the last of it was gone, but for freed pages of the database
    # {id of a project or account: the last folder whose files are counted in `erased`}, while a job empties it
    counted: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class Takeout(Base):
    """One archive of an account or project, made by a job; its bytes lie under its blob prefix."""

    __tablename__ = "takeouts"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    selection: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # {}: everything; else which images, …
    status: Mapped[str] = mapped_column(default="Exporting")  # Exporting | Done | Failed
    error: Mapped[str | None]
    size: Mapped[int | None] = mapped_column(BigInteger)  # bytes
    sha256: Mapped[str | None] = mapped_column(String(64))
    counts: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created: Mapped[datetime] = mapped_column(default=now)


class AuditEvent(Base):
    """Who viewed, exported, changed or deleted what, and when. Random ids only; rows are added and expire."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_account", "account_id", "seq"),
        Index("ix_audit_events_project", "project_id", "seq"),
        Index("ix_audit_events_at", "at"),
    )

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(default=now)
    actor: Mapped[str] = mapped_column(String(36))  # a key's id, or a word of `data_rights.who`
    action: Mapped[str]  # view | export | change | delete
    operation: Mapped[str]  # the operation's or command's name
    project_id: Mapped[str | None] = mapped_column(String(36))  # it may be gone
    target: Mapped[str | None] = mapped_column(String(36))
    count: Mapped[int] = mapped_column(default=1)  # of what the operation touched
    request_id: Mapped[str | None] = mapped_column(String(36))


class RetentionRule(Base):
    """How many days a kind of data is kept in one project, or (project NULL) in all of an account's."""

    __tablename__ = "retention_rules"
    __table_args__ = (Index("ix_retention_rules_account", "account_id", "kind"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    kind: Mapped[str]
    days: Mapped[int]


class LegalHold(Base):
    """While it is there, nothing of the project (project NULL: of the account) is erased, by nobody and no rule."""

    __tablename__ = "legal_holds"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    reason: Mapped[str]
    created: Mapped[datetime] = mapped_column(default=now)


class Backup(Base):
    """That a backup was made: receipts name how far back they reach. Where it lies is not kept."""

    __tablename__ = "backups"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    made: Mapped[datetime] = mapped_column(default=now)
