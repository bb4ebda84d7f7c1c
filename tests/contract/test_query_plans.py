"""What claims and sweeps read depends on what they take, not on what the table holds. Real databases, filled in bulk.

Each step runs as in production; its statements are caught on the way and explained, on PostgreSQL also as the generic
plans that prepared statements end with. MySQL counts the rows it reads, SQLite names its indexes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import event

from dispatcher.outbox import account_rows, parking, sweep
from dispatcher.outbox import claim as claiming
from dispatcher.outbox.allowance import allowances_of
from dispatcher.outbox.candidates import candidates
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.indexes import metadata
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.prune import STEP, Pruning, Retention
from dispatcher.outbox.tables import events
from dispatcher.outbox.wake import wake
from dispatcher.outbox.window import EVERYTHING, next_ready
from tests.contract.outbox_under_test import OutboxUnderTest, rules

ROWS = {"postgresql": 100_000, "mysql": 30_000, "sqlite": 30_000}
RULES = rules(account=1000, lead=120)
TAKEN = 50

# Of ten rows seven are delivered and three pending, all of the pending ones due; a few hundred are in flight, stale,
# asleep or parked. Nearly all belong to one account.
_FILL = """
INSERT INTO outbox_events (event_id, account, event_type, {key}, fact, {lead}, payload, state, reason, available_at,
                           line_at, budget_from, ready_at, behind, attempt, lease_until, ended_at, expires_at)
SELECT {uuid}, CASE WHEN n % 100 = 8 THEN {shop} ELSE 'default' END, 'ORDER_PLACED', {name}, {hash}, {name}, '{{}}',
       CASE WHEN n % 10 < 7 THEN 'delivered' WHEN n % 1000 = 9 THEN 'in_flight' ELSE 'pending' END,
       CASE WHEN n % 1000 = 37 THEN 'type_suspended' END, {ago}, {ago}, {ago},
       CASE WHEN n % 10 >= 7 AND n % 1000 NOT IN (9, 37, 47) THEN {ago} END, CASE WHEN n % 500 = 18 THEN 1 ELSE 0 END,
       CASE WHEN n % 10 < 7 OR n % 1000 = 9 THEN 1 ELSE 0 END, CASE WHEN n % 1000 = 9 THEN {ago} END,
       CASE WHEN n % 10 < 7 THEN {ago} END, CASE WHEN n % 500 = 28 THEN {ago} END
