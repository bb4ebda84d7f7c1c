"""What a delivery promises, event by event and in batches. Real: the drain, SQLite, HTTP. Doubled: RD Station."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest

from dispatcher.outbox.tables import attempts, dead_letters
from dispatcher.sandbox import Fault, FaultKind, Sandbox
from tests.contract.delivery.conftest import Make
from tests.contract.delivery.delivery_under_test import Delivery, cart, order

EVENTS = 12


def orders(count: int = EVENTS) -> list[Any]:
    return [order(number) for number in range(count)]


def test_each_event_is_delivered_once_and_keeps_its_own_receipt(delivery: Delivery, sandbox: Sandbox) -> None:
    delivery.place(orders())
    delivery.run_until(delivered=EVENTS)
    assert set(delivery.accepted().values()) == {1}
    receipts = {f"ECOMMERCE_ORDER_PLACED:{arrival.key}": arrival.event_uuid for arrival in sandbox.arrivals()}
    assert {row["key"]: row["event_uuid"] for row in delivery.outbox.rows().values()} == receipts
    assert delivery.verdicts() == Counter(delivered=EVENTS)


def test_the_events_of_a_lead_arrive_in_their_order_and_never_two_at_once(delivery: Delivery, sandbox: Sandbox) -> None:
    delivery.place([order(number, lead=number % 4) for number in range(3 * 4)])
    delivery.run_until(delivered=3 * 4)
    arrived = [int(str(arrival.key)[len("order-") : -1]) for arrival in sandbox.arrivals()]
    for lead in range(4):
        assert [number for number in arrived if number % 4 == lead] == [lead, lead + 4, lead + 8]
    assert sandbox.violations().lead_overlaps == 0


@pytest.mark.parametrize(
    "fault",
    [Fault(FaultKind.STATUS, status=503), Fault(FaultKind.HTML), Fault(FaultKind.STATUS, status=408)],
    ids=["503", "html", "408"],
)
def test_what_rd_station_could_not_serve_is_tried_again_and_counted(
    delivery: Delivery, sandbox: Sandbox, fault: Fault
) -> None:
    sandbox.break_with(fault)
    delivery.place(orders())
    delivery.run_until(delivered=EVENTS)
    assert set(delivery.accepted().values()) == {1}
    assert delivery.failures() == delivery.verdicts()["unavailable"] >= 1


@pytest.mark.parametrize("kind", [FaultKind.ACCEPT_THEN_DROP, FaultKind.DROP_MID_ANSWER])
def test_an_order_without_an_answer_is_uncertain_and_sent_again(
    delivery: Delivery, sandbox: Sandbox, kind: FaultKind
) -> None:
    shape = "status" if kind is FaultKind.DROP_MID_ANSWER else None
    sandbox.break_with(Fault(kind, shape=shape))
    delivery.place(orders())
    delivery.run_until(delivered=EVENTS)
    copies = sum(count - 1 for count in delivery.accepted().values())
    assert delivery.verdicts()["uncertain"] == copies >= 1, "every copy is explained by an uncertain attempt"
    assert set(delivery.accepted().values()) <= {1, 2}


def test_a_cart_without_an_answer_waits_for_a_person(delivery: Delivery, sandbox: Sandbox) -> None:
    sandbox.break_with(Fault(FaultKind.ACCEPT_THEN_DROP))
    delivery.place([cart(1)])
    delivery.place([cart(2)])
    delivery.run()
    held = [letter for letter in delivery.dead().values() if letter["reason"] == "held_uncertain"]
    assert len(held) == delivery.verdicts()["uncertain"] >= 1
    assert set(delivery.accepted().values()) == {1}


def test_the_guilty_event_gets_its_error_and_its_neighbours_arrive(delivery: Delivery) -> None:
    delivery.place(orders())
    delivery.spoil(5)
    delivery.run_until(delivered=EVENTS - 1, dead=1)
    ((key, letter),) = delivery.dead().items()
    assert key == "ECOMMERCE_ORDER_PLACED:order-5."
    assert letter["reason"] == "rejected"
    assert '"$.payload.currency"' in letter["errors"]
    assert set(delivery.accepted().values()) == {1}
    assert delivery.failures() == 0
    assert delivery.verdicts()["rejected"] == 1


def test_a_revoked_token_costs_one_try_and_no_budget(delivery: Delivery, sandbox: Sandbox) -> None:
    sandbox.revoke_tokens()
    delivery.place(orders())
    delivery.run()
    assert delivery.outbox.account_row().suspend_reason == "credentials"
    assert delivery.states() == Counter(pending=EVENTS)
    assert delivery.failures() == 0
    assert not delivery.accepted()


def test_an_expired_token_is_renewed_once_and_all_is_delivered(delivery: Delivery, sandbox: Sandbox) -> None:
    sandbox.expire_tokens()
    delivery.place(orders())
    delivery.run_until(delivered=EVENTS)
    assert sandbox.count("/auth/token") == 1
    assert set(delivery.accepted().values()) == {1}


def test_a_closed_window_gives_all_back_and_spends_nothing(delivery: Delivery, sandbox: Sandbox) -> None:
    sandbox.break_with(Fault(FaultKind.RATE_LIMIT, seconds=30, times=None))
    delivery.place(orders())
    delivery.run()
    assert delivery.states() == Counter(pending=EVENTS)
    assert delivery.failures() == 0
    assert delivery.outbox.account_row().throttled_until > delivery.outbox.now()


def test_a_capped_lead_is_parked_delays_no_other_and_is_named_nowhere(
    delivery: Delivery, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "dispatcher")
    delivery.place([order(100, lead=5), order(101, lead=5)])
    delivery.run_until(delivered=2)
    sandbox.switch(lead_per_day=2)
    delivery.place(orders())
    delivery.run_until(delivered=2 + EVENTS - 1, pending=1)
    (waiting,) = [row for row in delivery.outbox.rows().values() if row["state"] == "pending"]
    assert waiting["key"] == "ECOMMERCE_ORDER_PLACED:order-5."
    assert waiting["available_at"] > delivery.outbox.now()
    assert delivery.failures() == 0
    assert delivery.verdicts()["lead_throttled"] == 1
    stored = repr(
        [delivery.rows(attempts), delivery.rows(dead_letters), delivery.outbox.account_row(), waiting["reason"]]
    )
    assert "@shop" not in stored + caplog.text


def test_a_forbidden_type_is_held_back_and_spends_nothing(delivery: Delivery, sandbox: Sandbox) -> None:
    sandbox.break_with(Fault(FaultKind.STATUS, status=403, times=None))
    delivery.place(orders())
    delivery.run()
    assert "ECOMMERCE_ORDER_PLACED" in delivery.outbox.account_row().suspended_types
    assert delivery.states() == Counter(pending=EVENTS)
    assert delivery.failures() == 0


@pytest.mark.parametrize("shape", ["html", "empty", "json"])
def test_a_success_without_a_receipt_is_delivered_and_never_sent_again(
    delivery: Delivery, sandbox: Sandbox, shape: str
) -> None:
    sandbox.break_with(Fault(FaultKind.NO_UUID, shape=shape))
    delivery.place(orders())
    delivery.run_until(delivered=EVENTS)
    assert set(delivery.accepted().values()) == {1}
    unknown = [row for row in delivery.outbox.rows().values() if row["reason"] == "uuid_unknown"]
    assert unknown
    assert all(row["event_uuid"] is None for row in unknown)


def test_an_oversized_event_is_buried_and_its_neighbours_arrive(delivery: Delivery, sandbox: Sandbox) -> None:
    sandbox.break_with(Fault(FaultKind.STATUS, status=413, times=None, key_contains="order-5."))
    delivery.place(orders())
    delivery.run_until(delivered=EVENTS - 1, dead=1)
    assert {letter["reason"] for letter in delivery.dead().values()} == {"too_large"}
    assert set(delivery.accepted().values()) == {1}


@pytest.mark.parametrize("mode", ["off", "on"])
@pytest.mark.parametrize("limits", [{"account_per_minute": 8, "lead_per_day": 0}, {"lead_per_day": 2}], ids=str)
def test_no_window_is_exceeded_and_what_does_not_fit_waits(
    make: Make, sandbox: Sandbox, sqlite_url: str, mode: str, limits: dict[str, int]
) -> None:
    """Each limit by itself: 8 of 12 events fit, of an account, or of 4 leads with 2 each. The sandbox only counts."""
    limits = {"account_per_minute": 0, **limits}
    delivery = make(sqlite_url, batch=mode, **limits)
    sandbox.switch(**limits, enforce=False)
    delivery.place([order(number, lead=number % 4) for number in range(EVENTS)])
    delivery.run()
    assert delivery.states() == Counter(delivered=8, pending=4)
    assert sandbox.violations().total == 0


def test_the_sandbox_reports_a_dispatcher_that_keeps_to_no_limit(make: Make, sandbox: Sandbox, sqlite_url: str) -> None:
    """Of 12 events 4 are above the account's 8, and of each of 4 leads' 3 one is above the lead's 2."""
    delivery = make(sqlite_url, batch="off", account_per_minute=0, lead_per_day=0)
    sandbox.switch(account_per_minute=8, lead_per_day=2, enforce=False)
    delivery.place([order(number, lead=number % 4) for number in range(EVENTS)])
    delivery.run_until(delivered=EVENTS)
    report = sandbox.violations()
    assert report.total == 8
    assert [(one.arrived, one.above, one.max_in_window) for one in report.accounts] == [(12, 4, 12)]
    assert [one.above for one in report.leads] == [1] * 4
    assert "8 above a limit" in sandbox.summary()


def test_the_stop_sign_sends_nothing_and_gives_all_back(delivery: Delivery, sandbox: Sandbox) -> None:
    delivery.place(orders())
    delivery.stop.set()
    delivery.run()
    assert delivery.states() == Counter(pending=EVENTS)
    assert not sandbox.arrivals()


def test_a_retired_type_goes_as_the_settings_say(delivery: Delivery, sandbox: Sandbox) -> None:
    from tests.acceptance.fleet import order as retired_order

    delivery.place([retired_order(number, batch="off") for number in range(3)])
    delivery.run_until(delivered=3)
    assert all(arrival.index == 0 for arrival in sandbox.arrivals()), "RD Station's batches no longer take the type"
