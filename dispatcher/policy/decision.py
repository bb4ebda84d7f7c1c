"""What becomes of the event after a judgement. The worker and the sweep call the same `decide`.

What the attempt means for its account is in `effects.py`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, assert_never

from dispatcher.lifecycle import Reason
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.verdict import Judgement
from dispatcher.policy.verdicts import Verdict


class EventFacts(NamedTuple):
    """What a decision needs to know about the event.

    Attributes:
        event_type: RD Station's name of the type, as it is stored: a suspension holds back events of that name.
        lead: The keyed hash of the lead.
        failures: What the budget has counted before this attempt.
        age_seconds: Since it was first due, without the time it was held (`age.py`).
        on_uncertain: What the type wants when the event may have arrived: send again, or let a person decide.
        unreachable_streak: Attempts right before this one that ended unreachable, in a row.
        abandoned_before: True if an earlier attempt was abandoned.
        translatable: True if it goes back to be translated, should RD Station refuse its type.
        probe: True if the attempt only asks whether an account, a type or a breaker works again.
    """

    event_type: str
    lead: str
    failures: int
    age_seconds: float
    on_uncertain: Literal["resend", "hold"]
    unreachable_streak: int = 0
    abandoned_before: bool = False
    translatable: bool = False
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """When to give up, and how long to wait before.

    Attributes:
        max_failures: The failure that is one too many (`MAX_FAILURES`), at least 1.
        max_age_seconds: The age that is too old (`MAX_AGE_SECONDS`), above 0.
        backoff: The wait between tries.

    Raises:
        ValueError: If a bound is out of range.
    """

    max_failures: int
    max_age_seconds: float
    backoff: Backoff

    def __post_init__(self) -> None:
        if self.max_failures < 1 or not self.max_age_seconds > 0:
            raise ValueError(
                f"a budget needs MAX_FAILURES >= 1 and MAX_AGE_SECONDS > 0, "
                f"got {self.max_failures} and {self.max_age_seconds}"
            )


class Complete(NamedTuple):
    """Delivered. `reason` is `UUID_UNKNOWN` if there is no receipt, else None."""

    event_uuid: str | None
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Reschedule:
    """Try again later.

    Attributes:
        delay_seconds: From now, by the database's time; 0 is at once.
        counts_failure: True if `failures` rises by one.
        unreachable_streak: The value to store for the next attempt.
        why: One sentence for people.
    """

    delay_seconds: float
    counts_failure: bool
    unreachable_streak: int
    why: str


@dataclass(frozen=True, slots=True)
class Release:
    """Back as it was, due at once; what holds it, if anything does, is an effect."""

    why: str


@dataclass(frozen=True, slots=True)
class Bury:
    """A dead letter. `reason` is the stable word, `why` the sentence for people."""

    reason: Reason
    why: str


Decision: TypeAlias = Complete | Reschedule | Release | Bury


def decide(judgement: Judgement, facts: EventFacts, budget: Budget, rng: random.Random) -> Decision:
    """What becomes of the event. Total over verdicts."""
    why = judgement.why
    match judgement.verdict:
        case Verdict.DELIVERED:
            return Complete(judgement.event_uuid, None if judgement.event_uuid else Reason.UUID_UNKNOWN)
        case Verdict.REJECTED:
            return Bury(Reason.REJECTED, why)
        case Verdict.TOO_LARGE:
            return Bury(Reason.TOO_LARGE, why)
        case Verdict.MALFORMED:
            return Bury(Reason.MALFORMED, why)
        case Verdict.TYPE_RETIRED:
            return Release(why) if facts.translatable else Bury(Reason.TYPE_RETIRED, why)
        case Verdict.UNTRANSLATABLE:
            return Bury(Reason.TYPE_RETIRED, why)
        case Verdict.MISCONFIGURED | Verdict.REFUSED | Verdict.THROTTLED | Verdict.LEAD_THROTTLED:
            return Release(why)
        case Verdict.RELEASED | Verdict.BATCH_REFUSED:
            return Release(why)
        case Verdict.UNREACHABLE:
            streak = facts.unreachable_streak + 1
            return _too_old(why, facts, budget) or Reschedule(budget.backoff.delay(streak, rng), False, streak, why)
        case Verdict.UNAVAILABLE | Verdict.UNCERTAIN | Verdict.ABANDONED:
            return _after_failure(judgement, facts, budget, rng)
        case _:
            assert_never(judgement.verdict)


def _after_failure(judgement: Judgement, facts: EventFacts, budget: Budget, rng: random.Random) -> Bury | Reschedule:
    why, verdict = judgement.why, judgement.verdict
    if verdict is not Verdict.UNAVAILABLE and facts.on_uncertain == "hold":
        return Bury(Reason.HELD_UNCERTAIN, f"it may have arrived, and this type is not sent twice unasked: {why}")
    if buried := _too_many(why, facts, budget) or _too_old(why, facts, budget):
        return buried
    if verdict is Verdict.ABANDONED and not facts.abandoned_before:
        # A worker that died says nothing about RD Station; a second time it may be the event that kills workers.
        delay = 0.0
    else:
        hint = min(judgement.seconds or 0.0, budget.backoff.cap_seconds)
        delay = max(budget.backoff.delay(facts.failures + 1, rng), hint)
    return Reschedule(delay, not facts.probe, 0, why)


def _too_many(why: str, facts: EventFacts, budget: Budget) -> Bury | None:
    failures = facts.failures + 1
    if facts.probe or failures < budget.max_failures:
        return None
    return Bury(
        Reason.TOO_MANY_FAILURES, f"gave up after {failures} failures (MAX_FAILURES={budget.max_failures}): {why}"
    )


def _too_old(why: str, facts: EventFacts, budget: Budget) -> Bury | None:
    if facts.age_seconds < budget.max_age_seconds:
        return None
    return Bury(
        Reason.TOO_OLD,
        f"gave up at an age of {facts.age_seconds:.0f} s (MAX_AGE_SECONDS={budget.max_age_seconds:.0f}): {why}",
    )
