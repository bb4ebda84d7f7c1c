"""What the dispatcher does with one event type, declared beside the type."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

Uncertain = Literal["resend", "hold"]
"""What follows an attempt that may have arrived: send again, or wait for a person."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one event type. The defaults are the safe ones, used for types that nobody declared.

    Attributes:
        uncertain: `resend` where a copy is harmless or a loss is worse (orders and states), `hold` where a copy is
            an embarrassing e-mail.
        key_fields: The payload fields of the default key, joined by `:` after the type; empty if the caller must
            pass `key`.
        key_advice: What makes a good key, for the docs and for the refusal of an event without one.
        retired: The type that succeeds this one, which RD Station no longer documents (rdstation-api.md §4).
        expires_in: How long after `enqueue` the event is still worth sending; None for ever. RD Station records the
            time of arrival as the time of the event (rdstation-api.md §8).
    """

    uncertain: Uncertain = "hold"
    key_fields: tuple[str, ...] = ()
    key_advice: str = ""
    retired: str | None = None
    expires_in: timedelta | None = None


CART_REMINDER_LIFE = timedelta(hours=24)
"""A reminder of a cart reads as a mistake a day later."""
