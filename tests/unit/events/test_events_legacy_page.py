"""docs/legacy-events.md against the code: its examples run, its tables are compared. Nothing is doubled."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from dispatcher.events import CATALOGUE, CartAbandoned, CartAbandonedItem, LegacyEvents, route
from dispatcher.events.account_defaults import AccountDefaults, template_problem
from dispatcher.events.correction import corrected
from dispatcher.events.parts import LineItem
from dispatcher.events.translation import ItemPart, Missing, Translated, translate

PAGE = (Path(__file__).parents[3] / "docs" / "legacy-events.md").read_text(encoding="utf-8")
CART, ITEM = dict(CartAbandoned.EXAMPLE), dict(CartAbandonedItem.EXAMPLE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first column has this heading."""
    table = PAGE.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def first_words(cells: list[str]) -> set[str]:
    return {word for cell in cells for word in re.findall(r"`([a-z_]+)`", cell)}


def test_the_table_of_routes_says_what_the_code_does() -> None:
    table = {re.findall(r"`(\w+)`", cells[0])[0]: cells[1:] for cells in rows("setting")}
    assert tuple(table) == get_args(LegacyEvents)
    for mode in get_args(LegacyEvents):
        said = [route("ORDER_PLACED", mode, refused).replace("_", " ") for refused in ((), ("ORDER_PLACED",))]
        assert table[mode] == said


def test_the_table_of_types_names_every_retired_one_with_its_class_and_successor() -> None:
    said = {}
    for cells in rows("retired type"):
        event_type, kind, successor = (re.findall(r"`(\w+)`", cell)[0] for cell in cells)
        said[event_type] = (kind, successor)
    assert said == {name: (kind.__name__, kind.rules.retired) for name, kind in CATALOGUE.items() if kind.rules.retired}


@pytest.mark.parametrize("successor", ["ECOMMERCE_ORDER_PLACED", "ECOMMERCE_CART_ABANDONED"])
def test_the_tables_of_fields_know_every_field_that_can_be_sent(successor: str) -> None:
    never_there = {"phone", "mobile_phone", "personal_phone"}
    assert first_words([cells[0] for cells in rows(f"`{successor}`")]) == (
        CATALOGUE[successor].sent_fields - never_there
    )


def test_the_table_of_lines_knows_every_field_of_a_line() -> None:
    lines = rows("a line made of an `*_ITEM` event")
    assert first_words([cells[0] for cells in lines]) == set(LineItem.model_fields)


def test_the_shops_code_supplies_everything() -> None:
    (code,) = blocks("python")
    made: dict[str, Any] = {}
    exec(code, made)  # noqa: S102  # the page's own example
    order, cart, item = made["order"], made["cart"], made["item"]
    assert isinstance(translate("ORDER_PLACED", order.payload(), order.attached()), Translated)
    part = ItemPart(item.key(), item.payload(), item.attached())
    result = translate("CART_ABANDONED", cart.payload(), cart.attached(), [part])
    assert isinstance(result, Translated)
    assert json.loads(result.payload_json)["line_items"][0]["product_title"] == "Camiseta azul"


def test_the_template_of_the_page_is_one() -> None:
    (template,) = (line.strip() for line in PAGE.splitlines() if line.startswith("https://"))
    assert template_problem(template) is None
    result = translate("CART_ABANDONED", CART, {"price": 1}, (), AccountDefaults("BRL", template))
    assert isinstance(result, Translated)
    assert json.loads(result.payload_json)["checkout_url"] == "https://loja.example/checkout/CART-77"


@pytest.mark.parametrize("correction", [json.loads(block) for block in blocks("json")])
def test_each_correction_of_the_page_makes_a_dead_cart_sendable(correction: dict[str, Any]) -> None:
    assert isinstance(translate("CART_ABANDONED", CART), Missing)
    event = corrected(correction, event_type="CART_ABANDONED", payload=CART, attached=None)
    assert isinstance(translate("CART_ABANDONED", event.payload(), event.attached()), Translated)


def test_the_last_correction_also_does_without_the_data_of_the_items() -> None:
    *_, correction = map(json.loads, blocks("json"))
    event = corrected(correction, event_type="CART_ABANDONED", payload=CART, attached=None)
    bare = ItemPart("CART_ABANDONED_ITEM:CART-77:P-10", ITEM)
    assert isinstance(translate("CART_ABANDONED", event.payload(), event.attached(), [bare]), Translated)


def test_the_dead_letter_of_the_page_is_what_is_said() -> None:
    (letter,) = blocks("text")
    result = translate("CART_ABANDONED", CART, None, [ItemPart("CART_ABANDONED_ITEM:CART-77:P-10", ITEM)])
    assert isinstance(result, Missing)
    assert letter.splitlines() == [str(problem) for problem in result.problems]
