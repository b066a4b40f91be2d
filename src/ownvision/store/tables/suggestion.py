"""Suggested tags and regions of images that nobody tagged yet."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from ownvision.store.tables.base import Base, now


class Suggestion(Base):
    """What an iteration suggests for an image of the workspace, kept until its time is over or the image goes."""

    __tablename__ = "suggestions"
    __table_args__ = (
        Index("ix_suggestions_iteration_uncertainty", "iteration_id", "uncertainty", "image_seq"),
        Index("ix_suggestions_created", "created"),
    )

    image_seq: Mapped[int] = mapped_column(ForeignKey("images.seq", ondelete="CASCADE"), primary_key=True)
    iteration_id: Mapped[str] = mapped_column(ForeignKey("iterations.id", ondelete="CASCADE"), primary_key=True)
    project_id: Mapped[str] = mapped_column(String(36))
    created: Mapped[datetime] = mapped_column(default=now)
    uncertainty: Mapped[float] = mapped_column(Float(53))  # entropy, bits
    predictions: Mapped[list[dict[str, Any]]] = mapped_column(JSON)  # tagId, probability, boundingBox
