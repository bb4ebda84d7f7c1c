"""Real: the rules and the typed events. Nothing is doubled; the database's half is in tests/contract."""

from __future__ import annotations

import pytest

from dispatcher.errors import ConfigurationError
from dispatcher.events import CATALOGUE, CartAbandoned, Event, OrderPlaced
from dispatcher.events import supersede as rules
from dispatcher.events.supersede import (
    CART,
    CARTS_OF_LEAD,
    Supersede,
    SupersedeByLead,
    declare_supersede,
    subject_of,
)


def _order(**more: object) -> OrderPlaced:
    return OrderPlaced(**{**OrderPlaced.EXAMPLE, "cart_id": None, **more})


def _reminder(cart: str) -> CartAbandoned:
    return CartAbandoned(**{**CartAbandoned.EXAMPLE, "cf_cart_id": cart})


@pytest.mark.parametrize("side", [CART.winners, CART.losers])
def test_the_rule_names_types_and_fields_that_exist(side: dict[str, str]) -> None:
    for event_type, field in side.items():
        assert CATALOGUE[event_type].knows(field)


def test_an_order_and_the_reminder_of_its_cart_share_a_subject_and_only_the_order_makes_moot() -> None:
    order, reminder = subject_of(_order(cart_id="77")), subject_of(_reminder("77"))
    assert order is not None
    assert reminder is not None
    assert order.name == reminder.name
    assert order.moots == ",CART_ABANDONED,CART_ABANDONED_ITEM,ECOMMERCE_CART_ABANDONED,"
    assert reminder.moots is None


def test_other_carts_are_other_subjects() -> None:
    subject = subject_of(_reminder("77"))
    assert subject is not None
    assert subject != subject_of(_reminder("78"))
    assert len(subject.name or "") == 64


def test_an_order_that_names_no_cart_and_a_type_without_a_rule_have_no_subject() -> None:
    assert subject_of(_order()) is None
    sale = CATALOGUE["SALE"]
    assert subject_of(sale(**sale.EXAMPLE)) is None


@pytest.fixture
def _own_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_RULES", {CART.name: CART})
    monkeypatch.setattr(rules, "_RULES_BY_LEAD", [])


@pytest.mark.usefixtures("_own_rules")
def test_a_shops_own_rule_applies_to_events_from_then_on() -> None:
    sale = CATALOGUE["SALE"](**CATALOGUE["SALE"].EXAMPLE)
    lost = CATALOGUE["OPPORTUNITY_LOST"](**{**CATALOGUE["OPPORTUNITY_LOST"].EXAMPLE, "email": sale.email})
    declare_supersede(Supersede("deal", winners={"SALE": "email"}, losers={"OPPORTUNITY_LOST": "email"}))
    winner, loser = subject_of(sale), subject_of(lost)
    assert winner is not None
    assert loser is not None
    assert winner.name == loser.name
    assert winner.moots == ",OPPORTUNITY_LOST,"


def _example(event_type: str) -> Event:
    return CATALOGUE[event_type](**CATALOGUE[event_type].EXAMPLE)


@pytest.mark.usefixtures("_own_rules")
def test_a_rule_of_a_known_name_adds_its_types_to_it() -> None:
    declare_supersede(Supersede("cart", winners={}, losers={"ECOMMERCE_CHECKOUT_STARTED": "identifier"}))
    checkout, order = _example("ECOMMERCE_CHECKOUT_STARTED"), _order(cart_id="CHK-501")
    loser, winner = subject_of(checkout), subject_of(order)
    assert loser is not None
    assert winner is not None
    assert loser.name == winner.name
    assert winner.moots == ",CART_ABANDONED,CART_ABANDONED_ITEM,ECOMMERCE_CART_ABANDONED,ECOMMERCE_CHECKOUT_STARTED,"


@pytest.mark.usefixtures("_own_rules")
def test_by_lead_an_order_without_a_cart_makes_moot_and_each_loser_is_looked_at() -> None:
    declare_supersede(CARTS_OF_LEAD)
    winner, cart, checkout = (
        subject_of(event, "hash-of-ana")
        for event in (_order(), _reminder("77"), _example("ECOMMERCE_CHECKOUT_STARTED"))
    )
    assert winner == (None, None, f",{','.join(sorted(CARTS_OF_LEAD.losers))},")
    assert cart == subject_of(_reminder("77"), "hash-of-ana")
    assert cart is not None
    assert checkout is not None
    assert (cart.lead_moots, checkout.lead_moots) == (None, None)
    assert checkout.name, "a claim looks at rows with a subject only"


WRONG: dict[str, tuple[Supersede | SupersedeByLead, str]] = {
    "a type that does not exist": (Supersede("deal", {"SALES": "email"}, {}), "no event type 'SALES'"),
    "a field that does not exist": (Supersede("deal", {"SALE": "deal"}, {}), "SALE has no field 'deal'"),
    "a type of another rule": (Supersede("deal", {"ORDER_PLACED": "cf_order_id"}, {}), "in the rule 'cart' already"),
    "another field": (Supersede("cart", {"ORDER_PLACED": "cf_order_id"}, {}), "names the cart in 'cart_id' already"),
    "a lead's type that does not exist": (SupersedeByLead(["SALE"], ["CART"]), "no event type 'CART'"),
    "more than the column takes": (SupersedeByLead(["SALE"], sorted(CATALOGUE)), "too many types"),
}


@pytest.mark.usefixtures("_own_rules")
@pytest.mark.parametrize("what", WRONG)
def test_a_rule_is_refused_for(what: str) -> None:
    rule, problem = WRONG[what]
    with pytest.raises(ConfigurationError, match=problem):
        declare_supersede(rule)
    assert {CART.name: CART} == rules._RULES
    assert rules._RULES_BY_LEAD == []


@pytest.mark.usefixtures("_own_rules")
def test_declaring_a_rule_twice_changes_nothing() -> None:
    for _ in range(2):
        declare_supersede(CARTS_OF_LEAD)
        declare_supersede(CART)
    assert {CART.name: CART} == rules._RULES
    assert rules._RULES_BY_LEAD == [CARTS_OF_LEAD]
