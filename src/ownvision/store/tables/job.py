"""Jobs are rows, committed together with the data they concern."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from ownvision.store.tables.base import Base, new_id, now

_OPEN = text("state IN ('queued', 'running')")


class Job(Base):
    """A durable piece of slow work: queued, running, done, failed or cancelled.

    `token` grows with every claim; a worker that holds an older one can't write. `subject` is what the job is
    about (an iteration, export, takeout, project or account id); at most one open job of a kind exists for a subject.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index("uq_jobs_open_subject", "kind", "subject", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_jobs_state_lane", "state", "lane", "priority", "created"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    # NULL: of the whole account, or of a project that is going
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]  # `jobs.handlers` lists them
    lane: Mapped[str]  # training | quick
    subject: Mapped[str] = mapped_column(String(36))
    priority: Mapped[int] = mapped_column(default=0)  # lower first
    state: Mapped[str] = mapped_column(default="queued")
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    progress: Mapped[float] = mapped_column(default=0.0)  # 0 to 1
    # (step, steps, loss, hold-out) of a training, the oldest first
    curve: Mapped[list[list[float | None]]] = mapped_column(JSON, default=list)
    # What a preflight found; it goes when the project's images change
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    attempts: Mapped[int] = mapped_column(default=0)
    token: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[datetime | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    error: Mapped[str | None]
    created: Mapped[datetime] = mapped_column(default=now)
    started: Mapped[datetime | None]
    finished: Mapped[datetime | None]
    asked_by: Mapped[str | None] = mapped_column(String(36))  # the actor of the audit event that its result is
