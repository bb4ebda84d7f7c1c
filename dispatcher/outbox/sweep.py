"""The sweep's work on the outbox: bounded steps, harmless when two do them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from dispatcher.outbox import account_rows, transitions
from dispatcher.outbox.moment import read_clock, statement_now
from dispatcher.outbox.settle import unpark
from dispatcher.outbox.tables import accounts, attempts, events
from dispatcher.outbox.transitions import Held
from dispatcher.outbox.wake import IN_LINE, flying, oldest_pending, wake
from dispatcher.policy.verdict import Verdict

_STEP = 500


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An attempt whose lease has ended, with what deciding about it needs."""

    held: Held
    account: str
    lead: str
    event_type: str
    key: str
    failures: int
    age_seconds: float
    abandoned_before: bool
    worker: str | None


def abandoned(connection: sa.Connection) -> list[Abandoned]:
    """Attempts whose lease has ended, oldest first, some hundred at a time.

    Changes nothing: the caller decides, and `settle` writes it under the same fence as any settlement.
    """
    now = read_clock(connection)
    query = (
        sa.select(
            events.c.id,
            events.c.attempt,
            events.c.account,
            events.c.lead,
            events.c.event_type,
            events.c.key,
            events.c.failures,
            events.c.budget_from,
            events.c.leased_by,
            sa.exists()
            .where(attempts.c.event == events.c.id, attempts.c.verdict == Verdict.ABANDONED.value)
            .label("before"),
        )
        .where(events.c.state == transitions.IN_FLIGHT, events.c.lease_until <= now)
        .order_by(events.c.lease_until, events.c.id)
        .limit(_STEP)
    )
    rows = connection.execute(query).all()
    ages: dict[str, Callable[[datetime, datetime], float]] = {
        row.account: row.age_seconds for row in account_rows.read(connection, {row.account for row in rows})
    }
    return [
        Abandoned(
            held=Held(row.id, row.attempt),
            account=row.account,
            lead=row.lead,
            event_type=row.event_type,
            key=row.key,
            failures=row.failures,
            age_seconds=ages[row.account](row.budget_from, now) if row.account in ages else 0.0,
            abandoned_before=bool(row.before),
            worker=row.leased_by,
        )
        for row in rows
    ]


def expire(connection: sa.Connection) -> int:
    """End pending events past their business expiry, some hundred at a time; answers how many."""
    query = (
        sa.select(events.c.id)
        .where(events.c.state == transitions.PENDING, events.c.expires_at <= read_clock(connection))
        .order_by(events.c.expires_at, events.c.id)
        .limit(_STEP)
        .with_for_update(skip_locked=True, key_share=True)
    )
    ids = list(connection.scalars(query))
    transitions.expire(connection, ids)
    wake(connection, ids)
    return len(ids)


def spread_the_word(connection: sa.Connection) -> list[str]:
    """Put accounts that have due candidates, and that nobody would look at, into the queue of turns.

    Walks from account to account through the index of candidates, so an account without any costs nothing.

    Returns:
        The accounts whose turn it is now; bells are worth ringing for them.
    """
    found = _accounts_with_candidates(connection)
    now = read_clock(connection)
    known = dict(
        connection.execute(
            sa.select(accounts.c.account, accounts.c.turn_at).where(accounts.c.account.in_(sorted(found)))
        )
        .tuples()
        .all()
    )
    account_rows.ensure(connection, found.keys() - known.keys())
    held = {row.account: row for row in account_rows.read(connection, found.keys() & known.keys())}
    late = {
        account: due
        for account, due in found.items()
        if account in held and not held[account].is_held() and (known[account] is None or known[account] > due)
    }
    for account, due in late.items():
        throttled = held[account].throttled_until
        account_rows.set_turn(connection, account, max(due, now, throttled or now))
    waiting = sa.select(accounts.c.account).where(accounts.c.turn_at <= read_clock(connection))
    return list(connection.scalars(waiting.order_by(accounts.c.turn_at).limit(_STEP)))


