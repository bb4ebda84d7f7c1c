"""Every event type there is. Validation, keys, rules, docs and JSON Schemas are read from here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dispatcher.events.conversation import CallFinished, ChatFinished, ChatStarted
from dispatcher.events.conversion import Conversion
from dispatcher.events.ecommerce import (
    EcommerceCartAbandoned,
    EcommerceCheckoutStarted,
    EcommerceOrderCancelled,
    EcommerceOrderFulfilled,
    EcommerceOrderPaid,
    EcommerceOrderPlaced,
    EcommerceOrderRefunded,
    EcommerceShipmentDelivered,
)
from dispatcher.events.event import Event
from dispatcher.events.funnel import Opportunity, OpportunityLost, Sale
from dispatcher.events.media import MediaPlaybackStarted, MediaPlaybackStopped
from dispatcher.events.retired import CartAbandoned, CartAbandonedItem, OrderPlaced, OrderPlacedItem
from dispatcher.events.rules import Rules

_CLASSES: tuple[type[Event], ...] = (
    OrderPlaced, OrderPlacedItem, CartAbandoned, CartAbandonedItem,
    EcommerceCheckoutStarted, EcommerceCartAbandoned, EcommerceOrderPlaced, EcommerceOrderPaid,
    EcommerceOrderFulfilled, EcommerceShipmentDelivered, EcommerceOrderCancelled, EcommerceOrderRefunded,
    Conversion, Opportunity, Sale, OpportunityLost,
    ChatStarted, ChatFinished, CallFinished, MediaPlaybackStarted, MediaPlaybackStopped,
)  # fmt: skip

CATALOGUE: Mapping[str, type[Event]] = MappingProxyType({kind.event_type: kind for kind in _CLASSES})
"""From RD Station's name of a type to its class."""

_UNDECLARED = Rules()


def rules_for(event_type: str) -> Rules:
    """The rules of a type, also of one that nobody declared: a row may hold what `salvage` kept."""
    kind = CATALOGUE.get(event_type)
    return _UNDECLARED if kind is None else kind.rules


def may_share_a_request(event_type: str) -> bool:
    """True if RD Station's batches take the type: all of the catalogue but the retired ones (rdstation-api.md §2.2)."""
    kind = CATALOGUE.get(event_type)
    return kind is not None and kind.rules.retired is None
