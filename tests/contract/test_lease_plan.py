"""Which index answers what about leases, whatever the statistics say of them (docs/adr/0027). Real databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from dispatcher.outbox import schema, sweep
from dispatcher.outbox.allowance import busy
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.overview import overview
from dispatcher.outbox.tables import events
from tests.conftest import DATABASES
from tests.contract.outbox_under_test import OutboxUnderTest

EVENTS, LEASED = 4000, 20


@contextmanager
def explained(engine: sa.Engine) -> Iterator[list[str]]:
    """The plans of all that is asked about events meanwhile, each as one text."""
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    plans: list[str] = []

    def note(_c: Any, cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if not many and "outbox_events" in statement and statement.startswith("SELECT"):
            cursor.execute(f"{explain} {statement}", parameters)
            plans.append("\n".join(str(row[-1]) for row in cursor.fetchall()))

    event.listen(engine, "before_cursor_execute", note)
    yield plans
    event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def outbox(empty_database_url: str) -> Iterator[OutboxUnderTest]:
    """Many events of as many leads. Nobody else looks after the statistics."""
    engine = create_engine(empty_database_url)
    schema.upgrade(engine)
    outbox = OutboxUnderTest(engine)
    outbox.account()
    outbox.add_all({"lead": f"{number:064d}"} for number in range(EVENTS))
    if engine.dialect.name == "postgresql":
        by_itself(engine, "ALTER TABLE outbox_events SET (autovacuum_enabled = off)")
    yield outbox
    engine.dispose()


def by_itself(engine: sa.Engine, statement: str) -> None:
    """Run it outside of a transaction."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)


def lease_and_give_back_all(engine: sa.Engine) -> None:
    """The entries in the indexes stay until the next VACUUM."""
    with engine.begin() as connection:
        until = read_clock(connection) + timedelta(minutes=1)
        leased = {"state": "in_flight", "attempt": 1, "ready_at": None, "lease_until": until}
        connection.execute(sa.update(events).values(leased))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE outbox_events SET state = 'pending', ready_at = available_at, lease_until = NULL"
        )


@pytest.mark.parametrize("empty_database_url", DATABASES[1:2], indirect=True)
def test_whether_a_lead_has_one_in_flight_is_read_by_lead_whatever_the_statistics_say(outbox: OutboxUnderTest) -> None:
    engine = outbox.engine
    lease_and_give_back_all(engine)
    by_itself(engine, "ANALYZE outbox_events")  # it learns that no event is in flight
    assert len(outbox.claim(LEASED).events) == LEASED
    by_itself(engine, "VACUUM (INDEX_CLEANUP ON) outbox_events")  # it learns of large indexes with few entries

    def flying() -> list[str]:
        with explained(engine) as plans:
            assert len(outbox.claim(1).events) == 1
        return [line for plan in plans for line in plan.splitlines() if " on outbox_events flying " in line]

    by_lead = flying()
    assert len(by_lead) == 1
    assert "uq_outbox_events_in_flight" in by_lead[0]

    # This test could fail: the planner takes an index of leases by their state, where there is one.
    by_itself(engine, "CREATE INDEX by_state ON outbox_events (lease_until, id) WHERE state = 'in_flight'")
    (by_state,) = flying()
    assert "by_state" in by_state


LOOKS: dict[str, Callable[[sa.Connection], object]] = {
    "is anything left": sweep.is_work_left,
    "whose lease has ended": sweep.abandoned,
    "has this account one in flight": lambda connection: busy(connection, ["default"]),
    "which accounts have one in flight": lambda connection: busy(connection, ["default", "shop-2"]),
    "how many are in flight": lambda connection: overview(connection, ended=False),
    "how many are in flight, of one account": lambda connection: overview(connection, account="default", ended=False),
}


@pytest.mark.parametrize("empty_database_url", DATABASES[:2], indirect=True)  # MySQL's index has no condition
def test_leases_are_read_from_their_index(outbox: OutboxUnderTest) -> None:
    outbox.account("shop-2")
    assert len(outbox.claim(LEASED).events) == LEASED
    with outbox.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    read: dict[str, list[str]] = {}
    for name, look in LOOKS.items():
        with outbox.engine.connect() as connection, explained(outbox.engine) as read[name]:
            look(connection)
    assert [name for name, plans in read.items() if not any("ix_outbox_events_leased" in plan for plan in plans)] == []
