"""Without the index of leases by their state, which 0009 has put out of use.

Nothing is released that uses it, so this may come at once. As long as it is there, PostgreSQL may take it for "is one
of this lead in flight", and read every lease that has ended since somebody's transaction began (docs/adr/0027).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

contracts = "0009"

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_INDEX, _TABLE = "ix_outbox_events_lease", "outbox_events"


def upgrade() -> None:
    match op.get_bind().dialect.name:
        case "postgresql":
            _drop_concurrently()
        case "sqlite":
            op.drop_index(_INDEX, _TABLE)
        case _:
            pass  # MySQL's index of leases has no condition, and stays


def downgrade() -> None:
    in_flight = sa.text("state = 'in_flight'")
    match op.get_bind().dialect.name:
        case "postgresql":
            _drop_concurrently()  # what a try that broke off has left is there by name, and of no use
            with op.get_context().autocommit_block():
                op.create_index(
                    _INDEX, _TABLE, ["lease_until", "id"], postgresql_where=in_flight, postgresql_concurrently=True
                )
        case "sqlite":
            op.create_index(_INDEX, _TABLE, ["lease_until", "id"], sqlite_where=in_flight)
        case _:
            pass


def _drop_concurrently() -> None:
    """Without a lock that the outbox would wait for."""
    with op.get_context().autocommit_block():
        op.drop_index(_INDEX, _TABLE, postgresql_concurrently=True, if_exists=True)
