"""One chaos run: real workers, a database and a broker of our own, RD Station's sandbox, and everything going wrong."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from dispatcher import connect
from dispatcher.clock import SystemClock
from dispatcher.outbox.tables import attempts, dead_letters, events
from dispatcher.outbox.transaction import reading
from dispatcher.sandbox import Arrival, FaultKind, Sandbox
from dispatcher.settings import Settings
from tests.acceptance.fleet import Fleet, Shop, Worker, engine_of, settings_for
from tests.chaos import nursery, producers
from tests.chaos.arena import Arena, BrokerName, DatabaseName
from tests.chaos.checker import ENDED
from tests.chaos.history import Arrived, Attempted, Enqueued, History, Limits, Row
from tests.chaos.nemesis import Nemesis
from tests.chaos.provider import bad_days
from tests.chaos.schedule import Deed, Rhythm, strikes

LEASE, SWEEP, DEADLINE = 7, 1, 2
SETTINGS: Mapping[str, object] = {
    "lease_seconds": LEASE,
    "sweep_seconds": SWEEP,
    "http_connect_seconds": 1,
    "http_read_seconds": DEADLINE,
    "http_total_seconds": DEADLINE,
    "probe_seconds": 1,
    "max_failures": 100,
    "backoff_base_seconds": 0.1,
    "backoff_cap_seconds": 1,
}
RHYTHMS: Mapping[Deed, Rhythm] = {
    Deed.KILL_WORKER: Rhythm(3),
    Deed.FREEZE_WORKER: Rhythm(11, (1, LEASE + 3)),  # some past their lease
    Deed.WIPE_BROKER: Rhythm(5),
    Deed.STOP_BROKER: Rhythm(37, (1, 5)),
    Deed.CUT_BROKER: Rhythm(7),
    Deed.CRASH_DATABASE: Rhythm(20),
    Deed.CUT_DATABASE: Rhythm(13),
    Deed.FILL_DISK: Rhythm(9, (1, 3)),
}
_LIMITS = Limits(account_per_minute=600, lead_per_day=120)
_QUIET_SECONDS = 240.0
_START_SECONDS = 180.0
_LOOK_SECONDS = 0.5
_GATE = {401, 302}


@dataclass(frozen=True)
class Plan:
    """What one run is; the same plan does the same, as far as machines allow.

    Attributes:
        seed: Decides faults, deeds and what shops sell.
        events: How many are committed.
        database: Which.
        broker: Which.
        per_second: Events committed in a second at most.
        accounts: How many.
        workers: How many are up at once.
        limits: RD Station's, and ours.
        rhythms: How often each deed is done.
        calm_below: All is done to them until the shops have committed all, and this share of it at most has not ended.
        quiet_seconds: How long nothing may end, once nothing is done to anybody, before the run gives up.
        rabbitmq_url: A RabbitMQ to take a corner of.
        without: Faults of RD Station's that are left out.
        enforce: Whether RD Station refuses what is above its limits, or only takes note.
        command: What starts a worker; the planted bugs have their own.
    """

    seed: int
    events: int
    database: DatabaseName = "postgres"
    broker: BrokerName = "redis"
    per_second: float = 60.0
    accounts: int = 8
    workers: int = 4
    limits: Limits = _LIMITS
    rhythms: Mapping[Deed, Rhythm] = field(default_factory=lambda: RHYTHMS)
    calm_below: float = 0.05
    quiet_seconds: float = _QUIET_SECONDS
    rabbitmq_url: str | None = None
    without: frozenset[FaultKind] = frozenset()
    enforce: bool = True
    command: tuple[str, ...] = ("celery", "-A", "workers", "worker")


@dataclass(frozen=True)
class Played:
    """What came of it.

    Attributes:
        history: For the checker.
        deeds: How often each was done.
        not_played: What this machine does not allow, with the reason.
        faults: RD Station's, by kind.
        requests: To RD Station's event endpoints.
        seconds: From the first enqueue to the last end.
        log: What the workers said.
    """

    history: History
    deeds: Counter[Deed]
    not_played: dict[Deed, str]
    faults: Counter[str]
    requests: int
    seconds: float
    log: Path


def play(plan: Plan, directory: Path, say: Callable[[str], object] = str) -> Played:
    """Play it to its end; the logs of the workers stay in `directory`."""
    logging.getLogger("dispatcher").setLevel(logging.CRITICAL)  # what bells say while there is no broker
    arena = Arena(plan.database, plan.broker, directory, plan.rabbitmq_url)
    accounts = tuple(f"account{number}" for number in range(plan.accounts))
    sandbox = Sandbox(
        accounts={account: {} for account in ("default", *accounts)}, schedule=bad_days(plan.seed, plan.without)
    )
    limits = plan.limits
    sandbox.switch(account_per_minute=limits.account_per_minute, lead_per_day=limits.lead_per_day, enforce=plan.enforce)
    try:
        with sandbox, engine_of(arena.database_url) as engine:
            return _Run(plan, arena, sandbox, engine, directory, say).play(accounts)
    finally:
        connect()
        arena.close()


@dataclass
class _Run:
    plan: Plan
    arena: Arena
    sandbox: Sandbox
    engine: sa.Engine
    directory: Path
    say: Callable[[str], object]
    clock: SystemClock = field(default_factory=SystemClock)

    def play(self, accounts: tuple[str, ...]) -> Played:
        plan, arena, limits = self.plan, self.arena, self.plan.limits
        connect(Settings.model_validate({"database_url": arena.database_url, "broker_url": arena.broker_url}))
        settings = settings_for(
            arena.database_url, arena.broker_url, self.sandbox,
            account_per_minute=limits.account_per_minute, lead_per_day=limits.lead_per_day, **SETTINGS,
        )  # fmt: skip
        shop, fleet = Shop(self.engine), Fleet(self.directory, settings, spawn=nursery.spawn)
        for account in accounts:
            shop.log_in(account)

        def start(number: int) -> Worker:
            odd = number % 2
            url = arena.cut_url if odd else arena.database_url
            pool, processes = ("threads", 4) if odd else ("prefork", 1)
            return fleet.start(pool=pool, processes=processes, wait=None, command=plan.command, database_url=url)

        try:
            workers = {number: start(number) for number in range(plan.workers)}
            for worker in workers.values():
                worker.wait_for("worker.started", _START_SECONDS)
            nemesis = Nemesis(arena, start, workers, self.clock)
            shops = [
                producers.Producer(trade, self.engine, self.clock, plan.seed)
                for trade in producers.trades(plan.events, accounts, plan.per_second)
            ]
            begun = self.clock.monotonic()
            self._shake(nemesis, shops)
            self._calm(sum(shop.committed for shop in shops))
            seconds = self.clock.monotonic() - begun
        finally:
            for worker in fleet.workers:
                if worker.process.poll() is None:
                    worker.kill()
        diary = [entry for one in shops for entry in one.diary]
        arrivals = [one for one in self.sandbox.arrivals() if one.path.startswith("/platform/")]
        return Played(
            history=history_of(diary, arrivals, shop, limits),
            deeds=nemesis.done,
            not_played=arena.not_played,
            faults=Counter(one.fault for one in arrivals if one.fault),
            requests=len(arrivals),
            seconds=seconds,
            log=self.directory,
        )

    def _shake(self, nemesis: Nemesis, shops: list[producers.Producer]) -> None:
        """Everything at once, for as long as the plan says."""
        over = threading.Event()
        rhythms = {
            deed: rhythm
            for deed, rhythm in self.plan.rhythms.items()
            if deed in self.arena.begin or deed in {Deed.KILL_WORKER, Deed.FREEZE_WORKER}
        }
        striking = threading.Thread(
            target=nemesis.run, args=[strikes(self.plan.seed, rhythms), over], name="nemesis", daemon=True
        )
        never = threading.Event()
        selling = producers.start(shops, over)
        striking.start()
        try:
            while nemesis.error is None:
                self.clock.wait(never, _LOOK_SECONDS)
                committed, left = sum(shop.committed for shop in shops), self._left()
                self.say(f"{committed} committed, {left} not ended")
                if (
                    all(not thread.is_alive() for thread in selling)
                    and left is not None
                    and left <= committed * self.plan.calm_below
                ):
                    break
        finally:
            over.set()
            for thread in (striking, *selling):
                thread.join(60)
        if nemesis.error is not None:
            raise nemesis.error

    def _calm(self, committed: int) -> None:
        """Nothing is done any more: all ends, or the checker says what did not."""
        never, least = threading.Event(), committed + 1
        until = self.clock.monotonic() + self.plan.quiet_seconds
        while (left := self._left()) != 0 and self.clock.monotonic() < until:
            if left is not None and left < least:
                least, until = left, self.clock.monotonic() + self.plan.quiet_seconds
            self.say(f"calm: {left} of {committed} not ended")
            self.clock.wait(never, _LOOK_SECONDS)

    def _left(self) -> int | None:
        query = sa.select(sa.func.count()).where(events.c.state.not_in(ENDED))
        try:
            return reading(self.engine, lambda connection: connection.execute(query).scalar_one())
        except sa.exc.SQLAlchemyError:
            return None  # the database is away


def history_of(diary: list[Enqueued], arrivals: list[Arrival], shop: Shop, limits: Limits) -> History:
    """The three witnesses' words in one form."""
    rows = shop.rows(events)
    names = {row["id"]: row["key"] for row in rows}
    return History(
        enqueued=diary,
        arrived=[
            Arrived(
                f"{one.event_type}:{one.key}",
                one.account or "unknown",
                one.lead or "",
                one.seconds,
                one.accepted,
                counted=one.account is not None and one.status not in _GATE,
            )
            for one in arrivals
            if one.event_type is not None
        ],
        rows=[Row(row["key"], row["account"], row["state"], row["reason"], row["attempt"]) for row in rows],
        attempts=[
            Attempted(names[row["event"]], row["attempt"], row["verdict"], row["status"]) for row in shop.rows(attempts)
        ],
        letters=[names[row["open_event"]] for row in shop.rows(dead_letters) if row["open_event"] is not None],
        limits=limits,
    )
