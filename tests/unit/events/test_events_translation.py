"""Translation of retired events, case by case, over the real classes. Nothing is doubled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher.events import CartAbandoned, CartAbandonedItem, OrderPlaced, OrderPlacedItem, parse_event
from dispatcher.events.account_defaults import AccountDefaults
from dispatcher.events.translation import ItemPart, Missing, Translated, translate

ORDER, CART = dict(OrderPlaced.EXAMPLE), dict(CartAbandoned.EXAMPLE)
TEMPLATE = AccountDefaults(checkout_url_template="https://loja.example/checkout/{cart_id}")
BASES = [{"category": "communications", "type": "consent", "status": "granted"}]
FULL_ITEM: dict[str, Any] = {"product_title": "Camiseta azul", "price": 59.9, "quantity": 2}


def sent(result: Translated | Missing) -> dict[str, Any]:
    """The payload, after RD Station's rules have had their say."""
    assert isinstance(result, Translated), result
    payload: dict[str, Any] = json.loads(result.payload_json)
    parse_event({"event_type": result.event_type, "event_family": "CDP", "payload": payload})
    return payload


def told(result: Translated | Missing) -> dict[str, str]:
    assert isinstance(result, Missing), result
    return {problem.path: problem.message for problem in result.problems}


def order_item(product: str = "P-10", **attached: Any) -> ItemPart:
    payload = {**OrderPlacedItem.EXAMPLE, "cf_order_product_id": product}
    return ItemPart(f"ORDER_PLACED_ITEM:1001:{product}", payload, attached or None)


def cart_item(product: str = "P-10", **attached: Any) -> ItemPart:
    payload = {**CartAbandonedItem.EXAMPLE, "cf_cart_product_id": product}
    return ItemPart(f"CART_ABANDONED_ITEM:CART-77:{product}", payload, attached or None)


def test_an_order_needs_nothing_but_itself() -> None:
    result = translate("ORDER_PLACED", {**ORDER, "legal_bases": BASES})
    assert isinstance(result, Translated)
    assert result.event_type == "ECOMMERCE_ORDER_PLACED"
    assert sent(result) == {
        "email": "ana@cliente.example",
        "name": "Ana Prado",
        "legal_bases": BASES,
        "identifier": "1001",
        "currency": "BRL",
        "price": 200.5,
        "total_items": 5,
        "payment_methods": ["Credit Card"],
    }


def test_an_order_takes_what_is_attached_to_it_and_its_currency_goes_before_the_accounts() -> None:
    attached = {
        "currency": "USD", "shipping_price": 25, "shipping_city": "Recife", "shipping_state": "PE",
        "shipping_country": "BR", "order_url": "https://loja.example/pedidos/1001",
    }  # fmt: skip
    payload = sent(translate("ORDER_PLACED", ORDER, {**attached, "cart_id": "CART-77"}, (), AccountDefaults("EUR")))
    assert {name: payload[name] for name in attached} == attached
    assert "CART-77" not in json.dumps(payload)
    assert sent(translate("ORDER_PLACED", ORDER, None, (), AccountDefaults("EUR")))["currency"] == "EUR"


def test_a_cart_takes_its_price_from_what_is_attached_and_its_url_from_the_accounts_template() -> None:
    assert sent(translate("CART_ABANDONED", CART, {"price": 318.7}, (), TEMPLATE)) == {
        "email": "ana@cliente.example",
        "identifier": "CART-77",
        "checkout_url": "https://loja.example/checkout/CART-77",
        "currency": "BRL",
        "price": 318.7,
        "total_items": 3,
    }


def test_a_carts_own_url_goes_before_the_template() -> None:
    own = {"price": 1, "checkout_url": "https://loja.example/c?t=9"}
    assert sent(translate("CART_ABANDONED", CART, own, (), TEMPLATE))["checkout_url"] == own["checkout_url"]


