"""Order per lead: events step aside behind an older one, and are woken when it has gone.

An event enters as a candidate (`ready_at = available_at`). A claim that meets one which may not go yet makes it step
aside (`ready_at = NULL`); whoever ends or puts off an event wakes the oldest pending one of its lead. So a blocked
event costs one look, not one look per claim (docs/adr/0003).

Invariant: a lead with pending events has one in flight, or its oldest pending event is a candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from dispatcher.lifecycle import State
from dispatcher.outbox.among import among
from dispatcher.outbox.tables import events, owed_wakes
from dispatcher.outbox.transitions import IN_FLIGHT, PARKED, PENDING

IN_LINE = events.c.ordering == sa.literal_column("'lead'", sa.String)

# Made once: an alias copies every column of the table, which costs more than the statement that it is used in.
_OTHER = events.alias("other")
_FLYING = events.alias("flying")
_LEAD = events.alias("lead")


def oldest_pending(of: sa.FromClause) -> sa.ScalarSelect[int]:
    """The id of the first pending event in the line of the row's lead, as a scalar subquery."""
    other = _OTHER
    return (
        sa.select(other.c.id)
        .where(
            other.c.account == of.c.account,
            other.c.lead == of.c.lead,
            other.c.state == PENDING,
            other.c.ordering == sa.literal_column("'lead'", sa.String),
        )
        .order_by(other.c.line_at, other.c.id)
        .limit(1)
        .correlate(of)
        .scalar_subquery()
    )


def flying(of: sa.FromClause) -> sa.ScalarSelect[int]:
    """The id of the lead's event in flight, as a scalar subquery."""
    other = _FLYING
    return (
        sa.select(other.c.id)
        .where(
            other.c.account == of.c.account,
            other.c.lead == of.c.lead,
            other.c.state == IN_FLIGHT,
            other.c.ordering == sa.literal_column("'lead'", sa.String),
        )
        .limit(1)
        .correlate(of)
        .scalar_subquery()
    )


def step_aside(connection: sa.Connection, blocked: Mapping[int, int]) -> None:
    """Make events (keys) no candidates while their blockers (values) stand. The caller has locked the keys.

    Only behind a blocker whose row we lock too: its end must come after our commit, so that whoever ends it sees the
    sleeper. A blocker that is being ended right now is locked by somebody else, and its follower is left alone.
    """
    if not blocked:
        return
    dialect = connection.dialect.name
    held = set(connection.scalars(_locked_blockers(dialect), {"ids": sorted(set(blocked.values()))}))
    aside = [event for event, blocker in blocked.items() if blocker in held]
    if aside:
        connection.execute(_put_aside(dialect), {"ids": aside})


@cache
def _locked_blockers(dialect: str) -> sa.Select[Any]:
    query = sa.select(events.c.id).where(among(dialect, events.c.id), events.c.state.in_([PENDING, IN_FLIGHT]))
    return query.with_for_update(skip_locked=True, key_share=True)


@cache
def _put_aside(dialect: str) -> sa.Update:
    return sa.update(events).where(among(dialect, events.c.id)).values(ready_at=None)


class Woken(NamedTuple):
    """What came of waking.

    Attributes:
        owed: Those that had left whose successor is locked by somebody else (a shop's open transaction, for example).
            Nobody waits for it here: call `wake` with them later, or `owe` them to the sweep.
        accounts: Those in which an event is a candidate now or from when it is due, whether it was one before or not.
    """

    owed: list[int]
    accounts: set[str]


def wake(connection: sa.Connection, left: Sequence[int]) -> Woken:
    """Make the oldest pending event a candidate, for each lead of these events, which have just left their state.

    Must follow that write as statements of its own under READ COMMITTED: whoever stepped aside behind such an event
    held its row lock, so it has committed by now and is seen. The sweep also repairs what is forgotten.
    """
    dialect = connection.dialect.name
    owed: list[int] = []
    accounts: set[str] = set()
    remaining = list(left)
    while remaining:
        found = connection.execute(_next_in_line(dialect), {"ids": remaining}).all()
        wanted = {row.oldest: row.id for row in found if row.oldest is not None}
        if not wanted:
            break
        locked = connection.execute(_locked_pending(dialect), {"ids": sorted(wanted)}).all()
        accounts |= {row.account for row in locked if row.reason != PARKED}
        asleep = [row.id for row in locked if (row.ready_at is None or row.behind) and row.reason != PARKED]
        if asleep:
            connection.execute(_made_candidates(dialect), {"ids": asleep})
        missed = wanted.keys() - {row.id for row in locked}
        if not missed:
            break
        standing = sa.select(events.c.id, events.c.state).where(among(dialect, events.c.id))
        states = {row.id: row.state for row in connection.execute(standing, {"ids": sorted(missed)})}
        owed += [wanted[oldest] for oldest in missed if states.get(oldest) == State.PENDING]
        remaining = [wanted[oldest] for oldest in missed if states.get(oldest) != State.PENDING]  # ended meanwhile
    return Woken(owed, accounts)


@cache
def _next_in_line(dialect: str) -> sa.Select[Any]:
    query = sa.select(_LEAD.c.id, oldest_pending(_LEAD).label("oldest"))
    in_line = _LEAD.c.ordering == sa.literal_column("'lead'", sa.String)
    return query.where(among(dialect, _LEAD.c.id), in_line).order_by(_LEAD.c.id)


@cache
def _locked_pending(dialect: str) -> sa.Select[Any]:
    query = sa.select(events.c.id, events.c.account, events.c.ready_at, events.c.behind, events.c.reason)
    query = query.where(among(dialect, events.c.id), events.c.state == PENDING).order_by(events.c.id)
    return query.with_for_update(skip_locked=True, key_share=True)


@cache
def _made_candidates(dialect: str) -> sa.Update:
    return sa.update(events).where(among(dialect, events.c.id)).values(ready_at=events.c.available_at, behind=0)


def owe(connection: sa.Connection, left: Sequence[int]) -> None:
    """Leave these wakes to the next sweep, in the transaction that could not do them.

    For whoever cannot come back: two shops that cancel neighbours of one line at the same time see each other's event
    locked, and neither wakes the one behind them.
    """
    if left:
        connection.execute(sa.insert(owed_wakes), [{"event": event} for event in left])


def wake_lead(connection: sa.Connection, account: str, lead: str) -> None:
    """Make the oldest pending event of one lead a candidate, unless somebody else holds it (then the sweep does)."""
    oldest = (
        sa.select(events.c.id)
        .where(events.c.account == account, events.c.lead == lead, events.c.state == PENDING, IN_LINE)
        .order_by(events.c.line_at, events.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
    )
    found = connection.scalars(oldest).first()
    if found is not None:
        statement = sa.update(events).where(events.c.id == found)
        connection.execute(statement.values(ready_at=events.c.available_at, behind=0))
