"""What a claim's sends need of their accounts is read at once. Doubled: the stores, the clock, RD Station."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from dispatcher.policy.outcome import Stage
from dispatcher.policy.tokens import Tokens
from dispatcher.rdstation.access_tokens import CACHE_SECONDS, AccessTokens
from dispatcher.rdstation.api_keys import CONVERSION, ApiKeys
from dispatcher.rdstation.client import Client
from dispatcher.rdstation.events_api import EventsApi
from dispatcher.rdstation.oauth import OAuthApi
from dispatcher.rdstation.transport import Reply, Request
from tests.unit.rdstation.test_401_protocol import FakeClock

AWAY = ConnectionError("the database is away")


@dataclass
class Store:
    """Secrets of accounts, and what was asked for. `sealed` are those that no key at hand opens."""

    held: dict[str, Any]
    sealed: set[str] = field(default_factory=set)
    away: bool = False
    asked: list[str | set[str]] = field(default_factory=list)

    def load(self, account: str) -> Any:
        self.asked.append(account)
        return self.held.get(account)

    def load_all(self, accounts: Collection[str]) -> dict[str, Any]:
        self.asked.append(set(accounts))
        if self.away:
            raise AWAY
        return {account: self.held.get(account) for account in accounts if account not in self.sealed}


class RDStation:
    """Takes everything, and remembers with which token or key."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.refuses: set[str] = set()

    def send(self, request: Request, *, seconds: float | None = None) -> Reply:  # noqa: ARG002 - the protocol's form
        self.requests.append(request)
        if request.bearer is not None and request.bearer.get_secret_value() in self.refuses:
            return Reply(Stage.ANSWERED, status=401, body=b"{}")
        return Reply(Stage.ANSWERED, status=200, body=b'{"event_uuid": "u"}')

    def close(self) -> None: ...


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.tokens = Store({name: Tokens(SecretStr(f"token-{name}"), None, None, None, 1) for name in "abc"})
        self.keys = Store({"b": SecretStr("key-b")})
        self.rd_station = RDStation()
        oauth = OAuthApi(self.rd_station, clock=self.clock)
        rng = random.Random(1)  # noqa: S311 - jitter
        store: Any = self.tokens
        access = AccessTokens(store, oauth, app_of=lambda _: None, clock=self.clock, rng=rng, owner="me")
        events = EventsApi(self.rd_station, clock=self.clock)
        self.client = Client(events, access, keys=ApiKeys(self.keys, self.clock, preferred=True))

    def send(self, account: str, event_type: str = "SALE") -> Stage:
        return self.client.send(account, b"{}", remaining=lambda: 30.0, event_type=event_type).stage


def test_what_many_sends_need_is_read_once() -> None:
    world = World()
    world.client.prepare(["a", "b", "nobody"], ["b", "c"])
    assert (world.tokens.asked, world.keys.asked) == ([{"a", "b", "nobody"}], [{"b", "c"}])
    assert [world.send("a"), world.send("b", CONVERSION), world.send("c", CONVERSION)] == [Stage.ANSWERED] * 3
    assert world.send("nobody") is Stage.NOT_CONNECTED
    assert world.tokens.asked[1:] == ["c"], "nobody had asked for that one"
    assert world.keys.asked[1:] == ["nobody"], "whose missing token a key might explain"
    world.client.prepare(["a", "b"], ["c"])
    assert len(world.tokens.asked) == 2
    assert len(world.keys.asked) == 2


def test_what_is_too_old_is_read_again_and_not_kept() -> None:
    world = World()
    world.client.prepare(["a", "b"], ["a", "b"])
    world.clock.seconds += CACHE_SECONDS
    world.client.prepare(["a"], ["b"])
    assert (world.tokens.asked[1:], world.keys.asked[1:]) == ([{"a"}], [{"b"}])
    world.send("b")
    world.send("a", CONVERSION)
    assert (world.tokens.asked[2:], world.keys.asked[2:]) == (["b"], ["a"])


def test_a_store_that_is_away_or_cannot_open_one_is_asked_by_the_send_itself() -> None:
    world = World()
    world.tokens.sealed.add("a")
    world.client.prepare(["a", "b"])
    world.tokens.away = world.keys.away = True
    world.client.prepare(["c"], ["c"])
    world.tokens.asked.clear()
    assert [world.send("a"), world.send("b"), world.send("c")] == [Stage.ANSWERED] * 3
    assert world.tokens.asked == ["a", "c"]


def test_a_token_that_a_sender_renews_meanwhile_is_not_replaced_by_the_one_before() -> None:
    world = World()
    read = world.tokens.load_all

    def slow(accounts: Collection[str]) -> dict[str, Any]:
        found = read(accounts)
        world.tokens.held["a"] = Tokens(SecretStr("renewed"), None, None, None, 2)
        world.rd_station.refuses = {"token-a"}
        assert world.send("a") is Stage.ANSWERED
        return found

    world.tokens.load_all = slow  # type: ignore[method-assign]  # what happens while it reads
    world.client.prepare(["a", "b"])
    world.rd_station.requests.clear()
    world.send("a")
    assert [request.bearer for request in world.rd_station.requests] == [SecretStr("renewed")]
