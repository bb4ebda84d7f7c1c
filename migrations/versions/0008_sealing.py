"""The switch that seals payloads at rest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "outbox_installation",
        sa.Column(
            "payload_key", sa.String(8), comment="name of the key that payloads are sealed with; NULL: they are not"
        ),
    )


def downgrade() -> None:
    sealed = op.get_bind().execute(sa.text("SELECT payload_key FROM outbox_installation")).scalar_one_or_none()
    if sealed is not None:  # an earlier release would take sealed payloads for broken ones
        raise RuntimeError("payloads are encrypted: run `dispatcher payloads unseal` before going back")
    op.drop_column("outbox_installation", "payload_key")
