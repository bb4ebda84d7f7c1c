"""From a retired event to its successor (rdstation-api.md §4). Pure: nothing is looked up, and nothing is made up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dispatcher.errors import InvalidEvent, Problem
from dispatcher.events import problems
from dispatcher.events.account_defaults import EXAMPLE_TEMPLATE, AccountDefaults
from dispatcher.events.catalogue import CATALOGUE
from dispatcher.events.envelope import parse_event
from dispatcher.events.event import Event
from dispatcher.events.keys import key_problem
from dispatcher.events.parts import MAX_LINES, LineItem
from dispatcher.events.retired import CartAbandoned, CartAbandonedItem, OrderPlaced, OrderPlacedItem
from dispatcher.events.succession import PARTS, role, whole_key


@dataclass(frozen=True, slots=True)
class ItemPart:
    """One stored `*_ITEM` event of an order or a cart.

    Attributes:
        key: The event's key, for the text of a problem.
        payload: As it was stored.
        attached: As it was stored beside the payload; None if nothing was.
    """

    key: str
    payload: Mapping[str, Any]
    attached: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Translated:
    """What to send in place of the retired event. Its key, fact and fingerprint stay as they are.

    Attributes:
        event_type: The successor's.
        payload_json: Compact JSON text, exactly as it is to be sent.
        lines_left_out: Product lines beyond the 20 that RD Station takes; price and total_items count them all.
    """

    event_type: str
    payload_json: str
    lines_left_out: int = 0


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no successor yet: each missing field and how to supply it, each refused one and its rule.

    The paths are those of a correction (`correction.corrected`): `$.attached.price`, `$.payload.cf_cart_total_items`.
    Those of a part begin with its key: `items["ORDER_PLACED_ITEM:1001:P-10"].attached.price`.
    """

    problems: tuple[Problem, ...]


def translate(
    event_type: str,
    payload: Mapping[str, Any],
    attached: Mapping[str, Any] | None = None,
    items: Sequence[ItemPart] = (),
    defaults: AccountDefaults = AccountDefaults(),  # noqa: B008  # frozen
) -> Translated | Missing:
    """The successor of a retired event, or what it lacks.

    A value comes from the event, from what is attached to it, from its parts or from the account, in this order;
    `cf_order_status` and `cf_cart_status` have no equivalent and are dropped. The result passes the successor's class.

    Args:
        event_type: `ORDER_PLACED` or `CART_ABANDONED`. A part alone is answered with `Missing`.
        payload: As stored.
        attached: As stored. With `line_items` in it, these are all the lines and `items` is not looked at.
        items: The parts with the same `whole_key`, in enqueue order. Of more than 20 lines the 20 of the highest
            price times quantity are kept, in that order of enqueueing.
        defaults: The account's.

    Raises:
        ValueError: The type is not retired, or a part belongs to another whole. Both are the caller's mistakes.
    """
    match role(event_type):
        case None:
            raise ValueError(f"{event_type} is not retired")
        case "part":
            return Missing((_alone(event_type, payload),))
    try:
        whole = _restored(event_type, payload, attached)
    except InvalidEvent as invalid:
        return Missing(invalid.problems)
    given = whole.attached().get("line_items")
    found: list[Problem] = []
    lines = list(_lines(whole, items, found)) if given is None else given
    kept = _most_valuable(lines)
    fields = _successor_fields(whole, defaults) | {"line_items": kept or None}
    successor = CATALOGUE[str(whole.rules.retired)]
    found = [*_gaps(whole, successor, fields), *found]
    if not found:
        try:
            event = successor(**fields)
            return Translated(successor.event_type, event.payload_json(), len(lines) - len(kept))
        except InvalidEvent as invalid:
            found = [_of_the_whole(problem, successor) for problem in invalid.problems]
    return Missing(problems.refuse(found).problems)


def _restored(event_type: str, payload: Mapping[str, Any], attached: Mapping[str, Any] | None) -> Event:
    envelope = {"event_type": event_type, "event_family": "CDP", "payload": dict(payload)}
    return parse_event(envelope, attached=attached)


def _alone(event_type: str, payload: Mapping[str, Any]) -> Problem:
    whole = next(whole for whole, part in PARTS.items() if part.event_type == event_type)
    key = whole_key(event_type, payload)
    name = key if key and key_problem(key) is None else whole.event_type  # an id may hold what no text of ours may
    return Problem(
        "$.event_type",
        f"{event_type} is sent only as a line of {whole.rules.retired}, and its {name} did not come: "
        f"enqueue the {whole.__name__}, or discard this line",
    )


