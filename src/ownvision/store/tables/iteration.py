"""Iterations: a frozen revision, a model, its scores; and their exports."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import Mapped, mapped_column

from ownvision.store.tables.base import Base, new_id, now


def _own_id(context: DefaultExecutionContext) -> str:
    return str(context.get_current_parameters()["id"])  # type: ignore[no-untyped-call]


def _first_model(context: DefaultExecutionContext) -> str:
    return str(context.get_current_parameters()["iteration_id"])  # type: ignore[no-untyped-call]


class Iteration(Base):
    """One training run of a project at `revision`. Its model lies under the blob prefix of `model_id`."""

    __tablename__ = "iterations"
    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        Index(
            "uq_iterations_publish_name",
            "project_id",
            "publish_name",
            unique=True,
            sqlite_where=text("publish_name IS NOT NULL"),
            postgresql_where=text("publish_name IS NOT NULL"),
        ),
        Index(
            "uq_iterations_default",
            "project_id",
            unique=True,
            sqlite_where=text("is_default"),
            postgresql_where=text("is_default"),
        ),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    name: Mapped[str]
    status: Mapped[str] = mapped_column(default="Training")  # Training | Completed | Failed
    created: Mapped[datetime] = mapped_column(default=now)
    last_modified: Mapped[datetime] = mapped_column(default=now)
    trained_at: Mapped[datetime | None]
    revision: Mapped[int]
    domain_id: Mapped[str] = mapped_column(String(36))
    classification_type: Mapped[str]
    training_type: Mapped[str] = mapped_column(default="Regular")
    reserved_budget_in_hours: Mapped[int] = mapped_column(default=0)
    training_seconds: Mapped[float] = mapped_column(default=0.0)
    selected_tags: Mapped[list[str]] = mapped_column(default=list)
    custom_base_model: Mapped[dict[str, Any] | None]
    pipeline: Mapped[str]  # version of backbone, pixels and recipe: "nothing changed" compares it
    publish_name: Mapped[str | None]
    publish_resource_id: Mapped[str | None]
    is_default: Mapped[bool] = mapped_column(default=False)  # what v1 and v2 predict with
    notify_email: Mapped[bytes | None] = mapped_column(LargeBinary)  # encrypted; forgotten once the mail is queued
    error: Mapped[str | None]
    # Performance that another service measured: the iteration has no model here, it is there to be read.
    origin: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    image_count: Mapped[int] = mapped_column(default=0)
    tagged_count: Mapped[int] = mapped_column(default=0)
    # Names the model's prefix: the iteration's own id, until it is fitted anew; then another, so that both may be there
    model_id: Mapped[str] = mapped_column(String(36), default=_own_id)
    erased_count: Mapped[int] = mapped_column(default=0)  # erased images that its model still has learned from
    unlearning: Mapped[str | None]  # what became of that: kept | pending | refitted | unpublished | failed
    left_out: Mapped[list[str]] = mapped_column(JSON, default=list)  # images it saw, restricted when it was fitted
    # What was tried: `learning.search.Trial.shape`, in order. NULL: nothing beside quick training.
    search: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))


class IterationTag(Base):
    """A tag as the iteration saw it; `position` is its column in the model's output, NULL when not trained."""

    __tablename__ = "iteration_tags"

    iteration_id: Mapped[str] = mapped_column(ForeignKey("iterations.id", ondelete="CASCADE"), primary_key=True)
    tag_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    position: Mapped[int | None]
    name: Mapped[str]
    description: Mapped[str | None]
    type: Mapped[str]
    image_count: Mapped[int]


class ScoredImage(Base):
    """Out-of-fold or hold-out scores of one image beside its truth, so that any threshold can be asked for later.

    Classification: `scores` float32 [T], `truth` uint8 [T]. Detection: `scores` float32 [K, 6] rows of (tag position,
    probability, left, top, width, height), `truth` float32 [K, 5] rows of (tag position, left, top, width, height).
    `image_id` is NULL once the image was erased everywhere. The rows that count are those of `Iteration.model_id`;
    others are of a model that is about to take its place, or of one that it took the place of.
    """

    __tablename__ = "scored_images"
    __table_args__ = (Index("ix_scored_images_iteration", "iteration_id", "model_id", "image_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    iteration_id: Mapped[str] = mapped_column(ForeignKey("iterations.id", ondelete="CASCADE"))
    image_id: Mapped[str | None] = mapped_column(String(36), index=True)
    fold: Mapped[int] = mapped_column(default=0)
    scores: Mapped[bytes] = mapped_column(LargeBinary)
    truth: Mapped[bytes] = mapped_column(LargeBinary)
    model_id: Mapped[str] = mapped_column(String(36), default=_first_model)


class Export(Base):
    """An archive of an iteration's model for one platform and flavor; its bytes lie under `archive_id`'s prefix."""

    __tablename__ = "exports"
    __table_args__ = (UniqueConstraint("iteration_id", "platform", "flavor"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    iteration_id: Mapped[str] = mapped_column(ForeignKey("iterations.id", ondelete="CASCADE"))
    platform: Mapped[str]
    flavor: Mapped[str] = mapped_column(default="")  # "": none
    status: Mapped[str] = mapped_column(default="Exporting")  # Exporting | Done | Failed
    error: Mapped[str | None]
    created: Mapped[datetime] = mapped_column(default=now)
    archive_id: Mapped[str] = mapped_column(String(36), default=_own_id)  # names its prefix, as an iteration's model_id


class Lineage(Base):
    """An image that an iteration learned from and that was erased in all iterations since."""

    __tablename__ = "lineage"

    iteration_id: Mapped[str] = mapped_column(ForeignKey("iterations.id", ondelete="CASCADE"), primary_key=True)
    image_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    receipt: Mapped[str] = mapped_column(String(36))
    unlearned: Mapped[datetime | None]  # since when the iteration's model is one that was fitted without it
