"""Ways to find events that each planner takes through the index meant for them, whatever its statistics say.

PostgreSQL and SQLite have partial indexes. MySQL's index of candidates holds every event, and all those that are none
come first in it, as NULLs: a look that begins there reads everything ever delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox.dialect_insert import MYSQL
from dispatcher.outbox.tables import events

_FORCE = "FORCE INDEX (ix_outbox_events_ready)"


def candidates(dialect: str, columns: Sequence[Any], lane: int) -> sa.Select[Any]:
    """The candidates of the account bound so, those guessed to be `behind` (lane 1) or the others, soonest first.

    The caller bounds `ready_at`: without a bound the partial index does not match.
    """
    account = sa.bindparam("account", type_=events.c.account.type)
    order = (events.c.ready_at, events.c.id)
    behind = events.c.behind == sa.literal_column(str(lane), sa.Integer)
    if dialect in MYSQL:
        # With two equalities the optimizer looks up (account, behind) and begins at the NULLs. A list makes it a range
        # over `ready_at` too; no account is called ''.
        query = sa.select(*columns).where(events.c.account.in_([account, ""]), behind)
        return query.order_by(events.c.account, events.c.behind, *order).with_hint(events, _FORCE)
    return sa.select(*columns).where(events.c.account == account, behind).order_by(*order)


def belongs_to(dialect: str, account: str | sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    """The account as a filter only, for queries that a partial index of few rows answers.

    SQLite would rather read all of the account's events: an equality is worth more to it than a partial index.
    """
    if dialect == "sqlite":
        return sa.literal_column("+outbox_events.account", sa.String) == account
    return events.c.account == account
