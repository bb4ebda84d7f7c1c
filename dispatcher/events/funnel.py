"""The three marks of a lead's way through the sales funnel (rdstation-api.md §3.3).

They create no lead: RD Station wants a conversion some minutes before them.
"""

from typing import ClassVar, Literal

from pydantic import Field

from dispatcher.events.event import Event
from dispatcher.events.fields import Amount, FilledText
from dispatcher.events.rules import Rules


class _Mark(Event):
    """What the three have in common."""

    funnel_name: Literal["default"] = Field(description="There is only this one.")


class Opportunity(_Mark):
    """The lead became an opportunity. Needs an explicit key."""

    event_type = "OPPORTUNITY"
    rules = Rules(
        uncertain="resend",
        key_advice="A lead may be marked many times: name this one, e.g. OPPORTUNITY:{id of the deal}.",
    )
    EXAMPLE: ClassVar = {"email": "ana@cliente.example", "funnel_name": "default"}


class Sale(_Mark):
    """The opportunity was won. Needs an explicit key.

    `value` is required: RD Station's own n8n node demands it, though an older page has it optional.
    """

    event_type = "SALE"
    rules = Rules(
        uncertain="resend", key_advice="A lead may buy many times: name this sale, e.g. SALE:{id of the order}."
    )
    EXAMPLE: ClassVar = {"email": "ana@cliente.example", "funnel_name": "default", "value": 199.9}

    value: Amount


class OpportunityLost(_Mark):
    """The opportunity was lost. Needs an explicit key. `reason` is required for the same reason as `Sale.value`."""

    event_type = "OPPORTUNITY_LOST"
    rules = Rules(
        uncertain="resend",
        key_advice="A lead may be lost many times: name this loss, e.g. OPPORTUNITY_LOST:{id of the deal}.",
    )
    EXAMPLE: ClassVar = {"email": "ana@cliente.example", "funnel_name": "default", "reason": "price"}

    reason: FilledText
