"""`POST /platform/events/batch`. Real: parsing, redaction. Doubled: the transport, which answers what it is told to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from dispatcher.clock import SystemClock
from dispatcher.policy.batch import BatchOutcome
from dispatcher.policy.outcome import Outcome, ProviderError, Stage, TransportFailure
from dispatcher.rdstation.batch_api import BATCH_PATH, BatchApi, Envelope, is_object
from dispatcher.rdstation.events_api import build_body
from dispatcher.rdstation.transport import Reply, Request

TOKEN = "canary-token-opaque"
EMAILS = [f"ana.canary{number}@cliente.example" for number in range(4)]
ENVELOPES = [
    Envelope(build_body("SALE", json.dumps({"email": email, "value": number})), (email, f"Canary {number}"))
    for number, email in enumerate(EMAILS)
]


class Answering:
    """A transport that gives one reply to everything."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.sent: list[tuple[Request, float | None]] = []

    def send(self, request: Request, *, seconds: float | None = None) -> Reply:
        self.sent.append((request, seconds))
        return self.reply

    def close(self) -> None: ...


def post(reply: Reply, envelopes: list[Envelope] = ENVELOPES) -> BatchOutcome:
    made = BatchApi(Answering(reply), clock=SystemClock()).post_events(SecretStr(TOKEN), envelopes)
    assert "canary" not in repr(made).lower()
    return made


def answer(status: int, document: Any) -> BatchOutcome:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return post(Reply(Stage.ANSWERED, status=status, body=body, seconds=0.5))


def results(*items: Any) -> dict[str, Any]:
    return {"event_batch_uuid": "b", "events": list(items)}


def receipts(count: int) -> list[dict[str, str]]:
    return [{"event_uuid": f"u-{number}"} for number in range(count)]


def test_the_body_is_a_bare_array_of_the_envelopes_in_their_order() -> None:
    transport = Answering(Reply(Stage.ANSWERED, status=200))
    BatchApi(transport, clock=SystemClock()).post_events(SecretStr(TOKEN), ENVELOPES, seconds=7)
    ((request, seconds),) = transport.sent
    assert (request.method, request.path, seconds, request.bearer) == ("POST", BATCH_PATH, 7, SecretStr(TOKEN))
    assert [event["payload"]["email"] for event in json.loads(request.body or b"")] == EMAILS
    assert "canary" not in repr((request, ENVELOPES))


def test_receipts_belong_to_the_events_at_their_positions() -> None:
    made = answer(200, results(*receipts(4)))
    assert [item.event_uuid for item in made.items] == ["u-0", "u-1", "u-2", "u-3"]
    assert made.whole == Outcome(Stage.ANSWERED, status=200, seconds=0.5)


@pytest.mark.parametrize("count", [0, 3, 5])
def test_another_count_gives_no_receipt_to_anybody(count: int) -> None:
    made = answer(200, results(*receipts(count)))
    assert (made.results, made.items) == (count, ())


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"{}", b"[]", b'{"events": {}}', b'{"event_uuid": "u"}'])
def test_a_success_that_is_no_list_of_results_has_none(body: bytes) -> None:
    made = answer(200, body)
    assert (made.results, made.items) == (None, ())


@pytest.mark.parametrize(
    "item",
    [
        {"errors": [{"error_type": "INVALID", "error_message": "Is invalid.", "path": "$[1].payload.email"}]},
        {"errors": {"error_type": "INVALID", "error_message": "Is invalid.", "path": "$.[1].payload.email"}},
        {"error_type": "INVALID", "error_message": "Is invalid.", "path": "[1].payload.email"},
        [{"error_type": "INVALID", "error_message": "Is invalid.", "path": "$.payload.email"}],
    ],
)
def test_an_error_among_the_results_is_that_events_own(item: Any) -> None:
    made = answer(200, results(*receipts(1), item, *receipts(2)))
    assert made.items[1].errors[0].error_type == "INVALID"
    assert (made.items[1].errors[0].path or "").endswith(".payload.email")
    assert "[1]" not in (made.items[1].errors[0].path or "")
    assert [item.event_uuid is None for item in made.items] == [False, True, False, False]


