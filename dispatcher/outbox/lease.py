"""Acts on a look at an account's candidates: leases what may go, with a permit for each, and sets the others aside."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from dispatcher.outbox import dead_letters, parts_in_flight, permits, transitions
from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.at_rest import require_key
from dispatcher.outbox.claimed import ALONE, Claimed, ClaimRules
from dispatcher.outbox.looking import Look
from dispatcher.outbox.parking import park
from dispatcher.outbox.wake import step_aside, wake

_LEAD_PARKED_AT_MOST = timedelta(hours=1)

_UNREADABLE = "unreadable"
"""The reason on pending events whose content is sealed with a key that the workers do not have."""

_UNREADABLE_RETRY = timedelta(minutes=1)
"""Such an event is looked at again so often; it keeps its place in its lead's line."""


def lease_free(
    connection: sa.Connection,
    account: AccountRow,
    look: Look,
    rules: ClaimRules,
    *,
    worker: str,
    now: datetime,
    asking: bool = False,
) -> list[Claimed]:
    """Lease what a look found free, with a permit for each."""
    until, quota = now + rules.lease, rules.quota_of(account)
    retired = parts_in_flight.join(connection, account, look.free, rules.legacy, lease_until=until, worker=worker)
    taken = [
        Claimed(
            id=row.id,
            event_id=row.event_id,
            account=account.account,
            lead=row.lead,
            event_type=row.event_type,
            key=row.key,
            payload=row.payload,
            attempt=row.attempt + 1,
            failures=row.failures,
            postponed=row.postponed,
            age_seconds=account.age_seconds(row.budget_from, now),
            about=row.subject is not None,
            traceparent=row.traceparent,
            probe=asking or not account.breaker.is_closed(),
            alone=row.reason == ALONE,
            quota=quota,
            retired=retired.get(row.id),
        )
        for row in look.free
    ]
    transitions.claim(connection, [event.id for event in taken], lease_until=until, worker=worker)
    permits.reserve(
        connection,
        account.account,
        [(event.held, event.lead) for event in taken],
        quota=quota,
        lease_until=until,
    )
    return taken


def set_aside(connection: sa.Connection, account: AccountRow, look: Look, now: datetime) -> list[int]:
    """Write why the others may not go, or never will; answers the `owed` of `Batch`."""
    step_aside(connection, look.blocked)
    park(connection, look.parked)  # until the type is open again, or one at a time for a probe
    for event, lead in look.over_lead_limit:
        until = permits.lead_next_free(connection, account.account, lead, now) or now
        until = min(until, now + _LEAD_PARKED_AT_MOST)
        transitions.defer(connection, [event], until=until, reason="lead_limited")
    if look.unreadable:
        require_key(connection)
        transitions.defer(connection, look.unreadable, until=now + _UNREADABLE_RETRY, reason=_UNREADABLE)
    transitions.expire(connection, look.expired)
    transitions.supersede(connection, look.superseded)
    transitions.recognise(connection, look.known)
    transitions.outlive(connection, look.outlived)
    dead_letters.open_for_age(connection, look.outlived)
    return wake(connection, look.gone())
