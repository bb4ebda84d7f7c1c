"""Every event type there is. Validation, keys, rules, docs and JSON Schemas are read from here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dispatcher.events.event import Event
from dispatcher.events.retired import CartAbandoned, CartAbandonedItem, OrderPlaced, OrderPlacedItem
from dispatcher.events.rules import Rules

CATALOGUE: Mapping[str, type[Event]] = MappingProxyType(
    {kind.event_type: kind for kind in (OrderPlaced, OrderPlacedItem, CartAbandoned, CartAbandonedItem)}
)
"""From RD Station's name of a type to its class."""

_UNKNOWN = Rules()


def rules_for(event_type: str) -> Rules:
    """The rules of a type, also of one that nobody declared: a row may hold what `salvage` kept."""
    kind = CATALOGUE.get(event_type)
    return _UNKNOWN if kind is None else kind.rules
