"""Acts on looks at accounts' candidates: leases what may go, with a permit for each, and sets the others aside."""

from __future__ import annotations

from collections.abc import Sequence
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
    looks: Sequence[tuple[AccountRow, Look]],
    rules: ClaimRules,
    *,
    worker: str,
    now: datetime,
    asking: bool = False,
) -> list[Claimed]:
    """Lease what looks at some accounts found free, with a permit for each."""
    until = now + rules.lease
    taken: list[Claimed] = []
    for account, look in looks:
        retired = parts_in_flight.join(connection, account, look.free, rules.legacy, lease_until=until, worker=worker)
        quota, probe = rules.quota_of(account), asking or not account.breaker.is_closed()
        taken += [
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
                probe=probe,
                alone=row.reason == ALONE,
                quota=quota,
                retired=retired.get(row.id),
            )
            for row in look.free
        ]
    transitions.claim(connection, [event.id for event in taken], lease_until=until, worker=worker)
    counted = [(event.held, event.account, event.lead, event.quota) for event in taken if event.quota.counted]
    permits.reserve(connection, counted, lease_until=until)
    return taken


def set_aside(connection: sa.Connection, looks: Sequence[tuple[AccountRow, Look]], now: datetime) -> list[int]:
    """Write why the others may not go, or never will; answers the `owed` of `Batch`."""
    step_aside(connection, {event: blocker for _, look in looks for event, blocker in look.blocked.items()})
    park(connection, [event for _, look in looks for event in look.parked])  # until the type is open, or for a probe
    for account, look in looks:
        for event, lead in look.over_lead_limit:
            until = permits.lead_next_free(connection, account.account, lead, now) or now
            until = min(until, now + _LEAD_PARKED_AT_MOST)
            transitions.defer(connection, [event], until=until, reason="lead_limited")
    if unreadable := [event for _, look in looks for event in look.unreadable]:
        require_key(connection)
        transitions.defer(connection, unreadable, until=now + _UNREADABLE_RETRY, reason=_UNREADABLE)
    outlived = [event for _, look in looks for event in look.outlived]
    transitions.expire(connection, [event for _, look in looks for event in look.expired])
    transitions.supersede(connection, [event for _, look in looks for event in look.superseded])
    transitions.recognise(connection, [event for _, look in looks for event in look.known])
    transitions.outlive(connection, outlived)
    dead_letters.open_for_age(connection, outlived)
    return wake(connection, [event for _, look in looks for event in look.gone()]).owed
