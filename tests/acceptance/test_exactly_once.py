"""Issue 2, line 6: a run without faults sends each event once. Real: workers, databases, brokers, HTTP."""

from __future__ import annotations

from collections import Counter

import pytest

from dispatcher.outbox.tables import attempts
from dispatcher.sandbox import Sandbox
from tests.acceptance.corners import FULL
from tests.acceptance.fleet import Fleet, Shop, order

ANSWERED = "RD Station answered 200"
EVENTS = 10_000 if FULL else 2_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_of_many_events_is_sent_once_by_several_processes(shop: Shop, fleet: Fleet, sandbox: Sandbox) -> None:
    backend = shop.engine.url.get_backend_name()
    processes = 1 if backend == "sqlite" else 2  # in each of two workers
    workers = [fleet.start(processes=processes, wait="worker.started") for _ in range(2)]
    shop.place([order(number) for number in range(EVENTS)])

    shop.wait_delivered(EVENTS, seconds=300)

    rows = shop.rows(attempts)
    # A machine that stands still for long makes leases run low, and what was not begun is given back: nothing was sent.
    sent = [row for row in rows if row["verdict"] != "released"]
    assert Counter((row["verdict"], row["detail"]) for row in sent) == {("delivered", ANSWERED): EVENTS}
    assert len({row["event"] for row in sent}) == EVENTS
    assert sandbox.copies() == Counter({str(number): 1 for number in range(EVENTS)})
    assert len({row["worker"] for row in rows}) >= 2, "one process did everything: nothing was shown"
    for worker in workers:
        worker.end()
