"""Declared rules between types: an event that makes waiting events of other types moot.

An order supersedes the reminder of its cart. Both name the same thing in a field of their own; what they name is
stored as a hash, so the rule is decided in the database, by workers that know nothing of the shop's code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dispatcher.events.event import Event


@dataclass(frozen=True, slots=True)
class Supersede:
    """One rule.

    Attributes:
        name: What the events have in common, such as `cart`.
        winners: Types that make others moot, each with the field that names the thing; an empty field names nothing.
        losers: Types that become moot, likewise.
    """

    name: str
    winners: Mapping[str, str]
    losers: Mapping[str, str]


CART = Supersede(
    "cart",
    winners={"ORDER_PLACED": "cart_id", "ECOMMERCE_ORDER_PLACED": "cart_id", "ECOMMERCE_ORDER_PAID": "cart_id"},
    losers={
        "CART_ABANDONED": "cf_cart_id",
        "CART_ABANDONED_ITEM": "cf_cart_id",
        "ECOMMERCE_CART_ABANDONED": "identifier",
    },
)
"""Whoever has bought is not asked to come back."""

_RULES: list[Supersede] = [CART]


class Subject(NamedTuple):
    """What a row remembers of its rule.

    Attributes:
        name: SHA-256 of the thing that the event names, in hex.
        moots: The types it makes moot, `,A,B,`; None for a loser.
    """

    name: str
    moots: str | None


def declare_supersede(rule: Supersede) -> None:
    """Add a rule of the shop's own, for events enqueued from now on by this process. Call it once, at start.

    The first declared rule that has an event's type applies to it; rules that come with the library are first.
    """
    _RULES.append(rule)


def subject_of(event: Event) -> Subject | None:
    """What the event is about, if a rule asks and the event names it."""
    for rule in _RULES:
        winning, losing = rule.winners.get(event.event_type), rule.losers.get(event.event_type)
        field = winning or losing
        if field is None:
            continue
        value = getattr(event, field, None)
        if value in (None, ""):
            return None
        name = hashlib.sha256(f"{rule.name}\0{value}".encode()).hexdigest()
        return Subject(name, f",{','.join(sorted(rule.losers))}," if winning else None)
    return None
