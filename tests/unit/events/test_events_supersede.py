"""Real: the rules and the typed events. Nothing is doubled; the database's half is in tests/contract."""

from __future__ import annotations

import pytest

from dispatcher.events import CATALOGUE, CartAbandoned, OrderPlaced
from dispatcher.events import supersede as rules
from dispatcher.events.supersede import CART, Supersede, declare_supersede, subject_of


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
    assert len(subject.name) == 64


def test_an_order_that_names_no_cart_and_a_type_without_a_rule_have_no_subject() -> None:
    assert subject_of(_order()) is None
    sale = CATALOGUE["SALE"]
    assert subject_of(sale(**sale.EXAMPLE)) is None


@pytest.fixture
def _own_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_RULES", [CART])


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
