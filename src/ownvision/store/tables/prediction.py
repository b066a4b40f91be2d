"""Stored predictions."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from ownvision.store.tables.base import Base, now


class Prediction(Base):
    """What a prediction or quick test answered, kept with its image for a time (`data_rights.retention`)."""

    __tablename__ = "predictions"
    __table_args__ = (
        Index("ix_predictions_project_created", "project_id", "created"),
        Index("ix_predictions_project_uncertainty", "project_id", "uncertainty"),
        Index("ix_predictions_created", "created"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)  # the request's id, as in the original
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    iteration_id: Mapped[str] = mapped_column(ForeignKey("iterations.id", ondelete="CASCADE"), index=True)
    domain_id: Mapped[str] = mapped_column(String(36))
    application: Mapped[str | None]
    created: Mapped[datetime] = mapped_column(default=now)
    uncertainty: Mapped[float] = mapped_column(Float(53), default=0.0)  # entropy, bits
    # [{"probability", "tagId", "boundingBox"?}], names are the iteration's
    predictions: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    sha256: Mapped[str] = mapped_column(String(64))
    width: Mapped[int]
    height: Mapped[int]
    size: Mapped[int]
    format: Mapped[str]
