"""What happened in one run, as three witnesses tell it: the producers, RD Station and the outbox. Plain facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class End(StrEnum):
    """How a producer saw its transaction end."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    """By the shop's own choice, or by an error before the commit was asked for."""
    UNCLEAR = "unclear"
    """The commit was asked for and no answer came: the database knows, the shop does not."""


@dataclass(frozen=True, slots=True)
class Enqueued:
    """One `enqueue` of a producer.

    Attributes:
        key: Names the event over all accounts.
        account: Whose it is.
        lead: The customer.
        ordered: Whether it keeps its lead's order.
        place: Orders the enqueues of one lead whose transactions did not overlap.
        transaction: What stands or falls together.
        end: How that transaction ended.
    """

    key: str
    account: str
    lead: str
    ordered: bool
    place: int
    transaction: str
    end: End


@dataclass(frozen=True, slots=True)
class Arrived:
    """One event that reached RD Station, whatever was answered.

    Attributes:
        key: The event.
        account: Whose credentials came with it.
        lead: The customer.
        seconds: On RD Station's monotonic clock.
        accepted: It has been stored.
        counted: It was let in as far as the limits; a 401 or a redirect is not.
    """

    key: str
    account: str
    lead: str
    seconds: float
    accepted: bool
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One event as the outbox has it in the end."""

    key: str
    account: str
    state: str
    reason: str | None
    attempt: int


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt as it is recorded."""

    key: str
    attempt: int
    verdict: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What RD Station allows; 0 = anything."""

    account_per_minute: int = 0
    lead_per_day: int = 0


@dataclass(slots=True)
class History:
    """All of it. `letters` holds the key of each open dead letter."""

    enqueued: list[Enqueued] = field(default_factory=list)
    arrived: list[Arrived] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    attempts: list[Attempted] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    limits: Limits = Limits()
