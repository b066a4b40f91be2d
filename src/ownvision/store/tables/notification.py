"""What is to be told to whom: written with what it tells, sent by the worker, gone once it is out."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from ownvision.store.tables.base import Base, new_id, now


class Notification(Base):
    """One message to one recipient. Those of a project and channel go out in the order of `seq`."""

    __tablename__ = "notifications"
    __table_args__ = (Index("ix_notifications_project", "project_id", "channel", "seq"),)

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(36), default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    channel: Mapped[str]  # container | queue | webhook | email
    event: Mapped[dict[str, Any]]  # what happened; the channel gives it its form
    recipient: Mapped[bytes | None] = mapped_column(LargeBinary)  # an e-mail address, encrypted
    attempts: Mapped[int] = mapped_column(default=0)
    due: Mapped[datetime] = mapped_column(default=now)
    created: Mapped[datetime] = mapped_column(default=now)
