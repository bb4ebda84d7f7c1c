"""What the successors of retired types need: which lines belong together, what an account remembers and supplies.

Rolling deploys: columns that are NULL for whoever does not know them. A worker of the release before that claims a
line by itself sends it as it is, as it always did.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    whole = "retired types: the fact of the order or cart that it is, or is part of"
    op.add_column("outbox_events", sa.Column("whole", sa.String(64), comment=whole))
    carried = "row of the order or cart whose request carries it as a line"
    op.add_column("outbox_events", sa.Column("sent_with", sa.BigInteger(), comment=carried))
    _index("ix_outbox_events_whole", "account", "whole")
    _index("ix_outbox_events_sent_with", "sent_with")
    sent_as = "the event type of the request, if it was the successor's"
    op.add_column("outbox_attempts", sa.Column("sent_as", sa.String(64), comment=sent_as))
    retired = "JSON: types that RD Station no longer takes -> since when"
    op.add_column("outbox_accounts", sa.Column("retired_types", sa.Text(), comment=retired))
    currency = "of translated events; NULL: the default"
    op.add_column("outbox_accounts", sa.Column("currency", sa.String(3), comment=currency))
    template = "of translated carts; {cart_id} stands for the cart"
    op.add_column("outbox_accounts", sa.Column("checkout_url_template", sa.Text(), comment=template))


def downgrade() -> None:
    for column in ("checkout_url_template", "currency", "retired_types"):
        op.drop_column("outbox_accounts", column)
    op.drop_column("outbox_attempts", "sent_as")
    for index in ("ix_outbox_events_sent_with", "ix_outbox_events_whole"):
        op.drop_index(index, "outbox_events")
    for column in ("sent_with", "whole"):
        op.drop_column("outbox_events", column)


def _index(name: str, *columns: str) -> None:
    """Partial where the database knows such indexes: most events are of no retired type."""
    condition = sa.text(f"{columns[-1]} IS NOT NULL")
    op.create_index(name, "outbox_events", list(columns), postgresql_where=condition, sqlite_where=condition)
