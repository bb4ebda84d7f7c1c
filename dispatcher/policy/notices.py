"""When an operator is told something unasked: what is so now, from facts that the caller has read. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What notices are about. Stored, shown, and the name of a page of the runbook."""

    ACCOUNT_SUSPENDED = "account_suspended"
    TYPE_SUSPENDED = "type_suspended"
    BREAKER_OPEN = "breaker_open"
    DEAD_LETTERS_GROWING = "dead_letters_growing"
    LIMIT_TOO_LOW = "limit_too_low"


DEAD_WITHIN_SECONDS = 3600
"""Letters that were opened within so long, and are open still, are what "growing" counts."""

NEARLY_ALL = 0.9
"""The part of its permits that an account must be using for the limit to be what holds its events back."""


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """One account as it stands.

    Attributes:
        suspended: Why, in one redacted sentence; None if it is not suspended.
        suspended_types: Event type to why.
        breaker_open: RD Station fails for it.
        is_open: Nobody stopped it and it is not throttled.
        due: Events that could be sent now if there were permits.
        used: Permits in its window.
        limit: Permits of its window; None: no limit.
    """

    account: str
    suspended: str | None = None
    suspended_types: dict[str, str] = field(default_factory=dict)
    breaker_open: bool = False
    is_open: bool = True
    due: int = 0
    used: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on somebody wants to hear about it; 0: never.

    Attributes:
        dead_letters: Letters opened within an hour and open still.
        drain_seconds: The time in which the permitted rate could send what is due.
    """

    dead_letters: int
    drain_seconds: float


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is so. The first three say what it is: while it lasts it is told once.

    Attributes:
        account: Empty: the whole outbox.
        subject: Such as the event type; empty if there is none.
        detail: One sentence without personal data.
    """

    kind: Kind
    account: str
    subject: str
    detail: str


def conditions(accounts: Collection[AccountFacts], dead_lately: int, thresholds: Thresholds) -> Iterator[Condition]:
    """Everything that is so now."""
    for facts in accounts:
        yield from _of_account(facts, thresholds)
    if thresholds.dead_letters and dead_lately >= thresholds.dead_letters:
        detail = f"{dead_lately} dead letters of the last hour are open: see `dispatcher dead list`"
        yield Condition(Kind.DEAD_LETTERS_GROWING, "", "", detail)


def _of_account(facts: AccountFacts, thresholds: Thresholds) -> Iterator[Condition]:
    name = facts.account
    if facts.suspended is not None:
        yield Condition(Kind.ACCOUNT_SUSPENDED, name, "", facts.suspended)
    for event_type, why in facts.suspended_types.items():
        yield Condition(Kind.TYPE_SUSPENDED, name, event_type, why)
    if facts.breaker_open:
        why = "RD Station fails for this account again and again; it is asked at least once a minute"
        yield Condition(Kind.BREAKER_OPEN, name, "", why)
    if facts.limit and facts.is_open and thresholds.drain_seconds:
        seconds = 60 * facts.due / facts.limit
        if facts.used >= NEARLY_ALL * facts.limit and seconds > thresholds.drain_seconds:
            why = f"{facts.due} events are due; at {facts.limit} a minute the last one goes in {seconds / 60:.0f} min"
            yield Condition(Kind.LIMIT_TOO_LOW, name, "", why)
