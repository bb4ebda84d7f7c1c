"""How many events of an account a claim may take now, and when it may take the next."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox import looking, permits, transitions
from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.candidates import belongs_to
from dispatcher.outbox.permits import Quota
from dispatcher.outbox.tables import events

_UNPROVEN_RETRY = timedelta(seconds=5)


def allowance_of(connection: sa.Connection, account: AccountRow, quota: Quota, now: datetime) -> int:
    """How many events of this account may be claimed now; one at a time until its credentials have proven good."""
    ceiling = account.share.permits(quota.account, now) if account.share else None
    left = permits.free(connection, account.account, quota, now, ceiling=ceiling)
    if account.trusted(now):
        return looking.LOOK_AT_MOST if left is None else left
    one_is_out = connection.execute(_in_flight(connection.dialect.name), {"account": account.account}).first()
    return 0 if one_is_out is not None or left == 0 else 1


@cache
def _in_flight(dialect: str) -> sa.Select[Any]:
    account: sa.BindParameter[str] = sa.bindparam("account")
    query = sa.select(events.c.id).where(belongs_to(dialect, account), events.c.state == transitions.IN_FLIGHT)
    return query.limit(1)


def next_permit(connection: sa.Connection, account: AccountRow, now: datetime) -> datetime:
    """When an account without one looks again: one comes back, or our share of the window rises."""
    if not account.trusted(now):
        return now + _UNPROVEN_RETRY
    later = permits.next_free(connection, account.account, now) or now + _UNPROVEN_RETRY
    rises_at = account.share.rises_at if account.share else later
    return min(later, rises_at) if rises_at > now else later
