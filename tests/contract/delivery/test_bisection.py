"""Refused batches are taken apart. Real: the drain, SQLite, HTTP. Doubled: RD Station (the sandbox)."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from dispatcher.outbox.tables import attempts
from dispatcher.sandbox import Fault, FaultKind, Sandbox
from tests.contract.delivery.conftest import Make
from tests.contract.delivery.delivery_under_test import Delivery, cart, order

MOST_CALLS = math.floor(1 + 2 * math.log2(100))


def refuse(sandbox: Sandbox, *numbers: int) -> None:
    """RD Station refuses whatever request holds one of these orders, without saying which."""
    for number in numbers:
        sandbox.break_with(Fault(FaultKind.STATUS, status=400, times=None, key_contains=f"order-{number}."))


def assert_only_these_are_dead(delivery: Delivery, *guilty: int) -> None:
    """Each with the error of a request that held it alone; the others arrived once, and lost no try."""
    rows = delivery.outbox.rows()
    keys = {f"ECOMMERCE_ORDER_PLACED:order-{number}." for number in guilty}
    assert delivery.dead().keys() == keys
    assert all(letter["reason"] == "rejected" and letter["errors"] for letter in delivery.dead().values())
    assert set(delivery.accepted().values()) <= {1}
    assert sum(delivery.accepted().values()) == len(rows) - len(guilty)
    assert delivery.failures() == 0
    blamed = {rows[row["event"]]["key"] for row in delivery.rows(attempts) if row["errors"] or row["excerpt"]}
    assert blamed == keys


@pytest.mark.parametrize("bad", [0, 37, 99])
def test_one_bad_event_among_100_costs_few_calls_and_only_itself(batches: Delivery, sandbox: Sandbox, bad: int) -> None:
    batches.place([order(number) for number in range(100)])
    refuse(sandbox, bad)
    batches.run_until(delivered=99, dead=1)
    assert len(batches.requests()[0]) == 100
    assert len(batches.requests()) <= MOST_CALLS
    assert_only_these_are_dead(batches, bad)


def test_a_refusal_that_names_the_event_costs_two_more_calls(batches: Delivery) -> None:
    batches.place([order(number) for number in range(100)])
    batches.spoil(37)
    batches.run_until(delivered=99, dead=1)
    assert sorted(map(len, batches.requests())) == [1, 99, 100]
    assert_only_these_are_dead(batches, 37)


def test_two_bad_events_are_both_found(batches: Delivery, sandbox: Sandbox) -> None:
    batches.place([order(number) for number in range(100)])
    refuse(sandbox, 20, 80)
    batches.run_until(delivered=98, dead=2)
    assert len(batches.requests()) <= 2 * MOST_CALLS
    assert_only_these_are_dead(batches, 20, 80)


@pytest.mark.parametrize("named", [True, False])
def test_a_batch_of_bad_events_ends_with_an_error_for_each(batches: Delivery, sandbox: Sandbox, named: bool) -> None:
    batches.place([order(number) for number in range(9)])
    if named:
        batches.spoil(*range(9))
    else:
        refuse(sandbox, *range(9))
    batches.run_until(dead=9)
    assert_only_these_are_dead(batches, *range(9))


def test_a_batch_that_is_too_long_is_halved_until_it_fits(batches: Delivery, sandbox: Sandbox) -> None:
    sandbox.switch(max_body_bytes=6_000)
    batches.place([order(number) for number in range(100)])
    batches.run_until(delivered=100)
    assert sorted(map(len, batches.requests())) == [25, 25, 25, 25, 50, 50, 100]
    assert set(batches.accepted().values()) == {1}
    sandbox.switch(max_body_bytes=200_000)


def test_results_of_both_kinds_in_one_answer_end_each_event_by_itself(batches: Delivery, sandbox: Sandbox) -> None:
    sandbox.switch(batch_refusal="mixed")
    batches.place([order(number) for number in range(20)])
    batches.spoil(3, 11)
    batches.run_until(delivered=18, dead=2)
    assert len(batches.requests()) == 1
    assert_only_these_are_dead(batches, 3, 11)
    uuids = {f"ECOMMERCE_ORDER_PLACED:{arrival.key}": arrival.event_uuid for arrival in sandbox.arrivals()}
    assert {row["key"]: row["event_uuid"] for row in batches.outbox.rows().values()} == uuids


def test_an_answer_with_another_count_makes_each_of_its_events_uncertain(batches: Delivery, sandbox: Sandbox) -> None:
    sandbox.break_with(Fault(FaultKind.NO_UUID, shape="short"))
    batches.place([order(0), order(1), cart(2)])
    batches.run_until(delivered=2, dead=1)
    assert batches.verdicts() == Counter(uncertain=3, delivered=2)
    assert batches.accepted() == Counter({"order-0.": 2, "order-1.": 2, "cart-2.": 1})
    assert {letter["reason"] for letter in batches.dead().values()} == {"held_uncertain"}


def test_an_event_that_failed_goes_alone(batches: Delivery, sandbox: Sandbox) -> None:
    """One that makes RD Station fail would spend its neighbours' budgets."""
    sandbox.break_with(Fault(FaultKind.STATUS, status=500, times=3, key_contains="order-3."))
    batches.place([order(number) for number in range(10)])
    batches.run_until(delivered=10)
    assert sorted(Counter(map(len, batches.requests())).items()) == [(1, 12), (10, 1)]
    assert max(row["failures"] for row in batches.outbox.rows().values() if "order-3." not in row["key"]) == 1


