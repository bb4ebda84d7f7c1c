"""The sweep's work on the outbox: bounded steps, harmless when two do them at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox import account_rows, fleet, transitions, turns
from dispatcher.outbox.dialect_insert import MYSQL
from dispatcher.outbox.moment import Moment, read_clock, statement_now
from dispatcher.outbox.parking import unpark, unparked
from dispatcher.outbox.tables import accounts, attempts, events, owed_wakes
from dispatcher.outbox.transitions import Held
from dispatcher.outbox.wake import IN_LINE, flying, oldest_pending, owe, wake
from dispatcher.outbox.window import EVERYTHING
from dispatcher.policy.verdicts import Verdict

_STEP = 500
_AROUND_AT_MOST = 20
"""Accounts that a walk leaves out; each is a statement more."""
_REPAIR_STEP = 2000
_EARLIEST = EVERYTHING[0]
_LATE_LEASE = timedelta(minutes=1)
"""A claim is committed sooner than this after its lease has ended, whatever it waited for."""

_AT_MOST = sa.bindparam("at_most", type_=sa.Integer)


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


_whole = events.alias("whole")
_WITH_ITS_WHOLE = sa.and_(
    events.c.sent_with.is_not(None),
    sa.select(_whole.c.id)  # not EXISTS, for which PostgreSQL may read all wholes at once, and by no index
    .where(_whole.c.id == events.c.sent_with, _whole.c.state == transitions.IN_FLIGHT)
    .correlate(events)
    .scalar_subquery()
    .is_not(None),
)
"""A line that is in flight with its order or cart, whose settlement brings its own."""


def is_work_left(connection: sa.Connection) -> tuple[bool, datetime]:
    """Whether anything is there that a sweep may have to move on, and the database's time. One read, of a few rows.

    Events that have not ended, wakes that are owed, accounts that are to be probed. Without any of them the other steps
    find nothing. The first sign found is enough, and that an account waits for its turn is the cheapest.
    """
    sign, now = connection.execute(_what_is_left(connection.dialect.name)).one()
    return sign is not None, now


@cache
def _what_is_left(dialect: str) -> sa.Select[Any]:
    state, ready_at = events.c.state, events.c.ready_at
    if dialect in MYSQL:  # its other indexes hold every event, and begin with those that have ended
        events_left = [
            _sign(state == unfinished, order=ready_at) for unfinished in (transitions.PENDING, transitions.IN_FLIGHT)
        ]
    else:
        events_left = [
            _sign(transitions.LEASED, order=events.c.lease_until),
            _sign(state == transitions.PENDING, ready_at.is_(None), order=events.c.id),
            _sign(ready_at.is_not(None), order=events.c.account),
        ]
    turn = _sign(accounts.c.turn_at <= statement_now(), order=accounts.c.turn_at)
    probe = _sign(accounts.c.probe_at.is_not(None), order=accounts.c.probe_at)
    sign: sa.ColumnElement[Any] = sa.func.coalesce(turn, probe, _sign(order=owed_wakes.c.id), *events_left)
    return sa.select(sign, statement_now())


def _sign(*where: sa.ColumnElement[bool], order: sa.Column[Any]) -> sa.ScalarSelect[Any]:
    """One row, in the order of the index meant: a planner that expects many would read the table for any one."""
    one = sa.select(sa.literal_column("1", sa.Integer)).select_from(order.table)
    return one.where(*where).order_by(order).limit(1).scalar_subquery()


def abandoned(connection: sa.Connection, since: datetime | None = None) -> list[Abandoned]:
    """Attempts whose lease has ended, oldest first, some hundred at a time.

    Changes nothing: the caller decides, and `settle` writes it under the same fence as any settlement.

    Args:
        connection: For two reads, and some more if there are any.
        since: Only those whose lease ended later than a minute before: a look at all passes, while somebody holds a
            transaction open, every lease that has ended in it. None: all.
    """
    now = read_clock(connection)
    begin = _EARLIEST if since is None else min(since, now) - _LATE_LEASE
    rows = connection.execute(_LEASE_ENDED, {"now": now, "since": begin, "at_most": _STEP}).all()
    known = {row.account: row for row in account_rows.read(connection, {row.account for row in rows})}
    of_all = fleet.read(connection).all_holds() if rows else []
    for account in known.values():
        account.holds += of_all
    return [
        Abandoned(
            held=Held(row.id, row.attempt),
            account=row.account,
            lead=row.lead,
            event_type=row.event_type,
            key=row.key,
            failures=row.failures,
            age_seconds=known[row.account].age_seconds(row.budget_from, now) if row.account in known else 0.0,
            abandoned_before=bool(row.before),
            worker=row.leased_by,
        )
        for row in rows
    ]


_LEASE_ENDED = (
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
    .where(~_WITH_ITS_WHOLE)
    .where(events.c.lease_until <= sa.bindparam("now"), events.c.lease_until > sa.bindparam("since"))
    .order_by(events.c.lease_until, events.c.id)
    .limit(_AT_MOST)
)


def expire(connection: sa.Connection) -> int:
    """End pending events past their business expiry, some hundred at a time; answers how many."""
    ids = list(connection.scalars(_EXPIRED, {"now": read_clock(connection), "at_most": _STEP}))
    transitions.expire(connection, ids)
    owe(connection, wake(connection, ids).owed)
    return len(ids)


_EXPIRED = (
    sa.select(events.c.id)
    .where(events.c.state == transitions.PENDING, events.c.expires_at <= sa.bindparam("now"))
    .order_by(events.c.expires_at, events.c.id)
    .limit(_AT_MOST)
    .with_for_update(skip_locked=True, key_share=True)
)


def pay_wakes(connection: sa.Connection) -> int:
    """Wake whom somebody could not wake at the time, some hundred at once; answers how many are paid off."""
    rows = connection.execute(_OWED, {"at_most": _STEP}).all()
    still = set(wake(connection, [row.event for row in rows]).owed) if rows else set()
    paid = [row.id for row in rows if row.event not in still]
    if paid:
        connection.execute(sa.delete(owed_wakes).where(owed_wakes.c.id.in_(paid)))
    return len(paid)


_OWED = (
    sa.select(owed_wakes.c.id, owed_wakes.c.event)
    .order_by(owed_wakes.c.id)
    .limit(_AT_MOST)
    .with_for_update(skip_locked=True)
)


def spread_the_word(connection: sa.Connection) -> list[str]:
    """Put accounts that have due candidates, and that nobody would look at, into the queue of turns.

    Walks from account to account through the index of candidates, so its cost is accounts, not events. On PostgreSQL a
    few whose turn it is already are left out of the walk: while somebody holds a transaction open, the first candidate
    of an account in work is behind all that have gone since.

    Returns:
        The accounts whose turn it is now; bells are worth ringing for them.
    """
    overlooked = _all_overlooked(connection)
    now = read_clock(connection)
    account_rows.ensure(connection, [row.account for row in overlooked if row.known is None])
    late = {row.account: max(row.due, now, row.throttled_until or now) for row in overlooked if row.known is not None}
    turns.advance_turns(connection, late)
    return list(connection.scalars(_WAITING, {"now": read_clock(connection), "at_most": _STEP}))


_WAITING = (
    sa.select(accounts.c.account)
    .where(accounts.c.turn_at <= sa.bindparam("now"))
    .order_by(accounts.c.turn_at)
    .limit(_AT_MOST)
)


def _all_overlooked(connection: sa.Connection) -> list[sa.Row[Any]]:
    dialect = connection.dialect.name
    around: list[str] = []
    if dialect == "postgresql":
        around = list(connection.scalars(_AROUND, {"at_most": _AROUND_AT_MOST + 1}))
        if len(around) > _AROUND_AT_MOST:
            around = []
    found: list[sa.Row[Any]] = []
    for after, until in itertools.pairwise(["", *around, None]):
        query = _overlooked(dialect, ends=until is not None)
        found += connection.execute(query, {"after": after, "until": until}).all()
    return found


_IN_WORK = (
    sa.select(accounts.c.account)
    .where(accounts.c.turn_at <= statement_now())
    .order_by(accounts.c.turn_at)
    .limit(_AT_MOST)
    .subquery("in_work")
)
_AROUND = sa.select(_IN_WORK.c.account).order_by(_IN_WORK.c.account)


@cache
def _overlooked(dialect: str, *, ends: bool) -> sa.Select[Any]:
    """Accounts whose first candidate is due before their turn, or that have no row yet: those after a name.

    `ends`: And before another.
    """
    lanes = _lanes_of_mysql() if dialect in MYSQL else _lanes(ends=ends)
    first = (
        sa.select(lanes.c.account, sa.func.min(lanes.c.due, type_=Moment()).label("due"))
        .group_by(lanes.c.account)
        .subquery("first")
    )
    turn = accounts.c.turn_at
    return (
        sa.select(first.c.account, first.c.due, accounts.c.account.label("known"), accounts.c.throttled_until)
        .select_from(first.outerjoin(accounts, accounts.c.account == first.c.account))
        .where(accounts.c.paused_at.is_(None), accounts.c.suspended_at.is_(None))
        .where(sa.or_(turn.is_(None), turn > first.c.due))
    )


def _lanes(*, ends: bool) -> sa.Subquery:
    """The first candidate of each account and lane, by jumping through the partial index of candidates."""
    before = (events.c.account < sa.bindparam("until", type_=events.c.account.type),) if ends else ()

    def next_account(after: sa.ColumnElement[str]) -> sa.ScalarSelect[str]:
        query = sa.select(events.c.account).where(events.c.ready_at.is_not(None), events.c.account > after, *before)
        return query.order_by(events.c.account).limit(1).correlate_except(events).scalar_subquery()

    first = next_account(sa.bindparam("after", type_=events.c.account.type))
    walk = sa.select(first.label("account")).cte("walk", recursive=True)
    here = walk.c.account
    walk = walk.union_all(sa.select(next_account(here)).where(here.is_not(None)))
    lanes = [
        sa.select(
            walk.c.account,
            sa.select(events.c.ready_at)
            .where(events.c.account == walk.c.account, events.c.behind == sa.literal_column(str(lane), sa.Integer))
            .where(events.c.ready_at.is_not(None))
            .order_by(events.c.ready_at)
            .limit(1)
            .correlate(walk)
            .scalar_subquery()
            .label("due"),
        ).where(walk.c.account.is_not(None))
        for lane in (0, 1)
    ]
    return sa.union_all(*lanes).subquery("lanes")


def _lanes_of_mysql() -> sa.Subquery:
    """The same where the index holds every event: its loose scan for MIN jumps over those that are no candidates.

    A correlated subquery would begin each account at its NULLs, which are all the events that have ended.
    """
    return (
        sa.select(events.c.account, sa.func.min(events.c.ready_at, type_=Moment()).label("due"))
        .where(events.c.ready_at > sa.literal_column("'1000-01-01'", Moment()))
        .group_by(events.c.account, events.c.behind)
        .subquery("lanes")
    )


def next_turn_in(connection: sa.Connection) -> timedelta | None:
    """How long until the next account wants its turn: zero or less if one waits, None if none does. Two reads."""
    turn_at, now = connection.execute(_NEXT_TURN).one()
    if turn_at is None:
        return None
    closed_until = fleet.read(connection).closed_until(now)
    due: timedelta = max(turn_at, closed_until or turn_at) - now
    return due


_NEXT_TURN = sa.select(sa.select(sa.func.min(accounts.c.turn_at)).scalar_subquery(), statement_now())


@dataclass(slots=True)
class Repair:
    """Walks the sleepers in small steps and wakes those that nobody would: a wake that was skipped, or a bug.

    Keeps its place between calls; starts again at the end.
    """

    after: int = 0

    def step(self, connection: sa.Connection) -> int:
        """Look at some thousand sleepers; answers how many had to be woken."""
        rows = connection.execute(_SLEEPERS, {"after": self.after, "at_most": _REPAIR_STEP}).all()
        self.after = rows[-1].id if len(rows) == _REPAIR_STEP else 0
        parked = [row for row in rows if row.reason == transitions.PARKED]
        in_line = [row.id for row in rows if row.reason != transitions.PARKED]
        return _wake_forgotten(connection, in_line) + _wake_parked(connection, parked)


_SLEEPERS = (
    sa.select(events.c.id, events.c.account, events.c.event_type, events.c.reason)
    .where(events.c.state == transitions.PENDING, events.c.ready_at.is_(None), events.c.id > sa.bindparam("after"))
    .order_by(events.c.id)
    .limit(_AT_MOST)
)


def _wake_forgotten(connection: sa.Connection, sleepers: Sequence[int]) -> int:
    if not sleepers:
        return 0
    forgotten = sa.select(events.c.id).where(
        events.c.id.in_(sleepers), IN_LINE, events.c.id == oldest_pending(events), flying(events).is_(None)
    )
    return _make_candidates(connection, forgotten)


def _wake_parked(connection: sa.Connection, parked: Sequence[Any]) -> int:
    """Those whose type is open again: `unpark` passes over rows that a shop has locked, and takes a limited number."""
    suspended = {row.account: row.types.types for row in account_rows.read(connection, {row.account for row in parked})}
    free = [row.id for row in parked if row.event_type not in suspended.get(row.account, {})]
    if not free:
        return 0
    return _make_candidates(connection, sa.select(events.c.id).where(events.c.id.in_(free)), **unparked())


def _make_candidates(connection: sa.Connection, which: sa.Select[Any], **further: Any) -> int:
    asleep = which.where(events.c.state == transitions.PENDING, events.c.ready_at.is_(None))
    stuck = list(connection.scalars(asleep.with_for_update(skip_locked=True, key_share=True)))
    if stuck:
        statement = sa.update(events).where(events.c.id.in_(stuck))
        connection.execute(statement.values({"ready_at": events.c.available_at, "behind": 0, **further}))
    return len(stuck)


def due_probes(connection: sa.Connection, *, probe_every: timedelta) -> Sequence[str]:
    """Take the probes that are due: suspended accounts to be probed by the caller, now, outside of any transaction.

    The time of the next probe moves on in the same step, so two sweeps never probe the same account at once. Types
    that are due get one of their events back as a candidate, which the next claim may send.
    """
    now = read_clock(connection)
    taken = list(connection.scalars(_DUE_PROBES, {"now": now, "at_most": _STEP}))
    suspended = []
    for row in account_rows.read(connection, taken):
        following = [now + probe_every] if row.suspended_at is not None else []
        for event_type, entry in row.types.types.items():
            probe_at = datetime.fromisoformat(entry["probe_at"])
            following.append(probe_at if probe_at > now else now + probe_every)
            if probe_at <= now:
                unpark(connection, row.account, event_type, at_most=1)
        account_rows.set_probe(connection, row.account, min(following, default=None))
        if row.suspended_at is not None and row.paused_at is None:
            suspended.append(row.account)
        elif row.types.types and not row.is_held():
            turns.make_due(connection, [row.account])
    return suspended


_DUE_PROBES = (
    sa.select(accounts.c.account)
    .where(accounts.c.probe_at <= sa.bindparam("now"))
    .order_by(accounts.c.probe_at)
    .limit(_AT_MOST)
    .with_for_update(skip_locked=True, key_share=True)
)
