"""RD Station's events: one typed class per type, and all that is known about a type beside it.

`catalogue.CATALOGUE` lists the classes; `parse_event` makes them from RD Station's own envelopes; keys, fingerprints
and the lead's hash are pure functions. Nothing here knows a database or HTTP.
"""

from dispatcher.events.catalogue import CATALOGUE, rules_for
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
from dispatcher.events.envelope import parse_event
from dispatcher.events.event import Event, envelope_json
from dispatcher.events.fields import MAX_BODY_BYTES
from dispatcher.events.fingerprint import fingerprint
from dispatcher.events.funnel import Opportunity, OpportunityLost, Sale
from dispatcher.events.keys import MAX_KEY_LENGTH, fact_of, validate_key
from dispatcher.events.lead import lead_hash, normalise_email
from dispatcher.events.media import MediaPlaybackStarted, MediaPlaybackStopped
from dispatcher.events.parts import LegalBasis, LineItem
from dispatcher.events.retired import CartAbandoned, CartAbandonedItem, OrderPlaced, OrderPlacedItem
from dispatcher.events.rules import Rules, Uncertain
from dispatcher.events.salvage import Salvaged, salvage
from dispatcher.events.schema import json_schema

__all__ = [
    "CATALOGUE",
    "MAX_BODY_BYTES",
    "MAX_KEY_LENGTH",
    "CallFinished",
    "CartAbandoned",
    "CartAbandonedItem",
    "ChatFinished",
    "ChatStarted",
    "Conversion",
    "EcommerceCartAbandoned",
    "EcommerceCheckoutStarted",
    "EcommerceOrderCancelled",
    "EcommerceOrderFulfilled",
    "EcommerceOrderPaid",
    "EcommerceOrderPlaced",
    "EcommerceOrderRefunded",
    "EcommerceShipmentDelivered",
    "Event",
    "LegalBasis",
    "LineItem",
    "MediaPlaybackStarted",
    "MediaPlaybackStopped",
    "Opportunity",
    "OpportunityLost",
    "OrderPlaced",
    "OrderPlacedItem",
    "Rules",
    "Sale",
    "Salvaged",
    "Uncertain",
    "envelope_json",
    "fact_of",
    "fingerprint",
    "json_schema",
    "lead_hash",
    "normalise_email",
    "parse_event",
    "rules_for",
    "salvage",
    "validate_key",
]
