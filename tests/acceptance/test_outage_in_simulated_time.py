"""An outage of days, in simulated time. Real: enqueue, claims, judgement, settlements, sweeps, permits, the database.

Doubled: RD Station, which answers 503 until it is well again; time, also the database's. 72 hours and 200,000 events,
and the servers beside SQLite, are for DISPATCHER_TEST_SCALE=1, some minutes each; otherwise three hours and fewer
events, with reminders that live shorter.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dispatcher import CartAbandoned, OrderPlaced, enqueue_many
from dispatcher.events import Event
from dispatcher.outbox import permits, sweep
from dispatcher.outbox.claim import claim
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.settle import settle
from dispatcher.outbox.tables import events
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.decision import Budget
from dispatcher.policy.outcome import Outcome, Stage
from tests.acceptance.corners import SCALE
from tests.acceptance.simulated_clock import engine_that_obeys, obey
from tests.contract.outbox_under_test import PROBE_EVERY, rules
from workers.attempts import Attempting

HOURS, EVENTS, ACCOUNTS = (72, 200_000, 50) if SCALE else (3, 1_800, 10)
REMINDER_LIFE = timedelta(hours=24) if SCALE else timedelta(hours=1)
PER_MINUTE = 120
ROOM = 40 * ACCOUNTS
"""A third of a minute's permits in one claim: what is simulated here is days, and not a busy worker's seconds."""
RULES = rules(account=PER_MINUTE)
LATENCY = timedelta(seconds=0.2)
BEGIN = datetime(2026, 11, 27, tzinfo=UTC)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if SCALE else 300)]


@dataclass
class World:
    """Time, RD Station, and what it was asked."""

    engine: sa.Engine
    now: datetime = BEGIN
    well: bool = False
    asked: list[tuple[datetime, str, str]] = field(default_factory=list)
    statements: int = 0

    def __post_init__(self) -> None:
        obey(self.engine, lambda: self.now)
        sa.event.listen(self.engine, "before_cursor_execute", self._count)
        clock: Any = SimpleNamespace(monotonic=self._seconds)
        client: Any = SimpleNamespace(send=self._answer)
        self.rng = random.Random(4)  # noqa: S311 - jitter
        self.attempts = Attempting(client, Budget(12, 604_800, Backoff(2, 900)), clock=clock, rng=self.rng)

    def _seconds(self) -> float:
        return (self.now - BEGIN).total_seconds()

    def _count(self, *_: object) -> None:
        self.statements += 1

    def _answer(self, _account: str, _body: bytes, **_: Any) -> Outcome:
        if self.well:
            return Outcome(Stage.ANSWERED, status=200, event_uuid="uuid-of-rd")
        return Outcome(Stage.ANSWERED, status=503)

    def work(self, until: datetime) -> None:
        """A worker's claims and settlements, and its sweeps, until then."""
        swept = self.now
        while self.now < until:
            if self.now - swept >= timedelta(minutes=10):
                swept = self.now
                self.sweep()
            due_in = reading(self.engine, sweep.next_turn_in)
            if due_in is None or self.now + due_in >= until:
                self.now = until
                return
            self.now += max(due_in, timedelta(milliseconds=1))
            batch = in_transaction(self.engine, lambda connection: claim(connection, RULES, worker="w", room=ROOM))
            self.now += LATENCY
            self.asked += [(self.now, event.account, event.key) for event in batch.events]
            made = [self.attempts.make(event, 30) for event in batch.events]
            if made:
                in_transaction(
                    self.engine,
                    lambda connection, made=made: settle(  # type: ignore[misc]  # mypy: lambda default
                        connection, made, probe_every=PROBE_EVERY, worker="w", rng=self.rng
                    ),
                )

    def sweep(self) -> None:
        while in_transaction(self.engine, sweep.expire):
            pass
        in_transaction(self.engine, sweep.spread_the_word)
        in_transaction(self.engine, lambda connection: permits.forget_past(connection, read_clock(connection)))

    def enqueue(self, first: int, count: int) -> float:
        """Orders and reminders of as many customers; answers the statements that each needed."""
        before = self.statements
        for account in range(ACCOUNTS):
            of_account: dict[bool, list[Event]] = {True: [], False: []}
            for number in range(first + account, first + count, ACCOUNTS):
                of_account[number // ACCOUNTS % 2 == 0].append(_event(number))
            with Session(self.engine) as session, session.begin():
                enqueue_many(session, of_account[True], account=f"shop-{account}")
                enqueue_many(session, of_account[False], account=f"shop-{account}", expires_in=REMINDER_LIFE)
        return (self.statements - before) / count


def _event(number: int) -> Event:
    email = f"lead-{number}@cliente.example"
    if number // ACCOUNTS % 2:
        return CartAbandoned(email=email, cf_cart_id=str(number), cf_cart_total_items=1, cf_cart_status="in_progress")
    return OrderPlaced(
        email=email,
        cf_order_id=str(number),
        cf_order_total_items=1,
        cf_order_status="paid",
        cf_order_payment_method="Others",
        cf_order_payment_amount=10,
    )


_SCALE_ONLY = pytest.mark.skipif(not SCALE, reason="minutes long: DISPATCHER_TEST_SCALE=1")


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=[pytest.mark.postgres, _SCALE_ONLY]),
        pytest.param("mysql", marks=[pytest.mark.mysql, _SCALE_ONLY]),
    ]
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with engine_that_obeys(request, request.param) as engine:
        yield World(engine)


