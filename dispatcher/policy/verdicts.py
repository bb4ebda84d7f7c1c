"""The words for what an attempt came to. How one is found is in `verdict.py`, which a shop's process never loads."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What an attempt came to. The values are stored with each attempt and label the metrics."""

    DELIVERED = "delivered"
    """2xx: RD Station has it, with or without a receipt."""
    REJECTED = "rejected"
    """RD Station will never take this event as it is."""
    TYPE_RETIRED = "type_retired"
    """RD Station no longer takes this type; its successor may do."""
    UNTRANSLATABLE = "untranslatable"
    """An event of a retired type that no successor can be made of, or that may not go out at all: nothing was sent."""
    MISCONFIGURED = "misconfigured"
    """Whatever answers is not the event endpoint we believe it to be."""
    REFUSED = "refused"
    """The account may not send: at all, or events of this type."""
    THROTTLED = "throttled"
    """The account's quota is used up."""
    LEAD_THROTTLED = "lead_throttled"
    """The lead's quota is used up."""
    UNREACHABLE = "unreachable"
    """No byte left: sending again cannot duplicate."""
    UNAVAILABLE = "unavailable"
    """RD Station answered that it cannot now."""
    UNCERTAIN = "uncertain"
    """The request left, wholly or in part, and no usable answer came: sending again may duplicate."""
    ABANDONED = "abandoned"
    """The lease ended without a settlement: sending again may duplicate."""
    TOO_LARGE = "too_large"
    """The body is over RD Station's limit."""
    MALFORMED = "malformed"
    """No request can be made of the event."""
    RELEASED = "released"
    """Given back unsent, by our own choice."""
    BATCH_REFUSED = "batch_refused"
    """The batch it was in was refused, which says nothing of this event: it goes again with fewer, or alone."""
