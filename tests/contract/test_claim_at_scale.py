"""The claim's plans, and the pages it touches, beside 10,000, 100,000 and a million waiting events. Real PostgreSQL.

Also with one lead that owns the oldest half of them. Some minutes: DISPATCHER_TEST_SCALE=1; `test_query_plans.py` and
`test_thousand_accounts.py` run always.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from dispatcher.outbox.engine import create_engine
from tests.acceptance.corners import SCALE
from tests.contract.outbox_under_test import OutboxUnderTest, delivered
from tests.tiers.databases import Database

SIZES = (10_000, 100_000, 1_000_000)
CLAIMS, ROOM = 5, 100
FLAT = 1.5
"""A hundred times as many rows make each index one level deeper."""

# Five events to a lead, as `enqueue` writes them: whoever sees an earlier one guesses to be behind it.
_FILL = """
INSERT INTO outbox_events (event_id, account, event_type, key, fact, lead, payload, available_at, line_at, budget_from,
                           ready_at, created_at, behind)
SELECT gen_random_uuid(), 'default', 'ORDER_PLACED', 'k' || n, md5('a' || n) || md5('b' || n),
       CASE WHEN {of_one} THEN 'the-one' ELSE 'lead-' || n % ({rows} / 5) END, '{{}}', at, at, at, at, at,
       CASE WHEN {of_one} THEN least(n - 1, 1) WHEN n > {others} + {rows} / 5 THEN 1 ELSE 0 END
FROM (SELECT n, statement_timestamp() - ({rows} - n) * interval '1 ms' AS at FROM generate_series(1, {rows}) AS g (n)) g
"""

Plan = tuple[str, ...]


@pytest.fixture
def new_database(postgres_url: str) -> Iterator[Database]:
    database = Database.create(postgres_url)
    database.build()
    yield database
    database.drop()


def _filled(database: Database, rows: int, *, half: bool) -> OutboxUnderTest:
    outbox = OutboxUnderTest(create_engine(database.url))
    others = rows // 2 if half else 0
    with outbox.engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE outbox_events CASCADE")
        of_one = f"n <= {others}" if half else "false"
        connection.execute(sa.text(_FILL.format(rows=rows, others=others, of_one=of_one)))
    with outbox.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)")
    outbox.account()
    return outbox


def _nodes(plan: dict[str, Any]) -> Iterator[str]:
    if plan.get("Relation Name") == "outbox_events" or "outbox_events" in plan.get("Index Name", ""):
        yield f"{plan['Node Type']} {plan.get('Index Name', '')}"
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _claims(outbox: OutboxUnderTest) -> tuple[set[Plan], list[int]]:
    """The plans of all statements of some claims, and the pages that each claim touches. They are settled between."""
    plans: set[Plan] = set()
    pages: list[int] = []

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if "outbox_" in statement and statement.startswith(("SELECT", "UPDATE")):  # whose guards let nothing come twice
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}", parameters)
            plan = cursor.fetchone()[0][0]["Plan"]
            plans.add(tuple(_nodes(plan)))
            pages[-1] += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    for _ in range(CLAIMS):
        pages.append(0)
        event.listen(outbox.engine, "before_cursor_execute", explain)
        claimed = outbox.claim(ROOM).events
        event.remove(outbox.engine, "before_cursor_execute", explain)
        assert len(claimed) == ROOM
        outbox.settle(*map(delivered, claimed))
    return plans, pages


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not SCALE, reason="some minutes: DISPATCHER_TEST_SCALE=1")
def test_plans_and_pages_of_a_claim_are_flat_up_to_a_million(new_database: Database) -> None:
    seen: dict[tuple[int, bool], tuple[set[Plan], list[int]]] = {}
    for half in (False, True):
        for rows in SIZES:
            outbox = _filled(new_database, rows, half=half)
            seen[rows, half] = _claims(outbox)
            outbox.engine.dispose()
    figures = {f"{rows}{' half of one lead' if half else ''}": pages for (rows, half), (_, pages) in seen.items()}
    print(figures)  # noqa: T201 - the figures are what it is run for
    plans = {plan for found, _ in seen.values() for plan in found}
    assert not [plan for plan in plans if any("Seq Scan" in node for node in plan)]
    assert len({frozenset(found) for found, _ in seen.values()}) == 1, "the same plans everywhere"
    smallest = max(seen[SIZES[0], False][1])
    assert max(max(pages) for pages in figures.values()) <= FLAT * smallest
