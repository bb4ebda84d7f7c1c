"""What watching reads and writes: counters, the backlog without the history, workers' progress. Real databases."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from dispatcher.outbox import counters, worker_rows
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.overview import overview
from dispatcher.outbox.tables import workers
from dispatcher.outbox.transaction import in_transaction, reading
from tests.contract.outbox_under_test import OutboxUnderTest


def test_the_counts_of_processes_that_store_at_once_add_up(outbox: OutboxUnderTest) -> None:
    before = reading(outbox.engine, counters.read)
    names = [("attempts", "verdict=delivered"), ("sweeps", ""), ("send_seconds_sum", "")]
    failed: list[BaseException] = []

    def store(backwards: bool) -> None:
        counts = dict.fromkeys(reversed(names) if backwards else names, 0.5)
        try:
            for _ in range(20):
                in_transaction(outbox.engine, lambda connection: counters.add(connection, counts))
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=store, args=(number % 2 == 1,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert reading(outbox.engine, counters.read) == before | dict.fromkeys(names, pytest.approx(30.0))


@pytest.mark.alone("it asks of the whole outbox")
def test_the_backlog_is_counted_without_the_history(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    outbox.add(available_at=now - timedelta(seconds=90))
    outbox.add(ready_at=None, available_at=now - timedelta(seconds=120))  # behind another of its lead
    outbox.add(available_at=now + timedelta(hours=1), ready_at=now + timedelta(hours=1))
    outbox.add(account="second")
    outbox.add(state="in_flight")
    for state in ("delivered", "cancelled"):
        outbox.add(state=state)
    whole = reading(outbox.engine, overview)
    waiting = reading(outbox.engine, lambda connection: overview(connection, ended=False))
    assert (whole.states["delivered"], waiting.states["delivered"]) == (1, 0)
    for seen in (whole, waiting):
        assert (seen.states["pending"], seen.states["in_flight"]) == (4, 1)
        assert seen.oldest_due_seconds == pytest.approx(120, abs=30)
        assert {view.account: view.due for view in seen.accounts} == {"default": 2, "second": 1}


def test_a_worker_writes_when_its_pool_was_last_heard_and_that_it_was_ended(outbox: OutboxUnderTest) -> None:
    def write(worker: str, heard: timedelta | None) -> None:
        in_transaction(
            outbox.engine,
            lambda connection: worker_rows.progress(connection, worker, read_clock(connection), heard=heard),
        )

    write("host_1:7", None)
    write("host_1:7", timedelta(seconds=100))
    write("hostx1:8", None)  # an underscore stands for itself
    in_transaction(outbox.engine, lambda connection: worker_rows.stalled(connection, "host_1:7"))
    (row,) = reading(outbox.engine, lambda connection: worker_rows.workers_of(connection, "host_1"))
    assert row.heard_at is not None
    assert row.stalled_at is not None
    assert row.progress_at - row.heard_at == timedelta(seconds=100)
    everybody = reading(outbox.engine, lambda connection: worker_rows.workers_of(connection, None))
    stalled = {row.worker: row.stalled_at is not None for row in everybody}
    assert {"host_1:7": True, "hostx1:8": False}.items() <= stalled.items()


def test_a_new_worker_s_first_row_ends_those_that_made_no_round_for_an_hour(outbox: OutboxUnderTest) -> None:
    now = outbox.now()

    def write(worker: str, minutes: int, heard: timedelta | None = None) -> None:
        at = now - timedelta(minutes=minutes)
        in_transaction(outbox.engine, lambda connection: worker_rows.progress(connection, worker, at, heard=heard))

    def known() -> set[str]:
        rows = reading(outbox.engine, lambda connection: worker_rows.workers_of(connection, "host"))
        return {row.worker for row in rows}

    write("host:1", 61)
    write("host:2", 59)
    assert known() == {"host:1", "host:2"}
    write("host:3", 0, heard=timedelta(seconds=1))
    assert known() == {"host:2", "host:3"}
    write("host:3", -1)
    query = sa.select(workers).where(workers.c.worker == "host:3")
    row = reading(outbox.engine, lambda connection: connection.execute(query).one())
    assert (row.progress_at, row.heard_at) == (now + timedelta(minutes=1), now - timedelta(seconds=1))
    assert row.stalled_at is None
