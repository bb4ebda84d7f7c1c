"""Declared rules between types: an event that makes waiting events of other types moot.

An order supersedes the reminder of its cart. Both name the same thing in a field of their own; what they name is
stored as a hash, and beside it which types it makes moot. So the row carries the rule: it is decided in the database,
by workers that know nothing of the shop's code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dispatcher.errors import ConfigurationError
from dispatcher.events.catalogue import CATALOGUE
from dispatcher.events.event import Event

_TYPES_AT_MOST = 255
"""Characters that the column takes."""


@dataclass(frozen=True, slots=True)
class Supersede:
    """One rule: events that name the same thing.

    The winner makes the loser moot whichever of the two was enqueued first, for as long as the winner is in the outbox.

    Attributes:
        name: What the events have in common, such as `cart`. Rules of one name are one rule.
        winners: Types that make others moot, each with the field that names the thing; an empty field names nothing.
        losers: Types that become moot, likewise.
    """

    name: str
    winners: Mapping[str, str]
    losers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SupersedeByLead:
    """One rule: events of the same lead.

    The winner makes moot what was enqueued before it and still waits; a lead that comes back later is reminded again.

    Attributes:
        winners: Types that make others moot.
        losers: Types that become moot.
    """

    winners: Sequence[str]
    losers: Sequence[str]


CART = Supersede(
    "cart",
    winners={"ORDER_PLACED": "cart_id", "ECOMMERCE_ORDER_PLACED": "cart_id", "ECOMMERCE_ORDER_PAID": "cart_id"},
    losers={
        "CART_ABANDONED": "cf_cart_id",
        "CART_ABANDONED_ITEM": "cf_cart_id",
        "ECOMMERCE_CART_ABANDONED": "identifier",
    },
)
"""Whoever has bought is not asked to come back. Always in force."""

CARTS_OF_LEAD = SupersedeByLead(
    winners=("ORDER_PLACED", "ECOMMERCE_ORDER_PLACED", "ECOMMERCE_ORDER_PAID"),
    losers=("CART_ABANDONED", "CART_ABANDONED_ITEM", "ECOMMERCE_CART_ABANDONED", "ECOMMERCE_CHECKOUT_STARTED"),
)
"""Whoever has bought is not reminded of any cart or checkout left before. For shops whose orders name no cart."""

_RULES: dict[str, Supersede] = {CART.name: CART}
_RULES_BY_LEAD: list[SupersedeByLead] = []


class Subject(NamedTuple):
    """What a row remembers of the rules.

    Attributes:
        name: SHA-256 of the thing that the event names, in hex; None if it names none.
        moots: The types it makes moot by that name, `,A,B,`; None for a loser.
        lead_moots: The types of its lead that it makes moot, likewise.
    """

    name: str | None
    moots: str | None
    lead_moots: str | None = None


def declare_supersede(rule: Supersede | SupersedeByLead) -> None:
    """Add a rule, for events enqueued from now on by this process. Call it at start, in every process that enqueues.

    Workers need no such call: the row says what it makes moot. A rule of a known name adds its types to that rule, so
    `Supersede("cart", winners={}, losers={"ECOMMERCE_CHECKOUT_STARTED": "identifier"})` extends the library's own.
    Declaring a rule twice changes nothing.

    Raises:
        ConfigurationError: A type or a field does not exist, or a type names something else in another rule. Says all
            that is wrong; nothing was declared.
    """
    if isinstance(rule, SupersedeByLead):
        _refuse(_unknown_types([*rule.winners, *rule.losers]))
        if rule not in _RULES_BY_LEAD:
            _refuse(_too_many(_types_by_lead([*_RULES_BY_LEAD, rule], winner) for winner in rule.winners))
            _RULES_BY_LEAD.append(rule)
        return
    _refuse([*_unknown_types([*rule.winners, *rule.losers]), *_unknown_fields(rule), *_claimed_elsewhere(rule)])
    known = _RULES.get(rule.name, rule)
    whole = Supersede(rule.name, {**known.winners, **rule.winners}, {**known.losers, **rule.losers})
    _refuse(_too_many([sorted(whole.losers)]))
    _RULES[rule.name] = whole


def subject_of(event: Event, lead: str = "") -> Subject | None:
    """What the event is about, if a rule asks. `lead` is the hash of its lead."""
    about, by_lead = _by_name(event), _by_lead(event)
    if by_lead is None:
        return about
    name = about.name if about else None
    if name is None and not by_lead:  # a loser: it needs some name, so that a claim looks whether it is moot
        name = hashlib.sha256(f"lead\0{lead}".encode()).hexdigest()
    return Subject(name, about.moots if about else None, by_lead or None)


def _by_name(event: Event) -> Subject | None:
    for rule in _RULES.values():
        winning, losing = rule.winners.get(event.event_type), rule.losers.get(event.event_type)
        field = winning or losing
        value = getattr(event, field, None) if field else None
        if value not in (None, ""):
            name = hashlib.sha256(f"{rule.name}\0{value}".encode()).hexdigest()
            return Subject(name, _listed(rule.losers) if winning else None)
    return None


def _by_lead(event: Event) -> str | None:
    """The types of its lead that the event makes moot; empty for a loser, None if no rule has its type."""
    if not _RULES_BY_LEAD:
        return None
    if losers := _types_by_lead(_RULES_BY_LEAD, event.event_type):
        return _listed(losers)
    return "" if any(event.event_type in rule.losers for rule in _RULES_BY_LEAD) else None


def _types_by_lead(rules: Sequence[SupersedeByLead], winner: str) -> list[str]:
    return sorted({loser for rule in rules if winner in rule.winners for loser in rule.losers})


def _listed(types: Mapping[str, str] | Sequence[str]) -> str:
    return f",{','.join(sorted(types))},"


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigurationError("the supersede rule was not declared: " + "; ".join(problems))


def _unknown_types(types: Sequence[str]) -> list[str]:
    return [f"there is no event type {name!r}" for name in dict.fromkeys(types) if name not in CATALOGUE]


def _unknown_fields(rule: Supersede) -> Iterator[str]:
    for event_type, field in [*rule.winners.items(), *rule.losers.items()]:
        if event_type in CATALOGUE and not CATALOGUE[event_type].knows(field):
            yield f"{event_type} has no field {field!r}"


def _claimed_elsewhere(rule: Supersede) -> Iterator[str]:
    """One row has room for one thing."""
    for other in _RULES.values():
        taken = {**other.winners, **other.losers}
        for event_type, field in [*rule.winners.items(), *rule.losers.items()]:
            if other.name != rule.name and event_type in taken:
                yield f"{event_type} is in the rule {other.name!r} already; extend that one, or use SupersedeByLead"
            elif other.name == rule.name and taken.get(event_type, field) != field:
                yield f"{event_type} names the {rule.name} in {taken[event_type]!r} already"


def _too_many(lists: Iterator[list[str]] | list[list[str]]) -> list[str]:
    return [
        f"it makes too many types moot (their names may have {_TYPES_AT_MOST} characters together)"
        for types in lists
        if len(_listed(types)) > _TYPES_AT_MOST
    ]
