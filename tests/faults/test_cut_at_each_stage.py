"""The connection is cut at each stage in turn: what is recorded, how it is judged, and what becomes of the event.

Real: sockets, the client, judgement, decision, settlement, SQLite. Doubled: the server, by a script; the access token.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.clock import SystemClock
from dispatcher.events.uncertain import UncertainPolicy
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.tables import attempts
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.decision import Budget
from dispatcher.rdstation.events_api import EventsApi, build_body
from dispatcher.rdstation.transport import Timeouts
from tests.contract.outbox_under_test import OutboxUnderTest
from tests.faults.rdstation.test_transport_faults import (
    OK,
    TOKEN,
    Script,
    after_request,
    read_request,
    reset,
    serving,
    transport_to,
)
from workers.attempts import Attempting

BUDGET = Budget(12, 604_800, Backoff(2, 900))
SHORT = Timeouts(connect=5, read=5, total=10)
BIG = 8_000_000


class OneToken:
    """The client, with a token at hand."""

    def __init__(self, api: EventsApi) -> None:
        self._api = api

    def send(self, _account: str, body: bytes, *, remaining: Callable[[], float], private: Any = (), **_: Any) -> Any:
        return self._api.post_event(TOKEN, body, seconds=remaining(), private=private)


def _amid_the_body(conn: socket.socket) -> None:
    conn.recv(1_000)
    reset(conn)


def _after_the_body(conn: socket.socket) -> None:
    read_request(conn)
    reset(conn)


# Where it is cut, with what is recorded, how it is judged, and what becomes of an order and of a cart.
CUTS: dict[str, tuple[Script | None, str, str, tuple[str, str | None], tuple[str, str | None]]] = {
    "before a connection stands": (
        None, "not_connected", "unreachable", ("pending", "unreachable"), ("pending", "unreachable"),
    ),
    "amid the body": (
        _amid_the_body, "partly_written", "uncertain", ("pending", "uncertain"), ("dead", "held_uncertain"),
    ),
    "after the request": (
        _after_the_body, "written", "uncertain", ("pending", "uncertain"), ("dead", "held_uncertain"),
    ),
    "amid the answer's head": (
        after_request(b"HTTP/1.1 200 OK\r\nContent-Le"),
        "answer_begun", "uncertain", ("pending", "uncertain"), ("dead", "held_uncertain"),
    ),
    "not at all": (after_request(OK), "answered", "delivered", ("delivered", None), ("delivered", None)),
}  # fmt: skip


@pytest.fixture
def outbox(sqlite_url: str) -> Iterator[OutboxUnderTest]:
    engine = create_engine(sqlite_url)
    outbox = OutboxUnderTest(engine)
    outbox.account()
    yield outbox
    engine.dispose()


def _attempt(outbox: OutboxUnderTest, script: Script | None, policy: UncertainPolicy, *, big: bool) -> None:
    (event,) = outbox.claim_all()
    with serving(script or reset) as server:
        port = server.port
        if script is None:
            server.close()
        with transport_to(port, SHORT) as transport:
            client: Any = OneToken(EventsApi(transport, clock=SystemClock()))
            rng = random.Random(1)  # noqa: S311 - jitter
            made = Attempting(client, BUDGET, clock=SystemClock(), rng=rng, on_uncertain=policy).make(event, 30)
        outbox.settle(made)
    assert not big or len(build_body(event.event_type, event.payload)) > BIG, "more than a socket's buffers hold"


@pytest.mark.parametrize("event_type", ["ORDER_PLACED", "CART_ABANDONED"])
@pytest.mark.parametrize("cut", CUTS)
def test_the_recorded_stage_the_verdict_and_the_fate_are_right(
    outbox: OutboxUnderTest, cut: str, event_type: str
) -> None:
    script, stage, verdict, of_order, of_cart = CUTS[cut]
    big = script is _amid_the_body
    padding = "x" * (BIG if big else 10)
    event = outbox.add(event_type=event_type, payload=f'{{"email": "ana@cliente.example", "name": "{padding}"}}')
    _attempt(outbox, script, UncertainPolicy(), big=big)
    with outbox.engine.connect() as connection:
        tried = connection.execute(sa.select(attempts).where(attempts.c.event == event)).one()
    assert (tried.stage, tried.verdict) == (stage, verdict)
    row = outbox.row(event)
    assert (row.state, row.reason) == (of_order if event_type == "ORDER_PLACED" else of_cart)


@pytest.mark.parametrize(("event_type", "word"), [("ORDER_PLACED", "hold"), ("CART_ABANDONED", "resend")])
def test_the_setting_decides_for_its_type(outbox: OutboxUnderTest, event_type: str, word: Any) -> None:
    event = outbox.add(event_type=event_type, payload='{"email": "ana@cliente.example"}')
    _attempt(outbox, _after_the_body, UncertainPolicy.of([(event_type, word)]), big=False)
    assert outbox.row(event).state == ("dead" if word == "hold" else "pending")
