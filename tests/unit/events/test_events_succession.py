"""Roles, routes and the defaults of an account: pure functions over the real catalogue. Nothing is doubled."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from dispatcher.errors import ConfigurationError
from dispatcher.events import CATALOGUE, LegacyEvents, Route, refusal, role, route, whole_key
from dispatcher.events.account_defaults import AccountDefaults, currency_problem, template_problem

RETIRED = [name for name, kind in CATALOGUE.items() if kind.rules.retired]
TEMPLATE = "https://loja.example/checkout/{cart_id}"


def test_each_retired_type_is_a_whole_or_a_part_and_no_other_is() -> None:
    assert {name: found for name in CATALOGUE if (found := role(name))} == {
        "ORDER_PLACED": "whole",
        "ORDER_PLACED_ITEM": "part",
        "CART_ABANDONED": "whole",
        "CART_ABANDONED_ITEM": "part",
    }
    assert role("SOMETHING_NEW") is None


@pytest.mark.parametrize("identifier", ["1001", "a:b", "50%", "São", " x "])
@pytest.mark.parametrize(
    ("whole", "part", "field"),
    [("ORDER_PLACED", "ORDER_PLACED_ITEM", "cf_order_id"), ("CART_ABANDONED", "CART_ABANDONED_ITEM", "cf_cart_id")],
)
def test_a_part_names_the_default_key_of_its_whole(whole: str, part: str, field: str, identifier: str) -> None:
    of_whole = {**CATALOGUE[whole].EXAMPLE, field: identifier}
    of_part = {**CATALOGUE[part].EXAMPLE, field: identifier}
    assert whole_key(part, of_part) == whole_key(whole, of_whole) == CATALOGUE[whole](**of_whole).key()


@pytest.mark.parametrize(
    ("event_type", "payload"),
    [("SALE", {"cf_order_id": "1"}), ("NEW", {}), ("ORDER_PLACED_ITEM", {}), ("ORDER_PLACED_ITEM", {"cf_order_id": 1})],
)
def test_what_belongs_to_no_whole_has_no_key_of_one(event_type: str, payload: dict[str, Any]) -> None:
    assert whole_key(event_type, payload) is None


@pytest.mark.parametrize("event_type", RETIRED)
@pytest.mark.parametrize(
    ("mode", "unknown", "known"),
    [
        ("auto", Route.AS_IT_IS, Route.TRANSLATED),
        ("send", Route.AS_IT_IS, Route.AS_IT_IS),
        ("translate", Route.TRANSLATED, Route.TRANSLATED),
        ("refuse", Route.NOT_AT_ALL, Route.NOT_AT_ALL),
    ],
)
def test_a_retired_type_leaves_as_the_setting_and_the_memory_say(
    event_type: str, mode: LegacyEvents, unknown: Route, known: Route
) -> None:
    assert route(event_type, mode, ()) == unknown
    assert route(event_type, mode, {event_type}) == known


def test_a_whole_and_its_parts_retire_together_and_orders_apart_from_carts() -> None:
    assert route("ORDER_PLACED", "auto", {"ORDER_PLACED_ITEM"}) == Route.TRANSLATED
    assert route("ORDER_PLACED_ITEM", "auto", {"ORDER_PLACED"}) == Route.TRANSLATED
    assert route("CART_ABANDONED", "auto", {"ORDER_PLACED", "SOMETHING_NEW"}) == Route.AS_IT_IS


@pytest.mark.parametrize("mode", get_args(LegacyEvents))
def test_a_type_that_is_not_retired_always_leaves_as_it_is(mode: LegacyEvents) -> None:
    for event_type in [*CATALOGUE.keys() - set(RETIRED), "SOMETHING_NEW"]:
        assert route(event_type, mode, RETIRED) == Route.AS_IT_IS


def test_a_refusal_names_the_class_to_use() -> None:
    assert "EcommerceOrderPlaced" in refusal("ORDER_PLACED_ITEM").message
    assert "EcommerceCartAbandoned" in refusal("CART_ABANDONED").message
    with pytest.raises(ValueError, match="SALE is not retired"):
        refusal("SALE")


@pytest.mark.parametrize(
    ("template", "url"),
    [
        (TEMPLATE, "https://loja.example/checkout/{}"),
        ("http://loja.example:8080?c={cart_id}&x=1", "http://loja.example:8080?c={}&x=1"),
        ("HTTPS://loja.example/#{cart_id}", "HTTPS://loja.example/#{}"),
        ("https://loja.example/{cart_id}/{cart_id}", "https://loja.example/{0}/{0}"),
    ],
)
@pytest.mark.parametrize(
    ("cart_id", "escaped"),
    [
        ("77", "77"),
        ("a b/c?d#e&f=g%", "a%20b%2Fc%3Fd%23e%26f%3Dg%25"),
        ("São", "S%C3%A3o"),
        ("{cart_id}", "%7Bcart_id%7D"),
    ],
)
def test_a_template_takes_the_id_of_the_cart_escaped(template: str, url: str, cart_id: str, escaped: str) -> None:
    assert template_problem(template) is None
    assert AccountDefaults(checkout_url_template=template).checkout_url(cart_id) == url.format(escaped)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "must be text"),
        (7, "must be text"),
        ("", "must hold {cart_id}"),
        ("https://loja.example/checkout", "must hold {cart_id}"),
        ("https://loja.example/{cart}/{cart_id}", "no other place"),
        ("https://loja.example/{cart_id}/{0}", "no other place"),
        ("https://loja.example/{cart_id.__class__}", "must hold {cart_id}"),
        ("loja.example/{cart_id}", "must be a URL"),
        ("javascript:alert('{cart_id}')", "must be a URL"),
        ("https://loja.example/a b/{cart_id}", "must be a URL"),
        ("https://{cart_id}.loja.example/", "after the host"),
        ("https://{cart_id}/{cart_id}", "after the host"),
        ("https://loja.example:{cart_id}/", "after the host"),
        ("https://loja.example/\ud800{cart_id}", "lone surrogate"),
        (f"https://loja.example/{'x' * 1000}{{cart_id}}", "at most 1000"),
    ],
)
def test_a_template_that_cannot_make_urls_is_refused_with_the_rule(template: object, says: str) -> None:
    assert says in str(template_problem(template))


def test_a_currency_is_one_that_the_successor_takes() -> None:
    assert currency_problem("BRL") is None
    for wrong in ("brl", "", None, 1, ["BRL"]):
        assert "BRL" in str(currency_problem(wrong))


def test_the_defaults_of_an_account_are_checked_together_and_need_nothing() -> None:
    assert AccountDefaults().currency == "BRL"
    assert AccountDefaults().checkout_url("77") is None
    with pytest.raises(ConfigurationError, match=r"currency must be one of .*; checkout_url_template must hold"):
        AccountDefaults(currency="XXX", checkout_url_template="https://loja.example/")
