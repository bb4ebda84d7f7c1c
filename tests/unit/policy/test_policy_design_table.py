"""DESIGN §6, line by line: facts in, verdict, decision, count and effects out. Real: everything. Doubled: nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from dispatcher.lifecycle import Reason
from dispatcher.policy import effects as fx
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.decision import Budget, Bury, Complete, EventFacts, Release, Reschedule, decide
from dispatcher.policy.outcome import LimitHint, LimitScope, Outcome, ProviderError, Stage, TransportFailure
from dispatcher.policy.verdict import Judgement, abandoned, judge, malformed, untranslatable
from dispatcher.policy.verdicts import Verdict

BUDGET = Budget(max_failures=12, max_age_seconds=604_800, backoff=Backoff(2, 900))


def answered(status: int, *errors: tuple[str, str | None], limit: LimitHint | None = None, **more: Any) -> Outcome:
    normalised = tuple(ProviderError(error_type, "text", path) for error_type, path in errors)
    return Outcome(Stage.ANSWERED, status, errors=normalised, limit=limit, **more)


def cut(stage: Stage, failure: TransportFailure) -> Outcome:
    return Outcome(stage, failure=failure)


@dataclass(frozen=True)
class Line:
    """One line of the table, with one or more facts for it."""

    facts: list[Outcome | Judgement]
    verdict: Verdict
    decision: type | Reason
    counts: bool | None = None
    effects: tuple[type | fx.SuspendCause, ...] = ()
    event: dict[str, Any] = field(default_factory=dict)


ABOUT_TYPE = ("INVALID_OPTION", "$.event_type")
CDP = ("UNABLE_TO_LOAD_CDP_SCHEMA", None)
NOTHING_SENT = [
    cut(stage, failure)
    for stage in (Stage.NOT_CONNECTED, Stage.CONNECTED)
    for failure in TransportFailure
    if failure not in {TransportFailure.REQUEST, TransportFailure.CREDENTIALS}
]
BYTES_SENT = [
    cut(stage, failure)
    for stage in (Stage.PARTLY_WRITTEN, Stage.WRITTEN, Stage.ANSWER_BEGUN)
    for failure in (TransportFailure.TIMEOUT, TransportFailure.DEADLINE, TransportFailure.RESET)
]

LINES = {
    "2xx with event_uuid": Line(
        [answered(200, event_uuid="3f0c"), answered(201, event_uuid="3f0c")],
        Verdict.DELIVERED, Complete, effects=(fx.Proven, fx.RestBreaker),
    ),
    "2xx without one": Line(
        [answered(200), answered(204), answered(200, failure=TransportFailure.RESET)],
        Verdict.DELIVERED, Reason.UUID_UNKNOWN, effects=(fx.StrangeAnswer,),
    ),
    "400, 409, 422, other 4xx": Line(
        [answered(status, ("INVALID", "$.payload.name")) for status in (400, 402, 409, 410, 418, 422, 451, 499)],
        Verdict.REJECTED, Reason.REJECTED, effects=(fx.RejectedAlike, fx.RestBreaker),
    ),
    "event_type refused, retired type, translatable": Line(
        [answered(400, ABOUT_TYPE), answered(422, ABOUT_TYPE)],
        Verdict.TYPE_RETIRED, Release, effects=(fx.TypeRetired, fx.RestBreaker),
        event={"translatable": True},
    ),
    "event_type refused, retired type, no successor": Line(
        [answered(400, ABOUT_TYPE)], Verdict.TYPE_RETIRED, Reason.TYPE_RETIRED, effects=(fx.TypeRetired, fx.RestBreaker)
    ),
    "3xx, 404, 405, 406, 407, 414, 415": Line(
        [answered(status) for status in (300, 301, 302, 304, 307, 308, 404, 405, 406, 407, 414, 415)],
        Verdict.MISCONFIGURED, Release, effects=(fx.SuspendCause.MISCONFIGURED,),
    ),
    "401 after one refresh; 400 UNABLE_TO_LOAD_CDP_SCHEMA; no token": Line(
        [answered(401, refreshed=True), answered(400, CDP), cut(Stage.NOT_CONNECTED, TransportFailure.CREDENTIALS)],
        Verdict.REFUSED, Release, effects=(fx.SuspendCause.CREDENTIALS,),
    ),
    "403": Line(
        [answered(403)], Verdict.REFUSED, Release, effects=(fx.SuspendCause.FORBIDDEN, fx.RestBreaker)
    ),
    "429 account quota": Line(
        [answered(429, limit=LimitHint(LimitScope.ACCOUNT, 20)), answered(429)],
        Verdict.THROTTLED, Release, effects=(fx.CloseWindow, fx.RestBreaker),
    ),
    "429 lead limiter": Line(
        [answered(429, limit=LimitHint(LimitScope.LEAD, 43_067))],
        Verdict.LEAD_THROTTLED, Release, effects=(fx.ParkLead, fx.RestBreaker),
    ),
    "nothing was sent": Line(
        [*NOTHING_SENT], Verdict.UNREACHABLE, Reschedule, counts=False, effects=(fx.FeedBreaker,)
    ),
    "408, 425, 5xx": Line(
        [answered(status) for status in (408, 425, 500, 501, 502, 503, 504, 599)],
        Verdict.UNAVAILABLE, Reschedule, counts=True, effects=(fx.FeedBreaker,),
    ),
    "5xx on a half-open probe": Line(
        [answered(503)], Verdict.UNAVAILABLE, Reschedule, counts=False, effects=(fx.FeedBreaker,), event={"probe": True}
    ),
    # DESIGN has no effect here; docs/adr/0009 says why it feeds the breaker.
    "timeout or reset after bytes were sent, resend": Line(
        [*BYTES_SENT], Verdict.UNCERTAIN, Reschedule, counts=True, effects=(fx.FeedBreaker,)
    ),
    "timeout or reset after bytes were sent, hold": Line(
        [*BYTES_SENT], Verdict.UNCERTAIN, Reason.HELD_UNCERTAIN, effects=(fx.FeedBreaker,),
        event={"on_uncertain": "hold"},
    ),
    "lease expired": Line([abandoned()], Verdict.ABANDONED, Reschedule, counts=True),
    "lease expired, hold": Line(
        [abandoned()], Verdict.ABANDONED, Reason.HELD_UNCERTAIN, event={"on_uncertain": "hold"}
    ),
    "413": Line([answered(413)], Verdict.TOO_LARGE, Reason.TOO_LARGE),
    "a retired type that has no form to be sent in": Line(
        [untranslatable("no price")], Verdict.UNTRANSLATABLE, Reason.TYPE_RETIRED
    ),
    "payload cannot be read or built": Line(
        [malformed("unreadable"), cut(Stage.NOT_CONNECTED, TransportFailure.REQUEST)],
        Verdict.MALFORMED, Reason.MALFORMED,
    ),
}  # fmt: skip


def kinds(effects: fx.Effects) -> tuple[type | fx.SuspendCause, ...]:
    return tuple(
        effect.cause if isinstance(effect, fx.SuspendAccount | fx.SuspendType) else type(effect) for effect in effects
    )


@pytest.mark.parametrize("name", LINES)
def test_the_code_does_what_the_line_of_the_design_says(name: str) -> None:
    line = LINES[name]
    facts = EventFacts(
        "ORDER_PLACED", "d" * 64, **{"failures": 0, "age_seconds": 0, "on_uncertain": "resend", **line.event}
    )
    for fact in line.facts:
        judgement = fact if isinstance(fact, Judgement) else judge(fact, event_type="ORDER_PLACED", retired=True)
        decision = decide(judgement, facts, BUDGET, random.Random(1))  # noqa: S311 - jitter is no secret
        assert judgement.verdict is line.verdict, fact
        match decision:
            case Complete(_, Reason() as reason) | Bury(reason, _):
                assert reason is line.decision, fact
            case _:
                assert type(decision) is line.decision, fact
        assert (decision.counts_failure if isinstance(decision, Reschedule) else None) is line.counts, fact
        assert kinds(fx.effects_of(judgement, facts)) == line.effects, fact


def test_every_verdict_but_those_that_give_back_has_a_line() -> None:
    assert {line.verdict for line in LINES.values()} == set(Verdict) - {Verdict.RELEASED, Verdict.BATCH_REFUSED}


def test_every_reason_a_verdict_alone_can_bury_for_has_a_line() -> None:
    reasons = {line.decision for line in LINES.values() if isinstance(line.decision, Reason)}
    assert reasons == {
        Reason.UUID_UNKNOWN, Reason.REJECTED, Reason.TYPE_RETIRED, Reason.TOO_LARGE, Reason.MALFORMED,
        Reason.HELD_UNCERTAIN,
    }  # fmt: skip
