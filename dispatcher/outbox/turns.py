"""Whose turn it is: the queue in which accounts wait to be claimed from (docs/adr/0006)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox.account_rows import COLUMNS, AccountRow, SuspendedTypes, row_of, write
from dispatcher.outbox.moment import read_clock, statement_now
from dispatcher.outbox.tables import accounts

AT_MOST = 50
"""Accounts that one claim takes turns of; and hints that it is worth giving one."""


def take_turns(
    connection: sa.Connection, *, at_most: int, hints: Collection[str], leave_out: Collection[str]
) -> list[AccountRow]:
    """Lock the accounts that have waited longest for their turn, and those hinted at that nobody has queued.

    A hint gives no account a place before its turn: one with a long backlog is hinted at after each settlement.

    Rows that another claim holds are passed over, unless there are no others: then the first of them is waited for
    (while nothing else is held, so no two claims wait for each other). A hint is waited for too: the claim that holds
    the account may have looked before what the hint is about was committed.
    """
    due = {"now": read_clock(connection), "left_out": sorted(leave_out)}
    rows = connection.execute(_FREE_DUE, {**due, "at_most": min(at_most, AT_MOST)})
    found = {row.account: row_of(row) for row in rows}
    hinted = {"wanted": sorted(set(hints) - found.keys() - set(leave_out))}
    if hinted["wanted"]:
        for row in connection.execute(_FREE_UNQUEUED, {**hinted, "now": due["now"]}):
            found[row.account] = row_of(row)
    if not found:
        found = {row.account: row_of(row) for row in connection.execute(_FIRST_DUE, due)}
    if not found and hinted["wanted"]:
        found = {row.account: row_of(row) for row in connection.execute(_FIRST_HINTED, hinted)}
    return list(found.values())


_DUE = (
    sa.select(*COLUMNS)
    .where(
        accounts.c.turn_at <= sa.bindparam("now"),
        accounts.c.account.not_in(sa.bindparam("left_out", expanding=True)),
    )
    .order_by(accounts.c.turn_at, accounts.c.account)
)
_HINTED = (
    sa.select(*COLUMNS)
    .where(accounts.c.account.in_(sa.bindparam("wanted", expanding=True)))
    .order_by(accounts.c.account)
)
_UNQUEUED = sa.or_(accounts.c.turn_at.is_(None), accounts.c.turn_at > sa.bindparam("now"))

_FREE_DUE = _DUE.limit(sa.bindparam("at_most", type_=sa.Integer)).with_for_update(skip_locked=True, key_share=True)
_FREE_UNQUEUED = _HINTED.where(_UNQUEUED).with_for_update(skip_locked=True, key_share=True)
_FIRST_DUE = _DUE.limit(1).with_for_update(key_share=True)
_FIRST_HINTED = _HINTED.limit(1).with_for_update(key_share=True)


def set_turn(
    connection: sa.Connection, account: str, turn_at: datetime | None, types: SuspendedTypes | None = None
) -> None:
    """When the account wants to be claimed next; None: until somebody knows of work. Locked by the caller."""
    values: dict[str, Any] = {"turn_at": turn_at}
    if types is not None and types.changed:
        values["suspended_types"] = types.to_json()
    write(connection, account, values)


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