def test_parts_become_lines_in_the_order_they_came() -> None:
    url, image = "https://loja.example/p/10", "https://cdn.loja.example/p10.jpg"
    extras: dict[str, Any] = {
        "product_url": url,
        "image_url": image,
        "variant_id": "M",
        "variant_title": "Médio",
        "categories": ["x"],
    }
    items = [order_item("P-22", **FULL_ITEM), order_item("P-10", **FULL_ITEM, **extras)]
    line = {"sku": "CAM-AZ-M", **FULL_ITEM}
    assert sent(translate("ORDER_PLACED", ORDER, None, items))["line_items"] == [
        {"product_id": "P-22", **line},
        {"product_id": "P-10", **line, **extras},
    ]
    carts = [cart_item(**FULL_ITEM)]
    assert sent(translate("CART_ABANDONED", CART, {"price": 9}, carts, TEMPLATE))["line_items"] == [
        {"product_id": "P-10", **line}
    ]


def test_lines_attached_to_the_whole_are_all_its_lines() -> None:
    line = {"product_id": "P-1", "product_title": "Boné", "price": 30, "quantity": 1}
    items = [order_item()]
    assert sent(translate("ORDER_PLACED", ORDER, {"line_items": [line]}, items))["line_items"] == [line]
    assert "line_items" not in sent(translate("ORDER_PLACED", ORDER, {"line_items": []}, items))


def test_of_more_than_20_lines_the_most_valuable_are_sent_and_the_totals_stay() -> None:
    prices = [5, 90, 1, *range(20, 40), 2, 60]
    items = [order_item(f"P-{at}", product_title="x", price=price, quantity=1) for at, price in enumerate(prices)]
    items[2] = order_item("P-2", product_title="x", price=1, quantity=1000)
    result = translate("ORDER_PLACED", ORDER, None, items)
    payload = sent(result)
    assert isinstance(result, Translated)
    assert result.lines_left_out == 5
    kept = [line["price"] for line in payload["line_items"]]
    assert kept == [90, 1, *range(23, 40), 60]
    assert (payload["total_items"], payload["price"]) == (5, 200.5)


def test_twenty_lines_are_all_sent_and_the_first_of_equals_are_kept() -> None:
    items = [order_item(f"P-{at}", **FULL_ITEM) for at in range(21)]
    ids = [f"P-{at}" for at in range(20)]
    result = translate("ORDER_PLACED", ORDER, None, items[:20])
    assert [line["product_id"] for line in sent(result)["line_items"]] == ids
    assert isinstance(result, Translated)
    assert result.lines_left_out == 0
    assert [line["product_id"] for line in sent(translate("ORDER_PLACED", ORDER, None, items))["line_items"]] == ids


def test_a_cart_without_data_names_each_missing_field_and_how_to_supply_it() -> None:
    said = told(translate("CART_ABANDONED", CART))
    assert said.keys() == {"$.attached.checkout_url", "$.attached.price"}
    for field in ("price", "checkout_url"):
        assert f"CartAbandoned({field}=...)" in said[f"$.attached.{field}"]
        assert f'{{"attached": {{"{field}": ...}}}}' in said[f"$.attached.{field}"]
    assert "checkout_url_template" in said["$.attached.checkout_url"]
    assert "template" not in said["$.attached.price"]


def test_the_accounts_template_leaves_only_the_price_missing() -> None:
    assert told(translate("CART_ABANDONED", CART, None, (), TEMPLATE)).keys() == {"$.attached.price"}


@pytest.mark.parametrize("absent", ["product_title", "price", "quantity"])
def test_a_part_without_data_is_named_by_its_key(absent: str) -> None:
    attached = {name: value for name, value in FULL_ITEM.items() if name != absent}
    items = [order_item("P-1", **FULL_ITEM), order_item("P-2", **attached)]
    said = told(translate("ORDER_PLACED", ORDER, None, items))
    (path, message), *others = said.items()
    assert not others
    assert path == f'items["ORDER_PLACED_ITEM:1001:P-2"].attached.{absent}'
    assert f"OrderPlacedItem({absent}=...)" in message
    assert "line_items" in message


