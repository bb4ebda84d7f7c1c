"""One simulated world: shops, workers, an operator, a provider, a broker, a database, and what goes wrong with them.

Real: enqueue, the store, the drain with its senders, the sweeper, attempts, the client with its tokens, the sandbox.
Doubled: threads, clocks, sockets, the broker (kernel.py, threads.py, network.py, broker.py). SQLite runs on the
simulation's clock.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy.orm import Session

from dispatcher import EcommerceCartAbandoned, EcommerceOrderPlaced, cancel, enqueue
from dispatcher.events import Event
from dispatcher.outbox import account_rows, operations, pausing, ringing
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.installed import lead_secret
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.queries import Criteria
from dispatcher.outbox.schema import upgrade
from dispatcher.outbox.tables import installation, metadata
from dispatcher.outbox.vault import Vault
from dispatcher.sandbox import (
    ACCESS_TOKEN,
    CLIENT_ID,
    CLIENT_SECRET,
    REFRESH_TOKEN,
    Options,
    Sandbox,
    faults_schedule,
)  # fmt: skip
from dispatcher.sandbox.provider import Exchange, Provider
from dispatcher.settings import Settings
from tests.simulation.broker import Broker, Publisher
from tests.simulation.database import EPOCH, Database
from tests.simulation.kernel import Kernel, Killed, Process
from tests.simulation.network import Network, SimulatedTransport
from tests.simulation.oracle import Oracle, Story, Violation
from tests.simulation.plan import UNTIL_A_RIVAL_SENDS, Plan
from tests.simulation.threads import Threads, in_place_of_threads
from workers.bootstrap import Surroundings, assemble

PATIENCE_SECONDS = 1200.0
"""Until then everything must have ended."""

_KEY = Fernet.generate_key().decode()
_SLOW_FROM_SECONDS = 0.6
_MORTAL = ("w", "shop", "operator")
_FROZEN_AT_MOST_SECONDS = 40.0
_SETTLED_SECONDS = 0.5
"""Who has been frozen is given so long to show what harm it does."""
_OPERATOR = Signature("simulation")


@dataclass(frozen=True)
class HostClock:
    """One machine's clock: minutes off, and with a monotonic clock that began some time."""

    kernel: Kernel
    skew: float = 0.0

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.kernel.now + self.skew)

    def monotonic(self) -> float:
        return self.kernel.now + 1000.0 + self.skew

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if self.kernel.inside:  # a machine may be slow: pauses of a second are several here, and a run has fewer steps
            self.kernel.sleep(seconds if seconds < _SLOW_FROM_SECONDS else seconds * 5)
        return event.is_set()


