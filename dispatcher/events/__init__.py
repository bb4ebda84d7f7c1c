"""RD Station's events: one typed class per type, and all that is known about a type beside it.

`catalogue.CATALOGUE` lists the classes; `parse_event` makes them from RD Station's own envelopes; keys, fingerprints,
the lead's hash and the translation of retired types are pure functions. Nothing here knows a database or HTTP.

These names are loaded by every shop's process. What only workers and operators need (`translation`, `correction`,
`salvage`, `account_defaults`, `schema`, `uncertain`) is imported from its own module.
"""

from dispatcher.events.catalogue import CATALOGUE, may_share_a_request, rules_for
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
from dispatcher.events.succession import LegacyEvents, Role, Route, refusal, role, route, whole_key
from dispatcher.events.supersede import CARTS_OF_LEAD, Supersede, SupersedeByLead, declare_supersede

__all__ = [
    "CARTS_OF_LEAD",
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
    "LegacyEvents",
    "LegalBasis",
    "LineItem",
    "MediaPlaybackStarted",
    "MediaPlaybackStopped",
    "Opportunity",
    "OpportunityLost",
    "OrderPlaced",
    "OrderPlacedItem",
    "Role",
    "Route",
    "Rules",
    "Sale",
    "Supersede",
    "SupersedeByLead",
    "Uncertain",
    "declare_supersede",
    "envelope_json",
    "fact_of",
    "fingerprint",
    "lead_hash",
    "may_share_a_request",
    "normalise_email",
    "parse_event",
    "refusal",
    "role",
    "route",
    "rules_for",
    "validate_key",
    "whole_key",
]
