"""Projects and the tags of their workspace."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ownvision.store.tables.base import Base, new_id, now


class Project(Base):
    """Images, tags and iterations of one task. `revision` counts every change of images, tags or regions."""

    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("account_id", "name"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    name: Mapped[str]
    description: Mapped[str] = mapped_column(default="")
    domain_id: Mapped[str] = mapped_column(String(36))
    classification_type: Mapped[str] = mapped_column(default="Multilabel")
    target_export_platforms: Mapped[list[str]] = mapped_column(default=list)
    augmentation: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created: Mapped[datetime] = mapped_column(default=now)
    last_modified: Mapped[datetime] = mapped_column(default=now)
    revision: Mapped[int] = mapped_column(default=0)
    image_count: Mapped[int] = mapped_column(default=0)
    tagged_count: Mapped[int] = mapped_column(default=0)
    iterations_made: Mapped[int] = mapped_column(default=0)  # the number in "Iteration N"; never reused
    status: Mapped[str] = mapped_column(default="Succeeded")  # Succeeded | Importing | Failed
    # Addresses that hold a signature: encrypted (`KeyStore.seal`).
    export_container: Mapped[bytes | None] = mapped_column(LargeBinary)
    notification_queue: Mapped[bytes | None] = mapped_column(LargeBinary)
    webhook: Mapped[bytes | None] = mapped_column(LargeBinary)
    closed: Mapped[datetime | None]  # deleted: nobody sees it any more, a job removes what it holds
    erasure_policy: Mapped[str] = mapped_column(default="keep")  # keep | retrain | unpublish | delete


class Tag(Base):
    """A tag of the workspace. Iterations keep their own copy in `IterationTag`."""

    __tablename__ = "tags"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    description: Mapped[str | None]
    type: Mapped[str] = mapped_column(default="Regular")
    image_count: Mapped[int] = mapped_column(default=0)
    created: Mapped[datetime] = mapped_column(default=now)


class Draft(Base):
    """What live learning knows of a project's workspace; there is a row while it is switched on.

    `revision`, `basis` and `outcome` are of the last fit, NULL before it and once something it learned from was erased.
    """

    __tablename__ = "drafts"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    since: Mapped[datetime] = mapped_column(default=now)  # switched on
    forgotten: Mapped[int] = mapped_column(default=0)  # how often what it had learned was erased
    revision: Mapped[int | None]
    basis: Mapped[str | None]  # recipe, backbone and kind of classification
    outcome: Mapped[str | None]  # learned | waiting | failed
    reason: Mapped[str | None]  # why not learned
    learned: Mapped[datetime | None]
    score: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    complete: Mapped[bool] = mapped_column(default=False)  # `suggested` is of every untagged image
    suggested: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)  # `services.drafts.Suggested`


class ProjectExport(Base):
    """A token of ExportProject: one project at one revision, until it expires or is revoked; counts of that time."""

    __tablename__ = "project_exports"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    revision: Mapped[int]
    image_count: Mapped[int]
    tag_count: Mapped[int]
    region_count: Mapped[int]
    iteration_count: Mapped[int]
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime]