def _successor_fields(whole: Event, defaults: AccountDefaults) -> dict[str, Any]:
    """The successor's fields but for its lines; None where there is no value."""
    match whole:
        case OrderPlaced():
            own = {
                "identifier": whole.cf_order_id,
                "price": whole.cf_order_payment_amount,
                "total_items": whole.cf_order_total_items,
                "payment_methods": (whole.cf_order_payment_method,),
                "shipping_price": whole.shipping_price,
                "shipping_city": whole.shipping_city,
                "shipping_state": whole.shipping_state,
                "shipping_country": whole.shipping_country,
                "order_url": whole.order_url,
            }
        case CartAbandoned():
            own = {
                "identifier": whole.cf_cart_id,
                "price": whole.price,
                "total_items": whole.cf_cart_total_items,
                "checkout_url": whole.checkout_url or defaults.checkout_url(whole.cf_cart_id),
            }
        case _:
            raise ValueError(f"{whole.event_type} is no whole")
    return own | {
        "email": whole.email,
        "name": whole.name,
        "legal_bases": whole.legal_bases,
        "currency": whole.currency or defaults.currency,
    }


def _lines(whole: Event, items: Sequence[ItemPart], found: list[Problem]) -> Iterator[dict[str, Any]]:
    """The lines that the parts tell; what is wrong with others goes to `found`."""
    kind = PARTS[type(whole)]
    for item in items:
        root = f"items[{json.dumps(item.key, ensure_ascii=False)}]"
        try:
            part = _restored(kind.event_type, item.payload, item.attached)
        except InvalidEvent as invalid:
            found += [Problem(root + problem.path.removeprefix("$"), problem.message) for problem in invalid.problems]
            continue
        if whole_key(kind.event_type, item.payload) != whole_key(whole.event_type, whole.payload()):
            raise ValueError(f"{item.key!r} is no part of this {whole.event_type}")
        line = _line(part)
        missing = [name for name, field in LineItem.model_fields.items() if field.is_required() and name not in line]
        found += [_missing_in_line(root, name, part, whole) for name in missing]
        if missing:
            continue
        try:
            LineItem(**line)
        except InvalidEvent as invalid:
            found += [_of_a_part(problem, root, part, whole) for problem in invalid.problems]
        yield line


def _line(part: Event) -> dict[str, Any]:
    match part:
        case OrderPlacedItem():
            own = {"product_id": part.cf_order_product_id, "sku": part.cf_order_product_sku}
        case CartAbandonedItem():
            own = {"product_id": part.cf_cart_product_id, "sku": part.cf_cart_product_sku}
        case _:
            raise ValueError(f"{part.event_type} is no part")
    return own | part.attached()


def _most_valuable(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    by_value = sorted(range(len(lines)), key=lambda at: -lines[at]["price"] * lines[at]["quantity"])
    return [lines[at] for at in sorted(by_value[:MAX_LINES])]


def _gaps(whole: Event, successor: type[Event], fields: Mapping[str, Any]) -> Iterator[Problem]:
    for name, field in successor.model_fields.items():
        if field.is_required() and fields.get(name) is None:
            yield Problem(
                f"$.attached.{name}",
                f"is required by {successor.event_type}: {_SETTINGS.get(name, '')}pass "
                f'{type(whole).__name__}({name}=...), or replay this event with {{"attached": {{"{name}": ...}}}}',
            )


_SETTINGS = {"checkout_url": f"set the account's checkout_url_template (such as {EXAMPLE_TEMPLATE}), "}
"""How an account can supply a field that may be missing; its currency always has a value."""

_OTHERWISE = 'replay the {} with {{"attached": {{"line_items": [...]}}}}, where [] sends no lines'
"""The way out that needs no new part."""


def _missing_in_line(root: str, name: str, part: Event, whole: Event) -> Problem:
    return Problem(
        f"{root}.attached.{name}",
        f"is required in a line of {whole.rules.retired}: pass {type(part).__name__}({name}=...), or "
        + _OTHERWISE.format(whole.event_type),
    )


def _of_a_part(problem: Problem, root: str, part: Event, whole: Event) -> Problem:
    """A refusal of a line: only the id of a product, the last field of a part's key, has a narrower rule there."""
    return Problem(
        f"{root}.payload.{part.rules.key_fields[-1]}",
        f"{problem.message} in a line of {whole.rules.retired}; " + _OTHERWISE.format(whole.event_type),
    )


_NARROWER = {"$.payload.total_items": "$.payload.cf_cart_total_items"}
"""The fields of a successor whose rule is narrower than that of the field they come from: a cart is not empty."""


def _of_the_whole(problem: Problem, successor: type[Event]) -> Problem:
    """A refusal of the successor's class, in the words of the retired one."""
    return Problem(_NARROWER.get(problem.path, problem.path), f"{problem.message} (as {successor.event_type})")
