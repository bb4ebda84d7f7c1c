"""Issue 4, line 1: the order of a lead through failures, kills and two workers. Doubled: RD Station, by the sandbox.

200 leads with 20 events each and 20 seeds, also on MariaDB, are for DISPATCHER_TEST_SCALE=1; otherwise one seed and
fewer events.
"""

from __future__ import annotations

from collections import defaultdict
from random import Random
from typing import Any

import pytest

from dispatcher.outbox.tables import attempts
from dispatcher.sandbox import Fault, FaultKind, Sandbox, faults_schedule
from tests.acceptance.corners import RABBITMQ, REDIS, SCALE
from tests.acceptance.fleet import ORDER_TYPE, Fleet, Shop, eventually, order

LEADS, EACH, KILLS, SEEDS = (200, 20, 3, 20) if SCALE else (30, 8, 1, 1)
SETTINGS: dict[str, Any] = {
    "http_connect_seconds": 1,
    "http_read_seconds": 2,
    "http_total_seconds": 2,
    "lease_seconds": 7,
    "max_failures": 100,
    "backoff_base_seconds": 0.1,
    "backoff_cap_seconds": 1,
}
FAULTS: dict[FaultKind | Fault, float] = {
    Fault(FaultKind.STATUS, times=None, status=503): 0.08,
    Fault(FaultKind.ACCEPT_THEN_DROP, times=None): 0.03,
    Fault(FaultKind.DROP_UNREAD, times=None): 0.02,
    Fault(FaultKind.SLOW, times=None, seconds=0.3): 0.05,
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("corner", [REDIS, RABBITMQ] if SCALE else [REDIS], indirect=True)
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_the_first_arrivals_of_a_lead_are_in_the_order_of_enqueue(
    corner: tuple[Shop, Fleet], sandbox: Sandbox, seed: int
) -> None:
    shop, fleet = corner
    rng = Random(seed)  # noqa: S311 - which worker dies, and when
    sandbox.schedule(faults_schedule(seed, FAULTS))
    workers = [fleet.start(wait="worker.started", **SETTINGS) for _ in range(2)]
    total = LEADS * EACH
    for round_ in range(EACH):  # one transaction of each lead after the other
        shop.place([order(round_ * LEADS + lead, lead=lead) for lead in range(LEADS)])

    for kill in range(1, KILLS + 1):
        reached = total * kill // (KILLS + 2) + rng.randrange(total // 20)
        eventually(f"{reached} delivered", lambda reached=reached: shop.states()["delivered"] >= reached, 300)  # type: ignore[misc]  # mypy: lambda default
        workers.pop(rng.randrange(2)).kill()
        workers.append(fleet.start(wait=None, **SETTINGS))
    shop.wait_delivered(total, seconds=300)

    first: dict[int, list[int]] = defaultdict(list)
    seen: set[int] = set()
    for arrival in sandbox.arrivals(ORDER_TYPE):
        number = int(str(arrival.key))
        if number not in seen:
            seen.add(number)
            first[number % LEADS].append(number)
    assert len(first) == LEADS
    for lead, numbers in first.items():
        assert numbers == sorted(numbers), f"lead {lead}"
    verdicts = {row["verdict"] for row in shop.rows(attempts)}
    assert {"unavailable", "uncertain"} <= verdicts, "nothing went wrong"
    for worker in workers:
        worker.kill()
