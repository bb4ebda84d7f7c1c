"""The drain. Real: SQLite with the production schema, sender threads. Doubled: RD Station (a script), the clock."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.clock import SystemClock
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.tables import attempts, events
from dispatcher.outbox.transaction import reading
from tests.contract.outbox_under_test import LEASE, RULES, OutboxUnderTest, delivered, released
from workers.drain import SLICE_SECONDS, Drain
from workers.plan import DrainPlan, Report

DEADLINE = 30.0
PATIENCE = 10.0


class HandClock:
    """Moves by hand; who waits by it is told to go on at once, a little later."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.waits = 0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits += 1
        self.seconds += seconds
        return event.is_set()


@dataclass
class Script:
    """Attempts that do what the test says, and are delivered unless it says otherwise."""

    act: Callable[[Claimed], None] = lambda _event: None
    made: list[int] = field(default_factory=list)
    given_back: list[str] = field(default_factory=list)

    def make(self, event: Claimed, seconds: float) -> Settlement:
        assert seconds >= DEADLINE
        self.made.append(event.id)
        self.act(event)
        return delivered(event)

    def unsent(self, event: Claimed, why: str) -> Settlement:
        self.given_back.append(why)
        return released(event)


@dataclass
class Bench:
    """One drain on one outbox."""

    outbox: OutboxUnderTest
    script: Script = field(default_factory=Script)
    clock: HandClock = field(default_factory=HandClock)
    stop: threading.Event = field(default_factory=threading.Event)

    def drain(self, *, slots: int = 4, clock: Any = None) -> Drain:
        plan = DrainPlan(RULES, DEADLINE, slots, "w1", random.Random(1))  # noqa: S311 - jitter
        return Drain(self.outbox.engine, self.script, plan, clock=clock or self.clock, stopping=self.stop.is_set)

    def run(self, **options: Any) -> Report:
        report = self.drain(**options).run(["default"])
        assert report is not None
        return report

    def states(self) -> list[str]:
        query = sa.select(events.c.state).order_by(events.c.id)
        return list(reading(self.outbox.engine, lambda connection: connection.scalars(query).all()))

    def wait_until_delivered(self, event: int) -> None:
        """Of real time: another thread does it."""
        query, never = sa.select(events.c.state).where(events.c.id == event), threading.Event()
        for _ in range(int(PATIENCE / 0.02)):
            if reading(self.outbox.engine, lambda connection: connection.scalar(query)) == "delivered":
                return
            never.wait(0.02)
        raise AssertionError(f"event {event} was not delivered meanwhile")


@pytest.fixture
def bench(sqlite_url: str) -> Iterator[Bench]:
    engine = create_engine(sqlite_url)
    outbox = OutboxUnderTest(engine)
    outbox.account()
    yield Bench(outbox)
    engine.dispose()


def orders(count: int, **given: Any) -> list[dict[str, Any]]:
    return [dict(given) for _ in range(count)]


def test_everything_due_is_sent_once_and_settled(bench: Bench) -> None:
    ids = bench.outbox.add_all(orders(100))
    report = bench.run()
    assert sorted(bench.script.made) == ids
    assert bench.states() == ["delivered"] * 100
    assert (report.claimed, report.settled, report.lost, report.failed) == (100, 100, 0, False)


