"""Issue 3, line 5: the ten error shapes, damaged at will, wherever RD Station can answer with one.

Real: the endpoints' clients, the parser, the redaction, judgement and effects, up to what a settlement stores.
Doubled: the transport, which answers with the body of the example.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from dispatcher.clock import SystemClock
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.batch import BatchOutcome, resolve
from dispatcher.policy.decision import Budget, EventFacts, decide
from dispatcher.policy.effects import effects_of
from dispatcher.policy.outcome import Outcome, ProviderError, Stage
from dispatcher.policy.verdict import Judgement, judge
from dispatcher.rdstation.batch_api import BatchApi, Envelope
from dispatcher.rdstation.events_api import EventsApi
from dispatcher.rdstation.oauth import AccountInfo, App, Granted, OAuthApi
from dispatcher.rdstation.transport import Reply, Request
from tests.canaries import CANARY_EMAIL, CANARY_TOKEN

ONE = {"error_type": "INVALID", "error_message": f"{CANARY_EMAIL} is invalid, {CANARY_TOKEN} too", "path": "$.payload"}
SHAPES: dict[str, object] = {
    "1 flat": {"errors": {"error_type": "UNAUTHORIZED", "error_message": f"Invalid token {CANARY_TOKEN}."}},
    "2 array": {"errors": [{**ONE, "validation_rules": {"data_type": "SET"}}]},
    "3 by field": {"errors": {"email": [ONE], CANARY_EMAIL: [ONE]}},
    "4 by field and language": {"errors": {"label": {"pt-BR": [ONE], CANARY_EMAIL: [ONE]}}},
    "5 mixed": {"errors": {"name": [ONE], "label": {"pt-BR": [ONE]}}},
    "6 bare array": [{**ONE, "path": f"$['{CANARY_EMAIL}']"}],
    "7 bare object": {"error_type": "INVALID_REFRESH_TOKEN", "error_message": f"{CANARY_TOKEN} was revoked."},
    "8 lead limiter": {
        "error": f"'lead_limiter' rate limit exceeded for 86400 second(s) period for key '{CANARY_EMAIL}'",
        "max": 24, "usage": 25, "remaining_time": 43067,
    },
    "8 gateway": {"message": f"API rate limit exceeded for {CANARY_EMAIL}"},
    "9 OAuth gateway": {"error": "invalid_token", "error_description": f"The access token {CANARY_TOKEN} has expired"},
    "10 HTML": f"<html><h1>502</h1><p>{CANARY_EMAIL} Bearer {CANARY_TOKEN}</p></html>",
    "text in a list": {"errors": [f"{CANARY_EMAIL}", None, 7]},
}  # fmt: skip
STATUSES = [200, 204, 302, 400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 502, 503, 504, 599]


@dataclass
class Answering:
    """A transport whose every answer is the same."""

    status: int
    body: bytes
    headers: dict[str, str]

    def send(self, request: Request, *, seconds: float | None = None) -> Reply:  # noqa: ARG002 - Transport's signature
        return Reply(Stage.ANSWERED, status=self.status, body=self.body, headers=self.headers)

    def close(self) -> None:
        pass


def events(transport: Answering) -> Outcome:
    body = json.dumps({"email": CANARY_EMAIL}).encode()
    return EventsApi(transport, clock=SystemClock()).post_event(SecretStr(CANARY_TOKEN), body, private=[CANARY_EMAIL])


def conversion(transport: Answering) -> Outcome:
    return EventsApi(transport, clock=SystemClock()).post_conversion(
        SecretStr(CANARY_TOKEN), b"{}", private=[CANARY_EMAIL]
    )


def batch(transport: Answering) -> BatchOutcome:
    """Two events in one request, the canary's the second."""
    envelopes = [Envelope(b"{}", ("somebody@else.example",)), Envelope(b"{}", (CANARY_EMAIL,))]
    return BatchApi(transport, clock=SystemClock()).post_events(SecretStr(CANARY_TOKEN), envelopes)


APP = App(SecretStr("client"), SecretStr(CANARY_TOKEN))


def refresh(transport: Answering) -> object:
    return OAuthApi(transport, clock=SystemClock()).refresh(APP, SecretStr(CANARY_TOKEN))


def exchange(transport: Answering) -> object:
    return OAuthApi(transport, clock=SystemClock()).exchange(APP, SecretStr(CANARY_TOKEN))


def account_info(transport: Answering) -> object:
    return OAuthApi(transport, clock=SystemClock()).account_info(SecretStr(CANARY_TOKEN))


PLACES: list[Callable[[Answering], Any]] = [events, batch, conversion, refresh, exchange, account_info]


