"""The retired types as RD Station's pages show them, through the real classes and `parse_event`. Nothing is doubled."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest

from dispatcher.errors import InvalidEvent
from dispatcher.events import CartAbandoned, CartAbandonedItem, OrderPlaced, OrderPlacedItem, parse_event

SAMPLES: list[dict[str, Any]] = [
    {
        "event_type": "ORDER_PLACED",
        "event_family": "CDP",
        "payload": {
            "email": "contato@email.com",
            "cf_order_id": "ID do pedido",
            "cf_order_total_items": 5,
            "cf_order_status": "Status do pedido",
            "cf_order_payment_method": "Credit Card",
            "cf_order_payment_amount": 200.5,
        },
    },
    {
        "event_type": "CART_ABANDONED",
        "event_family": "CDP",
        "payload": {
            "email": "contato@email.com",
            "cf_cart_id": "ID do carrinho",
            "cf_cart_total_items": "5",
            "cf_cart_status": "Status do carrinho",
        },
    },
]


def order(**changes: Any) -> OrderPlaced:
    return OrderPlaced(**{**SAMPLES[0]["payload"], **changes})


def test_the_sample_order_of_the_api_page_is_sent_as_it_is() -> None:
    event = parse_event(SAMPLES[0])
    assert isinstance(event, OrderPlaced)
    assert json.loads(event.payload_json()) == SAMPLES[0]["payload"]
    assert event.key() == "ORDER_PLACED:ID do pedido"


def test_the_sample_cart_of_the_api_page_passes_and_its_text_number_becomes_a_number() -> None:
    event = parse_event(SAMPLES[1])
    assert isinstance(event, CartAbandoned)
    assert event.payload() == {**SAMPLES[1]["payload"], "cf_cart_total_items": 5}
    assert event.key() == "CART_ABANDONED:ID do carrinho"


def test_the_text_that_is_sent_is_compact_utf8_without_escapes() -> None:
    assert '"name":"João ☕"' in order(name="João ☕").payload_json()
    assert ", " not in order(name="x").payload_json()


def test_absent_and_none_are_both_left_out() -> None:
    assert order(name=None).payload_json() == order().model_copy(update={"name": None}).payload_json()
    assert "name" not in order(name=None).payload()


def test_text_is_kept_as_it_is_and_only_the_address_is_trimmed() -> None:
    event = order(email=" Ana@Cliente.example\n", name="  Ana ", cf_order_status=" paid ")
    assert event.email == "Ana@Cliente.example"
    assert event.payload()["name"] == "  Ana "
    assert event.payload()["cf_order_status"] == " paid "


@pytest.mark.parametrize("count", [5, 5.0, "5", Decimal(5), "05"])
def test_a_legacy_integer_is_one_number_however_it_is_written(count: object) -> None:
    event = order(cf_order_total_items=count)
    assert event.payload()["cf_order_total_items"] == 5
    assert '"cf_order_total_items":5,' in event.payload_json()
    assert event.fingerprint() == order(cf_order_total_items=5).fingerprint()


def test_a_decimal_amount_becomes_the_nearest_json_number() -> None:
    event = order(cf_order_payment_amount=Decimal("199.90"))
    assert '"cf_order_payment_amount":199.9}' in event.payload_json()
    assert event.fingerprint() == order(cf_order_payment_amount=199.9).fingerprint()


def test_a_text_enum_of_the_shop_is_taken_as_its_text() -> None:
    class Status(StrEnum):
        PAID = "paid"

    assert order(cf_order_status=Status.PAID).fingerprint() == order(cf_order_status="paid").fingerprint()


def test_a_cart_id_is_attached_and_never_sent() -> None:
    event = order(cart_id="CART-77")
    assert event.attached() == {"cart_id": "CART-77"}
    assert "CART-77" not in event.payload_json()
    assert event.fingerprint() == order().fingerprint()
    assert order().attached() == {}


def test_what_is_only_attached_is_no_part_of_an_envelope() -> None:
    with pytest.raises(InvalidEvent) as refused:
        parse_event({**SAMPLES[0], "payload": {**SAMPLES[0]["payload"], "cart_id": "CART-77"}})
    assert [problem.path for problem in refused.value.problems] == ["$.payload.cart_id"]


def test_items_are_known_by_their_parent_and_their_product() -> None:
    line = OrderPlacedItem(
        email="ana@cliente.example", cf_order_id="1001", cf_order_product_id="P-10", cf_order_product_sku="S"
    )
    assert line.key() == "ORDER_PLACED_ITEM:1001:P-10"
    assert CartAbandonedItem(**CartAbandonedItem.EXAMPLE).key() == "CART_ABANDONED_ITEM:CART-77:P-10"


def test_an_event_cannot_be_changed_and_a_changed_copy_is_checked() -> None:
    event = order()
    with pytest.raises(ValueError, match="frozen"):
        event.cf_order_id = "2"  # type: ignore[misc]  # the point of the test
    assert event.model_copy(update={"cf_order_id": "2"}).key() == "ORDER_PLACED:2"
    with pytest.raises(InvalidEvent):
        event.model_copy(update={"cf_order_id": None})


def test_a_printed_event_shows_no_content() -> None:
    event = order(name="Ana Prado")
    assert "ana" not in f"{event!r} {event}".lower()