def test_an_outage_costs_few_requests_and_no_order_and_ends_in_fair_order(world: World) -> None:
    each = EVENTS // HOURS
    statements = []
    for hour in range(HOURS):
        statements.append(world.enqueue(hour * each, each))
        in_transaction(world.engine, sweep.spread_the_word)
        world.work(BEGIN + timedelta(hours=hour + 1))
    assert statements[-1] <= statements[0], "enqueueing does not notice"
    asked = len(world.asked)
    assert asked <= 1.1 * each * HOURS
    assert asked <= 100 * HOURS + 500, "one probe a minute, jittered, for all accounts together"

    world.well, recovery = True, len(world.asked)
    over = world.now
    for _ in range(48):
        world.sweep()
        world.work(world.now + timedelta(hours=1))
    counted = Counter[tuple[str, str, str | None]]()
    query = sa.select(events.c.event_type, events.c.state, events.c.reason, sa.func.count())
    grouped = query.group_by(events.c.event_type, events.c.state, events.c.reason)
    with world.engine.connect() as connection:
        for event_type, state, reason, number in connection.execute(grouped):
            counted[event_type, state, reason] = number
    orders = sum(1 for number in range(each * HOURS) if number // ACCOUNTS % 2 == 0)
    assert counted["ORDER_PLACED", "delivered", None] == orders, "no order is lost"
    assert counted["CART_ABANDONED", "cancelled", "expired"] > 0
    fresh = counted["CART_ABANDONED", "delivered", None]
    assert fresh + counted["CART_ABANDONED", "cancelled", "expired"] == each * HOURS - orders
    assert sum(counted.values()) == each * HOURS

    by_account: dict[str, list[datetime]] = defaultdict(list)
    for at, account, key in world.asked[recovery:]:
        by_account[account].append(at)
        if key.startswith("CART"):
            hour = int(key.rpartition(":")[2]) // each
            assert at <= BEGIN + timedelta(hours=hour) + REMINDER_LIFE + timedelta(seconds=1), "a stale reminder"
    assert len(by_account) == ACCOUNTS
    for moments in by_account.values():
        for first, beyond in zip(moments, moments[PER_MINUTE:], strict=False):
            assert beyond - first >= timedelta(seconds=60)
    ends = sorted(moments[-1] - over for moments in by_account.values())
    assert ends[-1] <= 1.5 * ends[0] + timedelta(minutes=2), "no account waits for another's backlog"
