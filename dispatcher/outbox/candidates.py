"""Ways to find events that each planner takes through the index meant for them, whatever its statistics say.

PostgreSQL and SQLite have partial indexes. MySQL's index of candidates holds every event, and all those that are none
come first in it, as NULLs: a look that begins there reads everything ever delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from dispatcher.outbox.dialect_insert import MYSQL
from dispatcher.outbox.tables import events


class Candidate(NamedTuple):
    """A row of `window.candidate_columns`: an event that a claim may take, with what stands before it.

    A tuple, not the row itself: a claim asks each of them thirty times, and a row looks every name up.
    """

    id: int
    event_id: UUID
    lead: str
    event_type: str
    key: str
    payload: str
    attached: str | None
    whole: str | None
    created_at: datetime
    attempt: int
    failures: int
    postponed: int
    reason: str | None
    ready_at: datetime
    expires_at: datetime | None
    budget_from: datetime
    ordering: str
    subject: str | None
    traceparent: str | None
    oldest: int | None
    flying: int | None
    moot: bool
    known: bool
    lead_used: int

    @property
    def blocker(self) -> int | None:
        """Whoever of its lead must leave first: the one in flight, or the oldest one waiting."""
        if self.flying is not None or self.oldest == self.id:
            return self.flying
        return self.oldest


_FORCE = "FORCE INDEX (ix_outbox_events_ready)"


def candidates(dialect: str, columns: Sequence[Any], account: sa.ColumnElement[str], lane: int) -> sa.Select[Any]:
    """The candidates of an account, those guessed to be `behind` (lane 1) or the others, soonest first.

    The caller bounds `ready_at`: without a bound the partial index does not match.
    """
    order = (events.c.ready_at, events.c.id)
    behind = events.c.behind == sa.literal_column(str(lane), sa.Integer)
    if dialect in MYSQL:
        # With two equalities the optimizer looks up (account, behind) and begins at the NULLs. A list makes it a range
        # over `ready_at` too; no account is called ''.
        query = sa.select(*columns).where(events.c.account.in_([account, sa.literal("")]), behind)
        return query.order_by(events.c.account, events.c.behind, *order).with_hint(events, _FORCE)
    return sa.select(*columns).where(events.c.account == account, behind).order_by(*order)


def belongs_to(dialect: str, account: str | sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    """The account as a filter only, for queries that a partial index of few rows answers.

    SQLite would rather read all of the account's events: an equality is worth more to it than a partial index.
    """
    if dialect == "sqlite":
        return sa.literal_column("+outbox_events.account", sa.String) == account
    return events.c.account == account
