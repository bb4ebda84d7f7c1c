"""The sweeper. Real: SQLite with the production schema. Doubled: the broker, the drain, the probe, the clock."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox import worker_rows
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.prune import Retention
from dispatcher.outbox.sweep import Abandoned
from dispatcher.outbox.tables import events
from dispatcher.outbox.transaction import reading
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.decision import Budget
from tests.contract.outbox_under_test import PROBE_EVERY, OutboxUnderTest
from workers.attempts import abandon
from workers.sweeper import POLL_SECONDS, Sweeper, SweepPlan
from workers.watchdog import Watchdog

BUDGET = Budget(12, 604_800, Backoff(2, 900))
PATIENCE = 10.0


@dataclass
class Surroundings:
    """All that a sweeper is given; it is also its clock, which moves by waiting."""

    outbox: OutboxUnderTest
    broker_is_there: bool = True
    rings: list[str] = field(default_factory=list)
    drains: int = 0
    drained: threading.Event = field(default_factory=threading.Event)
    probed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    stop_at: float = 1e9
    fail: Exception | None = None
    sweeps: list[float] = field(default_factory=list)

    def publish(self, account: str) -> None:
        if not self.broker_is_there:
            raise ConnectionRefusedError
        self.rings.append(account)

    def close(self) -> None: ...

    def drain(self) -> None:
        self.drains += 1
        self.drained.set()

    def probe(self, account: str) -> bool:
        self.probed.append(account)
        return False

    def before_sweep(self) -> None:
        self.sweeps.append(self.seconds)
        if self.fail is not None:
            raise self.fail

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        assert seconds <= POLL_SECONDS, "an idle sweeper looks every second, and notices the stop sign"
        self.seconds += max(seconds, 0.01)
        return event.is_set()

    def decide(self, found: Abandoned) -> Any:
        return abandon(found, BUDGET, random.Random(1))  # noqa: S311 - jitter


@pytest.fixture
def around(sqlite_url: str) -> Iterator[Surroundings]:
    engine = create_engine(sqlite_url)
    around = Surroundings(OutboxUnderTest(engine))
    yield around
    engine.dispose()


@pytest.fixture
def sweeper(around: Surroundings) -> Iterator[Sweeper]:
    with ThreadPoolExecutor(1) as probes:
        yield Sweeper(
            engine=around.outbox.engine,
            plan=SweepPlan(5.0, PROBE_EVERY, "w1"),
            decide=around.decide,
            probe=around.probe,
            probes=probes,
            make_publisher=lambda: around,
            drain=around.drain,
            before_sweep=around.before_sweep,
            clock=around,
            rng=random.Random(1),  # noqa: S311 - jitter
            stopping=lambda: around.seconds >= around.stop_at,
        )


def test_due_work_rings_one_bell_and_is_left_to_the_pool(sweeper: Sweeper, around: Surroundings) -> None:
    around.outbox.account(turn_at=around.outbox.now() - timedelta(seconds=1))
    around.outbox.account("second", turn_at=around.outbox.now() - timedelta(seconds=1))
    sweeper.poll()
    assert around.rings == [""]
    assert around.drains == 0


def test_without_work_nothing_rings(sweeper: Sweeper, around: Surroundings) -> None:
    around.outbox.account(turn_at=None)
    assert sweeper.poll() == POLL_SECONDS
    assert (around.rings, around.drains) == ([], 0)


def test_work_that_is_due_soon_is_rung_for_then(sweeper: Sweeper, around: Surroundings) -> None:
    around.outbox.account(turn_at=around.outbox.now() + timedelta(seconds=0.5))
    assert 0 < sweeper.poll() <= 0.5
    assert around.rings == []


@pytest.mark.parametrize(("broker_is_there", "late"), [(False, 1), (True, 30)], ids=["no broker", "nobody comes"])
def test_it_drains_by_itself_when_bells_lead_nowhere(
    sweeper: Sweeper, around: Surroundings, broker_is_there: bool, late: float
) -> None:
    around.broker_is_there = broker_is_there
    around.outbox.account(turn_at=around.outbox.now() - timedelta(seconds=late))
    sweeper.poll()
    assert around.drained.wait(PATIENCE)
    assert around.drains == 1


def test_bells_in_vain_end_the_worker_and_its_row_says_so(
    sweeper: Sweeper, around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[float] = []
    sweeper.watchdog, sweeper.give_up = Watchdog(60), lambda: ended.append(around.seconds)
    sweeper.heard = lambda: 0.5
    sweeper.sweep()
    around.outbox.account(turn_at=around.outbox.now() - timedelta(seconds=30))
    for around.seconds in (100.0, 130.0, 159.0):
        sweeper.poll()
    assert ended == []
    around.seconds = 160.0
    sweeper.poll()
    assert ended == [160.0]
    assert "worker.stalled" in caplog.text
    (row,) = reading(around.outbox.engine, lambda connection: worker_rows.workers_of(connection, None))
    assert row.stalled_at is not None
    assert row.heard_at is not None


@pytest.mark.parametrize(
    ("account", "broker_is_there"),
    [
        ({"turn_at": None}, True),  # nothing is due, or somebody stopped the account
        ({"turn_at": timedelta(seconds=30)}, True),  # at its limit until then, or throttled
        ({"turn_at": timedelta(seconds=-1)}, True),  # somebody takes the turns
        ({"turn_at": timedelta(seconds=-30)}, False),  # nobody can hear a bell
    ],
    ids=["nothing due", "limited", "served by another", "no broker"],
)
def test_a_silent_pool_is_left_alone_while_nothing_waits_for_it(
    sweeper: Sweeper, around: Surroundings, account: dict[str, timedelta | None], broker_is_there: bool
) -> None:
    ended: list[float] = []
    sweeper.watchdog, sweeper.give_up = Watchdog(60), lambda: ended.append(around.seconds)
    around.broker_is_there = broker_is_there
    turn = account["turn_at"]
    for around.seconds in range(100, 1000, 20):
        around.outbox.account(turn_at=None if turn is None else around.outbox.now() + turn)
        sweeper.poll()
    assert ended == []


def test_a_step_that_fails_stops_no_other_and_is_told_once(
    sweeper: Sweeper, around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    around.fail = OSError("no file left")
    around.outbox.account(turn_at=None)
    around.outbox.add()
    sweeper.sweep()
    assert around.outbox.account_row().turn_at is not None, "the word was not spread"
    sweeper.sweep()
    assert caplog.text.count("sweep.failed") == 1
    around.fail = None
    sweeper.sweep()
    around.fail = OSError("again")
    sweeper.sweep()
    assert caplog.text.count("sweep.failed") == 2


def test_a_database_that_is_away_ends_the_sweep_but_not_the_sweeper(sweeper: Sweeper, around: Surroundings) -> None:
    around.fail = sa.exc.OperationalError("SELECT 1", {}, Exception("away"))
    with pytest.raises(sa.exc.OperationalError):
        sweeper.sweep()
    around.stop_at = 30
    sweeper.loop()
    assert len(around.sweeps) >= 6


def test_sweeps_come_at_least_every_so_many_seconds(sweeper: Sweeper, around: Surroundings) -> None:
    around.outbox.account(turn_at=None)
    around.stop_at = 60
    sweeper.loop()
    gaps = [later - earlier for earlier, later in zip(around.sweeps, around.sweeps[1:], strict=False)]
    assert around.sweeps[0] == 0
    assert len(gaps) >= 10
    assert min(gaps) >= 4
    assert max(gaps) <= 5.02


def test_an_idle_sweeper_asks_less_than_one_query_a_second(sweeper: Sweeper, around: Surroundings) -> None:
    around.outbox.account(turn_at=None)
    around.stop_at = 600
    asked: list[str] = []
    sa.event.listen(around.outbox.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))

    sweeper.loop()

    queries = [statement for statement in asked if not statement.startswith("BEGIN")]
    assert len(queries) / 600 <= 1
    (worker,) = reading(around.outbox.engine, lambda connection: worker_rows.workers_of(connection, None))
    assert worker.worker == "w1", "it gives signs of life"


def test_an_idle_sweeper_prunes_with_each_sweep_until_it_is_through(sweeper: Sweeper, around: Surroundings) -> None:
    long_ago = around.outbox.now() - timedelta(days=9)
    sweeper.plan = replace(sweeper.plan, retention=Retention.of_days(1, 1, 1))
    around.outbox.add_all([{"state": "delivered", "created_at": long_ago, "ended_at": long_ago}] * 1200)
    left = []
    for _ in range(3):
        sweeper.sweep()
        left.append(around.outbox.count(events))
    assert left == [700, 200, 0]


def test_work_that_comes_without_a_bell_is_found_by_the_next_sweep(sweeper: Sweeper, around: Surroundings) -> None:
    around.outbox.account(turn_at=None)
    around.stop_at = 60
    sweeper.loop()
    around.outbox.add()
    assert around.rings == []
    around.stop_at += 6
    sweeper.loop()
    assert around.rings


def test_a_turn_that_a_drain_has_set_is_rung_for_within_three_seconds(sweeper: Sweeper, around: Surroundings) -> None:
    around.outbox.account(turn_at=None)
    around.stop_at = 60
    sweeper.loop()
    around.outbox.account(turn_at=around.outbox.now())
    around.stop_at += 4
    sweeper.loop()
    assert around.rings


def test_an_abandoned_attempt_goes_on_at_once_and_is_recorded(
    sweeper: Sweeper, around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    around.outbox.account()
    event = around.outbox.add(state="in_flight", lease_until=around.outbox.now() - timedelta(seconds=1))
    sweeper.sweep()
    row = around.outbox.row(event)
    assert (row.state, row.attempt, row.failures) == ("pending", 1, 1)
    assert row.available_at <= around.outbox.now()
    assert "sweep.abandoned" in caplog.text


def test_leases_that_ended_long_ago_are_looked_for_with_every_fiftieth_sweep(
    sweeper: Sweeper, around: Surroundings
) -> None:
    around.outbox.account(turn_at=around.outbox.now() - timedelta(seconds=1))
    sweeper.sweep()
    long_ago = around.outbox.now() - timedelta(minutes=10)
    event = around.outbox.add(state="in_flight", lease_until=long_ago)
    for _ in range(49):
        sweeper.sweep()
    assert around.outbox.states(event) == ["in_flight"]
    sweeper.sweep()
    assert around.outbox.states(event) == ["pending"]


def test_a_long_step_that_may_wait_takes_a_thirtieth_of_the_time(sweeper: Sweeper, around: Surroundings) -> None:
    around.outbox.account(turn_at=around.outbox.now() - timedelta(seconds=1))
    looked: list[float] = []
    turns: list[float] = []

    def look(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "ready_at IS NULL AND outbox_events.id >" in statement:  # the sleepers of the repair
            looked.append(around.seconds)
            around.seconds += 1
        if "walk" in statement:
            turns.append(around.seconds)
            around.seconds += 1

    sa.event.listen(around.outbox.engine, "before_cursor_execute", look)
    begun, sweeps = around.seconds, 0
    while around.seconds < begun + 70:
        sweeper.sweep()
        sweeps += 1
        around.seconds += 5
    assert [at - begun for at in looked] == [0, 31, 62]
    assert len(turns) == sweeps, "a lost bell costs one sweep at most"


def test_a_suspended_account_is_probed_once_in_an_interval(sweeper: Sweeper, around: Surroundings) -> None:
    now = around.outbox.now()
    around.outbox.account(suspended_at=now, suspend_reason="refused", probe_at=now - timedelta(seconds=1))
    for _ in range(3):
        sweeper.sweep()
    sweeper.probes.shutdown(wait=True)
    assert around.probed == ["default"]


def test_a_drain_of_its_own_is_waited_for_at_the_end(sweeper: Sweeper, around: Surroundings) -> None:
    begun, go = threading.Event(), threading.Event()

    def drain() -> None:
        begun.set()
        assert go.wait(PATIENCE)

    sweeper.drain = drain
    around.broker_is_there = False
    around.outbox.account(turn_at=around.outbox.now() - timedelta(seconds=1))
    around.stop_at = 3
    loop = threading.Thread(target=sweeper.loop)
    loop.start()
    assert begun.wait(PATIENCE)
    loop.join(0.5)  # of real time: the loop's own three seconds pass in none
    assert loop.is_alive(), "the sends of its drain were left behind"
    go.set()
    loop.join(PATIENCE)
    assert not loop.is_alive()