def test_gaps_of_the_whole_and_of_every_part_are_told_at_once() -> None:
    said = told(translate("CART_ABANDONED", CART, None, [cart_item("P-1"), cart_item("P-2")]))
    assert len(said) == 2 + 2 * 3


def test_hundreds_of_problems_stay_a_short_text() -> None:
    result = translate("ORDER_PLACED", ORDER, None, [order_item(f"P-{at}") for at in range(300)])
    assert isinstance(result, Missing)
    assert len(result.problems) == 201
    assert "700 more" in result.problems[-1].message


@pytest.mark.parametrize(
    ("part", "whole", "payload"),
    [
        ("ORDER_PLACED_ITEM", "ORDER_PLACED:1001", dict(OrderPlacedItem.EXAMPLE)),
        ("CART_ABANDONED_ITEM", "CART_ABANDONED:CART-77", dict(CartAbandonedItem.EXAMPLE)),
    ],
)
def test_a_part_is_never_translated_by_itself(part: str, whole: str, payload: dict[str, Any]) -> None:
    said = told(translate(part, payload, FULL_ITEM))
    assert said.keys() == {"$.event_type"}
    assert whole in said["$.event_type"]


def test_an_id_that_may_be_personal_is_not_repeated() -> None:
    said = told(translate("ORDER_PLACED_ITEM", {**OrderPlacedItem.EXAMPLE, "cf_order_id": "ana@cliente.example"}))
    assert "ana@" not in said["$.event_type"]


def test_an_empty_cart_is_told_in_the_words_of_the_retired_type() -> None:
    said = told(translate("CART_ABANDONED", {**CART, "cf_cart_total_items": 0}, {"price": 0}, (), TEMPLATE))
    assert said.keys() == {"$.payload.cf_cart_total_items"}
    assert "at least 1" in said["$.payload.cf_cart_total_items"]
    assert sent(translate("ORDER_PLACED", {**ORDER, "cf_order_total_items": 0}))["total_items"] == 0


def test_a_product_id_that_is_too_long_for_a_line_is_told_with_a_way_out() -> None:
    item = ItemPart("own-key", {**OrderPlacedItem.EXAMPLE, "cf_order_product_id": "P" * 151}, FULL_ITEM)
    said = told(translate("ORDER_PLACED", ORDER, None, [item]))
    assert said.keys() == {'items["own-key"].payload.cf_order_product_id'}
    assert "at most 150 characters" in said.popitem()[1]


def test_a_body_that_is_too_large_with_its_lines_is_told() -> None:
    items = [order_item(f"P-{at}", **FULL_ITEM, variant_title="x" * 20_000) for at in range(20)]
    assert "190000" in told(translate("ORDER_PLACED", ORDER, None, items))["$"]


def test_stored_content_that_breaks_the_rules_is_told_and_not_sent() -> None:
    assert told(translate("ORDER_PLACED", {"email": "x"}, {"currency": "BTC"})).keys() >= {
        "$.payload.email", "$.payload.cf_order_id", "$.attached.currency",
    }  # fmt: skip
    broken = ItemPart("k", {**OrderPlacedItem.EXAMPLE, "email": "x"}, {"price": -1})
    assert told(translate("ORDER_PLACED", ORDER, None, [broken])).keys() == {
        'items["k"].payload.email', 'items["k"].attached.price',
    }  # fmt: skip


def test_mistakes_of_the_caller_are_errors() -> None:
    with pytest.raises(ValueError, match="SALE is not retired"):
        translate("SALE", {})
    stranger = ItemPart("ORDER_PLACED_ITEM:7:P", {**OrderPlacedItem.EXAMPLE, "cf_order_id": "7"}, FULL_ITEM)
    with pytest.raises(ValueError, match="no part of this ORDER_PLACED"):
        translate("ORDER_PLACED", ORDER, None, [stranger])
