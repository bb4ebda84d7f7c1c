"""RD Station's events: one typed class per type, and all that is known about a type beside it.

`catalogue.CATALOGUE` lists the classes; `parse_event` makes them from RD Station's own envelopes; keys, fingerprints,
the lead's hash and the translation of retired types are pure functions. Nothing here knows a database or HTTP.
"""

from dispatcher.events.account_defaults import AccountDefaults, currency_problem, template_problem
from dispatcher.events.catalogue import CATALOGUE, may_share_a_request, rules_for
from dispatcher.events.conversation import CallFinished, ChatFinished, ChatStarted
from dispatcher.events.conversion import Conversion
from dispatcher.events.correction import corrected
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
from dispatcher.events.succession import LegacyEvents, Role, Route, refusal, role, route, whole_key
from dispatcher.events.supersede import CARTS_OF_LEAD, Supersede, SupersedeByLead, declare_supersede
from dispatcher.events.translation import ItemPart, Missing, Translated, translate
from dispatcher.events.uncertain import UncertainPolicy

__all__ = [
    "CARTS_OF_LEAD",
    "CATALOGUE",
    "MAX_BODY_BYTES",
    "MAX_KEY_LENGTH",
    "AccountDefaults",
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
    "ItemPart",
    "LegacyEvents",
    "LegalBasis",
    "LineItem",
    "MediaPlaybackStarted",
    "MediaPlaybackStopped",
    "Missing",
    "Opportunity",
    "OpportunityLost",
    "OrderPlaced",
    "OrderPlacedItem",
    "Role",
    "Route",
    "Rules",
    "Sale",
    "Salvaged",
    "Supersede",
    "SupersedeByLead",
    "Translated",
    "Uncertain",
    "UncertainPolicy",
    "corrected",
    "currency_problem",
    "declare_supersede",
    "envelope_json",
    "fact_of",
    "fingerprint",
    "json_schema",
    "lead_hash",
    "may_share_a_request",
    "normalise_email",
    "parse_event",
    "refusal",
    "role",
    "route",
    "rules_for",
    "salvage",
    "template_problem",
    "translate",
    "validate_key",
    "whole_key",
]
