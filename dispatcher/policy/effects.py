"""What one attempt means for everything but its event: the account, the type, the lead, the breaker.

Effects are data. The settlement applies them, under the account's lock and in the transaction that settles the event.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias, assert_never

from dispatcher.policy.decision import EventFacts
from dispatcher.policy.verdict import HoldScope, Judgement
from dispatcher.policy.verdicts import Verdict

ACCOUNT_HOLD_CAP_SECONDS = 60.0
"""One window of the account's quota; also the wait without a hint (rdstation-api.md §6)."""
LEAD_HOLD_CAP_SECONDS = 3600.0
"""Short of the lead's day, because the unit of RD Station's hint is not certain; then one event probes."""
HOLD_FLOOR_SECONDS = 1.0
"""A hint of 0 must not turn into a loop."""


class SuspendCause(StrEnum):
    """Why an account or a type is suspended; it decides how the probe looks. Stored and shown."""

    CREDENTIALS = "credentials"
    """The account's credentials are refused: probe with a refresh and `account_info`."""
    MISCONFIGURED = "misconfigured"
    """A wrong host, path or proxy answers: probe after reading the configuration again."""
    STRANGE_ANSWERS = "strange_answers"
    """2xx without receipts, again and again: a proxy or a wrong host may be answering."""
    FORBIDDEN = "forbidden"
    """403 for this type: probe with one real event."""
    REJECTED_ALIKE = "rejected_alike"
    """The same error for event after event: probe with one real event."""


@dataclass(frozen=True, slots=True)
class CloseWindow:
    """No permit of the account for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ParkLead:
    """No event of this lead for so long."""

    lead: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SuspendAccount:
    """Send nothing for the account until a probe succeeds; alert."""

    cause: SuspendCause
    why: str


@dataclass(frozen=True, slots=True)
class SuspendType:
    """Send nothing of this type for the account until a probe succeeds; alert."""

    event_type: str
    cause: SuspendCause
    why: str


@dataclass(frozen=True, slots=True)
class TypeRetired:
    """Remember for the account that RD Station no longer takes this type."""

    event_type: str


@dataclass(frozen=True, slots=True)
class StrangeAnswer:
    """A 2xx without `event_uuid`: count it (`streaks.advance_strange`), and apply `suspension()` if that says so."""

    why: str

    def suspension(self) -> SuspendAccount:
        """What the last one of a row brings."""
        return SuspendAccount(
            SuspendCause.STRANGE_ANSWERS,
            f"{self.why}, as to those before it: a proxy or a wrong host may be answering; check RD_BASE_URL",
        )


@dataclass(frozen=True, slots=True)
class RejectedAlike:
    """A rejection to count (`streaks.advance`).

    If that says suspend, apply `suspension()` and *release* the event instead of burying it. If not, and the event was
    the probe of a suspended type, the suspension ends: RD Station has judged the event itself.
    """

    event_type: str
    signature: str
    lead: str
    why: str

    def suspension(self) -> SuspendType:
        """What the last one of a row brings."""
        return SuspendType(
            self.event_type,
            SuspendCause.REJECTED_ALIKE,
            f"{self.why}, as to those before it; correct what fills {self.event_type}",
        )


class Proven(NamedTuple):
    """Delivered, with a receipt: both counts in a row start again, and a suspension of the type ends."""

    event_type: str


@dataclass(frozen=True, slots=True)
class FeedBreaker:
    """RD Station could not be reached or could not serve."""


@dataclass(frozen=True, slots=True)
class RestBreaker:
    """RD Station answered for itself, be it with a no: it is up, and a breaker has no reason to be open."""


Effect: TypeAlias = (
    CloseWindow
    | ParkLead
    | SuspendAccount
    | SuspendType
    | TypeRetired
    | StrangeAnswer
    | RejectedAlike
    | Proven
    | FeedBreaker
    | RestBreaker
)
Effects: TypeAlias = tuple[Effect, ...]


def effects_of(judgement: Judgement, facts: EventFacts) -> Effects:
    """What to apply beside the decision about the event. Total over verdicts."""
    match judgement.verdict:
        case Verdict.DELIVERED if judgement.event_uuid is None:
            return (StrangeAnswer(judgement.why),)
        case Verdict.DELIVERED:
            return (Proven(facts.event_type), RestBreaker())
        case Verdict.REJECTED:
            alike = RejectedAlike(facts.event_type, judgement.signature, facts.lead, judgement.why)
            return (alike, RestBreaker())
        case Verdict.TYPE_RETIRED:
            return (TypeRetired(facts.event_type), RestBreaker())
        case Verdict.MISCONFIGURED:
            return (SuspendAccount(SuspendCause.MISCONFIGURED, judgement.why),)
        case Verdict.REFUSED if judgement.scope is HoldScope.TYPE:
            return (SuspendType(facts.event_type, SuspendCause.FORBIDDEN, judgement.why), RestBreaker())
        case Verdict.REFUSED:
            # Without RestBreaker: the refusal may have come before anything was sent.
            return (SuspendAccount(SuspendCause.CREDENTIALS, judgement.why),)
        case Verdict.THROTTLED:
            return (CloseWindow(_held(judgement.seconds, ACCOUNT_HOLD_CAP_SECONDS)), RestBreaker())
        case Verdict.LEAD_THROTTLED:
            return (ParkLead(facts.lead, _held(judgement.seconds, LEAD_HOLD_CAP_SECONDS)), RestBreaker())
        case Verdict.UNREACHABLE | Verdict.UNAVAILABLE | Verdict.UNCERTAIN:
            return (FeedBreaker(),)
        case (
            Verdict.ABANDONED
            | Verdict.TOO_LARGE
            | Verdict.MALFORMED
            | Verdict.UNTRANSLATABLE
            | Verdict.RELEASED
            | Verdict.BATCH_REFUSED
        ):
            return ()
        case _:
            assert_never(judgement.verdict)


def _held(hint: float | None, cap: float) -> float:
    # `not hint >= 0` is also true for NaN: no hint at all, like a negative one.
    if hint is None or not hint >= 0:
        return cap
    return min(max(hint, HOLD_FLOOR_SECONDS), cap)
