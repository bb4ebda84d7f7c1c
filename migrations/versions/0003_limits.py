"""Limits of their own for accounts, the share of a quota that other apps use as well, and API keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ACCOUNTS = (
    sa.Column("per_minute", sa.Integer(), comment="events in 60 s, 0 = no limit; NULL: as the settings say"),
    sa.Column("lead_per_day", sa.Integer(), comment="events for a lead in 24 h; else as per_minute"),
    sa.Column("share", sa.Text(), comment="JSON: what a 429 has shown to be ours of the account's window"),
    sa.Column("api_key", sa.Text(), comment="encrypted: for conversions"),
    sa.Column("api_key_seed", sa.String(64), comment="hash of the environment's API key when last read"),
)
_PERMITS = (
    sa.Column("refused", sa.SmallInteger(), nullable=False, server_default="0", comment="RD Station answered 429"),
)


def upgrade() -> None:
    """Add the columns; workers of the release before do not see them."""
    for table, columns in (("outbox_accounts", _ACCOUNTS), ("outbox_permits", _PERMITS)):
        for column in columns:
            op.add_column(table, column)


def downgrade() -> None:
    """Drop what `upgrade` added."""
    for table, columns in (("outbox_permits", _PERMITS), ("outbox_accounts", _ACCOUNTS)):
        for column in reversed(columns):
            op.drop_column(table, column.name)
