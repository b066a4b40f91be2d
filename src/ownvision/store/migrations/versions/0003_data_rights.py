"""Receipts, takeouts, audit trail, retention, legal holds, backups; jobs of a whole account; projects that close."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_MOMENT = sa.DateTime(timezone=True)
# What was recorded is never rewritten, by no statement of anybody's.
_APPEND_ONLY = {
    "sqlite": (
        "CREATE TRIGGER audit_events_append_only BEFORE UPDATE ON audit_events "
        "BEGIN SELECT RAISE(ABORT, 'audit_events is append-only'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION refuse_update() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$",
        "CREATE TRIGGER audit_events_append_only BEFORE UPDATE ON audit_events "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_update()",
    ),
}
_FREE = {
    "sqlite": ("DROP TRIGGER audit_events_append_only",),
    "postgresql": ("DROP TRIGGER audit_events_append_only ON audit_events", "DROP FUNCTION refuse_update()"),
}


def _owner(table: str, column: str, owner: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=op.f(f"fk_{table}_{column}"), ondelete="CASCADE")


def upgrade() -> None:
    op.add_column("accounts", sa.Column("closed", _MOMENT, nullable=True))
    op.add_column("projects", sa.Column("closed", _MOMENT, nullable=True))
    op.add_column("projects", sa.Column("erasure_policy", sa.String(), nullable=False, server_default="keep"))
    op.add_column("images", sa.Column("restricted", _MOMENT, nullable=True))
    op.add_column("iterations", sa.Column("origin", sa.JSON(), nullable=True))
    for table, column in (("iterations", "model_id"), ("exports", "archive_id")):
        op.add_column(table, sa.Column(column, sa.String(length=36), nullable=False, server_default=""))
        op.execute(f"UPDATE {table} SET {column} = id")
    op.drop_index("ix_scored_images_iteration", "scored_images")
    op.add_column("scored_images", sa.Column("model_id", sa.String(length=36), nullable=False, server_default=""))
    op.execute("UPDATE scored_images SET model_id = iteration_id")
    op.create_index("ix_scored_images_iteration", "scored_images", ["iteration_id", "model_id", "image_id"])
    op.add_column("iterations", sa.Column("erased_count", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("iterations", sa.Column("unlearning", sa.String(), nullable=True))
    op.add_column("iterations", sa.Column("left_out", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("lineage", sa.Column("unlearned", _MOMENT, nullable=True))
    op.execute(
        "UPDATE iterations SET unlearning = 'kept', erased_count = "
        "(SELECT count(*) FROM lineage WHERE lineage.iteration_id = iterations.id) "
        "WHERE id IN (SELECT iteration_id FROM lineage)"
    )
    op.add_column("blobs", sa.Column("receipt", sa.String(length=36), nullable=True))
    op.create_index("ix_blobs_receipt", "blobs", ["receipt", "state"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.alter_column("project_id", existing_type=sa.String(), nullable=True)
        jobs.add_column(sa.Column("asked_by", sa.String(length=36), nullable=True))
    # When a row's time is over follows from when it was made: `data_rights.retention`.
    for table in ("predictions", "suggestions"):
        op.drop_index(f"ix_{table}_expires", table)
        op.drop_column(table, "expires")
        op.create_index(f"ix_{table}_created", table, ["created"])
    op.create_table(
        "receipts",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("operation", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(length=36), nullable=True),
        sa.Column("subjects", sa.JSON(), nullable=False),
        sa.Column("erased", sa.JSON(), nullable=False),
        sa.Column("kept", sa.JSON(), nullable=False),
        sa.Column("asked", _MOMENT, nullable=False),
        sa.Column("signed", _MOMENT, nullable=True),
        sa.Column("statement", sa.String(), nullable=True),
        sa.Column("signature", sa.String(), nullable=True),
        sa.Column("learned", sa.JSON(), nullable=False),
        sa.Column("settled", _MOMENT, nullable=True),
        sa.Column("counted", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipts")),
        sa.UniqueConstraint("account_id", "number", name=op.f("uq_receipts_account_id_number")),
    )
    op.create_index("ix_receipts_state", "receipts", ["state"])
    op.create_table(
        "takeouts",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=True),
        sa.Column("selection", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("created", _MOMENT, nullable=False),
        _owner("takeouts", "account_id", "accounts"),
        _owner("takeouts", "project_id", "projects"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_takeouts")),
    )
    op.create_index(op.f("ix_takeouts_account_id"), "takeouts", ["account_id"])
    op.create_index(op.f("ix_takeouts_project_id"), "takeouts", ["project_id"])
    op.create_table(
        "audit_events",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("actor", sa.String(length=36), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("operation", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=True),
        sa.Column("target", sa.String(length=36), nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(length=36), nullable=True),
        _owner("audit_events", "account_id", "accounts"),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_events")),
    )
    op.create_index("ix_audit_events_account", "audit_events", ["account_id", "seq"])
    op.create_index("ix_audit_events_project", "audit_events", ["project_id", "seq"])
    op.create_index("ix_audit_events_at", "audit_events", ["at"])
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)
    op.create_table(
        "retention_rules",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        _owner("retention_rules", "account_id", "accounts"),
        _owner("retention_rules", "project_id", "projects"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_rules")),
    )
    op.create_index("ix_retention_rules_account", "retention_rules", ["account_id", "kind"])
    op.create_table(
        "legal_holds",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("created", _MOMENT, nullable=False),
        _owner("legal_holds", "account_id", "accounts"),
        _owner("legal_holds", "project_id", "projects"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_legal_holds")),
    )
    op.create_index(op.f("ix_legal_holds_account_id"), "legal_holds", ["account_id"])
    op.create_table(
        "backups",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("made", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backups")),
    )


def downgrade() -> None:
    for statement in _FREE[op.get_bind().dialect.name]:
        op.execute(statement)
    for table in ("backups", "legal_holds", "retention_rules", "audit_events", "takeouts", "receipts"):
        op.drop_table(table)
    for table in ("predictions", "suggestions"):
        op.drop_index(f"ix_{table}_created", table)
        op.add_column(table, sa.Column("expires", _MOMENT, nullable=False, server_default="2100-01-01 00:00:00.000000"))
        op.create_index(f"ix_{table}_expires", table, ["expires"])
    op.execute("DELETE FROM jobs WHERE project_id IS NULL")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("asked_by")
        jobs.alter_column("project_id", existing_type=sa.String(), nullable=False)
    op.execute(
        "DELETE FROM scored_images WHERE model_id <> "
        "(SELECT iterations.model_id FROM iterations WHERE iterations.id = scored_images.iteration_id)"
    )
    op.drop_index("ix_scored_images_iteration", "scored_images")
    op.create_index("ix_scored_images_iteration", "scored_images", ["iteration_id", "image_id"])
    op.drop_index("ix_blobs_receipt", "blobs")
    for table, column in (
        ("blobs", "receipt"),
        ("lineage", "unlearned"),
        ("iterations", "left_out"),
        ("iterations", "unlearning"),
        ("iterations", "erased_count"),
        ("exports", "archive_id"),
        ("scored_images", "model_id"),
        ("iterations", "model_id"),
        ("iterations", "origin"),
        ("images", "restricted"),
        ("projects", "erasure_policy"),
        ("projects", "closed"),
        ("accounts", "closed"),
    ):
        op.drop_column(table, column)
