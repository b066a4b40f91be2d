"""What a training tried."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _search()


def downgrade() -> None:
    op.drop_column("iterations", "search")


def _search() -> None:
    op.add_column("iterations", sa.Column("search", sa.JSON(), nullable=True))
