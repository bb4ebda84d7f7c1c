"""The key ledger: what is left of pruned events, so that their facts stay recognised (docs/adr/0019).

An entry is written in the transaction that deletes its event. `enqueue` looks here within its own INSERT; a row that
came in all the same (a foreign producer's, or one whose statement began before the event was pruned) is ended by the
claim, which sees both. So no order of commits sends a fact twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from dispatcher.lifecycle import Reason, State
from dispatcher.outbox.dialect_insert import MYSQL, conflict_insert, duplicate_insert
from dispatcher.outbox.tables import events, ledger
from dispatcher.outbox.unsure import cannot_have_arrived

_FROM_EVENTS = ("account", "fact", "event_id", "event_type", "fingerprint", "state", "reason", "ended_at")


def _may_come_again() -> sa.ColumnElement[bool]:
    """True for an event that the shop took back before it could arrive: its fact may be enqueued again (`revive`)."""
    taken_back = sa.and_(events.c.state == State.CANCELLED.value, events.c.reason == Reason.CANCELLED.value)
    return sa.and_(taken_back, cannot_have_arrived())


def remember(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Enter the facts of these events (row ids), which the caller deletes in the same transaction.

    The first entry of a fact stays. Events that may be enqueued again leave none.
    """
    query = (
        sa.select(*(events.c[name] for name in _FROM_EVENTS), events.c.created_at)
        .where(events.c.id.in_(ids), sa.not_(_may_come_again()))
        .order_by(events.c.account, events.c.fact)
    )
    connection.execute(_insert(connection.dialect.name, [*_FROM_EVENTS, "first_seen"], query))


def tell_planner(connection: sa.Connection) -> None:
    """PostgreSQL: let every session plan its looks into the ledger anew. The caller commits.

    A shop's connection that has planned its enqueue while the ledger was empty goes on reading all of it, row by row,
    until its statistics change: 400 ms for each enqueue beside two million entries. Autovacuum changes them in its own
    time, if it runs; this does so now. Waits for nobody; without the right to ANALYZE nothing happens.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL default_statistics_target = 10")  # a small sample is enough, and quick
        connection.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {ledger.name}")


def _insert(dialect: str, names: list[str], query: sa.Select[Any]) -> sa.Insert:
    if dialect in MYSQL:
        return duplicate_insert(ledger).from_select(names, query).on_duplicate_key_update(fact=ledger.c.fact)
    return conflict_insert(dialect, ledger).from_select(names, query).on_conflict_do_nothing()


def is_remembered(of: sa.FromClause) -> sa.ColumnElement[bool]:
    """True if the fact of the row has been pruned before, as a correlated condition: one look by the primary key."""
    return sa.exists().where(ledger.c.account == of.c.account, ledger.c.fact == of.c.fact).correlate(of)


def recall(connection: sa.Connection, account: str, fact: str) -> sa.Row[Any] | None:
    """The entry of a fact."""
    query = sa.select(ledger).where(ledger.c.account == account, ledger.c.fact == fact)
    return connection.execute(query).one_or_none()


def remembered_facts(connection: sa.Connection, account: str, facts: Sequence[str]) -> set[str]:
    """Those of the facts that are in the ledger."""
    query = sa.select(ledger.c.fact).where(ledger.c.account == account, ledger.c.fact.in_(facts))
    return set(connection.execute(query).scalars())
