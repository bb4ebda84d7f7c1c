"""What a person may write to mend a dead event, on the real classes. Nothing is doubled."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher.errors import InvalidEvent
from dispatcher.events import CartAbandoned, Event, OrderPlaced
from dispatcher.events.correction import corrected

STORED = dict(CartAbandoned.EXAMPLE)
ATTACHED = {"currency": "USD", "price": 10}


def mend(content: dict[str, Any], payload: object = STORED) -> Event:
    return corrected(content, event_type="CART_ABANDONED", payload=payload, attached=ATTACHED)


def test_a_bare_payload_replaces_the_payload_and_keeps_what_is_attached() -> None:
    event = mend({**STORED, "cf_cart_total_items": 4})
    assert event.payload() == {**STORED, "cf_cart_total_items": 4}
    assert event.attached() == ATTACHED


def test_attached_alone_keeps_the_payload_and_every_field_it_does_not_name() -> None:
    event = mend({"attached": {"price": 318.7, "checkout_url": "https://loja.example/c/77"}})
    assert event.payload() == STORED
    assert event.attached() == {"currency": "USD", "price": 318.7, "checkout_url": "https://loja.example/c/77"}


def test_null_takes_an_attached_field_away() -> None:
    assert mend({"attached": {"price": None}}).attached() == {"currency": "USD"}
    assert mend({"attached": None}).attached() == ATTACHED


def test_payload_and_attached_can_be_corrected_together() -> None:
    event = mend({"payload": {**STORED, "name": "Ana"}, "attached": {"price": 1}})
    assert event.payload() == {**STORED, "name": "Ana"}
    assert event.attached() == {"currency": "USD", "price": 1}


def test_a_whole_envelope_may_name_another_type_and_takes_nothing_over_into_it() -> None:
    envelope = {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": dict(OrderPlaced.EXAMPLE)}
    event = mend({**envelope, "attached": {"order_url": "https://loja.example/1"}}, payload="<garbage>")
    assert type(event) is OrderPlaced
    assert event.attached() == {"order_url": "https://loja.example/1"}
    assert mend(envelope).attached() == {}


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ({"attached": {"price": -1}}, "$.attached.price"),
        ({"attached": {"order_url": "https://loja.example/1"}}, "$.attached.order_url"),
        ({"attached": ["price"]}, "$.attached"),
        ({"payload": {**STORED, "email": "x"}}, "$.payload.email"),
        ({"payload": None}, "$.payload"),
        ({"payload": STORED, "attachd": {}}, "$.attachd"),
        ({**STORED, "email": "x"}, "$.payload.email"),
        ({**STORED, "price": 10}, "$.payload.price"),
    ],
)
def test_what_comes_of_a_correction_is_validated_whole(content: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        mend(content)
    assert [problem.path for problem in refused.value.problems] == [path]


@pytest.mark.parametrize("payload", [None, [], "text", {"email": "x"}])
def test_a_stored_payload_that_is_broken_is_told_of_when_only_attached_is_given(payload: object) -> None:
    with pytest.raises(InvalidEvent):
        mend({"attached": {"price": 1}}, payload=payload)


def test_an_event_without_attached_data_can_be_given_some() -> None:
    event = corrected({"attached": {"price": 5}}, event_type="CART_ABANDONED", payload=STORED, attached=None)
    assert event.attached() == {"price": 5}
