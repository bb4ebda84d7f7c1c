"""What watching the outbox needs: counters, notices, the trace of an event, the progress of a worker's pool.

Rolling deploys: new tables, and columns that are NULL for whoever does not know them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from dispatcher.outbox.moment import Moment

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in {"charset": "utf8mb4", "collate": "utf8mb4_bin", "engine": "InnoDB"}.items()
}


def upgrade() -> None:
    traced = "W3C trace context of the request that enqueued it"
    op.add_column("outbox_events", sa.Column("traceparent", sa.String(55), comment=traced))
    op.add_column("outbox_workers", sa.Column("heard_at", Moment(), comment="its pool last took a bell or claimed"))
    stalled = "its watchdog has ended it: it made no progress with work due"
    op.add_column("outbox_workers", sa.Column("stalled_at", Moment(), comment=stalled))
    op.create_table(
        "outbox_counters",
        sa.Column("name", sa.String(48), nullable=False),
        sa.Column("labels", sa.String(96), nullable=False, comment="name=value, of a bounded set; empty: none"),
        sa.Column("value", sa.Double(), nullable=False, server_default="0", comment="only rises"),
        sa.PrimaryKeyConstraint("name", "labels", name="pk_outbox_counters"),
        **_MYSQL,
    )
    op.create_table(
        "outbox_notices",
        sa.Column("kind", sa.String(24), nullable=False),
        sa.Column("account", sa.String(64), nullable=False, comment="empty: the whole outbox"),
        sa.Column("subject", sa.String(64), nullable=False, comment="such as the event type; empty: none"),
        sa.Column("detail", sa.Text(), nullable=False, comment="redacted"),
        sa.Column("raised_at", Moment(), nullable=False),
        sa.Column("seen_at", Moment(), nullable=False, comment="still so at the last look"),
        sa.Column("resolved_at", Moment()),
        sa.Column("to_tell", sa.String(8), comment="raised or resolved; NULL: the webhook knows"),
        sa.Column("tell_at", Moment(), comment="the next try to tell it"),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.CheckConstraint(
            "to_tell IS NULL OR to_tell IN ('raised', 'resolved')", name=op.f("ck_outbox_notices_to_tell")
        ),
        sa.CheckConstraint("(to_tell IS NULL) = (tell_at IS NULL)", name=op.f("ck_outbox_notices_tell_at")),
        sa.PrimaryKeyConstraint("kind", "account", "subject", name="pk_outbox_notices"),
        **_MYSQL,
    )
    op.create_index("ix_outbox_notices_tell_at", "outbox_notices", ["tell_at"])


def downgrade() -> None:
    op.drop_table("outbox_notices")
    op.drop_table("outbox_counters")
    op.drop_column("outbox_workers", "stalled_at")
    op.drop_column("outbox_workers", "heard_at")
    op.drop_column("outbox_events", "traceparent")