def stored(answer: Any) -> str:
    """All that could be kept or shown of an answer; for events, with what a settlement writes."""
    if isinstance(answer, Granted | AccountInfo):
        return repr(answer)
    if isinstance(answer, BatchOutcome):
        judged = resolve(answer, ["ECOMMERCE_ORDER_PLACED", "SALE"]).judged
        return repr(answer) + "".join(settled(one.outcome, one.judgement) for one in judged)
    outcome = answer if isinstance(answer, Outcome) else answer.outcome
    return settled(outcome, judge(outcome, event_type="ORDER_PLACED", retired=True))


def settled(outcome: Outcome, judgement: Judgement) -> str:
    facts = EventFacts("ORDER_PLACED", "lead", 0, 0.0, "resend")
    decision = decide(judgement, facts, Budget(3, 60, Backoff(1, 2)), random.Random(1))  # noqa: S311 - jitter
    kept = [outcome, judgement, repr(decision), repr(effects_of(judgement, facts))]
    text = json.dumps(
        kept, ensure_ascii=False, default=lambda one: asdict(one) if isinstance(one, ProviderError) else str(one)
    )
    text.encode()  # a database takes no lone surrogates
    return text


def look(place: Callable[[Answering], Any], status: int, body: bytes, headers: dict[str, str] | None = None) -> str:
    text = stored(place(Answering(status, body, headers or {})))
    assert CANARY_EMAIL.lower() not in text.lower()
    assert CANARY_TOKEN.lower() not in text.lower()
    return text


def as_bytes(document: object) -> bytes:
    return document.encode() if isinstance(document, str) else json.dumps(document).encode()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_in_every_place_is_read_and_nothing_private_is_kept(
    place: Callable[[Answering], Any], status: int, shape: str
) -> None:
    look(place, status, as_bytes(SHAPES[shape]))


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12),
    st.sampled_from([CANARY_EMAIL, CANARY_EMAIL.upper(), f"key '{CANARY_EMAIL}'"]),
    st.sampled_from([CANARY_TOKEN, f"Bearer {CANARY_TOKEN}"]),
)  # fmt: skip


def positions(document: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something could be put in another's place."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(document, dict):
        inner = list(document.items())
    elif isinstance(document, list):
        inner = list(enumerate(document))
    return [path, *(found for key, value in inner for found in positions(value, (*path, key)))]


def replaced(document: Any, path: tuple[Any, ...], value: object) -> Any:
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


@st.composite
def other_contents(draw: st.DrawFn) -> bytes:
    """A shape with parts exchanged for other JSON, or for parts of other shapes."""
    document: Any = draw(st.sampled_from(list(SHAPES.values())))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(positions(document)))
        part = draw(LEAVES | st.sampled_from(list(SHAPES.values())) | st.lists(LEAVES, max_size=2))
        document = replaced(document, at, part)
    return as_bytes(document)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A shape with bytes changed, cut out and put in."""
    body = bytearray(as_bytes(draw(st.sampled_from(list(SHAPES.values())))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(body)


HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-quotas", "www-authenticate", "content-type"]),
    st.text(max_size=20) | st.sampled_from(["5", "60000", "-1", "1e400", 'error="expired_token"', CANARY_EMAIL]),
    max_size=3,
)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(PLACES), st.integers(200, 599), other_contents() | damaged() | st.binary(max_size=60), HEADERS)
@example(events, 400, b"[" * 60_000, {})
@example(events, 401, as_bytes({"error": CANARY_TOKEN, "error_description": "expired"}), {})
@example(conversion, 400, as_bytes([{"error_type": CANARY_TOKEN}]), {})
@example(events, 429, as_bytes({"remaining_time": 10**400, "error": CANARY_EMAIL}), {})
@example(batch, 200, as_bytes({"events": [{"event_uuid": CANARY_EMAIL}, ONE]}), {})
@example(batch, 400, as_bytes([{**ONE, "path": f"$[1].payload.{CANARY_EMAIL}"}]), {})
@example(batch, 429, as_bytes({"error": f"'lead_limiter' rate limit exceeded for key '{CANARY_EMAIL}'", "max": []}), {})
@example(refresh, 200, as_bytes({"access_token": [CANARY_TOKEN], "expires_in": 1e308}), {})
def test_whatever_comes_is_survived_and_nothing_private_is_kept(
    place: Callable[[Answering], Any], status: int, body: bytes, headers: dict[str, str]
) -> None:
    look(place, status, body, headers)


def test_this_test_would_see_a_leak() -> None:
    """Without redaction the e-mail is in what would be kept, also if it is in one event's part of a batch's answer."""
    unredacted = Outcome(Stage.ANSWERED, 429, excerpt=f"key '{CANARY_EMAIL}'")
    assert CANARY_EMAIL in stored(unredacted)
    fine = Outcome(Stage.ANSWERED, 200)
    told = Outcome(Stage.ANSWERED, 200, errors=(ProviderError("INVALID", CANARY_EMAIL),))
    assert CANARY_EMAIL in stored(BatchOutcome(fine, 2, (fine, told)))
