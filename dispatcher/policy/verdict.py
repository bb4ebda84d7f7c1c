"""The judgement of one attempt: from what happened to what it means. What to do about it is in `decision.py`."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from dispatcher.policy.outcome import LimitScope, Outcome, ProviderError, Stage, TransportFailure
from dispatcher.policy.verdicts import Verdict


class HoldScope(StrEnum):
    """How much of an account a refusal concerns."""

    ACCOUNT = "account"
    TYPE = "type"


class Judgement(NamedTuple):
    """A verdict with what the decision needs.

    Attributes:
        verdict: What the attempt came to.
        why: One sentence for people, fit to be stored.
        event_uuid: RD Station's receipt; for `DELIVERED` only, None if it gave none.
        scope: What is refused; for `REFUSED` only.
        seconds: RD Station's hint how long to wait, not capped; None if it gave none.
        signature: What makes two rejections alike; for `REJECTED` only.
    """

    verdict: Verdict
    why: str
    event_uuid: str | None = None
    scope: HoldScope | None = None
    seconds: float | None = None
    signature: str = ""


CREDENTIAL_ERROR = "UNABLE_TO_LOAD_CDP_SCHEMA"
"""The key belongs to an account of another product (rdstation-api.md §2.3): no event of it can pass."""

_NOT_OUR_ENDPOINT = frozenset({404, 405, 406, 407, 414, 415})
_LATER = frozenset({408, 425})

# Such paths come with several prefixes and, keyed by field, with a language behind (rdstation-api.md §7.2).
_EVENT_TYPE_PATH = re.compile(r"(?:^|\W)event_type\W*(?:[a-z]{2}-[A-Z]{2})?$")
_INDEX = re.compile(r"(?<=[.\[])\d+(?=[.\]]|$)")

_SIGNATURE_CHARS = 200
_WHY_CHARS = 400
_ERRORS_NAMED = 3

_HOW_FAR = {
    Stage.NOT_CONNECTED: "before a connection stood",
    Stage.CONNECTED: "before a byte was sent",
    Stage.PARTLY_WRITTEN: "after a part of the request was sent",
    Stage.WRITTEN: "after the request was sent",
    Stage.ANSWER_BEGUN: "in the middle of the answer",
    Stage.ANSWERED: "in the middle of the answer",
}


def judge(outcome: Outcome, *, event_type: str, retired: bool) -> Judgement:
    """What one attempt came to. Total: any outcome gets a judgement, and nothing is raised.

    Args:
        outcome: The facts. A 401 is final: the client has refreshed once before it reports one.
        event_type: RD Station's name of the type, for the text.
        retired: True if RD Station has announced the end of this type (rdstation-api.md §4).
    """
    if outcome.status is None:
        return _without_status(outcome)
    match outcome.status // 100:
        case 1:
            # Not a final answer, so nothing is known about the event.
            return Judgement(Verdict.UNCERTAIN, f"RD Station answered {outcome.status}, which is not a final answer")
        case 2:
            return _accepted(outcome)
        case 3:
            return Judgement(Verdict.MISCONFIGURED, f"{_answered(outcome)}: a redirect, which is never followed")
        case 4:
            return _client_error(outcome, outcome.status, event_type, retired)
        case _:
            # Also statuses outside 100 to 599, to be taken for 5xx (RFC 9110 §15).
            return _unavailable(outcome)


def abandoned() -> Judgement:
    """For the sweep: the lease has ended and nobody settled the attempt."""
    return Judgement(
        Verdict.ABANDONED, "the worker that held it disappeared; whether the request was sent is not known"
    )


def released(why: str) -> Judgement:
    """For the worker: nothing was sent because of us (shutdown, too little left of the lease)."""
    return Judgement(Verdict.RELEASED, _cut(why))


def batch_refused(why: str) -> Judgement:
    """For the worker: a refused batch says nothing about one of its events. Those given back unsent keep the mark."""
    return Judgement(Verdict.BATCH_REFUSED, _cut(why))


def untranslatable(why: str) -> Judgement:
    """For the worker: an event of a retired type has no form in which it could be sent."""
    return Judgement(Verdict.UNTRANSLATABLE, _cut(why))


def malformed(why: str) -> Judgement:
    """For the worker: the stored event cannot be read, so there is nothing to send."""
    return Judgement(Verdict.MALFORMED, _cut(why))


def signature(outcome: Outcome) -> str:
    """What makes two rejections alike: the status, the error words and the fields, without list positions and texts."""
    errors = sorted({f"{error.error_type}@{_INDEX.sub('*', error.path or '')}" for error in outcome.errors})
    return " ".join([str(outcome.status), *errors])[:_SIGNATURE_CHARS]


def _without_status(outcome: Outcome) -> Judgement:
    happened = _cut(_with_detail(f"{outcome.failure or 'no answer'} {_HOW_FAR[outcome.stage]}", outcome.detail))
    if outcome.stage.may_have_arrived:
        return Judgement(Verdict.UNCERTAIN, happened)
    match outcome.failure:
        case None:
            return released(outcome.detail or "nothing was sent")
        case TransportFailure.REQUEST:
            return malformed(_with_detail("no request can be made of the event", outcome.detail))
        case TransportFailure.CREDENTIALS:
            why = _cut(_with_detail("no access token could be had", outcome.detail))
            return Judgement(Verdict.REFUSED, why, scope=_scope(outcome))
        case _:
            return Judgement(Verdict.UNREACHABLE, happened)


def _accepted(outcome: Outcome) -> Judgement:
    if outcome.event_uuid:
        return Judgement(Verdict.DELIVERED, _answered(outcome), event_uuid=outcome.event_uuid)
    return Judgement(Verdict.DELIVERED, f"RD Station answered {outcome.status} without an event_uuid")


def _client_error(outcome: Outcome, status: int, event_type: str, retired: bool) -> Judgement:
    why = _answered(outcome)
    if status == 429:
        return _throttled(outcome)
    if status in _LATER:
        return _unavailable(outcome)
    if status == 401:
        again = " again after a token refresh" if outcome.refreshed else ""
        # The client's detail says what became of the refresh: `INVALID_REFRESH_TOKEN` needs a person.
        return Judgement(Verdict.REFUSED, _cut(_with_detail(f"{why}{again}", outcome.detail)), scope=_scope(outcome))
    if any(error.error_type == CREDENTIAL_ERROR or _refuses_the_key(error, outcome) for error in outcome.errors):
        return Judgement(Verdict.REFUSED, why, scope=_scope(outcome))
    if retired and any(_concerns_event_type(error) for error in outcome.errors):
        return Judgement(Verdict.TYPE_RETIRED, f"RD Station no longer accepts {event_type}: {why}")
    return _request_error(why, outcome, status, event_type)


def _request_error(why: str, outcome: Outcome, status: int, event_type: str) -> Judgement:
    if status == 403:
        return Judgement(Verdict.REFUSED, f"{why}, for {event_type}", scope=HoldScope.TYPE)
    if status in _NOT_OUR_ENDPOINT:
        return Judgement(Verdict.MISCONFIGURED, why)
    if status == 413:
        return Judgement(Verdict.TOO_LARGE, why)
    return Judgement(Verdict.REJECTED, why, signature=signature(outcome))


def _scope(outcome: Outcome) -> HoldScope:
    return HoldScope.TYPE if outcome.by_key else HoldScope.ACCOUNT


def _refuses_the_key(error: ProviderError, outcome: Outcome) -> bool:
    """The status for a bad API key is not documented (rdstation-api.md §12 row 26): a 400 may say it in its word."""
    return outcome.by_key and error.error_type in {"UNAUTHORIZED", "ACCESS_DENIED"}


def _throttled(outcome: Outcome) -> Judgement:
    # Without a word about whose quota it is, assume the larger harm: the account's.
    limit = outcome.limit
    verdict = Verdict.LEAD_THROTTLED if limit and limit.scope is LimitScope.LEAD else Verdict.THROTTLED
    return Judgement(verdict, _answered(outcome), seconds=limit.seconds if limit else None)


def _unavailable(outcome: Outcome) -> Judgement:
    hint = outcome.limit.seconds if outcome.limit else None
    return Judgement(Verdict.UNAVAILABLE, _answered(outcome), seconds=hint)


def _concerns_event_type(error: ProviderError) -> bool:
    return error.path is not None and _EVENT_TYPE_PATH.search(error.path) is not None


def _answered(outcome: Outcome) -> str:
    named = [
        error.error_type if error.path is None else f"{error.error_type} at {error.path}"
        for error in outcome.errors[:_ERRORS_NAMED]
    ]
    if len(outcome.errors) > _ERRORS_NAMED:
        named.append(f"{len(outcome.errors) - _ERRORS_NAMED} more")
    return _cut(_with_detail(f"RD Station answered {outcome.status}", ", ".join(named)))


def _with_detail(sentence: str, detail: str | None) -> str:
    return f"{sentence}: {detail}" if detail else sentence


def _cut(why: str) -> str:
    return why if len(why) <= _WHY_CHARS else why[: _WHY_CHARS - 1] + "…"