FROM {numbers}
"""
_COUNTING = "(WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows}) SELECT n FROM s) g"
_WORDS: dict[str, dict[str, str]] = {
    "postgresql": {
        "key": "key",
        "lead": "lead",
        "uuid": "gen_random_uuid()",
        "shop": "'shop-' || n % 2000",
        "name": "'n' || n",
        "hash": "md5(n::text) || md5(n::text)",
        "ago": "statement_timestamp() - (900000 - n) * interval '1 ms'",
        "numbers": "generate_series(1, {rows}) AS g (n)",
    },
    "mysql": {
        "key": "`key`",
        "lead": "`lead`",
        "uuid": "REPLACE(UUID(), '-', '')",
        "shop": "CONCAT('shop-', n % 2000)",
        "name": "CONCAT('n', n)",
        "hash": "SHA2(n, 256)",
        "ago": "TIMESTAMPADD(SECOND, n - 300000, UTC_TIMESTAMP(6))",
        "numbers": _COUNTING,
    },
    "sqlite": {
        "key": "key",
        "lead": "lead",
        "uuid": "lower(hex(randomblob(16)))",
        "shop": "'shop-' || n % 2000",
        "name": "'n' || n",
        "hash": "lower(hex(randomblob(32)))",
        "ago": "strftime('%Y-%m-%d %H:%M:%f', 'now', (n - 300000) || ' seconds') || '000'",
        "numbers": _COUNTING,
    },
}
_ANALYZE = {"postgresql": "VACUUM ANALYZE", "mysql": "ANALYZE TABLE outbox_events", "sqlite": "ANALYZE"}

Step = Callable[[sa.Connection], object]


def _claim(connection: sa.Connection) -> object:
    batch = claiming.claim(connection, RULES, worker="w", room=TAKEN)
    assert len(batch.events) == TAKEN
    return batch


def _candidates_with_their_payload(connection: sa.Connection) -> object:
    query = candidates(connection.dialect.name, [events.c.id, events.c.payload], sa.literal("default"), 0)
    query = query.where(events.c.ready_at <= read_clock(connection)).limit(TAKEN)
    return connection.execute(query).all()


def _allowance_of_an_unproven_account(connection: sa.Connection) -> object:
    row = account_rows.lock(connection, "default")
    row.proven_until = None
    return allowances_of(connection, [row], RULES, read_clock(connection))


def _when_next(connection: sa.Connection) -> object:
    return next_ready(connection, {"default": EVERYTHING})


def _wake(connection: sa.Connection) -> object:
    return wake(connection, range(9, 9 + TAKEN))


def _probe(connection: sa.Connection) -> object:
    return parking.unpark(connection, "default", "ORDER_PLACED", at_most=1)


# Each step with the indexes of outbox_events that it may use, and the pages or rows it may read: some for each event
# taken, never a share of the table.
STEPS: dict[str, tuple[Step, set[str], int]] = {
    "claim": (_claim, {"ready", "line", "in_flight", "moots", "lead_moots", "id"}, 60 * TAKEN),
    "candidates, whatever is read of them": (_candidates_with_their_payload, {"ready"}, 4 * TAKEN),
    "is one in flight": (_allowance_of_an_unproven_account, {"leased"}, 400),
    "when is the next due": (_when_next, {"ready"}, 50),
    "is anything left": (sweep.is_work_left, {"ready", "asleep", "leased"}, 1000),
    "which accounts have work": (sweep.spread_the_word, {"ready"}, 2000),
    "whose lease has ended": (sweep.abandoned, {"leased", "id"}, 1500),
    "what is stale": (sweep.expire, {"expiry", "line", "in_flight", "id"}, 20 * 500),
    "what sleeps": (sweep.Repair().step, {"asleep", "line", "in_flight", "id"}, 10 * 500),
    "what to prune": (Pruning(Retention.of_days(30, 30, 180)).step, {"id"}, 2 * STEP),
    "whom to wake": (_wake, {"line", "id"}, 20 * TAKEN),
    "what is parked": (_probe, {"asleep"}, 800),
}


@dataclass(frozen=True, slots=True)
class Caught:
    """One statement as the driver got it."""

    statement: str
    parameters: Any


@pytest.fixture
def filled(empty_database_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(empty_database_url)
    backend = engine.url.get_backend_name()
    metadata.create_all(engine)
    words = _WORDS[backend]
    numbers = words["numbers"].format(rows=ROWS[backend])
    with engine.begin() as connection:
        if backend == "mysql":
            connection.exec_driver_sql(f"SET max_recursive_iterations = {ROWS[backend]}")
        connection.execute(sa.text(_FILL.format(**{**words, "numbers": numbers}).replace(":", r"\:")))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(_ANALYZE[backend])
    OutboxUnderTest(engine).account()
    yield engine
    engine.dispose()


@contextmanager
def _catching(engine: sa.Engine) -> Iterator[list[Caught]]:
    caught: list[Caught] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if not many and "outbox_events" in statement and statement.startswith(("SELECT", "WITH")):
            caught.append(Caught(statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    yield caught
    event.remove(engine, "before_cursor_execute", note)


def _short(index: str) -> str:
    if index in {"PRIMARY", "pk_outbox_events"}:
        return "id"
    return re.sub(r"^(ix|uq)_outbox_events_", "", index)


# PostgreSQL


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _postgresql_problems(connection: sa.Connection, caught: Caught, allowed: set[str], pages: int) -> Iterator[str]:
    raw = connection.connection.driver_connection
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        names.append(found[1])
        return f"${len(names)}"

    prepared = re.sub(r"%\((\w+)\)s", number, caught.statement).replace("%%", "%")
    values = ", ".join(sql.Literal(caught.parameters[name]).as_string(raw) for name in names)
    for mode in ("force_custom_plan", "force_generic_plan"):
        with connection.begin_nested() as undone:
            connection.exec_driver_sql(f"SET LOCAL plan_cache_mode = {mode}")
            raw.execute(f"PREPARE explained AS {prepared}")  # type: ignore[union-attr]  # psycopg's own
            arguments = f"({values})" if names else ""
            explain = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE explained{arguments}"
            plan = raw.execute(explain).fetchone()[0][0]["Plan"]  # type: ignore[union-attr]  # see above
            raw.execute("DEALLOCATE explained")  # type: ignore[union-attr]  # see above
            undone.rollback()
        for node in _nodes(plan):
            if node.get("Relation Name") == "outbox_events" and "Index Name" not in node:
                yield f"{mode}: {node['Node Type']} on outbox_events"
            if node.get("Index Name", "").endswith("_outbox_events") or "_outbox_events_" in node.get("Index Name", ""):
                index = _short(node["Index Name"])
                if index not in allowed:
                    yield f"{mode}: by {index}"
        read = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        if read > pages:
            yield f"{mode}: {read} pages"


# SQLite


def _sqlite_problems(connection: sa.Connection, caught: Caught, allowed: set[str], _: int) -> Iterator[str]:
    for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {caught.statement}", caught.parameters):
        detail = str(row[-1])
        index = re.search(r"INDEX (\w+)", detail)
        if index and "_outbox_events_" in index[1] and _short(index[1]) not in allowed:
            yield f"by {_short(index[1])}: {detail}"
        if detail.startswith("SCAN outbox_events") and not index:
            yield detail


# MySQL


def _rows_read(connection: sa.Connection) -> int:
    """Index entries that the storage engine skips by a pushed condition are counted apart, and cost as much."""
    status = connection.exec_driver_sql("SHOW SESSION STATUS WHERE Variable_name REGEXP '^Handler_(read|icp_att)'")
    return sum(int(value) for _, value in status)


@pytest.mark.slow
def test_no_step_reads_more_because_the_table_holds_more(filled: sa.Engine) -> None:
    backend = filled.url.get_backend_name()
    problems: list[str] = []
    for name, (step, allowed, pages) in STEPS.items():
        with filled.connect() as connection, _catching(filled) as caught:
            before = _rows_read(connection) if backend == "mysql" else 0
            step(connection)
            if backend == "mysql" and (read := _rows_read(connection) - before) > pages:
                problems.append(f"{name}: {read} rows read")
            connection.rollback()
        assert caught, f"{name} was not looked at"
        explain = {"postgresql": _postgresql_problems, "sqlite": _sqlite_problems}.get(backend)
        for statement in caught if explain else ():
            with filled.connect() as connection:
                found = explain(connection, statement, allowed, pages) if explain else ()
                problems += [f"{name}: {problem}: {statement.statement[:200]}" for problem in found]
                connection.rollback()
    assert problems == []
