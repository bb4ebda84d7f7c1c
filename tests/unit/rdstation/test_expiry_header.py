"""How an expired token is recognised. Real: client, transport, HTTP to the sandbox. Doubled: the token store."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator

import pytest
from pydantic import SecretStr

from dispatcher.clock import SystemClock
from dispatcher.policy.tokens import Tokens, Turn
from dispatcher.rdstation.access_tokens import AccessTokens
from dispatcher.rdstation.base_url import BaseUrl
from dispatcher.rdstation.client import Client
from dispatcher.rdstation.events_api import EVENTS_PATH, EventsApi
from dispatcher.rdstation.oauth import App, OAuthApi
from dispatcher.rdstation.outcomes import is_expired_token, outcome_of
from dispatcher.rdstation.requests_transport import RequestsTransport
from dispatcher.rdstation.transport import Request, Timeouts
from dispatcher.sandbox import ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Sandbox

CLOCK = SystemClock()
SPELLINGS = ["www-authenticate", "x-amzn-remapped-www-authenticate"]
BODY = (
    b'{"event_type":"ORDER_PLACED","event_family":"CDP","payload":{"email":"a@b.example","cf_order_id":"1",'
    b'"cf_order_total_items":1,"cf_order_status":"paid","cf_order_payment_method":"Others",'
    b'"cf_order_payment_amount":2.5}}'
)


class OneAccount:
    """The only process there is: every turn is its own."""

    def __init__(self) -> None:
        self.tokens = Tokens(SecretStr(ACCESS_TOKEN), SecretStr(REFRESH_TOKEN), None, None, 1)

    def load(self, account: str) -> Tokens:  # noqa: ARG002 - the protocol's names, here and below
        return self.tokens

    def load_all(self, accounts: Collection[str]) -> dict[str, Tokens | None]:
        return {account: self.load(account) for account in accounts}

    def begin_refresh(self, account: str, *, seen_version: int, owner: str, lease_seconds: float) -> Turn:  # noqa: ARG002
        return Turn.GRANTED

    def store(self, account: str, tokens: Tokens) -> bool:  # noqa: ARG002
        self.tokens = tokens
        return True

    def end_refresh(self, account: str, *, owner: str, retry_seconds: float) -> None: ...

    def forget_previous(self, account: str, *, version: int) -> None: ...


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        sandbox.expire_tokens()
        yield sandbox


@pytest.fixture
def transport(sandbox: Sandbox) -> Iterator[RequestsTransport]:
    transport = RequestsTransport(BaseUrl.parse(sandbox.url), timeouts=Timeouts(), clock=CLOCK)
    yield transport
    transport.close()


@pytest.mark.parametrize("header", [*SPELLINGS, "none"])
def test_the_expiry_is_told_in_both_spellings_of_the_header(
    sandbox: Sandbox, transport: RequestsTransport, header: str
) -> None:
    sandbox.switch(expired_header=header)

    reply = transport.send(Request("POST", EVENTS_PATH, BODY, SecretStr(ACCESS_TOKEN)))

    assert reply.status == 401
    assert is_expired_token(reply) is (header in SPELLINGS)
    told = outcome_of(reply, now=CLOCK.now).detail
    assert told == ("the access token has expired" if header in SPELLINGS else None)


@pytest.mark.parametrize("body", ["plain", "gateway"])
@pytest.mark.parametrize("header", [*SPELLINGS, "none"])
def test_every_401_is_worth_one_refresh_whatever_it_says(
    sandbox: Sandbox, transport: RequestsTransport, header: str, body: str
) -> None:
    sandbox.switch(expired_header=header, unauthorized=body)
    app = App(SecretStr(CLIENT_ID), SecretStr(CLIENT_SECRET))
    rng = random.Random(7)  # noqa: S311  # jitter is no secret
    oauth = OAuthApi(transport, clock=CLOCK)
    tokens = AccessTokens(OneAccount(), oauth, app_of=lambda _: app, clock=CLOCK, rng=rng, owner="me")

    outcome = Client(EventsApi(transport, clock=CLOCK), tokens).send("default", BODY, remaining=lambda: 30.0)

    assert (outcome.status, outcome.refreshed, sandbox.count("/auth/token")) == (200, True, 1)
