"""Reads of accounts' candidates: when the first is due, and a window of the next, locked.

The shape of a window is measured in docs/adr/0003: its cost depends on the rows taken, not on the backlog, and each
blocked event is met once. A claim asks for many accounts at once: on PostgreSQL in one statement, whatever their
number (docs/adr/0025), elsewhere in one for each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa

from dispatcher.outbox import permits
from dispatcher.outbox.candidates import Candidate, candidates
from dispatcher.outbox.dialect_insert import MYSQL
from dispatcher.outbox.each import given, together
from dispatcher.outbox.ledger import is_remembered
from dispatcher.outbox.moot import is_moot
from dispatcher.outbox.tables import events
from dispatcher.outbox.wake import IN_LINE, flying, oldest_pending

Lanes: TypeAlias = tuple[datetime | None, datetime | None]
"""When the first candidate of each lane is due: those that may be ahead, and those guessed to be behind."""

Front: TypeAlias = tuple[datetime, datetime]
"""Where a look at each lane begins. Few candidates, or none, are due before."""

EVERYTHING: Front = (datetime.min.replace(year=1000, tzinfo=UTC),) * 2
"""Every candidate is due later: MySQL knows no earlier moments."""


class Place(NamedTuple):
    """Where a window ends: at its last candidate."""

    ready_at: datetime
    id: int


class Window(NamedTuple):
    """The next candidates of one account's lane, soonest first.

    Attributes:
        account: Whose.
        lane: 0, or 1 for those guessed to be behind others.
        size: So many at most.
        after: It begins behind this place.
    """

    account: str
    lane: int
    size: int
    after: Place


class Found(NamedTuple):
    """What a window holds.

    Attributes:
        seen: Candidates, also those that somebody else has locked.
        end: Where it ends; None if there are none.
        free: Candidates that are now locked for us.
    """

    seen: int
    end: Place | None
    free: list[Candidate]


def next_ready(connection: sa.Connection, fronts: Mapping[str, Front]) -> dict[str, Lanes]:
    """When the first candidates of these accounts are due, by account, of those behind their fronts.

    A moment in the past if one is due already, None if there is none. Cheap beside a window: a look begins with it. The
    front makes it cheap too while somebody holds a transaction open: all that has gone since then is still there for
    the database, which would pass it on its way to the first candidate.
    """
    dialect = connection.dialect.name
    if dialect == "postgresql" and len(fronts) > 1:
        found = connection.execute(_first_of_many(), fronts_bound(fronts)).all()
    else:
        found = [connection.execute(first_of_one(dialect), bound_to(*one)).one() for one in fronts.items()]
    return {row.account: (row.ahead, row.behind) for row in found}


def front_of(lanes: Lanes, now: datetime) -> Front:
    """The front of an account whose first candidates are due then: what comes later is due now at the earliest."""
    ahead, behind = (now if first is None else min(first, now) for first in lanes)
    return ahead, behind


def soonest(lanes: Lanes, now: datetime) -> datetime | None:
    """When an account whose candidates are first due then wants to be looked at; now, if it is in the past."""
    moments = [moment for moment in lanes if moment is not None]
    return max(min(moments), now) if moments else None


def windows(connection: sa.Connection, wanted: Sequence[Window], now: datetime, *, per_lead: bool) -> list[Found]:
    """What these windows hold, in their order; the rows that nobody else has locked are locked.

    Args:
        connection: In the transaction of the claim.
        wanted: One window of each account at most.
        now: The database's; nothing later is a candidate.
        per_lead: Some lead has a limit, so that its permits in use are counted.
    """
    if connection.dialect.name != "postgresql" or len(wanted) == 1:
        return [_of_one(connection, window, now, per_lead) for window in wanted]
    alike: dict[int, list[Window]] = defaultdict(list)
    for window in wanted:
        alike[window.lane].append(window)
    rows: dict[str, list[Candidate]] = defaultdict(list)
    for lane, some in alike.items():
        asked = together([_bound(window) for window in some])
        for row in connection.execute(_of_many(lane, per_lead), {**asked, "now": now}).all():
            rows[row[0]].append(Candidate._make(row[1:]))
    return [_found(sorted(rows[window.account], key=_by_place)) for window in wanted]


_LOOKED_FOR = {"account": events.c.account.type, "ahead": events.c.ready_at.type, "behind": events.c.ready_at.type}


def bound_to(account: str, front: Front) -> dict[str, Any]:
    """What `first_of_one` is bound to."""
    return {"account": account, "ahead": front[0], "behind": front[1]}


@cache
def first_of_one(dialect: str) -> sa.Select[Any]:
    """`ahead` and `behind`: when the first candidates of one account behind its front are due."""
    return _with_first(dialect, {name: sa.bindparam(name, type_=of) for name, of in _LOOKED_FOR.items()})


@cache
def _first_of_many() -> sa.Select[Any]:
    asked = looked_for()
    return _with_first("postgresql", asked.c).select_from(asked)


def looked_for() -> sa.TableValuedAlias:
    """PostgreSQL: accounts and their fronts, as a table. Bind it by `fronts_bound`."""
    return given(tuple(_LOOKED_FOR.items()))


def fronts_bound(fronts: Mapping[str, Front]) -> dict[str, str]:
    """What `looked_for` is bound to."""
    return together([bound_to(*one) for one in fronts.items()])


def _with_first(dialect: str, asked: Any) -> sa.Select[Any]:
    ahead, behind = (lane.scalar_subquery() for lane in first_of_each_lane(dialect, asked))
    return sa.select(asked["account"].label("account"), ahead.label("ahead"), behind.label("behind"))


def first_of_each_lane(dialect: str, asked: Any) -> list[sa.Select[Any]]:
    """When the first candidate of each lane behind the front is due; account and front by their names in `asked`."""
    lanes = [candidates(dialect, [events.c.ready_at], asked["account"], lane) for lane in (0, 1)]
    fronts = (asked["ahead"], asked["behind"])
    return [
        lane.where(events.c.ready_at >= front).limit(1).correlate_except(events)
        for lane, front in zip(lanes, fronts, strict=True)
    ]


def _of_one(connection: sa.Connection, window: Window, now: datetime, per_lead: bool) -> Found:
    dialect = connection.dialect.name
    here = {**_bound(window), "now": now}
    if dialect not in MYSQL:
        rows = connection.execute(_window(dialect, window.lane, per_lead), here).all()
        return _found([Candidate._make(row) for row in rows])
    # InnoDB locks the record behind a range as well: the next account's first candidate, which that account's own
    # claim would then pass over. So the range is read without locks, and the rows are locked by their ids.
    ids = connection.execute(_range(dialect, window.lane), here).all()
    if not ids:
        return _found([])
    locked = connection.execute(_in_range(per_lead), {"ids": [row.id for row in ids], "now": now}).all()
    return Found(len(ids), Place(ids[-1].ready_at, ids[-1].id), [Candidate._make(row) for row in locked])


def _bound(window: Window) -> dict[str, Any]:
    after, after_id = window.after
    return {"account": window.account, "size": window.size, "after": after, "after_id": after_id}


def _found(rows: list[Candidate]) -> Found:
    return Found(len(rows), _by_place(rows[-1]) if rows else None, rows)


def _by_place(row: Candidate) -> Place:
    return Place(row.ready_at, row.id)


_ASKED = {
    "account": events.c.account.type,
    "size": sa.Integer(),
    "after": events.c.ready_at.type,
    "after_id": events.c.id.type,
}
_BOUND = {name: sa.bindparam(name, type_=of) for name, of in _ASKED.items()}


@cache
def _window(dialect: str, lane: int, per_lead: bool) -> sa.Select[Any]:
    query = candidates(dialect, candidate_columns(per_lead), _BOUND["account"], lane)
    query = query.where(*_here(_BOUND)).limit(_BOUND["size"])
    return query.with_for_update(skip_locked=True, key_share=True)


@cache
def _of_many(lane: int, per_lead: bool) -> sa.Select[Any]:
    asked = given(tuple(_ASKED.items()))
    query = candidates("postgresql", candidate_columns(per_lead), asked.c.account, lane)
    query = query.where(*_here(asked.c)).limit(asked.c.size).correlate(asked)
    each = query.with_for_update(skip_locked=True, key_share=True).lateral("each")
    return sa.select(asked.c.account, *each.c).select_from(asked.join(each, sa.true()))


@cache
def _range(dialect: str, lane: int) -> sa.Select[Any]:
    query = candidates(dialect, [events.c.id, events.c.ready_at], _BOUND["account"], lane)
    return query.where(*_here(_BOUND)).limit(_BOUND["size"])


@cache
def _in_range(per_lead: bool) -> sa.Select[Any]:
    ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
    query = sa.select(*candidate_columns(per_lead)).where(events.c.id.in_(ids), _DUE)
    query = query.order_by(events.c.ready_at, events.c.id).with_hint(events, "FORCE INDEX (PRIMARY)")
    return query.with_for_update(skip_locked=True)


_DUE = events.c.ready_at <= sa.bindparam("now")


def _here(place: Any) -> list[sa.ColumnElement[bool]]:
    """Due, and behind this place."""
    beyond = sa.or_(events.c.ready_at > place["after"], events.c.id > place["after_id"])
    return [_DUE, events.c.ready_at >= place["after"], beyond]


def candidate_columns(per_lead: bool) -> list[sa.ColumnElement[Any]]:
    """What a claim must know of a candidate, in the order of `Candidate`. Bind `now`.

    Args:
        per_lead: A lead has a limit, so that its permits in use are counted.
    """
    used: sa.ColumnElement[int] = permits.lead_used() if per_lead else sa.literal_column("0", sa.Integer)
    return [*_of_every_candidate(), used.label("lead_used")]


@cache
def _of_every_candidate() -> tuple[sa.ColumnElement[Any], ...]:
    """Made once: with ten thousand accounts, making them for each look cost more than the look."""
    return (
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
        is_moot(events).label("moot"),
        is_remembered(events).label("known"),
    )
