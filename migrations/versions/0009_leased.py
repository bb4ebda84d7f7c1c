"""An index of leases that the planner cannot take for "is one of this lead in flight" (docs/adr/0027).

Rolling deploys: an index more; the one before it stays for whoever still asks for leases by their state.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_INDEX, _TABLE = "ix_outbox_events_leased", "outbox_events"


def upgrade() -> None:
    leased = sa.text("lease_until IS NOT NULL")
    match op.get_bind().dialect.name:
        case "postgresql":
            _drop_concurrently()  # what a try that broke off has left is there by name, and of no use
            if op.get_bind().scalar(sa.text("SELECT 1 FROM outbox_events LIMIT 1")) is None:
                # To build it beside writers would wait for every transaction in the database, and there is no writer.
                op.create_index(_INDEX, _TABLE, ["lease_until", "id"], postgresql_where=leased)
                return
            with op.get_context().autocommit_block():
                op.create_index(
                    _INDEX, _TABLE, ["lease_until", "id"], postgresql_where=leased, postgresql_concurrently=True
                )
        case "sqlite":
            op.create_index(_INDEX, _TABLE, ["lease_until", "id"], sqlite_where=leased)
        case _:
            pass  # MySQL's index of leases has no condition


def downgrade() -> None:
    match op.get_bind().dialect.name:
        case "postgresql":
            _drop_concurrently()
        case "sqlite":
            op.drop_index(_INDEX, _TABLE)
        case _:
            pass


def _drop_concurrently() -> None:
    """Without a lock that the outbox would wait for."""
    with op.get_context().autocommit_block():
        op.drop_index(_INDEX, _TABLE, postgresql_concurrently=True, if_exists=True)
