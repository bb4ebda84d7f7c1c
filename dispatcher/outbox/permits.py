"""Permits: the right to send one event now, reserved in the claim, in the database, for the whole fleet.

One row for each permit in use. It counts in its windows from its reservation until the window has passed since the
answer, because RD Station sees the arrival and not the claim. A reservation is written as if no answer came (until
the end of the lease plus the window), so a worker that dies leaves a window that is too full, never one too empty.
Without limits no row is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from dispatcher.outbox.among import bind, named
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
    def of(cls, per_minute: int, lead_per_day: int, quota_share: float) -> Quota:
        """Our share of these limits of RD Station's."""
        return cls(
            account=permits_per_window(Limit(per_minute, ACCOUNT_WINDOW.total_seconds()), quota_share),
            lead=permits_per_window(Limit(lead_per_day, LEAD_WINDOW.total_seconds()), quota_share),
        )

    def for_account(self, per_minute: int | None, lead_per_day: int | None, quota_share: float) -> Quota:
        """The same, where an account has limits of its own."""
        if per_minute is None and lead_per_day is None:
            return self
        own = Quota.of(per_minute or 0, lead_per_day or 0, quota_share)
        return Quota(
            self.account if per_minute is None else own.account, self.lead if lead_per_day is None else own.lead
        )

    @property
    def counted(self) -> bool:
        """True if permits are written at all."""
        return self.account > 0 or self.lead > 0


NO_LIMITS = Quota(account=0, lead=0)


class Use(NamedTuple):
    """How much of an account's window is in use.

    Attributes:
        used: Permits.
        refused: Those among them to which RD Station answered 429.
        next_free: When the first comes back, if none is given back earlier; None if there is none.
    """

    used: int = 0
    refused: int = 0
    next_free: datetime | None = None

    def left(self, quota: Quota, ceiling: int | None) -> int | None:
        """Permits left in the account's window; None: no limit.

        Args:
            quota: The account's limits.
            ceiling: The most that RD Station may accept of us in one window, if it is less. What it refused is no part.
        """
        if not quota.account:
            return None
        left = quota.account - self.used
        return max(0, left if ceiling is None else min(left, ceiling - (self.used - self.refused)))


def use_of(connection: sa.Connection, accounts: Collection[str], now: datetime) -> dict[str, Use]:
    """The windows of these accounts, by account; of those without a permit in use, nothing.

    Args:
        connection: In the transaction of the claim, which has locked the accounts' rows.
        accounts: Whose.
        now: The database's time, read after the lock.
    """
    if not accounts:
        return {}
    query = _use(connection.dialect.name, len(accounts) == 1)
    return _by_account(connection.execute(query, {**bind(sorted(accounts)), "now": now}).all())


def accepted(connection: sa.Connection, account: str, now: datetime) -> int:
    """How many events of the window so far RD Station has answered and not refused for its quota."""
    answered = permits.c.counts_until <= now + ACCOUNT_WINDOW  # the others count from the end of their lease
    query = sa.select(sa.func.count()).select_from(permits)
    query = query.where(*_IN_WINDOW, answered, permits.c.refused == 0)
    number: int = connection.execute(query, {"account": account, "now": now}).scalar_one()
    return number


def use_of_windows(connection: sa.Connection, now: datetime) -> dict[str, Use]:
    """The windows of all accounts with a permit in use, by account."""
    return _by_account(connection.execute(_USE, {"now": now}).all())


def _by_account(rows: Iterable[Any]) -> dict[str, Use]:
    return {row.account: Use(row.used, int(row.refused), row.next_free) for row in rows}


def lead_used() -> sa.ScalarSelect[int]:
    """How many permits the lead of a row of `outbox_events` has in use, as a correlated subquery. Bind `now`."""
    return (
        sa.select(sa.func.count())
        .where(
            permits.c.account == events.c.account,
            permits.c.lead == events.c.lead,
            permits.c.lead_counts_until > sa.bindparam("now"),
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


def reserve(connection: sa.Connection, taken: Iterable[tuple[Held, str, str, Quota]], *, lease_until: datetime) -> None:
    """Write a permit for each attempt, counting as if no answer ever came.

    Args:
        connection: In the transaction of the claim.
        taken: Attempts that count, each with its account, its lead and their limits.
        lease_until: When the leases end.
    """
    rows = [
        {
            "event": held.id,
            "attempt": held.attempt,
            "account": account,
            "lead": lead,
            "counts_until": lease_until + ACCOUNT_WINDOW,
            "lead_counts_until": lease_until + (LEAD_WINDOW if quota.lead else ACCOUNT_WINDOW),
        }
        for held, account, lead, quota in taken
    ]
    if rows:
        connection.execute(sa.insert(permits), rows)


def use(connection: sa.Connection, answered: Mapping[Held, Quota], *, refused: Collection[Held], now: datetime) -> None:
    """The answers are here: from now on the windows run.

    Args:
        connection: In the transaction of the settlement.
        answered: Attempts with permits to which an answer came, or will not come any more, and the limits of each.
        refused: Those among them to which RD Station answered 429. They count all the same: whether RD Station
            counts them is not known.
        now: The database's, at or after the answers.
    """
    until, lead_until = now + ACCOUNT_WINDOW, now + LEAD_WINDOW
    rows = [
        {
            **_name(held),
            "counts_until": until,
            "lead_counts_until": lead_until if quota.lead else until,
            "refused": int(held in refused),
        }
        for held, quota in answered.items()
    ]
    if rows:
        connection.execute(_ANSWERED, rows)


def give_back(connection: sa.Connection, unsent: Iterable[Held]) -> None:
    """No byte of these was sent: their permits are free again. Only for the worker that held the attempt."""
    if rows := [_name(held) for held in unsent]:
        connection.execute(_GONE, rows)


def forget_past(connection: sa.Connection, now: datetime, *, limit: int = 5000) -> int:
    """Delete permits that no window counts any more, some thousand at a time."""
    past = connection.execute(_PAST, {"now": now, "at_most": limit}).all()
    if past:
        connection.execute(_GONE, [_name(Held(row.event, row.attempt)) for row in past])
    return len(past)


def _name(held: Held) -> dict[str, Any]:
    return {"p_event": held.id, "p_attempt": held.attempt}


_SAME = (permits.c.event == sa.bindparam("p_event"), permits.c.attempt == sa.bindparam("p_attempt"))
_ANSWERED = sa.update(permits).where(*_SAME)
_GONE = sa.delete(permits).where(*_SAME)
_IN_WINDOW = (permits.c.account == sa.bindparam("account"), permits.c.counts_until > sa.bindparam("now"))
_USE = (
    sa.select(
        permits.c.account,
        sa.func.count().label("used"),
        sa.func.sum(permits.c.refused).label("refused"),
        sa.func.min(permits.c.counts_until).label("next_free"),
    )
    .where(permits.c.counts_until > sa.bindparam("now"))
    .group_by(permits.c.account)
)


@cache
def _use(dialect: str, one: bool) -> sa.Select[Any]:
    return _USE.where(named(dialect, permits.c.account, one=one))


_PAST = (
    sa.select(permits.c.event, permits.c.attempt)
    .where(permits.c.lead_counts_until <= sa.bindparam("now"))
    .order_by(permits.c.lead_counts_until, permits.c.event)  # in one order, so that two sweeps cannot deadlock
    .limit(sa.bindparam("at_most", type_=sa.Integer))
)
