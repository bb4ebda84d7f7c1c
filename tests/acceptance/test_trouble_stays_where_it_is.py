"""Accounts beside each other, and the order of a lead. Real: workers, databases, brokers, HTTP. Doubled: RD Station."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher.outbox.tables import attempts, events
from dispatcher.sandbox import Fault, FaultKind, Sandbox, faults_schedule
from tests.acceptance.corners import CORNERS, EMBEDDED, REDIS
from tests.acceptance.fleet import ORDER_TYPE, Fleet, Shop, eventually, order

SETTINGS: dict[str, Any] = {"http_connect_seconds": 2, "http_read_seconds": 15, "http_total_seconds": 15}


@pytest.mark.parametrize("corner", [EMBEDDED, REDIS], indirect=True)
def test_two_accounts_that_hang_do_not_delay_a_third(corner: tuple[Shop, Fleet], sandbox: Sandbox) -> None:
    shop, fleet = corner
    for account in ("hanging-1", "hanging-2", "well"):
        sandbox.add_account(account)
        shop.log_in(account)
    worker = fleet.start(processes=1, **SETTINGS)
    for at, account in enumerate(("hanging-1", "hanging-2", "well")):  # all three are trusted
        shop.place([order(at)], account=account)
        shop.wait_delivered(1, account=account)
    for account in ("hanging-1", "hanging-2"):
        sandbox.break_with(Fault(FaultKind.HANG, times=None, account=account))
        shop.place([order(100 + number) for number in range(200)], account=account)
    eventually("both hang", lambda: min(shop.states(f"hanging-{n}")["in_flight"] for n in (1, 2)) >= 2)

    shop.place([order(1000 + number) for number in range(300)], account="well")
    shop.wait_delivered(301, account="well", seconds=14)  # before the first of the others has timed out

    assert shop.states("hanging-1")["delivered"] == 1
    sandbox.clear_faults()
    worker.kill()


@pytest.mark.parametrize("corner", [EMBEDDED], indirect=True)
@pytest.mark.parametrize(("status", "what"), [(401, "account"), (403, "type")])
def test_a_refused_account_delays_no_other_and_spends_nothing(
    corner: tuple[Shop, Fleet], sandbox: Sandbox, status: int, what: str
) -> None:
    shop, fleet = corner
    for account in ("refused", "well"):
        sandbox.add_account(account)
        shop.log_in(account)
    if status == 401:
        sandbox.revoke_tokens("refused")
    else:
        sandbox.break_with(Fault(FaultKind.STATUS, status=403, times=None, account="refused"))
    worker = fleet.start(processes=1, probe_seconds=3)
    shop.place([order(number) for number in range(50)], account="refused")
    worker.wait_for(f"{what}.suspended")
    shop.place([order(100 + number) for number in range(50)], account="well")
    shop.wait_delivered(50, account="well")
    assert shop.states("refused")["delivered"] == 0
    assert sum(row["failures"] for row in shop.rows(events)) == 0

    sandbox.restore_tokens("refused")
    sandbox.clear_faults()
    shop.wait_delivered(50, account="refused")
    worker.end()


@pytest.mark.parametrize("corner", CORNERS, indirect=True)
def test_the_order_of_a_lead_holds_through_retries_and_over_two_workers(
    corner: tuple[Shop, Fleet], sandbox: Sandbox
) -> None:
    shop, fleet = corner
    sandbox.schedule(faults_schedule(7, {Fault(FaultKind.STATUS, times=None, status=503): 0.2}))
    workers = [fleet.start(wait="worker.started", backoff_base_seconds=0.2) for _ in range(2)]
    leads, each = 20, 10
    shop.place([order(number, lead=number % leads) for number in range(leads * each)])

    shop.wait_delivered(leads * each, seconds=90)

    accepted = [int(str(arrival.key)) for arrival in sandbox.arrivals(ORDER_TYPE, accepted=True)]
    for lead in range(leads):
        assert [number for number in accepted if number % leads == lead] == list(range(lead, leads * each, leads))
    assert sandbox.violations().lead_overlaps == 0
    assert any(row["verdict"] == "unavailable" for row in shop.rows(attempts)), "nothing was retried"
    for worker in workers:
        worker.end()


@pytest.mark.parametrize("corner", [EMBEDDED], indirect=True)
def test_the_command_of_the_dispatcher_runs_the_same_worker(corner: tuple[Shop, Fleet]) -> None:
    shop, fleet = corner
    worker = fleet.start(command=("dispatcher", "worker"), pool="threads")
    shop.place([order(number) for number in range(20)])
    shop.wait_delivered(20)
    worker.end()