@dataclass
class World:
    """A run in the making. `run` plays it to the end and raises what was broken."""

    plan: Plan
    database: Database
    story: Story = field(default_factory=Story)
    trace: list[str] | None = None

    def __post_init__(self) -> None:
        plan = self.plan
        self.rng = Random(f"world {plan.seed}")  # noqa: S311 - a simulation's dice
        self.kernel = Kernel(self.rng, haste=plan.haste)
        self.kernel.trace = self.trace
        self.sandbox = Sandbox(
            clock=HostClock(self.kernel),
            options=Options(
                account_per_minute=plan.account_per_minute,
                lead_per_day=plan.lead_per_day,
                token_seconds=plan.token_seconds,
                rotation=cast("Any", plan.rotation),
            ),
            schedule=faults_schedule(plan.seed, dict(plan.faults)),
            rng=Random(plan.seed),  # noqa: S311 - made-up tokens
        )
        lost_there, lost_back, unreachable = plan.network
        self.network = Network(
            self.kernel, Provider(self.sandbox._world), self.rng, lost_there, lost_back, unreachable,
            plan.latency, on_arrival=self._arrived,
        )  # fmt: skip
        self.broker = Broker(self.kernel, self.rng, *plan.bells)
        self.oracle = Oracle(self.database.observer, self.story)
        self.settings = settings_for(plan.account_per_minute, plan.lead_per_day, plan.sweep, plan.concurrency)
        self.workers: list[Process] = []
        self.broken: list[BaseException] = []
        self.shops_open = 0
        self._started = 0
        self._in_hand: dict[Process, set[str]] = {}
        self._steps = 0
        self._kills = sorted(plan.kills)
        self._chills = list(plan.freezes)
        self._frozen: dict[Process, float] = {}
        self.kernel.at_points += [self._strike, self._freeze, self._thaw]

    def run(self) -> None:
        """Play it.

        Raises:
            Violation: A promise was broken.
        """
        kernel, database = self.kernel, self.database
        database.begin(kernel)
        database.after_commit = self._judged(self.oracle.look)
        database.trouble = self._database_trouble
        with in_place_of_threads(kernel), _bell(self), _ids(self.rng):
            try:
                self.set_the_stage()
                kernel.run(self.plan.trouble, self._ended)
                self._heal()
                kernel.run(PATIENCE_SECONDS, self._ended)
                if not self.broken:
                    self.oracle.end(self.sandbox)
                    if self.network.most_refreshes_at_once > 1:
                        raise Violation("two refreshes of one account at once")
            finally:
                kernel.close()
                database.end()
        if self.broken:
            raise self.broken[0]

    def set_the_stage(self) -> None:
        """Who acts from the start."""
        if self.plan.rush:
            self._prove()
        for _ in range(self.plan.workers):
            self.start_worker(sweeps=not self.plan.prefork)
        if self.plan.prefork:
            self.start_worker(drains=False)
        for number in range(self.plan.shops):
            self.start_shop(number)
        if self.plan.person is not None:
            self.start("operator", self._operate).on_death = self._resume_for_the_dead
        self.start("helper", self._log_in)

    def _prove(self) -> None:
        """The account has sent before: unproven, it would send the rush one by one (ADR 5)."""
        with self.database.engine.begin() as connection:
            account_rows.ensure(connection, ["default"])
            until = read_clock(connection) + timedelta(hours=1)
            account_rows.write(connection, "default", {"proven_until": until})

    def start(self, name: str, *bodies: Callable[[], object], dies_at: int | None = None) -> Process:
        """A process with these threads; an error that ends one of them is the run's."""
        process = Process(name, dies_at)
        for body in bodies:
            self.kernel.spawn(process, getattr(body, "__name__", name), self._judged(body))
        return process

    def start_worker(self, *, drains: bool = True, sweeps: bool = True, dies_at: int | None = None) -> Process:
        """One worker: a consumer that drains, or a sweeper, or both; another one takes its place when it dies."""
        self._started += 1
        name = f"w{self._started}"
        clock = self.host_clock()
        made = assemble(
            self.settings,
            lambda: False,
            lambda: Publisher(self.broker),
            Surroundings(
                clock=clock,
                rng=Random(f"{self.plan.seed} {name}"),  # noqa: S311 - jitter
                engine=self.database.engine,
                transport=SimulatedTransport(self.network, clock, self.settings.http_total_seconds),
                worker=name,
                make_probes=lambda: cast("Any", Threads(self.kernel)),
                read_settings=lambda: self.settings,
            ),
        )

        def consume() -> None:
            while True:
                account = self.broker.listen(30.0)
                if account is None:
                    continue
                report = made.drain.run([account] if account else [])
                if report is not None and report.again and not self.broker.away:
                    self.broker.publish("")

        bodies: list[Callable[[], object]] = [consume] if drains else []
        if sweeps:
            sweeper = made.make_sweeper(lambda: None)

            def sweep() -> None:
                self.kernel.sleep(self.plan.sweeper_late)
                sweeper.loop()

            bodies.append(sweep)
        process = self.start(name, *bodies, dies_at=dies_at)
        process.on_death = lambda: self._replace(process, lambda: self.start_worker(drains=drains, sweeps=sweeps))
        self.workers.append(process)
        return process

    def host_clock(self) -> HostClock:
        """Of the next machine."""
        return HostClock(self.kernel, self.rng.uniform(-self.plan.skew, self.plan.skew))

    def start_shop(self, number: int, *, dies_at: int | None = None) -> Process:
        """A shop that sells, rolls back now and then, and asks again when it got no answer."""
        self.shops_open += 1
        facts = [self._fact(number, place) for place in range(self.plan.events)]
        process: list[Process] = []

        def sell() -> None:
            rng = self.rng
            for place, event in enumerate(facts):
                if place == 1 and self.plan.rush:
                    self.kernel.sleep(self.plan.rush - self.kernel.now)
                self.kernel.sleep(rng.random() * (0.2 if place and self.plan.rush else self.plan.pause))
                again = [event] if rng.random() < 0.8 else [event, rng.choice(facts)]
                self.sell(process[0], again, rolls_back=rng.random() < 0.15)
                if rng.random() < 0.1:
                    self._take_back(rng.choice(facts))
            self.shops_open -= 1

        def close() -> None:
            self.shops_open -= 1

        process.append(self.start(f"shop{number}", sell, dies_at=dies_at))
        process[0].on_death = close
        return process[0]

    def sell(self, shop: Process, events: Iterable[Event], *, rolls_back: bool = False, **options: Any) -> None:
        """One transaction of a shop; `options` are those of `enqueue`."""
        events = list(events)
        keys = {event.key() or "" for event in events}
        self._in_hand[shop] = keys
        try:
            with Session(self.database.engine) as session, session.begin():
                for event in events:
                    enqueue(session, event, **options)
                if rolls_back:
                    raise _ChangedMyMind
        except _ChangedMyMind:
            pass
        except (sa.exc.DBAPIError, Killed):
            self.story.unclear |= keys
            if not shop.alive:
                raise
        else:
            self.story.committed |= keys
        finally:
            self._in_hand.pop(shop, None)

    def _fact(self, shop: int, place: int) -> Event:
        rng = self.rng
        lead = f"lead{rng.randrange(self.plan.leads)}@shop.example"
        cart = f"C{rng.randrange(self.plan.carts)}"
        if rng.random() < 0.4:
            return EcommerceCartAbandoned(
                email=lead,
                identifier=cart,
                checkout_url="https://shop.example/cart",
                currency="BRL",
                price=2.5,
                total_items=1,
            )
        return EcommerceOrderPlaced(
            email=lead,
            identifier=f"{shop}-{place}",
            currency="BRL",
            price=2.5,
            total_items=1,
            cart_id=cart if rng.random() < 0.8 else None,
        )

    def _take_back(self, event: Event) -> None:
        try:
            with Session(self.database.engine) as session, session.begin():
                cancel(session, event.key() or "")
        except sa.exc.DBAPIError:
            pass

    def _operate(self) -> None:
        """A person: replays and discards dead letters, pauses and resumes."""
        engine, rng = self.database.engine, self.rng
        while self.kernel.now < self.plan.trouble:
            self.kernel.sleep(rng.uniform(*self.plan.person or ()))
            try:
                match rng.randrange(5):
                    case 0 | 1:
                        operations.replay(engine, Criteria(), _OPERATOR)
                    case 2:
                        operations.discard(engine, Criteria(), _OPERATOR)
                    case 3:
                        pausing.pause(engine, None, _OPERATOR)
                        self.kernel.sleep(rng.uniform(1, self.plan.trouble / 3))
                        self._resume()
                    case _:
                        self.broker.flush()
            except sa.exc.DBAPIError:
                pass
        self._resume()

    def _log_in(self) -> None:
        """A person, later: an answer lost in a rotation has cost the refresh token, and only a login helps."""
        store = CredentialStore(self.database.engine, Vault([SecretStr(_KEY)]))
        while True:
            self.kernel.sleep(self.plan.help_after)
            if self.kernel.now > self.plan.trouble:
                refresh = self.sandbox._world.credentials.refresh_token_of("default")
                store.put("default", access=None, refresh=SecretStr(refresh))

    def _resume_for_the_dead(self) -> None:
        self.start("successor", self._resume)

    def _resume(self) -> None:
        while True:
            try:
                pausing.resume(self.database.engine, None, _OPERATOR)
            except sa.exc.DBAPIError:
                self.kernel.sleep(1.0)
            else:
                return

    def _strike(self, process: Process, _step: str) -> None:
        """SIGKILL: at steps counted over all, so that whoever does much is hit much, and each step as often."""
        self._steps += 1
        if self._kills and self._steps >= self._kills[0] and process.name.startswith(_MORTAL):
            del self._kills[0]
            process.dies_at = process.points

    def _freeze(self, process: Process, step: str) -> None:
        """SIGSTOP hits where it hurts, and never who holds the database's only lock: that would stop them all."""
        if not self._chills or self._chills[-1][0] != step or process not in self.workers:
            return
        if self.rng.random() < 0.3:
            return  # not always the first who comes by
        _, seconds = self._chills.pop()
        self._frozen[process] = self.kernel.now
        self.kernel.freeze(process, min(seconds, _FROZEN_AT_MOST_SECONDS))
        if seconds != UNTIL_A_RIVAL_SENDS:
            del self._frozen[process]

    def _thaw(self, process: Process, step: str) -> None:
        """SIGCONT hits where it hurts, too: with somebody else's request under way, when the own lease is over."""
        if step != "request sent" or process in self._frozen:
            return
        lease = self.settings.lease_seconds
        self._thaw_all([sleeper for sleeper, since in self._frozen.items() if self.kernel.now - since > lease])

    def _thaw_all(self, sleepers: Iterable[Process] | None = None) -> None:
        for sleeper in list(self._frozen) if sleepers is None else sleepers:
            del self._frozen[sleeper]
            self.kernel.thaw(sleeper)

    def _replace(self, process: Process, start: Callable[[], object]) -> None:
        self.workers.remove(process)

        def come_up() -> None:
            self.kernel.sleep(self.rng.random() * min(5.0, self.plan.trouble / 4))
            start()

        self.start("supervisor", come_up)

    def _heal(self) -> None:
        self.sandbox.clear_faults()
        self.network.lost_there = self.network.lost_back = self.network.unreachable = 0.0
        self.broker.away, self.broker.lost = False, 0.0
        self.database.trouble = lambda: None
        self._kills.clear()
        self._chills.clear()

    def _ended(self) -> bool:
        if self.broken:
            return True
        if self.shops_open or self.kernel.now < self.plan.at_least:
            return False
        if not self.oracle.all_over():
            return False
        self._thaw_all()  # nobody is left to wait for
        return all(worker.frozen_until + _SETTLED_SECONDS <= self.kernel.now for worker in self.workers)

    def _arrived(self, exchange: Exchange) -> None:
        self._judged(lambda: self.oracle.arrived(exchange.arrivals))()

    def rings(self) -> None:
        """A shop's bell rings now."""
        self.oracle.ringing(self._in_hand.get(self.kernel.task.process, ()))

    def _judged(self, body: Callable[[], object]) -> Callable[[], None]:
        def judged() -> None:
            try:
                body()
            except Exception as error:  # noqa: BLE001 - a thread that dies of anything is a finding
                self.broken.append(error)

        judged.__name__ = getattr(body, "__name__", "thread")
        return judged

    def _database_trouble(self) -> Exception | None:
        if self.rng.random() >= self.plan.database:
            return None
        return sqlite3.OperationalError("database is locked" if self.rng.random() < 0.5 else "disk I/O error")


