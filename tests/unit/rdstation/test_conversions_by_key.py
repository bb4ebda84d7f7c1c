"""Conversions with an API key. Real: client, HTTP, the sandbox, urllib3's own log. Doubled: the stores."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Collection, Iterator

import pytest
from pydantic import SecretStr

from dispatcher.clock import SystemClock
from dispatcher.policy.outcome import Outcome, Stage, TransportFailure
from dispatcher.policy.tokens import Tokens, Turn
from dispatcher.policy.verdict import HoldScope, judge
from dispatcher.policy.verdicts import Verdict
from dispatcher.rdstation.access_tokens import AccessTokens
from dispatcher.rdstation.api_keys import ApiKeys
from dispatcher.rdstation.base_url import BaseUrl
from dispatcher.rdstation.client import Client
from dispatcher.rdstation.events_api import EventsApi
from dispatcher.rdstation.oauth import OAuthApi
from dispatcher.rdstation.requests_transport import RequestsTransport
from dispatcher.rdstation.transport import Timeouts
from dispatcher.sandbox import ACCESS_TOKEN, Fault, FaultKind, Sandbox
from dispatcher.sandbox.tokens import CRM_API_KEY
from tests.canaries import CANARY_TOKEN

KEY = f"{CANARY_TOKEN}/with&odd=signs"
BODY = json.dumps(
    {
        "event_type": "CONVERSION",
        "event_family": "CDP",
        "payload": {"email": "ana@cliente.example", "conversion_identifier": "newsletter"},
    }
).encode()


class Stored:
    """A store of tokens and of keys for one account."""

    def __init__(self, tokens: Tokens | None) -> None:
        self.tokens = tokens

    def load(self, account: str) -> Tokens | None:  # noqa: ARG002 - the store's signature
        return self.tokens

    def load_all(self, accounts: Collection[str]) -> dict[str, Tokens | None]:
        return {account: self.load(account) for account in accounts}

    def begin_refresh(self, account: str, **_: object) -> Turn:  # noqa: ARG002 - as above
        return Turn.NOT_YET

    def store(self, account: str, tokens: Tokens) -> bool:
        raise AssertionError(account, tokens)

    def end_refresh(self, account: str, **_: object) -> None: ...

    def forget_previous(self, account: str, *, version: int) -> None: ...


class Keys:
    def __init__(self, key: str | None) -> None:
        self.key = None if key is None else SecretStr(key)

    def load(self, account: str) -> SecretStr | None:  # noqa: ARG002 - the store's signature
        return self.key

    def load_all(self, accounts: Collection[str]) -> dict[str, SecretStr | None]:
        return {account: self.load(account) for account in accounts}


TOKENS = Tokens(SecretStr(ACCESS_TOKEN), None, None, None, 1)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(accounts={"default": {"api_key": KEY}}) as sandbox:
        yield sandbox


def send(
    sandbox: Sandbox,
    *,
    key: str | None = KEY,
    tokens: Tokens | None = None,
    preferred: bool = False,
    event_type: str = "CONVERSION",
) -> Outcome:
    clock = SystemClock()
    transport = RequestsTransport(BaseUrl.parse(sandbox.url), timeouts=Timeouts(5, 5, 5), clock=clock)
    held = AccessTokens(
        Stored(tokens), OAuthApi(transport, clock=clock), app_of=lambda _: None, clock=clock, rng=random.Random(1), owner="o"  # noqa: S311, E501 - jitter
    )  # fmt: skip
    client = Client(EventsApi(transport, clock=clock), held, None, ApiKeys(Keys(key), clock, preferred))
    try:
        return client.send("default", BODY, remaining=lambda: 5.0, event_type=event_type)
    finally:
        transport.close()


def paths(sandbox: Sandbox) -> list[str]:
    return [arrival.path for arrival in sandbox.arrivals(accepted=True)]


def test_an_account_without_tokens_sends_a_conversion_with_its_key(sandbox: Sandbox) -> None:
    outcome = send(sandbox)
    assert outcome.event_uuid is not None
    assert paths(sandbox) == ["/platform/conversions"]
    assert [arrival.account for arrival in sandbox.arrivals()] == ["default"]


@pytest.mark.parametrize(("preferred", "path"), [(False, "/platform/events"), (True, "/platform/conversions")])
def test_where_there_are_tokens_too_a_setting_says_which(sandbox: Sandbox, preferred: bool, path: str) -> None:
    send(sandbox, tokens=TOKENS, preferred=preferred)
    assert paths(sandbox) == [path]


def test_other_types_go_with_tokens_only_and_their_lack_concerns_the_type(sandbox: Sandbox) -> None:
    outcome = send(sandbox, event_type="SALE")
    assert (outcome.failure, outcome.by_key) == (TransportFailure.CREDENTIALS, True)
    judgement = judge(outcome, event_type="SALE", retired=False)
    assert (judgement.verdict, judgement.scope) == (Verdict.REFUSED, HoldScope.TYPE)
    assert "conversions only" in judgement.why
    assert sandbox.arrivals() == []


@pytest.mark.parametrize("status", ["400", "401", "403"])
@pytest.mark.parametrize("key", ["made-up", CRM_API_KEY])
def test_a_refused_key_stops_conversions_and_nothing_else_and_buries_nothing(
    sandbox: Sandbox, status: str, key: str
) -> None:
    sandbox.switch(invalid_key_status=status)
    judgement = judge(send(sandbox, key=key), event_type="CONVERSION", retired=False)
    assert (judgement.verdict, judgement.scope) == (Verdict.REFUSED, HoldScope.TYPE)


def test_the_key_is_in_no_log_of_any_library_and_in_no_outcome(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """The whole run watches for the canary in every log record; here each library says all that it can."""
    with caplog.at_level(logging.DEBUG):
        told = [repr(send(sandbox))]
        for kind in (FaultKind.ACCEPT_THEN_DROP, FaultKind.DROP_MID_ANSWER, FaultKind.STATUS):
            sandbox.break_with(Fault(kind))
            told.append(repr(send(sandbox)))
        sandbox.stop()
        unreachable = send(sandbox)
    told.append(repr(unreachable))
    assert unreachable.stage is Stage.NOT_CONNECTED
    assert "/platform/conversions" in caplog.text, "urllib3 was to say what it asked for"
    for text in (*told, caplog.text):
        assert CANARY_TOKEN not in text


def test_the_lean_transport_puts_the_key_into_the_request_and_keeps_none(sandbox: Sandbox) -> None:
    pytest.importorskip("httptools")
    from dispatcher.rdstation.lean_transport import LeanTransport  # its parser is an extra

    clock = SystemClock()
    transport = LeanTransport(BaseUrl.parse(sandbox.url), timeouts=Timeouts(5, 5, 5), clock=clock)
    outcome = EventsApi(transport, clock=clock).post_conversion(SecretStr(KEY), BODY)
    assert outcome.event_uuid is not None
    assert CANARY_TOKEN not in repr(vars(transport))
    transport.close()
