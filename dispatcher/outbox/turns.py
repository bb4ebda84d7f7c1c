"""Whose turn it is: the queue in which accounts wait to be claimed from (docs/adr/0006)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from dispatcher.outbox.account_rows import COLUMNS, AccountRow, row_of
from dispatcher.outbox.among import bind, named, not_named
from dispatcher.outbox.each import Each
from dispatcher.outbox.moment import statement_now
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.window import (
    EVERYTHING,
    Front,
    first_of_each_lane,
    fronts_bound,
    looked_for,
    next_ready,
    soonest,
)

AT_MOST = 200
"""Accounts that one claim takes turns of; and hints that it is worth giving one."""

_AT_LEAST = 50
_EVENTS_OF_EACH = 4


def places(room: int) -> int:
    """Of how many accounts a claim of so many events takes turns, if so many are due.

    Where each has one event only, the claim's fixed cost is shared by as many events as it takes accounts; where each
    has many, to visit it costs more than to take another event of it. Four of each are a little of both.
    """
    return min(room, max(_AT_LEAST, min(AT_MOST, room // _EVENTS_OF_EACH)))


def take_turns(
    connection: sa.Connection, *, room: int, hints: Collection[str], leave_out: Collection[str]
) -> list[AccountRow]:
    """Lock the accounts that have waited longest for their turn, and those hinted at that nobody has queued.

    A hint gives no account a place before its turn: one with a long backlog is hinted at after each settlement.

    Rows that another claim holds are passed over, unless there are no others: then the first of them is waited for
    (while nothing else is held, so no two claims wait for each other). A hint is waited for too: the claim that holds
    the account may have looked before what the hint is about was committed.
    """
    wanted, others = sorted(set(hints) - set(leave_out)), sorted(leave_out)
    bound = {**bind(wanted), "others": others, "at_most": places(room)}
    dialect = connection.dialect.name
    queries = _free(dialect, min(len(wanted), 2), bool(others))
    found = {row.account: row_of(row) for query in queries for row in connection.execute(query, bound).all()}
    if not found:
        # By its name: whoever is waited for may give the account a turn that is later than this statement's time.
        first = connection.execute(_first_due(dialect, bool(others)), {"others": others}).scalar_one_or_none()
        names = wanted if first is None else [first]
        return [row_of(row) for row in connection.execute(_first_named(dialect), {"names": names})] if names else []
    return list(found.values())


@cache
def _first_due(dialect: str, some_left_out: bool) -> sa.Select[Any]:
    return _due(sa.select(accounts.c.account), accounts, dialect, some_left_out).limit(1)


@cache
def _first_named(dialect: str) -> sa.Select[Any]:
    query = sa.select(*COLUMNS).where(named(dialect, accounts.c.account)).order_by(accounts.c.account)
    return query.limit(1).with_for_update(key_share=True)


@cache
def _free(dialect: str, hints: int, some_left_out: bool) -> tuple[sa.Executable, ...]:
    """The queries for what is due, and for what is hinted at and not queued; on PostgreSQL one for both.

    Args:
        dialect: Whose SQL.
        hints: None, one, or 2 for several.
        some_left_out: There are accounts to leave out.
    """
    due = _due(*_seen(dialect), dialect, some_left_out).limit(sa.bindparam("at_most", type_=sa.Integer))
    due = due.with_for_update(of=accounts, skip_locked=True, key_share=True)
    if not hints:
        return (due,)
    unqueued, seen = _seen(dialect)
    unqueued = unqueued.where(named(dialect, seen.c.account, one=hints == 1), _is_unqueued(dialect, seen))
    unqueued = unqueued.order_by(seen.c.account)
    unqueued = unqueued.with_for_update(of=accounts, skip_locked=True, key_share=True)
    if dialect != "postgresql":
        return due, unqueued
    return (sa.union_all(*(sa.select(query.subquery()) for query in (due, unqueued))),)


def _is_unqueued(dialect: str, seen: sa.FromClause) -> sa.ColumnElement[bool]:
    """True for accounts whose turn it is not."""
    if dialect != "postgresql":
        return sa.or_(seen.c.turn_at.is_(None), seen.c.turn_at > statement_now())
    # In words that no index knows: where the statistics are from a time when all were queued, PostgreSQL would read
    # all that are not, to find those few names among them.
    return sa.func.coalesce(seen.c.turn_at, sa.literal_column("'infinity'::timestamptz")) > statement_now()


def _due(query: sa.Select[Any], seen: sa.FromClause, dialect: str, some_left_out: bool) -> sa.Select[Any]:
    """Those whose turn it is, whoever has waited longest first."""
    query = query.where(seen.c.turn_at <= statement_now())
    if some_left_out:
        query = query.where(not_named(dialect, seen.c.account))
    return query.order_by(seen.c.turn_at)


def _seen(dialect: str) -> tuple[sa.Select[Any], sa.FromClause]:
    """The accounts to lock, and the table by which they are chosen: the turns as the statement has found them.

    PostgreSQL locks a row that has changed since the statement began and then judges it again; one that it refuses
    now would stay locked, unknown to the claim and passed over by all others. So the choice is not made by what is
    locked. The other databases let go of what they refuse.
    """
    if dialect != "postgresql":
        return sa.select(*COLUMNS), accounts
    seen = accounts.alias("seen")
    return sa.select(*COLUMNS).join_from(seen, accounts, seen.c.account == accounts.c.account), seen


def set_turns(connection: sa.Connection, turns: Mapping[str, datetime | None]) -> None:
    """When these accounts want to be claimed next; None: not until somebody knows of work. Locked by the caller."""
    if turns:
        each = Each(connection, [{"a_name": name, "a_turn": turn} for name, turn in sorted(turns.items())], _TURNS)
        statement = sa.update(accounts).where(accounts.c.account == each["a_name"])
        each.change(statement.values(turn_at=each["a_turn"]))


_TURNS: dict[str, TypeEngine[Any]] = {"a_name": accounts.c.account.type, "a_turn": accounts.c.turn_at.type}


def queue_again(connection: sa.Connection, fronts: Mapping[str, Front], now: datetime) -> dict[str, datetime | None]:
    """Give these accounts, which a claim has visited, their next turns: when what is left is due, or now if it is.

    Locked by the caller. Looks behind their fronts first; for what is due before only where nothing is due there.
    Answers the turns.
    """
    turns = _queue_again(connection, fronts, now)
    unsure = {name: EVERYTHING for name, turn in turns.items() if turn != now and fronts[name] != EVERYTHING}
    return turns | _queue_again(connection, unsure, now)


def _queue_again(connection: sa.Connection, fronts: Mapping[str, Front], now: datetime) -> dict[str, datetime | None]:
    if not fronts:
        return {}
    if connection.dialect.name != "postgresql":
        turns = {name: soonest(lanes, now) for name, lanes in next_ready(connection, fronts).items()}
        set_turns(connection, turns)
        return turns
    found = connection.execute(_queued_again(), {**fronts_bound(fronts), "names": list(fronts), "now": now})
    return {row.account: row.turn_at for row in found.all()}


@cache
def _queued_again() -> sa.Executable:
    """`soonest`, in SQL. Each lane is asked once, so its answer is not named twice: it would be asked again."""
    asked = looked_for()
    first = sa.union_all(*first_of_each_lane("postgresql", asked.c)).subquery("first")
    soonest_of = sa.func.min(first.c.ready_at, type_=accounts.c.turn_at.type)
    turn_at = sa.select(sa.func.greatest(soonest_of, sa.bindparam("now", type_=accounts.c.turn_at.type)))
    turn_at = turn_at.having(soonest_of.is_not(None)).correlate(asked)
    # By name too: the planner takes the table of fronts for a hundred rows, and would read all accounts for them.
    these = accounts.c.account == asked.c.account, named("postgresql", accounts.c.account)
    statement = sa.update(accounts).where(*these)
    return statement.values(turn_at=turn_at.scalar_subquery()).returning(accounts.c.account, accounts.c.turn_at)


def advance_turns(connection: sa.Connection, turns: Mapping[str, datetime]) -> None:
    """These accounts want to be looked at by then; one that already wants it earlier, or is held, stays as it is.

    The caller has no lock, so what a claim has just written is judged again by the database.
    """
    rows = [{"a_name": account, "a_turn": turns[account]} for account in sorted(turns)]  # in one order: no deadlock
    if rows:
        connection.execute(_ADVANCED, rows)


_TURN = sa.bindparam("a_turn", type_=accounts.c.turn_at.type)
_ADVANCED = (
    sa.update(accounts)
    .where(accounts.c.account == sa.bindparam("a_name"))
    .where(sa.or_(accounts.c.turn_at.is_(None), accounts.c.turn_at > _TURN))
    .where(accounts.c.paused_at.is_(None), accounts.c.suspended_at.is_(None))
    .values(turn_at=_TURN)
)


def make_due(connection: sa.Connection, names: Collection[str]) -> None:
    """These accounts have work now: the next claim looks at them."""
    if names:
        connection.execute(
            sa.update(accounts)
            .where(accounts.c.account.in_(sorted(names)))
            .where(sa.or_(accounts.c.turn_at.is_(None), accounts.c.turn_at > statement_now()))
            .values(turn_at=statement_now())
        )
