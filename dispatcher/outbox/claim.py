"""Claiming: lease due events, fairly over accounts, in order per lead, with a permit for each.

Accounts queue by `turn_at`: the one that has waited longest is served first and goes to the end with what it has
left. So an account with a million events waiting takes its turn between the others, and one without work is not
looked at. Claims of one account happen one after another under its row's lock; producers never touch that row.

The shape of the look at one account is measured in docs/adr/0003: its cost depends on the rows taken, not on the
backlog, and each blocked event is met once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from dispatcher.outbox import (
    account_rows,
    dead_letters,
    fleet,
    parts_in_flight,
    parts_waiting,
    permits,
    transitions,
    turns,
)
from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.at_rest import require_key
from dispatcher.outbox.candidates import belongs_to, candidates
from dispatcher.outbox.ledger import is_remembered
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.moot import is_moot
from dispatcher.outbox.parking import park
from dispatcher.outbox.permits import NO_LIMITS, Quota
from dispatcher.outbox.retirement import LegacyRules, Retired
from dispatcher.outbox.sealing import is_sealed
from dispatcher.outbox.tables import events
from dispatcher.outbox.transitions import Held
from dispatcher.outbox.wake import IN_LINE, flying, oldest_pending, step_aside, wake
from dispatcher.policy.verdict import Verdict

_LOOK_AT_MOST = 2000
"""Candidates looked at in one claim of one account, so that a lead's long line bounds the claim too."""

_UNPROVEN_RETRY = timedelta(seconds=5)
_LEAD_PARKED_AT_MOST = timedelta(hours=1)

UNREADABLE = "unreadable"
"""The reason on pending events whose content is sealed with a key that the workers do not have."""

UNREADABLE_RETRY = timedelta(minutes=1)
"""Such an event is looked at again so often; it keeps its place in its lead's line."""

ALONE = Verdict.BATCH_REFUSED.value
"""The reason on pending events that come back from a refused batch."""


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What the claim keeps to.

    Attributes:
        lease: How long the events are ours.
        quota: Permits per window, for accounts without limits of their own.
        max_age: Older events are buried instead of claimed; time on hold left out.
        probe_every: How often one event of a suspended type may try.
        quota_share: The part that is ours of an account's own limits.
        legacy: What becomes of retired types.
    """

    lease: timedelta
    quota: Quota
    max_age: timedelta
    probe_every: timedelta
    quota_share: float = 1.0
    legacy: LegacyRules = LegacyRules()  # noqa: RUF009  # frozen

    def quota_of(self, account: AccountRow) -> Quota:
        """Permits per window of this account."""
        return self.quota.for_account(account.per_minute, account.lead_per_day, self.quota_share)


@dataclass(frozen=True, slots=True)
class Claimed:
    """One leased event, with what sending and deciding need, and the limits its permit was reserved under.

    `about`: a supersede rule is about it, so look again before sending (`moot.py`). `probe`: it tries whether a breaker
    may close; its failure says nothing of the event. `alone`: it was in a refused batch, so it shares no request now.
    `retired`: how it leaves, and with what; for retired types only.
    """

    id: int
    event_id: UUID
    account: str
    lead: str
    event_type: str
    key: str
    payload: str
    attempt: int
    failures: int
    postponed: int
    age_seconds: float
    about: bool
    probe: bool
    traceparent: str | None = None
    alone: bool = False
    quota: Quota = NO_LIMITS
    retired: Retired | None = None

    @property
    def held(self) -> Held:
        """The attempt that settles it."""
        return Held(self.id, self.attempt)


@dataclass(slots=True)
class Batch:
    """What one claim got.

    Attributes:
        events: Leased to the caller.
        more: The look was cut short: claim again, also when there are no events.
        expired: Events that ended `cancelled: expired` on the way.
        superseded: Events that ended `cancelled: superseded` on the way.
        outlived: Events that became dead letters by age on the way.
        owed: Events that ended on the way and whose lead's next event is locked; call `wake` with them soon.
    """

    events: list[Claimed] = field(default_factory=list)
    more: bool = False
    expired: int = 0
    superseded: int = 0
    outlived: int = 0
    owed: list[int] = field(default_factory=list)


def claim(
    connection: sa.Connection,
    rules: ClaimRules,
    *,
    worker: str,
    room: int,
    hints: Collection[str] = (),
    busy: Mapping[str, int] | None = None,
    cap: int | None = None,
) -> Batch:
    """Lease up to `room` events. The caller commits, and sends only afterwards.

    Args:
        connection: In a transaction of its own, READ COMMITTED.
        rules: Leases, limits and ages.
        worker: Who holds the leases, for the operator.
        room: How many events the caller can send soon.
        hints: Accounts said to have work, looked at even if their turn is not known yet.
        busy: Events of each account that the caller is sending already.
        cap: The most that the caller sends of one account at a time; None: no cap.

    Raises:
        ConfigurationError: Payloads are sealed and this process lacks the key: it can send nothing. Roll back.
    """
    busy = busy or {}
    full = [account for account, count in busy.items() if cap is not None and count >= cap]
    batch = Batch()
    if room <= 0 or fleet.read(connection).closed_until(read_clock(connection)) is not None:
        return batch
    rows = turns.take_turns(connection, at_most=room, hints=hints, leave_out=full)
    everybody: fleet.FleetRow | None = fleet.read(connection)
    asking = everybody is not None and not everybody.outage.breaker.is_closed()
    if asking:
        everybody = fleet.lock_for_probe(connection)
    now = read_clock(connection)  # after the locks: a claim that waited must not see an old window
    if everybody is None or everybody.closed_until(now) is not None:
        return batch
    for place, row in enumerate(rows):
        row.holds += everybody.all_holds()
        share = 1 if asking else -(-(room - len(batch.events)) // (len(rows) - place))
        if cap is not None:
            share = min(share, cap - busy.get(row.account, 0))
        _claim_account(connection, row, rules, worker=worker, want=share, now=now, asking=asking, batch=batch)
        if asking and batch.events:  # one event asks for all accounts
            fleet.send_probe(connection, batch.events[0].held, now + rules.lease)
            break
    return batch


@dataclass(slots=True)
class _Look:
    """What a look at one account's candidates found."""

    free: list[sa.Row[Any]] = field(default_factory=list)
    blocked: dict[int, int] = field(default_factory=dict)
    parked: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    superseded: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    outlived: list[int] = field(default_factory=list)
    over_lead_limit: list[tuple[int, str]] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)

    def gone(self) -> list[int]:
        """Events that have left their leads' lines here, so that the next ones are to be woken."""
        return [*self.expired, *self.superseded, *self.known, *self.outlived, *self.parked]