def test_a_claim_looks_from_where_the_one_before_it_began_and_a_second_later_at_all(bench: Bench) -> None:
    bench.outbox.add_all(orders(100))
    looks: list[list[str]] = []

    def begun(_connection: sa.Connection) -> None:
        looks.append([])

    def asked(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if " AS ahead" in statement:
            looks[-1] += [str(value)[:4] for value in parameters if str(value)[4:5] == "-"]

    sa.event.listen(bench.outbox.engine, "begin", begun)
    sa.event.listen(bench.outbox.engine, "before_cursor_execute", asked)
    drain = bench.drain()
    drain.run(["default"])
    first, second, *_ = (look[0] for look in looks if look)
    assert first == "1000", "nothing is known yet: it looks at all"
    assert second != "1000"
    looks.clear()
    bench.clock.seconds += 1.1
    bench.outbox.add_all(orders(1))
    drain.run(["default"])
    assert next(look[0] for look in looks if look) == "1000"


def test_the_events_of_one_lead_go_one_after_another(bench: Bench) -> None:
    ids = bench.outbox.add_all(orders(12, lead="one"))
    bench.run()
    assert bench.script.made == ids


def test_thirty_two_results_are_settled_although_more_are_on_their_way(bench: Bench) -> None:
    ids = bench.outbox.add_all(orders(40))
    settled_early: list[int] = []

    def act(event: Claimed) -> None:
        if event.id == ids[32]:  # the only slot: 32 results are there, and the clock stands still
            bench.wait_until_delivered(ids[0])
            settled_early.append(event.id)

    bench.script.act = act
    bench.run(slots=1)
    assert settled_early == [ids[32]]
    assert bench.states() == ["delivered"] * 40


def test_a_result_is_settled_while_another_send_still_hangs(bench: Bench) -> None:
    quick, hanging = bench.outbox.add_all(orders(2))

    def act(event: Claimed) -> None:
        if event.id == hanging:
            bench.wait_until_delivered(quick)

    bench.script.act = act
    bench.run(clock=SystemClock())
    assert bench.states() == ["delivered", "delivered"]


def test_an_event_whose_lease_has_less_than_a_deadline_left_is_given_back_and_claimed_anew(bench: Bench) -> None:
    first, second = bench.outbox.add_all(orders(2))

    def act(event: Claimed) -> None:
        if len(bench.script.made) == 1:
            bench.clock.seconds += LEASE.total_seconds() - DEADLINE + 1

    bench.script.act = act
    bench.run(slots=1)
    assert bench.script.given_back == ["too little of the lease was left"]
    assert bench.states() == ["delivered", "delivered"]
    assert [bench.outbox.row(event).attempt for event in (first, second)] == [1, 2]


def test_the_stop_sign_lets_what_runs_end_and_releases_the_rest(bench: Bench) -> None:
    bench.outbox.add_all(orders(20))
    bench.script.act = lambda _event: bench.stop.set()
    report = bench.run(slots=1)
    assert len(bench.script.made) == 1
    assert sorted(bench.states()) == ["delivered"] + ["pending"] * 19
    assert set(bench.script.given_back) == {"the worker is shutting down"}
    assert not report.again


class Outage:
    """A database that does not let anybody in, from `begin` until it was asked `times` times."""

    def __init__(self, engine: sa.Engine, times: int) -> None:
        self.left, self.away, self._engine = times, False, engine
        sa.event.listen(engine, "do_connect", self._refuse)

    def begin(self) -> None:
        self.away = True
        self._engine.dispose()

    def _refuse(self, *_: Any) -> None:
        if self.away and self.left > 0:
            self.left -= 1
            raise sqlite3.OperationalError("unable to open database file")


@pytest.fixture
def bench_without_pool(sqlite_url: str) -> Bench:
    outbox = OutboxUnderTest(create_engine(sqlite_url, poolclass=sa.NullPool))
    outbox.account()
    return Bench(outbox)


def test_no_result_is_lost_while_the_database_is_away(bench_without_pool: Bench) -> None:
    bench = bench_without_pool
    outage = Outage(bench.outbox.engine, times=9)
    ids = bench.outbox.add_all(orders(3))
    bench.script.act = lambda _event: outage.begin()
    report = bench.run()
    assert outage.left == 0
    assert bench.states() == ["delivered"] * 3
    assert bench.script.made.count(ids[0]) == 1
    assert report.failed, "whoever rang is to know"


def test_a_database_that_stays_away_does_not_hold_up_a_shutdown(bench_without_pool: Bench) -> None:
    bench = bench_without_pool
    outage = Outage(bench.outbox.engine, times=10_000)
    bench.outbox.add(**orders(1)[0])

    def act(event: Claimed) -> None:
        outage.begin()
        bench.stop.set()

    bench.script.act = act
    begun = bench.clock.seconds
    bench.run()
    assert bench.clock.seconds - begun <= DEADLINE + 5
    outage.away = False
    assert bench.states() == ["in_flight"]


def test_bells_fold_into_a_running_drain_and_none_is_lost(bench: Bench) -> None:
    (first,) = bench.outbox.add_all(orders(1))
    running, rung = threading.Event(), threading.Event()

    def act(event: Claimed) -> None:
        if event.id == first:
            running.set()
            assert rung.wait(PATIENCE)

    bench.script.act = act
    drain = bench.drain()
    one = threading.Thread(target=drain.run, args=(["default"],))
    one.start()
    assert running.wait(PATIENCE)
    bench.outbox.add_all(orders(3))
    assert drain.run(["default"]) is None
    rung.set()
    one.join(PATIENCE)
    assert bench.states() == ["delivered"] * 4


def test_a_bell_for_an_account_that_has_all_it_may_is_not_lost(bench: Bench) -> None:
    """What is committed while the drain holds all that it may of the account goes out once there is room."""
    bench.outbox.add_all([{} for _ in range(25)])  # as much as the first claim may take, so that nothing is left
    go, once, late = threading.Event(), threading.Lock(), list[int]()

    def act(_: Claimed) -> None:
        with once:
            if not late:
                late.append(bench.outbox.add())
                drain.look_at(["default"])
        assert go.wait(5)

    def committed(_: sa.Connection) -> None:
        if late and not drain._has_hints():
            go.set()

    bench.script.act = act
    drain = bench.drain()
    sa.event.listen(bench.outbox.engine, "commit", committed)
    drain.run(["default"])
    assert bench.states() == ["delivered"] * 26


class LastMoment:
    """The lock of a drain; a bell comes right before its first release, when the drain has looked for the last time."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._lock, self._ring = threading.Lock(), [ring]

    def acquire(self, *, blocking: bool) -> bool:
        return self._lock.acquire(blocking=blocking)

    def release(self) -> None:
        if self._ring:
            self._ring.pop()()
        self._lock.release()


def test_a_bell_in_the_last_moment_of_a_drain_is_not_lost(bench: Bench) -> None:
    drain = bench.drain()

    def ring() -> None:
        bench.outbox.add(**orders(1)[0])
        assert drain.run(["default"]) is None

    drain._one = LastMoment(ring)  # type: ignore[assignment]  # stands in for the lock
    drain.run(["default"])
    assert bench.states() == ["delivered"]


def test_a_used_up_slice_ends_the_drain_and_asks_for_another_bell(bench: Bench) -> None:
    bench.outbox.add_all(orders(400))

    begun = bench.clock.seconds

    def act(event: Claimed) -> None:
        if bench.clock.seconds - begun <= SLICE_SECONDS:
            bench.clock.seconds += 0.2

    bench.script.act = act
    report = bench.run(slots=1)
    assert report.again
    states = bench.states()
    assert "in_flight" not in states
    assert states.count("delivered") >= SLICE_SECONDS / 0.2
    assert states.count("pending") > 0


def test_a_send_that_hangs_beyond_the_slice_stops_no_other_account(bench: Bench) -> None:
    bench.outbox.account("well")
    bench.outbox.account("hanging")
    (stuck,) = bench.outbox.add_all(orders(1, account="hanging"))

    def act(event: Claimed) -> None:
        if event.id == stuck:
            bench.clock.seconds += SLICE_SECONDS + 0.5
            (later,) = bench.outbox.add_all(orders(1, account="well"))
            bench.outbox.account("well", turn_at=bench.outbox.now() - timedelta(seconds=1))
            never = threading.Event()
            for _ in range(6):
                never.wait(0.2)  # the drain collects for 100 ms at a time
                bench.clock.seconds += 0.5
            bench.wait_until_delivered(later)

    bench.script.act = act
    bench.run()
    assert bench.states() == ["delivered", "delivered"]


def test_the_next_turn_of_an_account_is_known_a_second_later_although_its_send_hangs(bench: Bench) -> None:
    later = bench.outbox.now() + timedelta(minutes=1)
    bench.outbox.account("default", turn_at=None)
    bench.outbox.add_all([*orders(1), *orders(1, available_at=later, ready_at=later)])
    turn_at: list[datetime | None] = []

    def act(_event: Claimed) -> None:
        never = threading.Event()
        turn_at.append(bench.outbox.account_row().turn_at)
        bench.clock.seconds += 1.1
        for _ in range(int(PATIENCE / 0.02)):
            if bench.outbox.account_row().turn_at is not None:
                break
            never.wait(0.02)  # the drain collects for 100 ms at a time
        turn_at.append(bench.outbox.account_row().turn_at)

    bench.script.act = act
    bench.run()
    assert turn_at == [None, later]


def test_an_attempt_that_raises_leaves_its_event_to_the_lease_and_ends_the_drain(bench: Bench) -> None:
    odd, even = bench.outbox.add_all(orders(2))

    def act(event: Claimed) -> None:
        if event.id == odd:
            raise LookupError("a defect of ours")

    bench.script.act = act
    thread = threading.Thread(target=bench.run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the drain waits for a result that never comes"
    assert bench.states() == ["in_flight", "delivered"]
    assert bench.outbox.count(attempts) == 1
    assert even in bench.script.made
