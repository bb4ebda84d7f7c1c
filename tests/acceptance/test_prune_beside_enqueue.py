"""Five million finished events are pruned while the shop enqueues: no long statement, and enqueue does not notice.

For DISPATCHER_TEST_SCALE=1 only: it is about size, and takes some ten minutes and six gigabytes. That each step is
bounded, and waits for nobody, is shown in tests/contract/test_prune.py at any size.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from statistics import median
from time import perf_counter

import pytest
import sqlalchemy as sa

from dispatcher import OrderPlaced, enqueue
from dispatcher.clock import SystemClock
from dispatcher.outbox.prune import Pruned, Pruning, Retention, walk
from dispatcher.outbox.tables import attempts, dead_letters, events, ledger
from tests.acceptance.corners import SCALE
from tests.acceptance.fleet import engine_of

FINISHED = 5_000_000
AT_ONCE = 250_000
WINDOWS, WINDOW_SECONDS = 24, 4.0
MONTH = Retention.of_days(delivered=30, cancelled=30, dead=180)

SEED = """
INSERT INTO outbox_events (event_id, account, event_type, key, fact, lead, payload, state, reason, attempt, ready_at,
                           event_uuid, created_at, available_at, line_at, budget_from, ended_at)
SELECT gen_random_uuid(), 'default', 'ORDER_PLACED', 'ORDER_PLACED:old-' || n,
       encode(sha256(('ORDER_PLACED:old-' || n)::bytea), 'hex'), md5((n / 3)::text), :payload,
       CASE n % 10 WHEN 0 THEN 'cancelled' ELSE 'delivered' END, CASE n % 10 WHEN 0 THEN 'expired' END, 1, NULL,
       md5(n::text), at, at, at, at, at
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n, (SELECT now() - interval '60 days' AS at) past
"""

SEED_ATTEMPTS = """
INSERT INTO outbox_attempts (event, attempt, verdict, stage, status, detail, worker, seconds, ended_at)
SELECT id, 1, 'delivered', 'answered', 200, NULL, 'w1', 0.2, ended_at FROM outbox_events
WHERE id > (SELECT coalesce(max(event), 0) FROM outbox_attempts)
"""

SEED_LETTERS = """
INSERT INTO outbox_dead_letters
    (event, account, event_type, reason, detail, attempt, resolved_at, resolution, resolved_by)
SELECT id, account, event_type, 'rejected', '400', 1, now(), 'replayed', 'ana' FROM outbox_events WHERE id % 50 = 0
"""


INDEXES = """
SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS ddl FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = 'outbox_events'::regclass AND NOT i.indisprimary
"""
FOREIGN_KEY = "fk_outbox_attempts_event"


def _seed(engine: sa.Engine) -> None:
    """Without the indexes, which are built anew at the end: a tenth of the time."""
    payload = OrderPlaced(**OrderPlaced.EXAMPLE).payload_json()
    with engine.begin() as connection:
        indexes = connection.exec_driver_sql(INDEXES).all()
        for index in indexes:
            connection.exec_driver_sql(f"DROP INDEX {index.name}")
        connection.exec_driver_sql(f"ALTER TABLE outbox_attempts DROP CONSTRAINT {FOREIGN_KEY}")
    for first in range(1, FINISHED + 1, AT_ONCE):
        with engine.begin() as connection:
            bounds = {"first": first, "last": min(first + AT_ONCE - 1, FINISHED), "payload": payload}
            connection.execute(sa.text(SEED), bounds)
            connection.execute(sa.text(SEED_ATTEMPTS))
    with engine.begin() as connection:
        connection.execute(sa.text(SEED_LETTERS))
        for index in indexes:
            connection.exec_driver_sql(index.ddl)
        connection.exec_driver_sql(
            f"ALTER TABLE outbox_attempts ADD CONSTRAINT {FOREIGN_KEY} FOREIGN KEY (event)"
            " REFERENCES outbox_events (id) ON DELETE CASCADE"
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in (events, attempts, dead_letters, ledger):
            connection.exec_driver_sql(f"VACUUM (ANALYZE) {table.name}")


def _prune(url: str, go: Event, answer: Connection) -> None:
    """The process of `dispatcher prune`, which the test stops and lets go on between two steps."""
    longest, slowest, total, pruning = 0.0, "", Pruned(), Pruning(MONTH)
    with engine_of(url) as engine:

        @sa.event.listens_for(engine, "before_cursor_execute")
        def _begin(connection: sa.Connection, *_: object) -> None:
            connection.info["begun"] = perf_counter()

        @sa.event.listens_for(engine, "after_cursor_execute")
        def _end(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
            nonlocal longest, slowest
            took = perf_counter() - connection.info["begun"]
            if took > longest:
                longest, slowest = took, statement

        engine.connect().close()  # on a busy machine this alone may take seconds
        for step in walk(engine, pruning, SystemClock()):
            total.add(step)
            go.wait()
    answer.send((total.removed, longest, slowest))


@dataclass
class _Shop:
    """Enqueues one order after the other; `seconds` is what each took, with its commit."""

    engine: sa.Engine
    seconds: list[float] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10_000_000)))

    def place_orders(self, seconds: float) -> float:
        """For so long; answers the 99th percentile."""
        ends, took = perf_counter() + seconds, []
        while perf_counter() < ends:
            order = OrderPlaced(**{**OrderPlaced.EXAMPLE, "cf_order_id": f"new-{next(self.numbers)}"})
            begun = perf_counter()
            with self.engine.begin() as connection:
                assert enqueue(connection, order).created
            took.append(perf_counter() - begun)
        self.seconds += took
        return sorted(took)[len(took) * 99 // 100]


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not SCALE, reason="for DISPATCHER_TEST_SCALE=1: it is about five million rows")
def test_pruning_five_million_rows_takes_no_long_statement_and_enqueue_does_not_notice(postgres_url: str) -> None:
    spawning = multiprocessing.get_context("spawn")
    go, (ours, theirs) = spawning.Event(), spawning.Pipe()
    with engine_of(postgres_url) as engine:
        _seed(engine)
        shop = _Shop(engine)
        shop.place_orders(WINDOW_SECONDS)  # warm
        process = spawning.Process(target=_prune, args=(postgres_url, go, theirs), daemon=True)
        process.start()
        alone: list[float] = []
        beside: list[float] = []
        for window in range(WINDOWS):
            pruning = window % 2 == 1
            go.set() if pruning else go.clear()
            (beside if pruning else alone).append(shop.place_orders(WINDOW_SECONDS))
        assert process.is_alive(), "it was over before the comparison was: more rows, or fewer windows"
        ratio = median(b / a for a, b in zip(alone, beside, strict=True))  # of neighbours: a machine's load drifts
        figures = (
            f"enqueue p99 alone {median(alone) * 1000:.1f} ms, beside {median(beside) * 1000:.1f} ms, ratio {ratio:.2f}"
        )
        print(figures, flush=True)  # noqa: T201 - for who runs it by hand
        go.set()
        while not ours.poll(0):
            shop.place_orders(1.0)
        removed, longest, slowest = ours.recv()
        process.join(60)
        told = f"pruned {removed}; longest statement {longest * 1000:.0f} ms; {len(shop.seconds)} orders; {figures}"
        print(told)  # noqa: T201 - as above
        assert removed == FINISHED
        assert longest < 1.0, f"{told}: {slowest}"
        assert ratio < 1.5, told
        with engine.connect() as connection:
            left = [
                connection.execute(sa.select(sa.func.count()).select_from(t)).scalar_one() for t in (events, ledger)
            ]
        assert left == [len(shop.seconds), FINISHED]