def _claim_account(
    connection: sa.Connection,
    account: AccountRow,
    rules: ClaimRules,
    *,
    worker: str,
    want: int,
    now: datetime,
    asking: bool,
    batch: Batch,
) -> None:
    if account.is_held():
        turns.set_turn(connection, account.account, None)
        return
    if account.is_throttled(now):
        turns.set_turn(connection, account.account, account.throttled_until)
        return
    quota = rules.quota_of(account)
    if account.share is not None and account.share.is_over(quota.account, now):
        account_rows.write_share(connection, account, None)
    allowance = allowance_of(connection, account, quota, now)
    if not allowance:
        turns.set_turn(connection, account.account, _next_permit(connection, account, now))
        return
    want = min(want, allowance)
    taken: list[Claimed] = []
    cut = False
    for behind in (0, 1):  # events guessed to be behind others come second, but always get a look
        size, seen = want, 0
        after: sa.Row[Any] | None = None
        enough = _LOOK_AT_MOST if len(taken) < want else want
        while seen < enough and (len(taken) < want or behind):
            size = min(size, enough - seen)
            found, after, window = _window(connection, account.account, behind, quota, now, after, size)
            window, left_a_line = parts_waiting.set_apart(connection, account, window, rules.legacy, now)
            batch.more |= left_a_line
            look = sort_out(window, account, rules, now, want - len(taken))
            taken += lease_free(connection, account, look, rules, worker=worker, now=now, asking=asking)
            batch.owed += _set_aside(connection, account, look, now)
            batch.expired += len(look.expired)
            batch.superseded += len(look.superseded)
            batch.outlived += len(look.outlived)
            batch.more |= bool(look.gone())  # whoever stood behind them is a candidate now
            seen += found
            if found < size:
                break
            size *= 2  # mostly blocked: take longer steps
        else:
            cut = True
    batch.events += taken
    batch.more = batch.more or cut
    turns.set_turn(
        connection, account.account, now if cut else _next_ready(connection, account.account, now), account.types
    )


def allowance_of(connection: sa.Connection, account: AccountRow, quota: Quota, now: datetime) -> int:
    """How many events of this account may be claimed now; one at a time until its credentials have proven good."""
    ceiling = account.share.permits(quota.account, now) if account.share else None
    left = permits.free(connection, account.account, quota, now, ceiling=ceiling)
    if account.trusted(now):
        return _LOOK_AT_MOST if left is None else left
    in_flight = sa.select(events.c.id).where(
        belongs_to(connection.dialect.name, account.account), events.c.state == transitions.IN_FLIGHT
    )
    one_is_out = connection.execute(in_flight.limit(1)).first() is not None
    return 0 if one_is_out or left == 0 else 1


def _next_permit(connection: sa.Connection, account: AccountRow, now: datetime) -> datetime:
    """When an account without one looks again: one comes back, or our share of the window rises."""
    if not account.trusted(now):
        return now + _UNPROVEN_RETRY
    later = permits.next_free(connection, account.account, now) or now + _UNPROVEN_RETRY
    rises_at = account.share.rises_at if account.share else later
    return min(later, rises_at) if rises_at > now else later