class _ChangedMyMind(Exception):
    """The shop rolls back."""


@dataclass(frozen=True)
class _Bell:
    world: World

    def ring(self, accounts: Iterable[str]) -> None:
        self.world._judged(self.world.rings)()
        for account in accounts:
            Publisher(self.world.broker).publish(account)


@contextmanager
def _bell(world: World) -> Iterator[None]:
    before = ringing._bell
    ringing.install(_Bell(world))
    try:
        yield
    finally:
        ringing.install(before)


@contextmanager
def _ids(rng: Random) -> Iterator[None]:
    """Event ids hold the real time and real dice: not here."""
    module: Any = sys.modules["dispatcher.outbox.enqueue"]
    real = module.uuid7
    module.uuid7 = lambda: UUID(int=rng.getrandbits(128), version=4)
    try:
        yield
    finally:
        module.uuid7 = real


@cache
def settings_for(account_per_minute: int, lead_per_day: int, sweep: float, concurrency: int = 0) -> Settings:
    """The settings of a fleet whose leases and pauses are short."""
    return Settings(
        database_url=SecretStr("sqlite:///simulated.db"),
        broker_url=SecretStr("redis://simulated"),
        rd_base_url="https://api.rd.services",
        rd_client_id=CLIENT_ID,
        rd_client_secret=SecretStr(CLIENT_SECRET),
        encryption_keys=(SecretStr(_KEY),),
        account_per_minute=account_per_minute,
        lead_per_day=lead_per_day,
        lease_seconds=12,
        sweep_seconds=sweep,
        concurrency=concurrency,
        probe_seconds=10,
        http_connect_seconds=2,
        http_read_seconds=3,
        http_total_seconds=4,
        backoff_base_seconds=1,
        backoff_cap_seconds=8,
    )


def build_database(directory: Path) -> Database:
    """A migrated file whose account has its tokens."""
    database = Database(directory / "simulated.db")
    upgrade(database.engine)
    with database.engine.begin() as connection:  # a secret of its own would give each file its own order of leads
        connection.execute(sa.update(installation).values(lead_secret="5" * 64))
        lead_secret(connection)  # read once for each engine: not in the middle of the first run
    return database


def reset(database: Database) -> None:
    """Empty tables, and an account that has just been logged in."""
    with database.engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            if table is not installation:
                connection.execute(sa.delete(table))
    store = CredentialStore(database.engine, Vault([SecretStr(_KEY)]))
    store.put("default", access=SecretStr(ACCESS_TOKEN), refresh=SecretStr(REFRESH_TOKEN))
