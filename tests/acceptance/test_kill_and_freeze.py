"""Issue 2, line 4: workers killed and frozen. Real: workers, databases, brokers, HTTP. Doubled: RD Station."""

from __future__ import annotations

import signal
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from dispatcher.outbox.tables import attempts, events
from dispatcher.sandbox import Fault, FaultKind, Sandbox
from tests.acceptance.corners import BATCH, EMBEDDED, REDIS
from tests.acceptance.fleet import ORDER_TYPE, Fleet, Shop, Worker, eventually, order

LEASE, SWEEP = 8, 1
SETTINGS: dict[str, Any] = {
    "lease_seconds": LEASE,
    "sweep_seconds": SWEEP,
    "http_connect_seconds": 2,
    "http_read_seconds": 3,
    "http_total_seconds": 3,
}
NOISE = timedelta(seconds=6)
"""A machine that is shared: polls and commits come late. The promise itself is lease + one sweep."""


def warm_up(shop: Shop, batch: str = BATCH) -> None:
    """One delivery, so that the account is trusted with many sends at once."""
    shop.place([order(0, batch=batch)])
    eventually("a first delivery", lambda: shop.states()["delivered"] == 1)


def survive_kill_9(shop: Shop, fleet: Fleet, sandbox: Sandbox, batch: str) -> None:
    """50 orders are in flight, and all are delivered within a lease and a sweep."""
    worker = fleet.start(processes=2, concurrency=120, batch=batch, **SETTINGS)
    warm_up(shop, batch)
    sandbox.break_with(Fault(FaultKind.HANG, times=50, accept=True))
    shop.place([order(number, batch=batch) for number in range(1, 51)])
    sandbox.wait_for(51, accepted=True, seconds=30)
    worker.kill()
    sandbox.clear_faults()  # a batch hangs once for all of its events
    killed_at = shop.now()
    in_flight = [row for row in shop.rows(events) if row["state"] == "in_flight"]
    assert len(in_flight) >= 40, "the kill was to hit them in flight"
    eventually("kill -9 of the group leaves no process", lambda: not worker.members())

    fleet.start(processes=2, concurrency=120, wait="worker.started", batch=batch, **SETTINGS)
    claimable_at = max(killed_at + timedelta(seconds=LEASE), shop.now())  # starting takes long on a busy machine
    shop.wait_delivered(51)

    assert max(row["ended_at"] for row in shop.rows(events)) <= claimable_at + timedelta(seconds=SWEEP) + NOISE
    verdicts = shop.verdicts()
    assert verdicts["abandoned"] == len(in_flight)
    extra = sandbox.copies().total() - 51
    assert 0 < extra <= verdicts["abandoned"] + verdicts["uncertain"]
    assert set(sandbox.copies()) == {str(number) for number in range(51)}


def test_after_kill_9_with_50_orders_in_flight_all_are_delivered_within_a_lease_and_a_sweep(
    shop: Shop, fleet: Fleet, sandbox: Sandbox
) -> None:
    survive_kill_9(shop, fleet, sandbox, BATCH)


@pytest.mark.parametrize("corner", [EMBEDDED], indirect=True)
def test_the_same_with_the_50_orders_in_batches(corner: tuple[Shop, Fleet], sandbox: Sandbox) -> None:
    survive_kill_9(*corner, sandbox, "on")
    shared = [one.path for one in sandbox.arrivals() if one.path == "/platform/events/batch"]
    assert len(shared) >= 40, "they were to be in batches"


def frozen_without_a_lock(shop: Shop, worker: Worker) -> bool:
    """On SQLite a process frozen within a transaction keeps the one writer's place: nobody could take over."""
    worker.signal(signal.SIGSTOP)
    if shop.writable():
        return True
    worker.signal(signal.SIGCONT)
    return False


@pytest.mark.parametrize("corner", [EMBEDDED, REDIS], indirect=True)
def test_a_worker_frozen_past_its_lease_changes_no_row_when_it_thaws(
    corner: tuple[Shop, Fleet], sandbox: Sandbox
) -> None:
    shop, fleet = corner
    frozen = fleet.start(processes=2, concurrency=20, **SETTINGS)
    warm_up(shop)
    sandbox.break_with(Fault(FaultKind.SLOW, times=10, seconds=1.5))
    shop.place([order(number) for number in range(1, 11)])
    sandbox.wait_for(11, ORDER_TYPE, seconds=30)
    eventually("a freeze outside a transaction", lambda: frozen_without_a_lock(shop, frozen))
    stuck = shop.states()["in_flight"]
    assert stuck > 0, "the freeze was to hit them in flight"

    fleet.start(processes=2, wait="worker.started", **SETTINGS)  # the embedded broker is frozen with its owner
    shop.wait_delivered(11)
    before = shop.what_happened()

    frozen.signal(signal.SIGCONT)
    eventually("every late settlement is told", lambda: frozen.text.count("delivery.lost") >= stuck)
    frozen.end()
    assert shop.what_happened() == before
    assert shop.verdicts()["abandoned"] == stuck
    numbers = Counter(row["attempt"] for row in shop.rows(attempts))
    assert numbers[2] == stuck
