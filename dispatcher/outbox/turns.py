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
    now = read_clock(connection)
    due = (
        sa.select(*COLUMNS)
        .where(accounts.c.turn_at <= now, accounts.c.account.not_in(sorted(leave_out)))
        .order_by(accounts.c.turn_at, accounts.c.account)
    )
    rows = connection.execute(due.limit(min(at_most, AT_MOST)).with_for_update(skip_locked=True, key_share=True))
    found = {row.account: row_of(row) for row in rows}
    wanted = sorted(set(hints) - found.keys() - set(leave_out))
    hinted = sa.select(*COLUMNS).where(accounts.c.account.in_(wanted)).order_by(accounts.c.account)
    if wanted:
        unqueued = hinted.where(sa.or_(accounts.c.turn_at.is_(None), accounts.c.turn_at > now))
        for row in connection.execute(unqueued.with_for_update(skip_locked=True, key_share=True)):
            found[row.account] = row_of(row)
    if not found:
        rows = connection.execute(due.limit(1).with_for_update(key_share=True))
        found = {row.account: row_of(row) for row in rows}
    if not found and wanted:
        rows = connection.execute(hinted.limit(1).with_for_update(key_share=True))
        found = {row.account: row_of(row) for row in rows}
    return list(found.values())


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
    at = sa.bindparam("a_turn", type_=accounts.c.turn_at.type)
    rows = [{"a_name": account, "a_turn": turns[account]} for account in sorted(turns)]  # in one order: no deadlock
    if rows:
        later = sa.or_(accounts.c.turn_at.is_(None), accounts.c.turn_at > at)
        open_ = sa.and_(accounts.c.paused_at.is_(None), accounts.c.suspended_at.is_(None))
        statement = sa.update(accounts).where(accounts.c.account == sa.bindparam("a_name"), later, open_)
        connection.execute(statement.values(turn_at=at), rows)


def make_due(connection: sa.Connection, names: Collection[str]) -> None:
    """These accounts have work now: the next claim looks at them."""
    if names:
        connection.execute(
            sa.update(accounts)
            .where(accounts.c.account.in_(sorted(names)))
            .where(sa.or_(accounts.c.turn_at.is_(None), accounts.c.turn_at > statement_now()))
            .values(turn_at=statement_now())
        )
