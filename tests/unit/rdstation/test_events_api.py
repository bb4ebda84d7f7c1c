"""Real: the event endpoint's client and everything behind it. Doubled: the transport, which answers as told."""

from __future__ import annotations

import json
import logging

import pytest
from pydantic import SecretStr

from dispatcher.clock import SystemClock
from dispatcher.policy.outcome import LimitHint, LimitScope, Outcome, ProviderError, Stage, TransportFailure
from dispatcher.rdstation.events_api import EventsApi, build_body
from dispatcher.rdstation.transport import Reply, Request

TOKEN = "canary-token-opaque"
ADDRESS = "ana.canary@cliente.example"
BODY = build_body("ORDER_PLACED", json.dumps({"email": ADDRESS}))


class Answering:
    """A transport that gives one reply to everything."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.sent: list[tuple[Request, float | None]] = []

    def send(self, request: Request, *, seconds: float | None = None) -> Reply:
        self.sent.append((request, seconds))
        return self.reply

    def close(self) -> None: ...


def outcome(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> Outcome:
    return outcome_to(Reply(Stage.ANSWERED, status=status, headers=headers or {}, body=body, seconds=0.5))


def outcome_to(reply: Reply) -> Outcome:
    api = EventsApi(Answering(reply), clock=SystemClock())
    made = api.post_event(SecretStr(TOKEN), BODY, private=(ADDRESS,))
    assert "canary" not in repr(made).lower()
    return made


def test_the_envelope_is_put_around_the_payload_as_it_is() -> None:
    payload = '{ "email":"a@b.example", "cf_order_payment_amount": 200.50, "name": "é" }'
    body = build_body("ORDER_PLACED", payload)
    assert json.loads(body) == {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": json.loads(payload)}
    assert payload.encode() in body


@pytest.mark.parametrize("event_type", ["", "order_placed", "1X", "A-B", 'A","x":"', "A\n", "É"])
def test_a_type_that_could_break_out_of_the_envelope_is_refused(event_type: str) -> None:
    with pytest.raises(ValueError, match="event type"):
        build_body(event_type, "{}")


def test_the_request_carries_the_token_the_body_and_the_limit() -> None:
    transport = Answering(Reply(Stage.ANSWERED, status=200, body=b'{"event_uuid":"u"}'))
    EventsApi(transport, clock=SystemClock()).post_event(SecretStr(TOKEN), BODY, seconds=7)
    ((request, seconds),) = transport.sent
    assert (request.method, request.path, request.body, seconds) == ("POST", "/platform/events", BODY, 7)
    assert request.bearer == SecretStr(TOKEN)
    assert "canary" not in repr(request)


def test_a_receipt_is_all_that_is_kept_of_a_success() -> None:
    body = b'{"event_uuid":"3f0c6f0e-6f0b-4a3f-9a55-6d1c1f1f7c11","echo":"ana.canary@cliente.example"}'
    assert outcome(200, body) == Outcome(
        Stage.ANSWERED, status=200, event_uuid="3f0c6f0e-6f0b-4a3f-9a55-6d1c1f1f7c11", seconds=0.5
    )
    assert outcome(202, b'{"event_uuid":"u-1"}').event_uuid == "u-1"


@pytest.mark.parametrize(
    "value", ['""', "null", "7", '["u"]', f'"{"u" * 65}"', '"a b"', '"a@b.example"', '"\\ud800"', '"\\u0000"']
)
def test_what_is_no_receipt_is_none_and_the_body_is_kept(value: str) -> None:
    made = outcome(200, f'{{"event_uuid":{value}}}'.encode())
    assert (made.status, made.event_uuid) == (200, None)
    assert made.excerpt


def test_a_success_without_json_keeps_its_start_redacted() -> None:
    made = outcome(200, b"<html>hello ana.canary@cliente.example and canary-token-opaque</html>")
    assert made.event_uuid is None
    assert made.excerpt == "<html>hello [private] and [private]</html>"
    assert outcome(204).excerpt is None


def test_a_receipt_in_an_error_is_not_a_receipt() -> None:
    assert outcome(500, b'{"event_uuid":"u-1"}').event_uuid is None


def test_an_error_keeps_the_providers_words() -> None:
    made = outcome(400, b'[{"error_type":"INVALID_OPTION","error_message":"Must be.","path":"$.event_type"}]')
    assert made.errors == (ProviderError("INVALID_OPTION", "Must be.", "$.event_type"),)
    assert made.limit is None


def test_the_lead_limiter_does_not_give_its_lead_away() -> None:
    text = f"'lead_limiter' rate limit exceeded for 86400 second(s) period for key '{ADDRESS}'"
    made = outcome(429, json.dumps({"error": text, "max": 24, "usage": 25, "remaining_time": 43067}).encode())
    assert made.limit == LimitHint(LimitScope.LEAD, 43067.0)
    assert made.errors[0].error_type == "TOO_MANY_REQUESTS"


def test_a_wait_that_comes_with_another_status_is_kept() -> None:
    assert outcome(503, b"", {"retry-after": "9"}).limit == LimitHint(LimitScope.ACCOUNT, 9.0)
    assert outcome(503).limit is None


@pytest.mark.parametrize("header", ["www-authenticate", "x-amzn-remapped-www-authenticate"])
def test_an_expired_token_is_told_from_a_refused_one(header: str) -> None:
    challenge = 'Bearer realm="https://api.rd.services/", error="expired_token", error_description="..."'
    assert outcome(401, b"{}", {header: challenge}).detail == "the access token has expired"
    assert outcome(401, b"{}").detail is None


def test_a_failure_keeps_its_stage_and_loses_what_is_private() -> None:
    reply = Reply(
        Stage.WRITTEN, failure=TransportFailure.RESET, detail=f"ProtocolError: {TOKEN} {ADDRESS}", seconds=1.5
    )
    made = outcome_to(reply)
    assert (made.stage, made.failure, made.seconds) == (Stage.WRITTEN, TransportFailure.RESET, 1.5)
    assert made.detail == "ProtocolError: [private] [private]"


def test_nothing_private_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for status in (200, 400, 401, 429, 500):
            outcome(status, json.dumps({"error": ADDRESS, "error_description": TOKEN}).encode())
    assert "canary" not in caplog.text
