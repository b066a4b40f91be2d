"""Images, their tags, regions and metadata, each valid for the revisions `[since, until)` of their project.

`until` is NULL while a row belongs to the workspace. An iteration at revision r sees the rows with
``since <= r and (until is null or until > r)``.
"""

from datetime import datetime

from sqlalchemy import Float, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from ownvision.store.tables.base import Base, new_id, now

_LIVE = text("until IS NULL")


class Image(Base):
    """An uploaded picture. Its bytes lie under the blob prefix named by `id` (`store.ledger.image_prefix`)."""

    __tablename__ = "images"
    __table_args__ = (
        Index("uq_images_live_sha256", "project_id", "sha256", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
        Index("ix_images_live", "project_id", "seq", sqlite_where=_LIVE, postgresql_where=_LIVE),
        Index("ix_images_live_tagged", "project_id", "tagged", "seq", sqlite_where=_LIVE, postgresql_where=_LIVE),
        Index("ix_images_revision", "project_id", "seq", "since", "until"),
    )

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)  # the order of creation
    id: Mapped[str] = mapped_column(String(36), unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    sha256: Mapped[str] = mapped_column(String(64))  # of the original bytes
    width: Mapped[int]  # of the upright picture, pixels
    height: Mapped[int]
    size: Mapped[int]  # bytes of the original
    format: Mapped[str]  # JPEG | PNG | GIF | BMP
    file_name: Mapped[str | None]
    uploaded_by: Mapped[str | None] = mapped_column(String(36))  # the key's id
    created: Mapped[datetime] = mapped_column(default=now)
    tagged: Mapped[bool] = mapped_column(default=False)  # in the workspace
    restricted: Mapped[datetime | None]  # kept, but neither learned from nor suggested for (GDPR, article 18)
    since: Mapped[int]
    until: Mapped[int | None]


class ImageMetadata(Base):
    """One key-value pair of an image; for reading and for `$filter`. Not versioned: it changes for all iterations."""

    __tablename__ = "image_metadata"
    __table_args__ = (Index("ix_image_metadata_pair", "project_id", "key", "value", "image_seq"),)

    image_seq: Mapped[int] = mapped_column(ForeignKey("images.seq", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(String(36))
    value: Mapped[str]


class ImageTag(Base):
    """An image carries a tag. In detection projects it exists while a region of the tag does."""

    __tablename__ = "image_tags"
    __table_args__ = (
        Index("uq_image_tags_live", "image_seq", "tag_id", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
        Index("ix_image_tags_live_tag", "tag_id", "image_seq", sqlite_where=_LIVE, postgresql_where=_LIVE),
        Index("ix_image_tags_image", "image_seq"),
        Index("ix_image_tags_revision", "project_id", "tag_id", "image_seq", "since", "until"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    image_seq: Mapped[int] = mapped_column(ForeignKey("images.seq", ondelete="CASCADE"))
    tag_id: Mapped[str] = mapped_column(String(36))
    created: Mapped[datetime] = mapped_column(default=now)
    since: Mapped[int]
    until: Mapped[int | None]


class Region(Base):
    """A tagged box on an image: left, top, width, height relative to the upright picture, 0 to 1."""

    __tablename__ = "regions"
    __table_args__ = (
        Index("ix_regions_image", "image_seq"),
        Index("ix_regions_project_tag", "project_id", "tag_id"),
    )

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(36), unique=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    image_seq: Mapped[int] = mapped_column(ForeignKey("images.seq", ondelete="CASCADE"))
    tag_id: Mapped[str] = mapped_column(String(36))
    left: Mapped[float] = mapped_column(Float(53))
    top: Mapped[float] = mapped_column(Float(53))
    width: Mapped[float] = mapped_column(Float(53))
    height: Mapped[float] = mapped_column(Float(53))
    created: Mapped[datetime] = mapped_column(default=now)
    since: Mapped[int]
    until: Mapped[int | None]
