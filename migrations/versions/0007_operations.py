"""What people did to the outbox: who, why, how far it came, what came of it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from dispatcher.outbox.moment import Moment, statement_now

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in {"charset": "utf8mb4", "collate": "utf8mb4_bin", "engine": "InnoDB"}.items()
}
_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "outbox_operations",
        sa.Column("id", _ROW_ID, sa.Identity(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("account", sa.String(64)),
        sa.Column("signed_by", sa.String(128), nullable=False, comment="who"),
        sa.Column("note", sa.Text(), comment="why"),
        sa.Column("chosen", _LONG_TEXT, comment="JSON: criteria, or rows of events"),
        sa.Column("corrections", sa.Text(), comment="JSON: what is set in each payload"),
        sa.Column("subject", sa.String(64), comment="keyed hash of a forgotten lead"),
        sa.Column("total", sa.Integer(), nullable=False, server_default="0", comment="events meant at the start"),
        sa.Column("place", _ROW_ID, nullable=False, server_default="0", comment="it has come so far"),
        sa.Column("last", _ROW_ID, nullable=False, server_default="0", comment="and goes up to here"),
        sa.Column("seen", sa.Integer(), nullable=False, server_default="0", comment="events it has been through"),
        sa.Column("counts", sa.Text(), comment="JSON: what came of them"),
        sa.Column("per_minute", sa.Integer(), comment="at most so many events; NULL: no limit"),
        sa.Column("cancelled_by", sa.String(128)),
        sa.Column("created_at", Moment(), nullable=False, server_default=statement_now()),
        sa.Column("progress_at", Moment(), nullable=False, server_default=statement_now()),
        sa.Column("ended_at", Moment()),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_operations"),
        sa.CheckConstraint("state IN ('running', 'done', 'cancelled')", name=op.f("ck_outbox_operations_state")),
        sa.CheckConstraint("(state = 'running') = (ended_at IS NULL)", name=op.f("ck_outbox_operations_ended")),
        sa.CheckConstraint(
            "(state = 'cancelled') = (cancelled_by IS NOT NULL)", name=op.f("ck_outbox_operations_cancelled")
        ),
        **_MYSQL,
    )
    op.create_index("ix_outbox_operations_subject", "outbox_operations", ["subject"])


def downgrade() -> None:
    op.drop_table("outbox_operations")
