"""Generated retired events with all their data, through the real `translate`, with hypothesis. Nothing is doubled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.events import CATALOGUE, CartAbandoned, Event, OrderPlaced, parse_event
from dispatcher.events.account_defaults import AccountDefaults
from dispatcher.events.fields import Currency
from dispatcher.events.retired import PaymentMethod
from dispatcher.events.succession import PARTS
from dispatcher.events.translation import ItemPart, Missing, Translated, translate

TEMPLATE = "https://loja.example/checkout/{cart_id}"

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
filled = text.filter(lambda value: bool(value.strip()))
emails = st.from_regex(r"[A-Za-z0-9]{1,8}@[a-z]{1,8}\.example", fullmatch=True)
amounts = st.one_of(st.integers(0, 10**6), st.decimals(0, 10**6, places=2).map(float))
counts = st.integers(1, 10**6)
urls = st.from_regex(r"https://loja\.example/[a-z0-9/?&=]{0,12}", fullmatch=True)
currencies = st.sampled_from(get_args(Currency))
bases = st.lists(
    st.fixed_dictionaries(
        {
            "category": st.just("communications"),
            "type": st.sampled_from(["consent", "legitimate_interest"]),
            "status": st.sampled_from(["granted", "declined"]),
        }
    ),
    max_size=2,
)
lead = {"email": emails}
about = {"name": text, "legal_bases": bases}
line = {"product_title": filled, "price": amounts, "quantity": counts}
extras = {
    "product_url": urls, "image_url": urls, "variant_id": text, "variant_title": text,
    "categories": st.lists(text, max_size=3),
}  # fmt: skip
line_items = st.lists(
    st.fixed_dictionaries({"product_id": filled, **line}, optional={"sku": text, **extras}), max_size=4
)

WHOLES: dict[type[Event], Any] = {
    OrderPlaced: (
        {
            "cf_order_id": filled, "cf_order_total_items": st.integers(0, 10**6), "cf_order_status": filled,
            "cf_order_payment_method": st.sampled_from(get_args(PaymentMethod)), "cf_order_payment_amount": amounts,
        },
        {},
        {
            "cart_id": filled, "currency": currencies, "line_items": line_items, "shipping_price": amounts,
            "shipping_city": text, "shipping_state": text, "shipping_country": text, "order_url": urls,
        },
    ),
    CartAbandoned: (
        {"cf_cart_id": filled, "cf_cart_total_items": counts, "cf_cart_status": filled},
        {"price": amounts},
        {"currency": currencies, "line_items": line_items, "checkout_url": urls},
    ),
}  # fmt: skip


@st.composite
def facts(draw: st.DrawFn) -> tuple[Event, list[tuple[Event, ItemPart]], AccountDefaults]:
    """A whole with every value that its successor needs, its parts, and an account."""
    kind = draw(st.sampled_from(list(WHOLES)))
    required, needed, optional = WHOLES[kind]
    whole = kind(**draw(st.fixed_dictionaries({**lead, **required, **needed}, optional={**about, **optional})))
    part_kind = PARTS[kind]
    order_field, product_field = part_kind.rules.key_fields
    described = st.fixed_dictionaries(
        {**lead, product_field: filled, product_field.replace("_id", "_sku"): filled, **line},
        optional={**about, **extras},
    )
    parts = [
        part_kind(**{**given, order_field: getattr(whole, order_field)})
        for given in draw(st.lists(described, max_size=draw(st.sampled_from([0, 3, 23]))))
    ]
    stored = [(part, ItemPart(f"part-{at}", part.payload(), part.attached())) for at, part in enumerate(parts)]
    return whole, stored, AccountDefaults(draw(currencies), TEMPLATE)


def leaves(value: Any) -> Iterator[str | int | float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


@given(facts())
@settings(max_examples=150, deadline=None)
def test_a_retired_event_with_all_its_data_becomes_a_valid_successor_of_nothing_but_that_data(
    fact: tuple[Event, list[tuple[Event, ItemPart]], AccountDefaults],
) -> None:
    whole, parts, defaults = fact
    payload, attached = whole.payload(), whole.attached()
    items = [item for _, item in parts]

    result = translate(whole.event_type, payload, attached, items, defaults)

    assert isinstance(result, Translated), result
    assert result.event_type == whole.rules.retired
    sent = json.loads(result.payload_json)
    successor = parse_event({"event_type": result.event_type, "event_family": "CDP", "payload": sent})
    assert successor.payload_json() == result.payload_json

    same = ("email", "name", "legal_bases")
    assert {name: sent.get(name) for name in same} == {name: payload.get(name) for name in same}
    identifier = payload[whole.rules.key_fields[0]]
    assert sent["identifier"] == identifier

    known = [*leaves(payload), *leaves(attached), defaults.currency, defaults.checkout_url(identifier)]
    for item in items:
        known += [*leaves(item.payload), *leaves(item.attached)]
    assert [value for value in leaves(sent) if value not in known] == []

    lines = attached.get("line_items", items)
    assert len(sent.get("line_items", [])) + result.lines_left_out == len(lines)
    assert len(sent.get("line_items", [])) == min(len(lines), 20)

    assert whole.fingerprint() == type(whole)(**payload).fingerprint()
    assert (whole.payload(), whole.attached()) == (payload, attached)
    assert translate(whole.event_type, payload, attached, items, defaults) == result


@given(facts(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_field_taken_away_is_the_one_that_is_named(
    fact: tuple[Event, list[tuple[Event, ItemPart]], AccountDefaults], data: st.DataObject
) -> None:
    whole, parts, _ = fact
    attached = whole.attached()
    attached.pop("line_items", None)
    needed = {"price", "checkout_url"} if isinstance(whole, CartAbandoned) else set()
    gone = {name for name in needed if name not in attached or data.draw(st.booleans())}
    expected = {f"$.attached.{name}" for name in gone}
    items = []
    for part, item in parts:
        left = data.draw(st.sets(st.sampled_from(sorted(line))))
        items.append(ItemPart(item.key, part.payload(), {k: v for k, v in part.attached().items() if k not in left}))
        expected |= {f"items[{json.dumps(item.key)}].attached.{name}" for name in left}

    given_ = {name: value for name, value in attached.items() if name not in gone}
    result = translate(whole.event_type, whole.payload(), given_, items)

    if expected:
        assert isinstance(result, Missing)
        assert {problem.path for problem in result.problems} == expected
    else:
        assert isinstance(result, Translated)


RETIRED = sorted(name for name, kind in CATALOGUE.items() if kind.rules.retired)
odd = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=4), st.lists(st.integers(), max_size=2))


@given(st.sampled_from(RETIRED), st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_is_stored_is_translated_or_explained_and_never_an_error(event_type: str, data: st.DataObject) -> None:
    kind = CATALOGUE[event_type]
    mutated = {**kind.EXAMPLE, **data.draw(st.dictionaries(st.sampled_from(sorted(kind.sent_fields)), odd, max_size=2))}
    attached = data.draw(st.dictionaries(st.sampled_from([*sorted(kind.attached_fields), "cf_x"]), odd, max_size=3))
    result = translate(event_type, mutated, attached)
    assert isinstance(result, Translated) or result.problems
