"""One process's drain, as `workers.bootstrap` builds it, against a sandbox over HTTP."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy.orm import Session

from dispatcher import EcommerceCartAbandoned, EcommerceOrderPlaced, enqueue_many
from dispatcher.clock import SystemClock
from dispatcher.events import Event
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.tables import attempts, dead_letters, events, permits
from dispatcher.outbox.transaction import reading
from dispatcher.outbox.vault import Vault
from dispatcher.sandbox import ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Sandbox
from dispatcher.settings import Settings
from tests.contract.outbox_under_test import OutboxUnderTest
from workers.bootstrap import Process, build
from workers.stop import StopSign

PATIENCE = 20.0
_KEY = SecretStr(Fernet.generate_key().decode())


class _Mute:
    def publish(self, accounts: Collection[str]) -> None:
        """Nobody listens: the test runs the drain."""


def order(number: int, *, lead: int | None = None) -> EcommerceOrderPlaced:
    """An order of a customer of its own, unless `lead` names one."""
    return EcommerceOrderPlaced(
        email=f"customer{number if lead is None else lead}@shop.example",
        identifier=f"order-{number}.",
        currency="BRL",
        price=10.5,
        total_items=1,
    )


def cart(number: int) -> EcommerceCartAbandoned:
    return EcommerceCartAbandoned(
        email=f"customer{number}@shop.example",
        identifier=f"cart-{number}.",
        checkout_url="https://shop.example/cart",
        currency="BRL",
        price=10.5,
        total_items=1,
    )


@dataclass
class Delivery:
    """An outbox with one trusted account, a drain, and RD Station."""

    outbox: OutboxUnderTest
    sandbox: Sandbox
    process: Process
    stop: StopSign

    @classmethod
    def of(cls, url: str, sandbox: Sandbox, *, batch: str, **changes: Any) -> Delivery:
        """Build it as a worker does, without limits unless `changes` say otherwise."""
        usual: dict[str, Any] = {
            "account_per_minute": 0,
            "lead_per_day": 0,
            "backoff_base_seconds": 0.05,
            "backoff_cap_seconds": max(0.1, changes.get("backoff_base_seconds", 0)),
            "http_connect_seconds": 2,
            "http_read_seconds": 4,
        }
        settings = Settings(
            database_url=SecretStr(url),
            rd_base_url=sandbox.url,
            rd_client_id=CLIENT_ID,
            rd_client_secret=SecretStr(CLIENT_SECRET),
            encryption_keys=(_KEY,),
            batch=batch,
            **{**usual, **changes},
        )
        stop = StopSign()
        process = build(settings, stop, _Mute)  # type: ignore[arg-type]  # a publisher that is never asked
        outbox = OutboxUnderTest(process.engine)
        outbox.account()
        store = CredentialStore(process.engine, Vault([_KEY]))
        store.put("default", access=SecretStr(ACCESS_TOKEN), refresh=SecretStr(REFRESH_TOKEN))
        return cls(outbox, sandbox, process, stop)

    def place(self, placed: Sequence[Event], **given: Any) -> None:
        with Session(self.outbox.engine) as session, session.begin():
            enqueue_many(session, placed, **given)

    def spoil(self, *numbers: int) -> None:
        """Make RD Station refuse these orders for a field: what our own checks would not have let in."""
        for number in numbers:
            with self.outbox.engine.begin() as connection:
                here = events.c.key == f"ECOMMERCE_ORDER_PLACED:order-{number}."
                payload = connection.execute(sa.select(events.c.payload).where(here)).scalar_one()
                spoilt = json.dumps({**json.loads(payload), "currency": "XXX"})
                connection.execute(sa.update(events).where(here).values(payload=spoilt))

    def run(self) -> None:
        self.process.drain.run(["default"])

    def run_until(self, **states: int) -> None:
        """Drain again and again, as a worker does, until the events are in exactly these states."""
        clock, never = SystemClock(), threading.Event()
        until = clock.monotonic() + PATIENCE
        while True:
            self.run()
            if self.states() == Counter(states):
                return
            assert clock.monotonic() < until, f"{self.states()} instead of {states}"
            clock.wait(never, 0.02)

    def states(self) -> Counter[str]:
        return Counter(row["state"] for row in self.outbox.rows().values())

    def requests(self) -> list[list[str]]:
        """The orders or carts of each request for events, in order of arrival."""
        found: dict[int, list[str]] = {}
        for arrival in self.sandbox.arrivals():
            if arrival.path.startswith("/platform/"):
                found.setdefault(arrival.number, []).append(str(arrival.key))
        return list(found.values())

    def accepted(self) -> Counter[str]:
        """How often RD Station stored each order or cart."""
        return Counter(str(arrival.key) for arrival in self.sandbox.arrivals(accepted=True))

    def verdicts(self) -> Counter[str]:
        return Counter(row["verdict"] for row in self.rows(attempts))

    def dead(self) -> dict[str, dict[str, Any]]:
        """The dead letters by the key of their event."""
        keys = {event: row["key"] for event, row in self.outbox.rows().items()}
        return {keys[letter["event"]]: letter for letter in self.rows(dead_letters)}

    def failures(self) -> int:
        return sum(row["failures"] for row in self.outbox.rows().values())

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        return reading(
            self.outbox.engine,
            lambda connection: [dict(row) for row in connection.execute(sa.select(table)).mappings()],
        )

    def next_minute(self) -> None:
        """The windows have passed, as time would let them."""
        with self.outbox.engine.begin() as connection:
            connection.execute(sa.delete(permits))
        self.outbox.account(turn_at=self.outbox.now())
        self.sandbox.advance(61)

    def close(self) -> None:
        self.process.engine.dispose()