def test_a_refused_type_is_told_from_the_types_beside_it(batches: Delivery, sandbox: Sandbox) -> None:
    sandbox.break_with(Fault(FaultKind.STATUS, status=403, times=None, event_type="ECOMMERCE_CART_ABANDONED"))
    batches.place([order(0), order(1), cart(2), cart(3)])
    batches.run_until(delivered=2, pending=2)
    assert "ECOMMERCE_CART_ABANDONED" in batches.outbox.account_row().suspended_types
    assert "ECOMMERCE_ORDER_PLACED" not in batches.outbox.account_row().suspended_types


def test_a_batch_feeds_the_breaker_once(make: Make, sandbox: Sandbox, sqlite_url: str) -> None:
    delivery = make(sqlite_url, backoff_base_seconds=300)
    sandbox.break_with(Fault(FaultKind.STATUS, status=503))
    delivery.place([order(number) for number in range(20)])
    delivery.run()
    assert '"failures": 1' in delivery.outbox.account_row().breaker


def test_the_requests_of_a_search_hold_permits_of_their_own(make: Make, sandbox: Sandbox, sqlite_url: str) -> None:
    delivery = make(sqlite_url, account_per_minute=20, lead_per_day=3)
    sandbox.switch(account_per_minute=20, lead_per_day=3, enforce=False)
    delivery.place([order(number) for number in range(16)])
    refuse(sandbox, 5)
    delivery.run()
    assert sandbox.violations().total == 0
    (minute,) = sandbox.violations().accounts
    assert minute.arrived <= 20
    assert delivery.states()["in_flight"] == 0
    assert delivery.failures() == 0


def test_a_search_that_the_window_cuts_short_goes_on_alone_and_ends(
    make: Make, sandbox: Sandbox, sqlite_url: str
) -> None:
    delivery = make(sqlite_url, account_per_minute=10)
    sandbox.switch(account_per_minute=10, enforce=False)
    delivery.place([order(number) for number in range(10)])
    refuse(sandbox, 5)
    delivery.run()
    assert delivery.states() == Counter(pending=10)
    delivery.next_minute()
    delivery.run()
    assert delivery.states() == Counter(delivered=9, dead=1)
    assert sandbox.violations().total == 0


def test_a_search_keeps_to_the_limit_of_each_lead(make: Make, sandbox: Sandbox, sqlite_url: str) -> None:
    delivery = make(sqlite_url, lead_per_day=2)
    sandbox.switch(lead_per_day=2, enforce=False)
    delivery.place([order(number) for number in range(16)])
    refuse(sandbox, 5)
    delivery.run()
    assert sandbox.violations().total == 0
    assert max(Counter(key for request in delivery.requests() for key in request).values()) == 2
