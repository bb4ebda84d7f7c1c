"""RD Station refuses the retired types. Real: the command line, a worker, databases and brokers; it is the sandbox."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from dispatcher import CartAbandoned, OrderPlaced, OrderPlacedItem, enqueue_many
from dispatcher.events import Event
from dispatcher.outbox.tables import events
from dispatcher.sandbox import Sandbox
from tests.acceptance.corners import EMBEDDED, REDIS
from tests.acceptance.fleet import Fleet, Shop, eventually

TEMPLATE = "https://loja.example/checkout/{cart_id}"


def order(number: int) -> list[Event]:
    """An order and its two lines, as the demo's shop and many others tell them."""
    email = f"cliente{number}@cliente.example"
    whole = OrderPlaced(
        email=email,
        cf_order_id=str(number),
        cf_order_total_items=2,
        cf_order_status="paid",
        cf_order_payment_method="Credit Card",
        cf_order_payment_amount=200.5,
    )
    lines = [
        OrderPlacedItem(
            email=email,
            cf_order_id=str(number),
            cf_order_product_id=product,
            cf_order_product_sku=product,
            product_title="Camiseta",
            price=100.25,
            quantity=1,
        )
        for product in ("P-1", "P-2")
    ]
    return [whole, *lines]


def cart(number: int, **more: Any) -> CartAbandoned:
    email = f"carrinho{number}@cliente.example"
    return CartAbandoned(email=email, cf_cart_id=str(number), cf_cart_total_items=1, cf_cart_status="open", **more)


def payloads(sandbox: Sandbox, event_type: str) -> list[dict[str, Any]]:
    """Of the events of this type that arrived."""
    bodies: list[Any] = [arrival.body for arrival in sandbox.arrivals(event_type, accepted=True)]
    return [body["payload"] for body in bodies]


def commit(shop: Shop, *told: Event) -> None:
    with Session(shop.engine) as session, session.begin():
        enqueue_many(session, told)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("corner", [EMBEDDED, REDIS], indirect=True)
def test_refused_types_arrive_as_their_successors_and_what_lacks_is_named_supplied_and_replayed(
    corner: tuple[Shop, Fleet], sandbox: Sandbox, tmp_path: Path
) -> None:
    shop, fleet = corner
    sandbox.switch(legacy="reject")
    commit(shop, *order(1001), *order(1002), *order(1003), cart(501, price=99.9), cart(502))
    fleet.start()
    eventually("all but the carts delivered", lambda: shop.states() == Counter(delivered=9, dead=2), told=shop.states)

    arrived = sandbox.arrivals(accepted=True)
    assert Counter(arrival.event_type for arrival in arrived) == Counter(ECOMMERCE_ORDER_PLACED=3)
    assert [len(payload["line_items"]) for payload in payloads(sandbox, "ECOMMERCE_ORDER_PLACED")] == [2, 2, 2]
    assert shop.verdicts()["type_retired"] >= 2, "one order and one cart were refused, and the account remembers"
    assert all(row["failures"] == 0 for row in shop.what_happened()["outbox_events"])

    said = fleet.command("dead", "show", "CART_ABANDONED:502")
    assert "$.attached.price" in said
    assert "checkout_url_template" in said
    assert "$.attached.price" not in fleet.command("dead", "show", "CART_ABANDONED:501")
    shown = json.loads(fleet.command("show", "ORDER_PLACED_ITEM:1001:P-1", "--json"))
    assert (shown["reason"], shown["sent_with"]) == ("merged", "ORDER_PLACED:1001")

    fleet.command("account", "set", "default", "--checkout-url-template", TEMPLATE)
    fleet.command("dead", "replay", "CART_ABANDONED:501")
    price = tmp_path / "price.json"
    price.write_text('{"attached": {"price": 12.5}}')
    fleet.command("dead", "replay", "CART_ABANDONED:502", "--payload", str(price))
    shop.wait_delivered(11)
    carts = payloads(sandbox, "ECOMMERCE_CART_ABANDONED")
    assert sorted((cart["identifier"], cart["price"], cart["checkout_url"]) for cart in carts) == [
        ("501", 99.9, "https://loja.example/checkout/501"),
        ("502", 12.5, "https://loja.example/checkout/502"),
    ]
    assert len(sandbox.arrivals(accepted=True)) == 5, "nothing arrived twice"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", ["refuse", "send"])
@pytest.mark.parametrize("corner", [EMBEDDED], indirect=True)
def test_what_may_not_be_translated_is_a_dead_letter_that_names_the_way_out(
    corner: tuple[Shop, Fleet], sandbox: Sandbox, mode: str
) -> None:
    """`refuse` sends nothing of a retired type; `send` sends it as it is, also after RD Station has refused it."""
    shop, fleet = corner
    fleet.start(legacy_events=mode)
    if mode == "send":
        commit(shop, *order(1000))
        shop.wait_delivered(3)
        assert Counter(one.event_type for one in sandbox.arrivals(accepted=True)) == Counter(
            ORDER_PLACED=1, ORDER_PLACED_ITEM=2
        )
        sandbox.switch(legacy="reject")
    sandbox.reset()
    commit(shop, *order(1001), cart(501))
    eventually("four dead letters", lambda: shop.states()["dead"] == 4, told=shop.states)

    assert sandbox.arrivals(accepted=True) == []
    assert len(sandbox.arrivals("ORDER_PLACED")) == (1 if mode == "send" else 0)
    dead = [row for row in shop.rows(events) if row["state"] == "dead"]
    assert {(row["reason"], row["failures"]) for row in dead} == {("type_retired", 0)}
    said = fleet.command("dead", "show", "ORDER_PLACED:1001")
    assert ("EcommerceOrderPlaced" if mode == "refuse" else "RD Station no longer accepts ORDER_PLACED") in said
    assert "ECOMMERCE_ORDER_PLACED" not in {one.event_type for one in sandbox.arrivals()}
