"""Keys, facts, fingerprints and leads, all pure. Nothing is doubled."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import InvalidEvent
from dispatcher.events import (
    EcommerceOrderPlaced,
    OrderPlaced,
    OrderPlacedItem,
    fact_of,
    fingerprint,
    lead_hash,
    normalise_email,
    validate_key,
)


def order(**changes: Any) -> OrderPlaced:
    return OrderPlaced(**{**OrderPlaced.EXAMPLE, **changes})


def item(order_id: str, product_id: str) -> OrderPlacedItem:
    return OrderPlacedItem(
        email="a@b.co", cf_order_id=order_id, cf_order_product_id=product_id, cf_order_product_sku="s"
    )


@pytest.mark.parametrize("key", ["x", "ORDER_PLACED:ID do pedido", "pedido/ção:1", "k" * 255])
def test_a_good_key_is_answered_as_it_is(key: str) -> None:
    assert validate_key(key) == key


@pytest.mark.parametrize(
    "key", ["", "  ", "k" * 256, "ana@cliente.example", "a\x00", "a\nb", "a\x7f", "a\x85", "\ud800", None, 5, b"k"]
)
def test_a_bad_key_is_refused_with_its_path_and_without_its_content(key: Any) -> None:
    with pytest.raises(InvalidEvent) as refused:
        validate_key(key)
    assert [problem.path for problem in refused.value.problems] == ["key"]
    assert "ana" not in str(refused.value)


@pytest.mark.parametrize("order_id", ["ana@cliente.example", "a\nb", "x" * 256, "x" * 250])
def test_an_identifier_that_cannot_be_part_of_a_key_is_named_and_the_way_out_too(order_id: str) -> None:
    event = order(cf_order_id=order_id)  # with an explicit key it can be enqueued
    with pytest.raises(InvalidEvent, match="pass key= to enqueue") as refused:
        event.key()
    assert [problem.path for problem in refused.value.problems] == ["$.payload.cf_order_id"]
    assert order_id not in str(refused.value)


def test_two_items_never_share_a_key() -> None:
    assert item("a:b", "c").key() != item("a", "b:c").key()
    assert item("a%3Ab", "c").key() != item("a:b", "c").key()
    assert item("1001", "P:10").key() == "ORDER_PLACED_ITEM:1001:P:10"


@given(
    st.tuples(*[st.text("ab:%3A", min_size=1, max_size=6)] * 2),
    st.tuples(*[st.text("ab:%3A", min_size=1, max_size=6)] * 2),
)
def test_keys_of_items_are_the_same_only_for_the_same_item(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (item(*one).key() == item(*other).key()) == (one == other)


def test_a_retired_type_and_its_successor_tell_the_same_fact() -> None:
    assert fact_of("ORDER_PLACED:1:x") == fact_of("ECOMMERCE_ORDER_PLACED:1:x")
    assert fact_of("CART_ABANDONED:7") == fact_of("ECOMMERCE_CART_ABANDONED:7")
    old, new = order(cf_order_id="PED-1001").key(), EcommerceOrderPlaced(**EcommerceOrderPlaced.EXAMPLE).key()
    assert old is not None
    assert new is not None
    assert fact_of(old) == fact_of(new)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ORDER_PLACED:1", "ECOMMERCE_ORDER_PAID:1"),
        ("ORDER_PLACED:1", "CART_ABANDONED:1"),
        ("ORDER_PLACED_ITEM:1:2", "ECOMMERCE_ORDER_PLACED:1:2"),
        ("ECOMMERCE_ORDER_PLACED", "ORDER_PLACED:"),
    ],
)
def test_other_keys_are_facts_of_their_own(one: str, other: str) -> None:
    assert fact_of(one) != fact_of(other)


@given(st.text(max_size=40))
def test_the_fact_of_any_text_is_stable_and_never_longer(key: str) -> None:
    assert fact_of(fact_of(key)) == fact_of(key)
    assert len(fact_of("ECOMMERCE_ORDER_PLACED:" + key)) <= len("ECOMMERCE_ORDER_PLACED:" + key)


def test_a_fingerprint_is_the_version_and_the_hash_of_the_canonical_payload() -> None:
    text = '{"a":[1,{"b":5}],"c":"\\u00e9","d":0.5}'
    assert fingerprint({"d": 0.5, "c": "é", "x": None, "a": [1.0, {"b": 5.0, "y": None}]}) == (
        "v1:" + hashlib.sha256(text.encode()).hexdigest()
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x"},
        {"email": "Contato@email.com"},
        {"cf_order_total_items": 6},
        {"cf_order_status": "paid "},
        {"legal_bases": []},
    ],
)
def test_other_content_has_another_fingerprint(changes: dict[str, Any]) -> None:
    assert order(**changes).fingerprint() != order().fingerprint()


def test_composed_and_decomposed_text_are_different_content() -> None:
    assert order(name="é").fingerprint() != order(name="e\u0301").fingerprint()


def test_a_lead_is_one_however_its_address_is_written() -> None:
    assert normalise_email("  Ana@Cliente.Example\n") == "ana@cliente.example"
    assert lead_hash(" ANA@cliente.example", b"secret") == lead_hash("ana@cliente.example", b"secret")
    assert (
        lead_hash("ana@cliente.example", b"secret")
        == (hmac.new(b"secret", b"ana@cliente.example", hashlib.sha256).hexdigest()[:32])
    )
    assert lead_hash("ana@cliente.example", b"other") != lead_hash("ana@cliente.example", b"secret")
