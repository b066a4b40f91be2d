"""Suggestions, default iterations, projects that travel, notifications."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("projects", sa.Column("status", sa.String(), nullable=False, server_default="Succeeded"))
    for name in ("export_container", "notification_queue", "webhook"):
        op.add_column("projects", sa.Column(name, sa.LargeBinary(), nullable=True))
    op.add_column("iterations", sa.Column("is_default", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("iterations", sa.Column("notify_email", sa.LargeBinary(), nullable=True))
    op.add_column("predictions", sa.Column("uncertainty", sa.Float(53), nullable=False, server_default="0"))
    op.create_index(
        "uq_iterations_default",
        "iterations",
        ["project_id"],
        unique=True,
        sqlite_where=sa.text("is_default"),
        postgresql_where=sa.text("is_default"),
    )
    op.create_index("ix_predictions_project_uncertainty", "predictions", ["project_id", "uncertainty"])
    op.create_table(
        "suggestions",
        sa.Column("image_seq", sa.Integer(), nullable=False),
        sa.Column("iteration_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.Column("uncertainty", sa.Float(53), nullable=False),
        sa.Column("predictions", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_seq"], ["images.seq"], name=op.f("fk_suggestions_image_seq"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["iteration_id"], ["iterations.id"], name=op.f("fk_suggestions_iteration_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_seq", "iteration_id", name=op.f("pk_suggestions")),
    )
    op.create_index("ix_suggestions_iteration_uncertainty", "suggestions", ["iteration_id", "uncertainty", "image_seq"])
    op.create_index("ix_suggestions_expires", "suggestions", ["expires"])
    op.create_table(
        "project_exports",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("image_count", sa.Integer(), nullable=False),
        sa.Column("tag_count", sa.Integer(), nullable=False),
        sa.Column("region_count", sa.Integer(), nullable=False),
        sa.Column("iteration_count", sa.Integer(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_project_exports_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project_exports")),
    )
    op.create_index(op.f("ix_project_exports_project_id"), "project_exports", ["project_id"])
    op.create_table(
        "notifications",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("event", sa.JSON(), nullable=False),
        sa.Column("recipient", sa.LargeBinary(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_notifications_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_notifications")),
    )
    op.create_index("ix_notifications_project", "notifications", ["project_id", "channel", "seq"])


def downgrade() -> None:
    for table in ("notifications", "project_exports", "suggestions"):
        op.drop_table(table)
    op.drop_index("ix_predictions_project_uncertainty", "predictions")
    op.drop_index("uq_iterations_default", "iterations")
    op.drop_column("predictions", "uncertainty")
    for name in ("notify_email", "is_default"):
        op.drop_column("iterations", name)
    for name in ("webhook", "notification_queue", "export_container", "status"):
        op.drop_column("projects", name)
