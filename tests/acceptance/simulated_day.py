"""A worker's day in simulated time. Real: enqueue, claims, permits, settlements on SQLite, the client, the sandbox.

Doubled: time (the database's clock function, too), sockets, and the threads of the senders: requests go in rounds.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from dispatcher.outbox import permits
from dispatcher.outbox.claim import claim
from dispatcher.outbox.claimed import ClaimRules
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.settle import settle
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.tables import accounts, events
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.outbox.vault import Vault
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.decision import Budget
from dispatcher.policy.outcome import Stage
from dispatcher.rdstation.access_tokens import AccessTokens
from dispatcher.rdstation.client import Client
from dispatcher.rdstation.events_api import EventsApi
from dispatcher.rdstation.oauth import App, OAuthApi
from dispatcher.rdstation.transport import Reply, Request
from dispatcher.sandbox import ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Sandbox
from dispatcher.sandbox import messages as wire
from dispatcher.sandbox.windows import SlidingWindow
from tests.acceptance.fleet import Shop, order
from workers.attempts import Attempting

BEGIN = datetime(2026, 11, 27, tzinfo=UTC)
SENDERS = 16
LATENCY, SETTLE_AFTER = 0.2, 0.05
LOOK_AGAIN = 0.5
"""A worker looks when the next permit comes back; this one lets a few come together, so that a day can be afforded."""
BUSY = 10**6
"""The number of the lead that is at its limit all day."""

_BACKLOG, _LEADS = 400, 10_000
_PRUNE_EVERY = 3600.0
_OF_OTHERS = sa.func.length(events.c.key) < len(f"ORDER_PLACED:{BUSY}")
"""Not of the busy lead, whose events pile up."""

Others = Sequence[tuple[float, int]]
"""When another app sends, in seconds from the beginning, and how many."""


@dataclass
class SimulatedClock:
    """Time stands still until it is moved."""

    seconds: float = 0.0

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return 1_000.0 + self.seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.seconds += seconds
        return event.is_set()

    def of_sqlite(self, form: str, moment: str, *shifts: str) -> str:
        """In place of SQLite's `strftime(form, 'now', …)`, as our statements use it."""
        assert (form, moment) == ("%Y-%m-%d %H:%M:%f", "now")
        shifted = self.now() + sum((timedelta(seconds=float(shift.split()[0])) for shift in shifts), timedelta())
        return shifted.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


@dataclass(frozen=True)
class WithoutSockets:
    """The client's transport into a sandbox of the same process."""

    sandbox: Sandbox

    def send(self, request: Request, *, seconds: float | None = None) -> Reply:  # noqa: ARG002 - Transport's signature
        bearer = {"authorization": f"Bearer {request.bearer.get_secret_value()}"} if request.bearer else {}
        headers = {"content-type": "application/json", **bearer}
        path, _, query = request.path.partition("?")
        answer = self.sandbox.answer(wire.Request(request.method, path, query, headers, request.body or b""))
        named = {name.lower(): value for name, value in answer.headers}
        return Reply(Stage.ANSWERED, status=answer.status, headers=named, body=answer.body, seconds=LATENCY)

    def close(self) -> None:
        pass


