"""Issue 3: one bad event among 100 in a batch. Real: a worker, SQLite, the embedded broker, HTTP."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from sqlalchemy.orm import Session

from dispatcher import EcommerceOrderPlaced, enqueue_many
from dispatcher.outbox.tables import attempts, dead_letters, events
from dispatcher.sandbox import Fault, FaultKind, Sandbox
from tests.acceptance.corners import EMBEDDED
from tests.acceptance.fleet import Fleet, Shop, eventually

EVENTS, BAD = 100, 63


def placed(number: int) -> EcommerceOrderPlaced:
    return EcommerceOrderPlaced(
        email=f"customer{number}@shop.example",
        identifier=f"order-{number}.",
        currency="BRL",
        price=10.5,
        total_items=1,
    )


@pytest.mark.parametrize("corner", [EMBEDDED], indirect=True)
def test_one_bad_event_among_100_is_found_by_few_calls_and_harms_no_other(
    corner: tuple[Shop, Fleet], sandbox: Sandbox
) -> None:
    shop, fleet = corner
    with Session(shop.engine) as session, session.begin():
        enqueue_many(session, [placed(1000)])
    worker = fleet.start(batch="on", batch_events=EVENTS)
    shop.wait_delivered(1)  # the account is trusted now
    sandbox.reset()
    sandbox.break_with(Fault(FaultKind.STATUS, status=400, times=None, key_contains=f"order-{BAD}."))
    with Session(shop.engine) as session, session.begin():
        enqueue_many(session, [placed(number) for number in range(EVENTS)])

    eventually("all but one delivered", lambda: shop.states() == Counter(delivered=EVENTS, dead=1), told=shop.states)

    calls = {arrival.number for arrival in sandbox.arrivals()}
    assert len(calls) <= 1 + 2 * math.log2(EVENTS)
    assert sandbox.copies("identifier", accepted=True) == Counter(
        {f"order-{number}.": 1 for number in range(EVENTS) if number != BAD}
    )
    (guilty,) = [row for row in shop.rows(events) if row["state"] == "dead"]
    assert guilty["key"] == f"ECOMMERCE_ORDER_PLACED:order-{BAD}."
    assert [letter["event"] for letter in shop.rows(dead_letters)] == [guilty["id"]]
    assert sum(row["failures"] for row in shop.rows(events)) == 0
    assert {row["event"] for row in shop.rows(attempts) if row["errors"]} == {guilty["id"]}
    assert "@shop" not in worker.text
    worker.end()
