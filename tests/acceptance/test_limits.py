"""Issue 2, line 7: a minute of RD Station's, never exceeded and used up. Real: workers, SQLite, broker, HTTP, time."""

from __future__ import annotations

import pytest

from dispatcher.sandbox import Sandbox
from tests.acceptance.corners import EMBEDDED, FULL
from tests.acceptance.fleet import ORDER_TYPE, Fleet, Shop, order

LIMIT, EVENTS = 120, 400
MINUTES = EVENTS // LIMIT  # that are used whole


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="takes three minutes of real time: DISPATCHER_TEST_FULL=1 runs it")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("corner", [EMBEDDED], indirect=True)
def test_400_events_use_each_minute_and_exceed_none(corner: tuple[Shop, Fleet], sandbox: Sandbox) -> None:
    shop, fleet = corner
    sandbox.switch(account_per_minute=LIMIT, enforce=False)
    fleet.start(account_per_minute=LIMIT, wait="worker.started")
    fleet.start(account_per_minute=LIMIT, wait="worker.started")
    shop.place([order(number) for number in range(EVENTS)])

    shop.wait_delivered(EVENTS, seconds=60 * (MINUTES + 2))

    (minute,) = sandbox.violations().accounts
    assert minute.max_in_window <= LIMIT
    at = sorted(arrival.seconds for arrival in sandbox.arrivals(ORDER_TYPE))
    assert len(at) == EVENTS
    # The first event of the fourth minute may go 3 x 60 s after the first of all: what it waited longer went unused.
    assert (at[MINUTES * LIMIT] - at[0]) * 0.95 <= 60 * MINUTES