@dataclass
class Day:
    """One account under a limit, with more to send than it may, and another app that uses its quota.

    Attributes:
        per_minute: RD Station's limit.
        others: What the other app does.
        lead_per_day: The limit of each lead.
        believed: What we take RD Station's limit for.
    """

    url: str
    per_minute: int
    others: Others
    lead_per_day: int = 120
    believed: int | None = None
    clock: SimulatedClock = field(default_factory=SimulatedClock)

    def __post_init__(self) -> None:
        self.engine = create_engine(self.url)
        sa.event.listen(self.engine, "connect", self._set_clock)
        self.shop = Shop(self.engine)
        self.sandbox = Sandbox(clock=self.clock)
        self.sandbox.switch(account_per_minute=self.per_minute, lead_per_day=self.lead_per_day, keep=1)
        self._numbers, self._next_other = count(), 0
        self._rules = ClaimRules(
            lease=timedelta(seconds=45),
            quota=permits.Quota.of(self.per_minute if self.believed is None else self.believed, self.lead_per_day, 1.0),
            max_age=timedelta(days=7),
            probe_every=timedelta(seconds=60),
        )
        store = CredentialStore(self.engine, Vault([SecretStr(Fernet.generate_key().decode())]))
        store.put("default", access=SecretStr(ACCESS_TOKEN), refresh=SecretStr(REFRESH_TOKEN))
        transport, rng = WithoutSockets(self.sandbox), random.Random(1)  # noqa: S311 - jitter
        app = App(SecretStr(CLIENT_ID), SecretStr(CLIENT_SECRET))
        oauth = OAuthApi(transport, clock=self.clock)
        tokens = AccessTokens(store, oauth, app_of=lambda _: app, clock=self.clock, rng=rng, owner="w1")
        client = Client(EventsApi(transport, clock=self.clock), tokens)
        self._attempts = Attempting(client, Budget(12, 604_800, Backoff(2, 900)), clock=self.clock, rng=rng)
        self._rng = rng

    def _set_clock(self, raw: Any, _record: Any) -> None:
        raw.create_function("strftime", -1, self.clock.of_sqlite)

    def run(self, seconds: float) -> None:
        """Send for so long, always with more waiting than may go."""
        pruned = 0.0
        while self.clock.seconds < seconds:
            self._feed()
            self._round(seconds)
            if self.clock.seconds - pruned > _PRUNE_EVERY:
                pruned = self.clock.seconds
                self._prune()
        self.engine.dispose()

    @property
    def delivered(self) -> int:
        return self.sandbox.count("/platform/events", 200)

    @property
    def refused(self) -> int:
        return self.sandbox.count("/platform/events", 429)

    def _round(self, end: float) -> None:
        found = in_transaction(
            self.engine,
            lambda connection: claim(connection, self._rules, worker="w1", room=3 * SENDERS, hints=["default"]),
        )
        waiting = found.events
        while waiting:
            now, waiting = waiting[:SENDERS], waiting[SENDERS:]
            self._let_pass(LATENCY)
            done = [self._attempts.make(event, 40.0) for event in now]
            self._let_pass(SETTLE_AFTER)
            self._settle(done)
        if not found.events and not found.more:
            due = reading(self.engine, lambda connection: connection.execute(sa.select(accounts.c.turn_at)).scalar())
            wait = 1.0 if due is None else (due - self.clock.now()).total_seconds()
            self._let_pass(min(max(wait, LOOK_AGAIN), max(end - self.clock.seconds, 0.001)))

    def _settle(self, done: list[Settlement]) -> None:
        in_transaction(
            self.engine,
            lambda connection: settle(
                connection, done, probe_every=self._rules.probe_every, worker="w1", rng=self._rng
            ),
        )

    def _let_pass(self, seconds: float) -> None:
        """Move the clock, and let the other app send at its own times on the way."""
        until = self.clock.seconds + seconds
        while self._next_other < len(self.others) and self.others[self._next_other][0] <= until:
            at, events_ = self.others[self._next_other]
            self.clock.seconds = max(self.clock.seconds, at)
            self.sandbox.others_send(events_)
            self._next_other += 1
        self.clock.seconds = until

    def _feed(self) -> None:
        waiting = sa.select(sa.func.count()).select_from(events).where(events.c.state == "pending", _OF_OTHERS)
        if reading(self.engine, lambda connection: connection.execute(waiting).scalar_one()) < _BACKLOG // 2:
            numbers = [next(self._numbers) for _ in range(_BACKLOG)]
            self.shop.place([order(number, lead=number % _LEADS) for number in numbers])
            self.shop.place([order(BUSY + number, lead=BUSY) for number in numbers[:10]])

    def _prune(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.delete(events).where(events.c.state == "delivered"))
            permits.forget_past(connection, read_clock(connection), limit=10**6)

    def at_its_limit(self) -> int:
        """How many events of the busy lead wait for its day to pass."""
        limited = sa.select(sa.func.count()).where(events.c.reason == "lead_limited")
        number: int = reading(self.engine, lambda connection: connection.execute(limited).scalar_one())
        return number

    def left_behind(self) -> int:
        """How many places the oldest waiting event of any other lead is behind the newest one that was delivered."""
        numbers: dict[str, list[int]] = {"pending": [], "delivered": []}
        for row in reading(self.engine, lambda connection: connection.execute(
            sa.select(events.c.state, events.c.key).where(_OF_OTHERS, events.c.state.in_(list(numbers)))
        ).all()):  # fmt: skip
            numbers[row.state].append(int(row.key.rpartition(":")[2]))
        return max(numbers["delivered"]) - min(numbers["pending"])


def on_and_off(limit: int, seconds: float, *, on: float, off: float, rng: random.Random) -> Iterator[tuple[float, int]]:
    """Another app that sends a third of the limit, event by event, for spans of random length at random times."""
    at = 0.0
    while at < seconds:
        at += rng.expovariate(1 / off)
        stop = at + rng.expovariate(1 / on)
        while at < min(stop, seconds):
            yield at, 1
            at += rng.expovariate(limit / 3 / 60)


def in_bursts(limit: int, seconds: float, rng: random.Random) -> Iterator[tuple[float, int]]:
    """Another app that takes a third of the limit at once, at random times."""
    at = 0.0
    while (at := at + rng.uniform(60, 600)) < seconds:
        yield at, limit // 3


def available(limit: int, seconds: float, others: Others) -> int:
    """What a sender could send that knows at each moment how much room there is, and needs no time to send."""
    window, sent, at, next_other = SlidingWindow(60), 0, 0.0, 0
    while at < seconds:
        while next_other < len(others) and others[next_other][0] <= at:
            window.taken_by_others(*others[next_other])
            next_other += 1
        while window.arrive(at, limit, enforce=False) if window.usage(at) < limit else False:
            sent += 1
        at = max(at + window.seconds_until_room(at, limit), at + 1e-6)
        if next_other < len(others):
            at = min(at, max(others[next_other][0], at - 1))
    return sent
