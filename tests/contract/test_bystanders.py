"""What is asked of the bystanders of all other tests is asked: what changes, comes or goes is told. Real databases."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import attempts, counters, events, metadata, permits
from tests.contract.bystanders import PAUSED, Bystanders
from tests.contract.outbox_under_test import OutboxUnderTest

pytestmark = pytest.mark.alone("it plants its own")

WATCHED: dict[str, tuple[str, Any]] = {
    "outbox_accounts": ("currency", "BRL"),
    "outbox_attempts": ("detail", "another"),
    "outbox_counters": ("value", 8.0),
    "outbox_dead_letters": ("payload_before", "[]"),
    "outbox_events": ("payload", "[]"),
    "outbox_ledger": ("fingerprint", "another"),
    "outbox_notices": ("tries", 2),
    "outbox_operations": ("note", "another"),
    "outbox_permits": ("refused", 1),
    "outbox_workers": ("claimed", 6),
}
"""A column of each table that has bystanders, and what none of them has in it."""


@pytest.fixture
def planted(outbox: OutboxUnderTest) -> OutboxUnderTest:
    with outbox.engine.begin() as connection:
        bystanders = Bystanders.planted(connection, read_clock(connection))
    return OutboxUnderTest(outbox.engine, bystanders)


def changed(outbox: OutboxUnderTest) -> list[str]:
    assert outbox.bystanders is not None
    with outbox.engine.connect() as connection:
        return outbox.bystanders.changed(connection)


def write(outbox: OutboxUnderTest, statement: sa.Executable) -> int:
    with outbox.engine.begin() as connection:
        return connection.execute(statement).rowcount


def test_each_table_has_bystanders_unless_it_is_of_all() -> None:
    of_all = {"outbox_fleet", "outbox_installation", "outbox_owed_wakes"}  # of one row; emptied by each sweep
    assert WATCHED.keys() == metadata.tables.keys() - of_all


@pytest.mark.parametrize("name", WATCHED)
def test_a_column_that_changes_is_told_row_by_row(planted: OutboxUnderTest, name: str) -> None:
    table, (column, value) = metadata.tables[name], WATCHED[name]
    assert changed(planted) == []
    rows = write(planted, sa.update(table).where(sa.not_(planted.own(table))).values({column: value}))
    told = changed(planted)
    assert (len(told), rows > 0) == (rows, True)
    assert all(each.startswith(f"{name}, row (") and f"{column} was " in each for each in told)


def test_what_comes_or_goes_is_told(planted: OutboxUnderTest) -> None:
    assert planted.bystanders is not None
    event = planted.bystanders.events[-1]
    row = {"event": event, "attempt": 1, "verdict": "delivered", "ended_at": planted.now()}
    write(planted, sa.insert(attempts).values(row))
    write(planted, sa.delete(counters))
    come, gone = changed(planted)
    assert come.startswith(f"outbox_attempts, row ({event}, 1): has come: ")
    assert gone == "outbox_counters, row ('bystander', ''): is gone"


def test_what_a_test_adds_to_the_default_account_has_a_twin_behind_one_in_flight(planted: OutboxUnderTest) -> None:
    mine = planted.add_all([{"lead": "l"}, {"lead": "l", "ready_at": None}])
    of_lead = sa.select(events.c.fact, events.c.state).where(events.c.account == PAUSED, events.c.lead == "l")
    with planted.engine.connect() as connection:
        twins = {row.fact: row.state for row in connection.execute(of_lead)}
    assert [twins[planted.row(event).fact] for event in mine] == ["pending", "pending"]
    assert sorted(twins.values()) == ["in_flight", "pending", "pending"]
    assert planted.rows().keys() == set(mine)
    assert changed(planted) == []
    write(planted, sa.update(events).where(events.c.lead == "l", events.c.ready_at.is_(None)).values(behind=1))
    assert len(changed(planted)) == 2, "the twin that sleeps and the one in flight"
    assert planted.count(permits) == 0
