"""Permits: the right to send one event now, reserved in the claim, in the database, for the whole fleet.

One row for each permit in use. It counts in its windows from its reservation until the window has passed since the
answer, because RD Station sees the arrival and not the claim. A reservation is written as if no answer came (until
the end of the lease plus the window), so a worker that dies leaves a window that is too full, never one too empty.
Without limits no row is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox.tables import events, permits
from dispatcher.outbox.transitions import Held
from dispatcher.policy.windows import Limit, permits_per_window

ACCOUNT_WINDOW = timedelta(minutes=1)
LEAD_WINDOW = timedelta(hours=24)
"""RD Station's windows for events (rdstation-api.md §6)."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How many permits each window has for us, our share already taken; 0 = no limit."""

    account: int
    lead: int

    @classmethod
    def of(cls, account_per_minute: int, lead_per_day: int, share: float) -> Quota:
        """Our share of RD Station's limits, as the settings give them."""
        account = Limit(account_per_minute, ACCOUNT_WINDOW.total_seconds())
        lead = Limit(lead_per_day, LEAD_WINDOW.total_seconds())
        return cls(account=permits_per_window(account, share), lead=permits_per_window(lead, share))

    @property
    def counted(self) -> bool:
        """True if permits are written at all."""
        return self.account > 0 or self.lead > 0


def free(connection: sa.Connection, account: str, quota: Quota, now: datetime) -> int | None:
    """Permits left in the account's window; None: no limit. The caller has locked the account's row."""
    if not quota.account:
        return None
    used = sa.select(sa.func.count()).select_from(permits).where(*_in_account_window(account, now))
    return max(0, quota.account - connection.execute(used).scalar_one())


def used(connection: sa.Connection, now: datetime) -> dict[str, int]:
    """Permits in each account's window, for the metrics; accounts with none are left out."""
    query = sa.select(permits.c.account, sa.func.count().label("number")).where(permits.c.counts_until > now)
    return {row.account: row.number for row in connection.execute(query.group_by(permits.c.account))}


def next_free(connection: sa.Connection, account: str, now: datetime) -> datetime | None:
    """When the next permit of the account's window comes back, if none is given back earlier."""
    soonest = sa.select(sa.func.min(permits.c.counts_until)).where(*_in_account_window(account, now))
    moment: datetime | None = connection.execute(soonest).scalar_one()
    return moment


def lead_used(now: datetime) -> sa.ScalarSelect[int]:
    """How many permits the lead of a row of `outbox_events` has in use, as a correlated subquery."""
    return (
        sa.select(sa.func.count())
        .where(
            permits.c.account == events.c.account,
            permits.c.lead == events.c.lead,
            permits.c.lead_counts_until > now,
        )
        .correlate(events)
        .scalar_subquery()
    )


def lead_next_free(connection: sa.Connection, account: str, lead: str, now: datetime) -> datetime | None:
    """When the next permit of the lead's window comes back."""
    soonest = sa.select(sa.func.min(permits.c.lead_counts_until)).where(
        permits.c.account == account, permits.c.lead == lead, permits.c.lead_counts_until > now
    )
    moment: datetime | None = connection.execute(soonest).scalar_one()
    return moment


def reserve(
    connection: sa.Connection, account: str, taken: Iterable[tuple[Held, str]], *, quota: Quota, lease_until: datetime
) -> None:
    """Write a permit for each attempt and its lead, counting as if no answer ever came."""
    rows = [
        {
            "event": held.id,
            "attempt": held.attempt,
            "account": account,
            "lead": lead,
            "counts_until": lease_until + ACCOUNT_WINDOW,
            "lead_counts_until": lease_until + (LEAD_WINDOW if quota.lead else ACCOUNT_WINDOW),
        }
        for held, lead in taken
    ]
    if quota.counted and rows:
        connection.execute(sa.insert(permits), rows)


def use(connection: sa.Connection, answered: Sequence[Held], *, quota: Quota, now: datetime) -> None:
    """The answers are here: from now on the windows run. `now` is the database's, at or after the answers."""
    _change(
        connection,
        sa.update(permits).values(
            counts_until=now + ACCOUNT_WINDOW, lead_counts_until=now + (LEAD_WINDOW if quota.lead else ACCOUNT_WINDOW)
        ),
        answered,
        quota,
    )


def give_back(connection: sa.Connection, unsent: Sequence[Held], *, quota: Quota) -> None:
    """No byte of these was sent: their permits are free again. Only for the worker that held the attempt."""
    _change(connection, sa.delete(permits), unsent, quota)


def forget_past(connection: sa.Connection, now: datetime, *, limit: int = 5000) -> int:
    """Delete permits that no window counts any more, some thousand at a time."""
    past = (
        sa.select(permits.c.event, permits.c.attempt)
        .where(permits.c.lead_counts_until <= now)
        .order_by(permits.c.lead_counts_until, permits.c.event)  # in one order, so that two sweeps cannot deadlock
        .limit(limit)
    )
    gone = [Held(row.event, row.attempt) for row in connection.execute(past)]
    _change(connection, sa.delete(permits), gone, None)
    return len(gone)


def _in_account_window(account: str, now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return permits.c.account == account, permits.c.counts_until > now


def _change(
    connection: sa.Connection, statement: sa.Update | sa.Delete, attempts: Sequence[Held], quota: Quota | None
) -> None:
    if not attempts or (quota is not None and not quota.counted):
        return
    rows: list[dict[str, Any]] = [{"p_event": held.id, "p_attempt": held.attempt} for held in attempts]
    connection.execute(
        statement.where(permits.c.event == sa.bindparam("p_event"), permits.c.attempt == sa.bindparam("p_attempt")),
        rows,
    )
