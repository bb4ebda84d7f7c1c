"""Issue 2, line 8: a revoked token with many events queued. Real: workers, databases, brokers, HTTP, refreshes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dispatcher.outbox.tables import events
from dispatcher.sandbox import Sandbox
from tests.acceptance.corners import EMBEDDED, REDIS
from tests.acceptance.fleet import Fleet, Shop, eventually, order

PROBE = 8
EVENTS = 1_000


def most_requests_within(sandbox: Sandbox, seconds: float) -> int:
    """The most requests of any kind that arrived in a sliding window, half-open."""
    moments = list({arrival.number: arrival.seconds for arrival in sandbox.arrivals()}.values())  # a batch is one
    return max((sum(begin <= at < begin + seconds for at in moments) for begin in moments), default=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corner", "trusted"),
    [
        pytest.param(*EMBEDDED.values, False, id="from the start"),
        pytest.param(*REDIS.values, True, id="after a success", marks=REDIS.marks),
    ],
    indirect=["corner"],
)
def test_revoked_tokens_cost_nothing_but_time(corner: tuple[Shop, Fleet], sandbox: Sandbox, trusted: bool) -> None:
    shop, fleet = corner
    worker = fleet.start(processes=2, probe_seconds=PROBE)
    first = int(trusted)
    if trusted:
        shop.place([order(0)])
        shop.wait_delivered(1)
    sandbox.revoke_tokens()
    sandbox.reset()
    shop.place([order(number) for number in range(first, EVENTS)])
    eventually("the account is suspended", lambda: shop.account()["suspended_at"] is not None)
    eventually("two probes", lambda: worker.text.count("account.probed") >= 2)

    states = shop.states()
    assert states == {"pending": EVENTS - first} | ({"delivered": 1} if trusted else {})
    assert sum(row["failures"] for row in shop.rows(events)) == 0
    assert most_requests_within(sandbox, PROBE * 0.95) <= 3, [(a.path, a.seconds, a.status) for a in sandbox.arrivals()]

    restored_at = shop.now()
    sandbox.restore_tokens()
    shop.wait_delivered(EVENTS, seconds=120)
    resumed_at = min(row["ended_at"] for row in shop.rows(events) if row["ended_at"] > restored_at)
    assert resumed_at - restored_at <= timedelta(seconds=2 * PROBE)
    assert sum(row["failures"] for row in shop.rows(events)) == 0
    assert set(sandbox.copies().values()) == {1}
