"""A replaced event that moves to another lead leaves its old line, and whoever stood behind it goes on. Real rows."""

from __future__ import annotations

from datetime import timedelta
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

    now, unordered = outbox.now(), outbox.rows()
    lead = next(row["lead"] for row in unordered.values() if row["key"] == behind)
    long_ago, later = now - timedelta(days=1), now + timedelta(hours=1)
    beside = outbox.add(lead=lead, ordering="none", line_at=long_ago, available_at=later, ready_at=later)
    outbox.add(lead="somebody else", line_at=long_ago, available_at=later, ready_at=later)

    put(outbox, order(1, "ana@shop.example"), on_conflict="replace")

    assert asleep(outbox) == {("other", behind)}, "there the first one still stands before it"
    assert outbox.row(beside).ready_at == later, "it stands in no line"
    woken = next(row for row in outbox.rows().values() if (row["account"], row["key"]) == ("default", behind))
    assert woken["behind"] == 0, "it is the first now, and is looked at first"
    assert behind in [event.key for event in outbox.claim_all()]
    assert outbox.breaches() == []
