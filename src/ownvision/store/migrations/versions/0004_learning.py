"""Learning: drafts of live projects, the course of jobs, what a training tried."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    _progress()
    _drafts()
    op.add_column("iterations", sa.Column("search", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("iterations", "search")
    op.drop_table("drafts")
    _undo_progress()


def _drafts() -> None:
    op.create_table(
        "drafts",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("since", _MOMENT, nullable=False),
        sa.Column("forgotten", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("basis", sa.String(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("learned", _MOMENT, nullable=True),
        sa.Column("score", sa.JSON(), nullable=True),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("suggested", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_drafts_project_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_drafts")),
    )


def _progress() -> None:
    op.add_column("jobs", sa.Column("curve", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("jobs", sa.Column("result", sa.JSON(), nullable=True))


def _undo_progress() -> None:
    op.execute("DELETE FROM jobs WHERE kind = 'examine'")  # nobody there knows how to do them
    for column in ("result", "curve"):
        op.drop_column("jobs", column)