@pytest.mark.parametrize(
    "item", [None, {}, 7, "u", [], {"event_uuid": None}, {"event_uuid": "ana.canary1@cliente.example"}]
)
def test_a_result_that_says_nothing_is_neither_receipt_nor_error(item: Any) -> None:
    made = answer(207, results(*receipts(3), item))
    assert (made.items[3].event_uuid, made.items[3].errors) == (None, ())


@pytest.mark.parametrize("path", ["$[2].payload.email", "$.[2].payload.email", "[2].payload.email"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_refusal_whose_errors_all_name_a_position_blames_those(path: str, wrapped: bool) -> None:
    errors = [{"error_type": "INVALID", "error_message": "Is invalid.", "path": path}]
    made = answer(400, {"errors": errors} if wrapped else errors)
    assert made.blamed == {2: (ProviderError("INVALID", "Is invalid.", "$.payload.email"),)}


@pytest.mark.parametrize("other", ["$.payload.email", "$", None, "$[4].payload.email", "$[-1].x", "payload[2].email"])
def test_a_refusal_of_which_one_error_names_no_position_blames_nobody(other: str | None) -> None:
    first = {"error_type": "INVALID", "error_message": "x", "path": "$[2].payload.email"}
    assert answer(400, [first, {**first, "path": other}]).blamed is None
    assert answer(400, []).blamed is None


def limited(key: str) -> BatchOutcome:
    sentence = f"'lead_limiter' rate limit exceeded for 86400 second(s) period for key '{key}'"
    return answer(429, {"error": sentence, "max": 24, "usage": 25, "remaining_time": 600})


def test_the_lead_limiter_means_the_events_of_the_lead_it_names() -> None:
    assert limited(EMAILS[2]).limited == (2,)
    assert limited(f" {EMAILS[2].upper()} ").limited == (2,)
    assert limited("somebody@else.example").limited == ()
    assert answer(429, {"message": "API rate limit exceeded"}).limited == ()


def test_a_lead_is_recognised_however_json_spells_it() -> None:
    envelope = Envelope(build_body("SALE", '{"email": "o\'n\\u00e9il@x.example"}'), ("o'n\\u00e9il@x.example",))
    sentence = "'lead_limiter' rate limit exceeded for 86400 second(s) period for key 'o'néil@x.example'"
    reply = Reply(Stage.ANSWERED, status=429, body=json.dumps({"error": sentence}).encode())
    made = post(reply, [ENVELOPES[0], envelope])
    assert made.limited == (1,)
    assert "néil" not in repr(made)


def test_every_private_value_of_the_batch_is_removed_from_every_text() -> None:
    text = " ".join([*EMAILS, TOKEN, *(f"<Canary {number}>" for number in range(4))])
    for status in (200, 400, 401, 429, 500):
        answer(status, {"error": text, "events": [{"error": text}] * 4})
    post(Reply(Stage.WRITTEN, failure=TransportFailure.RESET, detail=text))


def test_a_silence_keeps_its_stage() -> None:
    made = post(Reply(Stage.WRITTEN, failure=TransportFailure.RESET, detail="reset", seconds=1.5))
    assert (made.whole.stage, made.whole.failure, made.items) == (Stage.WRITTEN, TransportFailure.RESET, ())


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["events", "errors", "error_type", "path", "error", "message", "event_uuid", "x"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=15,
)


@given(status=st.integers(100, 599), document=_JSON, spoil=st.integers(0, 20))
def test_no_body_raises_and_items_are_as_many_as_the_events_or_none(status: int, document: object, spoil: int) -> None:
    body = json.dumps(document).encode()
    made = post(Reply(Stage.ANSWERED, status=status, body=body[: len(body) - spoil]))
    assert len(made.items) in {0, len(ENVELOPES)}
    assert set(made.blamed or ()) <= set(range(len(ENVELOPES)))


@pytest.mark.parametrize(
    ("payload", "good"),
    [
        ("{}", True),
        ('{"a": 1}', True),
        ("[]", False),
        ("{", False),
        ("{}},{}", False),
        ("", False),
        ("[" * 100_000, False),
    ],
)
def test_only_an_object_may_stand_beside_others(payload: str, good: bool) -> None:
    assert is_object(payload) is good
