"""How many events of an account a claim may take now, and when it may take the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox import permits, transitions
from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.among import named
from dispatcher.outbox.candidates import belongs_to
from dispatcher.outbox.claimed import ClaimRules
from dispatcher.outbox.permits import Quota, Use
from dispatcher.outbox.tables import accounts, events

_UNPROVEN_RETRY = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one account may take now.

    Attributes:
        most: So many events; None: no limit.
        next_at: When one that may take none looks again: a permit comes back, or our share of the window rises.
    """

    most: int | None
    next_at: datetime


def allowances_of(
    connection: sa.Connection, rows: Sequence[AccountRow], rules: ClaimRules, now: datetime
) -> list[Allowance]:
    """What these accounts may take, in their order. The caller has locked their rows, and read `now` afterwards."""
    quotas = [rules.quota_of(row) for row in rows]
    limited = [row.account for row, quota in zip(rows, quotas, strict=True) if quota.account]
    use = permits.use_of(connection, limited, now)
    proving = busy(connection, [row.account for row in rows if not row.trusted(now)])
    return [
        _allowance(row, quota, use.get(row.account, Use()), row.account in proving, now)
        for row, quota in zip(rows, quotas, strict=True)
    ]


def _allowance(row: AccountRow, quota: Quota, use: Use, one_is_out: bool, now: datetime) -> Allowance:
    """One event at a time until the account's credentials have proven good."""
    left = use.left(quota, row.share.permits(quota.account, now) if row.share else None)
    later = now + _UNPROVEN_RETRY
    if not row.trusted(now):
        return Allowance(0 if one_is_out or left == 0 else 1, later)
    next_at = use.next_free or later
    if row.share and row.share.rises_at > now:
        next_at = min(next_at, row.share.rises_at)
    return Allowance(left, next_at)


def busy(connection: sa.Connection, names: Sequence[str]) -> set[str]:
    """Those of these accounts that have an event in flight."""
    dialect = connection.dialect.name
    if dialect == "postgresql" and len(names) > 1:
        return set(connection.scalars(_busy_of_many(), {"names": names}))
    return {name for name in names if connection.execute(_in_flight(dialect), {"account": name}).first() is not None}


@cache
def _busy_of_many() -> sa.Select[Any]:
    flying = sa.exists().where(events.c.account == accounts.c.account, transitions.LEASED)
    return sa.select(accounts.c.account).where(named("postgresql", accounts.c.account), flying)


@cache
def _in_flight(dialect: str) -> sa.Select[Any]:
    account: sa.BindParameter[str] = sa.bindparam("account")
    query = sa.select(events.c.id).where(belongs_to(dialect, account), transitions.LEASED)
    return query.limit(1)