def _accounts_with_candidates(connection: sa.Connection) -> Mapping[str, datetime]:
    """Each account with a candidate, and when its first one is due."""
    found: dict[str, datetime] = {}
    last = ""
    while True:
        step = (
            sa.select(events.c.account, events.c.behind, events.c.ready_at)
            .where(events.c.ready_at.is_not(None), events.c.account > last)
            .order_by(events.c.account, events.c.behind, events.c.ready_at, events.c.id)
            .limit(1)
        )
        row = connection.execute(step).one_or_none()
        if row is None:
            return found
        found[row.account] = row.ready_at
        last = row.account


def next_turn_in(connection: sa.Connection) -> timedelta | None:
    """How long until the next account wants its turn: zero or less if one waits, None if none does. One query."""
    soonest = sa.select(sa.func.min(accounts.c.turn_at)).scalar_subquery()
    turn_at, now = connection.execute(sa.select(soonest, statement_now())).one()
    return None if turn_at is None else turn_at - now


@dataclass(slots=True)
class Repair:
    """Walks the sleepers in small steps and wakes those that nobody would: a wake that was skipped, or a bug.

    Keeps its place between calls; starts again at the end.
    """

    after: int = 0

    def step(self, connection: sa.Connection) -> int:
        """Look at some hundred sleepers; answers how many leads had to be repaired."""
        sleepers = (
            sa.select(events.c.id)
            .where(
                events.c.state == transitions.PENDING,
                events.c.ready_at.is_(None),
                IN_LINE,
                events.c.id > self.after,
            )
            .order_by(events.c.id)
            .limit(_STEP)
        )
        ids = list(connection.scalars(sleepers))
        self.after = ids[-1] if len(ids) == _STEP else 0
        if not ids:
            return 0
        forgotten = sa.select(events.c.id).where(
            events.c.id.in_(ids),
            events.c.id == oldest_pending(events),
            flying(events).is_(None),
            sa.or_(events.c.reason.is_(None), events.c.reason != account_rows.PARKED),
        )
        stuck = list(connection.scalars(forgotten.with_for_update(skip_locked=True, key_share=True)))
        if stuck:
            statement = sa.update(events).where(events.c.id.in_(stuck), events.c.state == transitions.PENDING)
            connection.execute(statement.values(ready_at=events.c.available_at, behind=0))
        return len(stuck)


def due_probes(connection: sa.Connection, *, probe_every: timedelta) -> Sequence[str]:
    """Take the probes that are due: suspended accounts to be probed by the caller, now, outside of any transaction.

    The time of the next probe moves on in the same step, so two sweeps never probe the same account at once. Types
    that are due get one of their events back as a candidate, which the next claim may send.
    """
    now = read_clock(connection)
    query = (
        sa.select(accounts.c.account)
        .where(accounts.c.probe_at <= now)
        .order_by(accounts.c.probe_at)
        .limit(_STEP)
        .with_for_update(skip_locked=True, key_share=True)
    )
    taken = list(connection.scalars(query))
    suspended = []
    for row in account_rows.read(connection, taken):
        for event_type, entry in row.types.types.items():
            if datetime.fromisoformat(entry["probe_at"]) <= now:
                unpark(connection, row.account, event_type, at_most=1)
        if row.suspended_at is not None and row.paused_at is None:
            suspended.append(row.account)
        elif row.types.types and not row.is_held():
            account_rows.make_due(connection, [row.account])
    if taken:
        connection.execute(sa.update(accounts).where(accounts.c.account.in_(taken)).values(probe_at=now + probe_every))
        done = sa.and_(accounts.c.suspended_at.is_(None), accounts.c.suspended_types.is_(None))
        connection.execute(sa.update(accounts).where(accounts.c.account.in_(taken), done).values(probe_at=None))
    return suspended