def _window(
    connection: sa.Connection,
    account: str,
    behind: int,
    quota: Quota,
    now: datetime,
    after: sa.Row[Any] | None,
    size: int,
) -> tuple[int, sa.Row[Any] | None, Sequence[sa.Row[Any]]]:
    """The next candidates of a lane: how many there are, the last one, and those that nobody else has locked."""
    dialect = connection.dialect.name
    here = [events.c.ready_at <= now]
    if after is not None:  # not the rows this transaction has been through
        here += [
            events.c.ready_at >= after.ready_at,
            sa.or_(events.c.ready_at > after.ready_at, events.c.id > after.id),
        ]
    columns = candidate_columns(quota, now)
    if dialect not in {"mysql", "mariadb"}:
        query = candidates(dialect, columns, account, behind).where(*here).limit(size)
        window = connection.execute(query.with_for_update(skip_locked=True, key_share=True)).all()
        return len(window), window[-1] if window else None, window
    # InnoDB locks the record behind a range as well: the next account's first candidate, which that account's own
    # claim would then pass over. So the range is read without locks, and the rows are locked by their ids.
    ids = connection.execute(
        candidates(dialect, [events.c.id, events.c.ready_at], account, behind).where(*here).limit(size)
    ).all()
    if not ids:
        return 0, None, []
    query = sa.select(*columns).where(events.c.id.in_([row.id for row in ids]), *here[:1])
    query = query.order_by(events.c.ready_at, events.c.id).with_hint(events, "FORCE INDEX (PRIMARY)")
    return len(ids), ids[-1], connection.execute(query.with_for_update(skip_locked=True)).all()


def candidate_columns(quota: Quota, now: datetime) -> list[sa.ColumnElement[Any]]:
    """What a claim must know of a candidate, with what stands before it."""
    used: sa.ColumnElement[int] = permits.lead_used(now) if quota.lead else sa.literal_column("0", sa.Integer)
    return [
        events.c.id,
        events.c.event_id,
        events.c.lead,
        events.c.event_type,
        events.c.key,
        events.c.payload,
        events.c.attached,
        events.c.whole,
        events.c.created_at,
        events.c.attempt,
        events.c.failures,
        events.c.postponed,
        events.c.reason,
        events.c.ready_at,
        events.c.expires_at,
        events.c.budget_from,
        events.c.ordering,
        events.c.subject,
        events.c.traceparent,
        sa.case((IN_LINE, oldest_pending(events)), else_=None).label("oldest"),
        sa.case((IN_LINE, flying(events)), else_=None).label("flying"),
        used.label("lead_used"),
        is_moot(events).label("moot"),
        is_remembered(events).label("known"),
    ]


def sort_out(
    window: Collection[sa.Row[Any]], account: AccountRow, rules: ClaimRules, now: datetime, want: int
) -> _Look:
    """What may go, and why the others may not. Changes nothing but the account's probe times."""
    look, quota = _Look(), rules.quota_of(account)
    counted: dict[str, int] = {}
    for row in window:
        if row.expires_at is not None and row.expires_at <= now:
            look.expired.append(row.id)
        elif row.known:
            look.known.append(row.id)
        elif row.moot:
            look.superseded.append(row.id)
        elif row.flying is not None or (row.oldest is not None and row.oldest != row.id):
            look.blocked[row.id] = row.flying or row.oldest
        elif account.age_seconds(row.budget_from, now) > rules.max_age.total_seconds():
            look.outlived.append(row.id)
        elif len(look.free) >= want:
            continue  # stays a candidate
        elif is_sealed(row.payload) or is_sealed(row.attached):
            look.unreadable.append(row.id)
        elif quota.lead and row.lead_used + counted.get(row.lead, 0) >= quota.lead:
            look.over_lead_limit.append((row.id, row.lead))
        elif not account.types.may_send(row.event_type, now, rules.probe_every):
            look.parked.append(row.id)
        else:
            counted[row.lead] = counted.get(row.lead, 0) + 1
            look.free.append(row)
    return look


def lease_free(
    connection: sa.Connection,
    account: AccountRow,
    look: _Look,
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


def _set_aside(connection: sa.Connection, account: AccountRow, look: _Look, now: datetime) -> list[int]:
    step_aside(connection, look.blocked)
    park(connection, look.parked)  # until the type is open again, or one at a time for a probe
    for event, lead in look.over_lead_limit:
        until = permits.lead_next_free(connection, account.account, lead, now) or now
        until = min(until, now + _LEAD_PARKED_AT_MOST)
        transitions.defer(connection, [event], until=until, reason="lead_limited")
    if look.unreadable:
        require_key(connection)
        transitions.defer(connection, look.unreadable, until=now + UNREADABLE_RETRY, reason=UNREADABLE)
    transitions.expire(connection, look.expired)
    transitions.supersede(connection, look.superseded)
    transitions.recognise(connection, look.known)
    transitions.outlive(connection, look.outlived)
    dead_letters.open_for_age(connection, look.outlived)
    return wake(connection, look.gone())


def _next_ready(connection: sa.Connection, account: str, now: datetime) -> datetime | None:
    """When the account's next candidate is due; a moment in the past if one was left, None if there is none."""
    soonest = [
        candidates(connection.dialect.name, [events.c.ready_at], account, behind)
        .where(events.c.ready_at.is_not(None))
        .limit(1)
        .scalar_subquery()
        for behind in (0, 1)
    ]
    row = connection.execute(sa.select(*soonest)).one()
    moments = [moment for moment in row if moment is not None]
    return max(min(moments), now) if moments else None
