"""What accounts without work cost a worker: nothing that grows with their number. Real PostgreSQL, filled in bulk.

Counted are the statements of each step of a worker, and the pages that PostgreSQL reads for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from dispatcher.outbox import sweep
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.transaction import in_transaction, reading
from tests.contract.outbox_under_test import OutboxUnderTest, delivered

FEW, MANY = 10, 10_000
DEEPER = 6
"""Pages that a statement may read more beside many: each name is looked up in an index a level or two deeper, where few
accounts are one page. All of the many are hundreds."""

# Each has been used: its last event is delivered, an hour ago.
_IDLE = """
INSERT INTO outbox_accounts (account) SELECT 'idle-' || n FROM generate_series({first}, {last}) AS g (n);
INSERT INTO outbox_events (event_id, account, event_type, key, fact, lead, payload, state, attempt, available_at,
                           line_at, budget_from, ready_at, created_at, ended_at)
SELECT gen_random_uuid(), 'idle-' || n, 'ORDER_PLACED', 'k' || n, md5('a' || n) || md5('b' || n), md5('l' || n), '{{}}',
       'delivered', 1, at, at, at, NULL, at, at
FROM generate_series({first}, {last}) AS g (n), (SELECT statement_timestamp() - interval '1 hour' AS at) AS t;
"""

Step = Callable[[OutboxUnderTest], object]


def _deliver_one(outbox: OutboxUnderTest) -> None:
    outbox.add()
    (claimed,) = outbox.claim(hints=["default"]).events
    outbox.settle(delivered(claimed))


def _transaction(work: Callable[[sa.Connection], object]) -> Step:
    return lambda outbox: in_transaction(outbox.engine, work)


STEPS: dict[str, Step] = {
    "one delivery": _deliver_one,
    "a claim that finds nothing": lambda outbox: outbox.claim(hints=["default", "idle-1"]),
    "whose turn is it": lambda outbox: reading(outbox.engine, sweep.next_turn_in),
    "which accounts have work": _transaction(sweep.spread_the_word),
    "whom to probe": _transaction(lambda connection: sweep.due_probes(connection, probe_every=timedelta(minutes=1))),
    "whose lease has ended": lambda outbox: reading(outbox.engine, sweep.abandoned),
    "what is stale": _transaction(sweep.expire),
    "what sleeps": _transaction(sweep.Repair().step),
}


@pytest.fixture
def outbox(postgres_url: str) -> Iterator[OutboxUnderTest]:
    engine = create_engine(postgres_url)
    yield OutboxUnderTest(engine)
    engine.dispose()


def _cost(outbox: OutboxUnderTest, step: Step) -> tuple[int, int]:
    """The statements of a step, and the pages that its reads touch."""
    pages: list[int] = []

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        read = 0
        if statement.startswith(("SELECT", "WITH")) and "outbox_" in statement:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}", parameters)
            plan = cursor.fetchone()[0][0]["Plan"]
            read = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        pages.append(read)

    event.listen(outbox.engine, "before_cursor_execute", explain)
    step(outbox)
    event.remove(outbox.engine, "before_cursor_execute", explain)
    return len(pages), sum(pages)


def _costs(outbox: OutboxUnderTest) -> dict[str, tuple[int, int]]:
    with outbox.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE) outbox_accounts, outbox_events")
    _deliver_one(outbox)  # the account is trusted, and nobody waits for a turn
    return {name: _cost(outbox, step) for name, step in STEPS.items()}


def _grow(outbox: OutboxUnderTest, first: int, last: int) -> None:
    with outbox.engine.begin() as connection:
        for statement in _IDLE.format(first=first, last=last).strip().split(";\n"):
            connection.exec_driver_sql(statement)


@pytest.mark.postgres
def test_ten_thousand_idle_accounts_cost_what_ten_do(outbox: OutboxUnderTest) -> None:
    outbox.account()
    _grow(outbox, 1, FEW)
    few = _costs(outbox)
    _grow(outbox, FEW + 1, MANY)
    many = _costs(outbox)
    assert {name: statements for name, (statements, _) in many.items()} == {
        name: statements for name, (statements, _) in few.items()
    }
    dearer = {
        name: (few[name][1], pages)
        for name, (statements, pages) in many.items()
        if pages > few[name][1] + DEEPER * statements
    }
    assert not dearer, "pages beside few accounts, and beside many"
