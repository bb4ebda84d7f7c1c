"""Which retired types go out as what (rdstation-api.md §4): the parts of one fact, and the way it takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, Final, Literal

from dispatcher.errors import Problem
from dispatcher.events.catalogue import CATALOGUE, rules_for
from dispatcher.events.event import Event
from dispatcher.events.keys import join_key
from dispatcher.events.retired import CartAbandoned, CartAbandonedItem, OrderPlaced, OrderPlacedItem

LegacyEvents = Literal["auto", "send", "translate", "refuse"]
"""The setting `LEGACY_EVENTS`."""

Role = Literal["whole", "part"]

PARTS: Final[Mapping[type[Event], type[Event]]] = {OrderPlaced: OrderPlacedItem, CartAbandoned: CartAbandonedItem}
"""From the class of a whole to that of its lines."""

SUCCESSORS: Final[Mapping[str, str]] = {whole.event_type: str(whole.rules.retired) for whole in PARTS}
"""From the type of a whole to the type that succeeds it and its lines."""

_WHOLES = {
    **{whole.event_type: whole for whole in PARTS},
    **{part.event_type: whole for whole, part in PARTS.items()},
}


class Route(StrEnum):
    """How an event leaves."""

    AS_IT_IS = "as_it_is"
    """Under its own type."""

    TRANSLATED = "translated"
    """As its successor; a part only together with its whole."""

    NOT_AT_ALL = "not_at_all"
    """It becomes a dead letter; `refusal` says why."""


def role(event_type: str) -> Role | None:
    """`whole` for a retired order or cart, `part` for one of its lines, None for a type that is not retired."""
    whole = _WHOLES.get(event_type)
    if whole is None:
        return None
    return "whole" if whole.event_type == event_type else "part"


def whole_type(event_type: str) -> str:
    """The type of the whole that a retired type is, or is a part of.

    Raises:
        KeyError: The type is not retired.
    """
    return _WHOLES[event_type].event_type


def part_type(event_type: str) -> str:
    """The type of the lines of a whole of this type.

    Raises:
        KeyError: It is no type of a whole.
    """
    return PARTS[_WHOLES[event_type]].event_type


def whole_key(event_type: str, payload: Mapping[str, Any]) -> str | None:
    """What a whole and its parts have in common: the whole's default key, whatever key the shop passed.

    None if the type is not retired, or if the payload does not say which whole it belongs to.
    """
    whole = _WHOLES.get(event_type)
    if whole is None:
        return None
    identifier = payload.get(whole.rules.key_fields[0])
    return join_key(whole.event_type, (identifier,)) if isinstance(identifier, str) else None


def route(event_type: str, mode: LegacyEvents, refused: Collection[str]) -> Route:
    """How an event of this type leaves for an account.

    A whole and its parts retire together: one of them refused counts for all, else the order would go out as its
    successor and its lines by themselves.

    Args:
        event_type: Any type; one that is not retired goes out as it is.
        mode: `LEGACY_EVENTS`.
        refused: The types of which RD Station told this account that it takes them no longer.
    """
    successor = rules_for(event_type).retired
    if successor is None or mode == "send":
        return Route.AS_IT_IS
    if mode == "refuse":
        return Route.NOT_AT_ALL
    known = any(rules_for(name).retired == successor for name in refused)
    return Route.TRANSLATED if mode == "translate" or known else Route.AS_IT_IS


def refusal(event_type: str) -> Problem:
    """Why a retired event is a dead letter under `LEGACY_EVENTS=refuse`, and what to do.

    Raises:
        ValueError: The type is not retired.
    """
    successor = rules_for(event_type).retired
    if successor is None:
        raise ValueError(f"{event_type} is not retired")
    return Problem(
        "$.event_type",
        f"{event_type} is retired and LEGACY_EVENTS is refuse: enqueue {CATALOGUE[successor].__name__} instead, "
        "or set LEGACY_EVENTS to auto and replay",
    )
