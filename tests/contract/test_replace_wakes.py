"""A replaced event that moves to another lead leaves its old line, and whoever stood behind it goes on. Real rows."""

from __future__ import annotations

from typing import Any

from dispatcher import OrderPlaced, enqueue
from dispatcher.outbox.enqueue import Receipt
from dispatcher.outbox.transaction import in_transaction
from tests.contract.outbox_under_test import OutboxUnderTest, retried


def order(number: int, email: str) -> OrderPlaced:
    return OrderPlaced(**{**OrderPlaced.EXAMPLE, "cf_order_id": str(number), "email": email})


def put(outbox: OutboxUnderTest, event: OrderPlaced, **options: Any) -> Receipt:
    return in_transaction(outbox.engine, lambda connection: enqueue(connection, event, **options))


def asleep(outbox: OutboxUnderTest) -> set[tuple[str, str]]:
    return {(row["account"], row["key"]) for row in outbox.rows().values() if row["ready_at"] is None}


def test_the_one_behind_it_is_woken_and_nobody_else(outbox: OutboxUnderTest) -> None:
    behind = "ORDER_PLACED:2"
    for account in ("default", "other"):
        outbox.account(account)
        put(outbox, order(1, "maria@shop.example"), account=account)
        outbox.settle(*(retried(event, after=600) for event in outbox.claim_all(account)))
        put(outbox, order(2, "maria@shop.example"), account=account)
        assert outbox.claim_all(account) == []
    assert asleep(outbox) == {("default", behind), ("other", behind)}

    put(outbox, order(1, "ana@shop.example"), on_conflict="replace")

    assert asleep(outbox) == {("other", behind)}, "there the first one still stands before it"
    assert behind in [event.key for event in outbox.claim_all()]
    assert outbox.breaches() == []
