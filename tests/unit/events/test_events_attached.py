"""What travels beside a payload, on the real classes and `parse_event`. Nothing is doubled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher.errors import InvalidEvent
from dispatcher.events import CATALOGUE, CartAbandoned, Event, LineItem, OrderPlaced, parse_event
from dispatcher.events.schema import json_schema

LINE = {"product_id": "P-10", "product_title": "Camiseta azul", "price": 59.9, "quantity": 2, "categories": ["Roupas"]}
ITEM = {
    "product_title": "Camiseta azul", "price": 59.9, "quantity": 2, "product_url": "https://loja.example/p/10",
    "image_url": "https://cdn.loja.example/p10.jpg", "variant_id": "M", "variant_title": "Médio",
    "categories": ["Roupas", "Camisetas"],
}  # fmt: skip
ATTACHED: dict[str, dict[str, Any]] = {
    "ORDER_PLACED": {
        "cart_id": "CART-77", "currency": "USD", "line_items": [LINE], "shipping_price": 25, "shipping_city": "Recife",
        "shipping_state": "PE", "shipping_country": "BR", "order_url": "https://loja.example/pedidos/1001",
    },
    "ORDER_PLACED_ITEM": ITEM,
    "CART_ABANDONED": {
        "currency": "USD", "line_items": [LINE], "price": 119.8, "checkout_url": "https://loja.example/checkout/77",
    },
    "CART_ABANDONED_ITEM": ITEM,
}  # fmt: skip
EVERY_RETIRED = pytest.mark.parametrize("kind", [CATALOGUE[name] for name in ATTACHED], ids=ATTACHED)


def paths(refused: pytest.ExceptionInfo[InvalidEvent]) -> list[str]:
    return [problem.path for problem in refused.value.problems]


def enveloped(kind: type[Event]) -> dict[str, Any]:
    return {"event_type": kind.event_type, "event_family": "CDP", "payload": dict(kind.EXAMPLE)}


@EVERY_RETIRED
def test_what_a_retired_type_attaches_is_kept_and_never_sent(kind: type[Event]) -> None:
    attached = ATTACHED[kind.event_type]
    event = kind(**kind.EXAMPLE, **attached)
    assert kind.attached_fields == attached.keys()
    assert event.attached() == attached
    assert json.loads(str(event.attached_json())) == attached
    assert event.payload() == kind.EXAMPLE
    assert json.loads(event.payload_json()) == kind.EXAMPLE


@EVERY_RETIRED
def test_attached_data_changes_neither_the_fingerprint_nor_the_key(kind: type[Event]) -> None:
    bare, full = kind(**kind.EXAMPLE), kind(**kind.EXAMPLE, **ATTACHED[kind.event_type])
    assert full.fingerprint() == bare.fingerprint()
    assert full.key() == bare.key()
    assert bare.attached_json() is None


@EVERY_RETIRED
def test_attached_data_is_no_part_of_an_envelope(kind: type[Event]) -> None:
    attached = ATTACHED[kind.event_type]
    with pytest.raises(InvalidEvent) as refused:
        parse_event({**enveloped(kind), "payload": {**kind.EXAMPLE, **attached}})
    assert paths(refused) == [f"$.payload.{name}" for name in attached]
    with pytest.raises(InvalidEvent) as refused:
        parse_event({**enveloped(kind), "attached": attached})
    assert paths(refused) == ["$.attached"]


@EVERY_RETIRED
def test_attached_data_can_be_given_beside_an_envelope(kind: type[Event]) -> None:
    attached = ATTACHED[kind.event_type]
    event = parse_event(enveloped(kind), attached=attached)
    assert event == kind(**kind.EXAMPLE, **attached)
    assert parse_event(enveloped(kind), attached=dict.fromkeys(attached)).attached() == {}


@EVERY_RETIRED
def test_the_schema_of_the_envelope_does_not_know_what_is_attached(kind: type[Event]) -> None:
    schema = json_schema(kind.event_type)
    assert not ATTACHED[kind.event_type].keys() & schema["properties"]["payload"]["properties"].keys()
    assert list(schema["$defs"]) == ["LegalBasis"]


@pytest.mark.parametrize(
    ("event_type", "attached", "path"),
    [
        ("ORDER_PLACED", {"currency": "BTC"}, "currency"),
        ("ORDER_PLACED", {"line_items": [LINE] * 21}, "line_items"),
        ("ORDER_PLACED", {"line_items": [{**LINE, "quantity": 0}]}, "line_items[0].quantity"),
        ("ORDER_PLACED", {"line_items": [{**LINE, "product_id": "P" * 151}]}, "line_items[0].product_id"),
        ("ORDER_PLACED", {"order_url": "loja.example"}, "order_url"),
        ("ORDER_PLACED", {"shipping_price": -1}, "shipping_price"),
        ("ORDER_PLACED", {"shipping_city": "\x00"}, "shipping_city"),
        ("ORDER_PLACED_ITEM", {"product_title": " "}, "product_title"),
        ("ORDER_PLACED_ITEM", {"product_title": "x" * 256}, "product_title"),
        ("ORDER_PLACED_ITEM", {"quantity": "2"}, "quantity"),
        ("CART_ABANDONED", {"price": "119,80"}, "price"),
        ("CART_ABANDONED", {"checkout_url": "javascript:alert(1)"}, "checkout_url"),
        ("CART_ABANDONED_ITEM", {"price": float("nan")}, "price"),
        ("CART_ABANDONED_ITEM", {"categories": ["x"] * 11}, "categories"),
        ("CART_ABANDONED_ITEM", {"image_url": "ftp://cdn.example/x"}, "image_url"),
    ],
)
def test_attached_data_is_held_to_the_rules_of_the_successor(
    event_type: str, attached: dict[str, Any], path: str
) -> None:
    kind = CATALOGUE[event_type]
    with pytest.raises(InvalidEvent) as refused:
        kind(**kind.EXAMPLE, **attached)
    assert paths(refused) == [path]
    with pytest.raises(InvalidEvent) as refused:
        parse_event(enveloped(kind), attached=attached)
    assert paths(refused) == [f"$.attached.{path}"]


def test_every_problem_of_envelope_payload_and_attached_data_is_told_at_once() -> None:
    envelope = {**enveloped(OrderPlaced), "event_family": "XYZ"}
    envelope["payload"] |= {"cf_order_id": None}
    attached = {"curency": "BRL", "cf_order_id": "1001", "order_url": "x", 7: 8}
    with pytest.raises(InvalidEvent) as refused:
        parse_event(envelope, attached=attached)
    said = {problem.path: problem.message for problem in refused.value.problems}
    assert said["$.attached.cf_order_id"] == "belongs into the payload"
    assert said["$.attached.curency"].endswith("did you mean currency?")
    assert said.keys() == {
        "$.event_family", "$.payload.cf_order_id", "$.attached.curency", "$.attached.cf_order_id", "$.attached[7]",
        "$.attached.order_url",
    }  # fmt: skip


@pytest.mark.parametrize("attached", [[], "currency", 1, True])
def test_attached_data_is_an_object(attached: object) -> None:
    with pytest.raises(InvalidEvent) as refused:
        parse_event(enveloped(OrderPlaced), attached=attached)
    assert paths(refused) == ["$.attached"]


def test_a_type_that_attaches_nothing_says_so_of_each_field() -> None:
    with pytest.raises(InvalidEvent) as refused:
        parse_event(enveloped(CATALOGUE["SALE"]), attached={"currency": "BRL"})
    assert paths(refused) == ["$.attached.currency"]


def test_attached_data_of_the_allowed_size_passes_and_one_byte_more_does_not() -> None:
    room = 190_000 - len('{"shipping_city": ""}')
    OrderPlaced(**OrderPlaced.EXAMPLE, shipping_city="x" * room)
    with pytest.raises(InvalidEvent, match=r"^attached: is 190001 bytes as JSON.*: cut shipping_city$"):
        OrderPlaced(**OrderPlaced.EXAMPLE, shipping_city="x" * (room + 1))
    with pytest.raises(InvalidEvent, match=r"^\$\.attached: is 190001 bytes"):
        parse_event(enveloped(OrderPlaced), attached={"shipping_city": "x" * (room + 1)})


def test_a_line_can_be_an_object_and_a_copy_keeps_what_is_attached() -> None:
    event = CartAbandoned(**CartAbandoned.EXAMPLE, line_items=[LineItem(**LINE)])
    assert event.attached() == {"line_items": [LINE]}
    assert event.model_copy(update={"price": 10}).attached() == {"line_items": [LINE], "price": 10}
