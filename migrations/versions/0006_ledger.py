"""The key ledger: facts stay recognised after their events were pruned."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from dispatcher.outbox.moment import Moment

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in {"charset": "utf8mb4", "collate": "utf8mb4_bin", "engine": "InnoDB"}.items()
}


def upgrade() -> None:
    op.create_table(
        "outbox_ledger",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("fact", sa.String(64), nullable=False, comment="as in outbox_events"),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(80), comment="versioned hash of the content"),
        sa.Column("state", sa.String(16), nullable=False, comment="how the event ended"),
        sa.Column("reason", sa.String(32)),
        sa.Column("first_seen", Moment(), nullable=False),
        sa.Column("ended_at", Moment()),
        sa.PrimaryKeyConstraint("account", "fact", name="pk_outbox_ledger"),
        **_MYSQL,
    )
    op.create_index("ix_outbox_ledger_event_id", "outbox_ledger", ["event_id"])


def downgrade() -> None:
    op.drop_table("outbox_ledger")
