"""Durable event dispatcher for RD Station Marketing.

A shop enqueues events in its own database transaction; workers deliver them. These names are all that a shop needs,
and all that stays compatible between minor versions.
"""

from dispatcher.errors import DispatcherError, IdempotencyConflict, InvalidEvent, NotMigrated
from dispatcher.events import (
    CARTS_OF_LEAD,
    CallFinished,
    CartAbandoned,
    CartAbandonedItem,
    ChatFinished,
    ChatStarted,
    Conversion,
    EcommerceCartAbandoned,
    EcommerceCheckoutStarted,
    EcommerceOrderCancelled,
    EcommerceOrderFulfilled,
    EcommerceOrderPaid,
    EcommerceOrderPlaced,
    EcommerceOrderRefunded,
    EcommerceShipmentDelivered,
    LegalBasis,
    LineItem,
    MediaPlaybackStarted,
    MediaPlaybackStopped,
    Opportunity,
    OpportunityLost,
    OrderPlaced,
    OrderPlacedItem,
    Sale,
    Supersede,
    SupersedeByLead,
    declare_supersede,
    parse_event,
)
from dispatcher.outbox.cancel import cancel, cancel_async
from dispatcher.outbox.engine import prepare_sqlite
from dispatcher.outbox.enqueue import Receipt, enqueue, enqueue_async, enqueue_many
from dispatcher.shop import connect

__version__ = "0.1.0"

__all__ = [
    "CARTS_OF_LEAD",
    "CallFinished",
    "CartAbandoned",
    "CartAbandonedItem",
    "ChatFinished",
    "ChatStarted",
    "Conversion",
    "DispatcherError",
    "EcommerceCartAbandoned",
    "EcommerceCheckoutStarted",
    "EcommerceOrderCancelled",
    "EcommerceOrderFulfilled",
    "EcommerceOrderPaid",
    "EcommerceOrderPlaced",
    "EcommerceOrderRefunded",
    "EcommerceShipmentDelivered",
    "IdempotencyConflict",
    "InvalidEvent",
    "LegalBasis",
    "LineItem",
    "MediaPlaybackStarted",
    "MediaPlaybackStopped",
    "NotMigrated",
    "Opportunity",
    "OpportunityLost",
    "OrderPlaced",
    "OrderPlacedItem",
    "Receipt",
    "Sale",
    "Supersede",
    "SupersedeByLead",
    "__version__",
    "cancel",
    "cancel_async",
    "connect",
    "declare_supersede",
    "enqueue",
    "enqueue_async",
    "enqueue_many",
    "parse_event",
    "prepare_sqlite",
]
