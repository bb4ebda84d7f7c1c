"""The sweeper: beside every worker, outside Celery's consumer, so that it runs when the broker never answers.

It ends expired leases, expires stale events, probes suspended accounts, and rings bells for due work. When a bell
cannot be rung, or nobody comes, it drains by itself. Two at once are harmless.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa

from dispatcher import telemetry
from dispatcher.bell import Publisher
from dispatcher.clock import Clock
from dispatcher.meters import TALLY
from dispatcher.outbox import permits, sweep, worker_rows
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.prune import FOR_EVER, Pruning, Retention
from dispatcher.outbox.settle import settle
from dispatcher.outbox.settlement import Settled, Settlement
from dispatcher.outbox.sweep import Abandoned, Repair
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.outbox.wake import owe
from workers.watchdog import Watchdog

POLL_SECONDS = 1.0
"""Between two looks at whose turn is next: one cheap query, the only cost of an idle worker between two sweeps."""

_IDLE_POLL = 3
"""Of so many looks an idle worker takes one: with the two queries of its sweep, less than one query a second."""

_IDLE_SWEEP = 20
"""Of so many sweeps an idle worker makes one in full: retention and notices are not urgent where nothing happens."""

_COMPLETE_SWEEP = 50
"""Of so many sweeps one looks at all leases, and not only at those that have ended since the last."""

_MAY_WAIT = {"expiry", "repair", "notices"}
"""Not the look for turns: a lost bell costs one sweep at most. Nor leases: what was held goes on after one sweep."""

_LONG_SECONDS = 0.25
_LONG_SHARE = 30
"""A step that may wait and takes long takes a thirtieth of the time at most: while somebody holds a transaction open,
it passes whatever has gone since."""

_OVERDUE_SWEEPS = 2
_PRUNE_STEP = 500  # with each sweep: a hundred a second, many times what the limits let come in


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a sweep keeps to.

    Attributes:
        every: Seconds between two sweeps; jitter only shortens it.
        probe_every: Between two probes of a suspended account or type.
        worker: The name in the attempts it settles and in the progress row.
        retention: What is pruned, a little with each sweep.
    """

    every: float
    probe_every: timedelta
    worker: str
    retention: Retention = FOR_EVER


@dataclass(slots=True)
class Sweeper:
    """One sweeper. `loop` runs until the stop sign; `sweep` and `poll` are its steps.

    Attributes:
        engine: Its own; a fork or a pool must not share it.
        plan: What it keeps to.
        decide: Makes the settlement of an abandoned attempt.
        probe: Probes one suspended account; runs in `probes`.
        probes: Where probes run, so that a hanging one holds up no sweep.
        make_publisher: Opens a connection to the broker.
        drain: Drains all accounts in this thread; used when bells lead nowhere.
        before_sweep: What else is due each time (serving the embedded broker).
        watchdog: Tells when the pool must be taken for dead.
        heard: The pool's last sign of life, on the monotonic clock; None if it never gave one.
        give_up: Ends the worker, so that it is started again.
        notices: Looks for what somebody should hear about.
    """

    engine: sa.Engine
    plan: SweepPlan
    decide: Callable[[Abandoned], Settlement]
    probe: Callable[[str], bool]
    probes: Executor
    make_publisher: Callable[[], Publisher]
    drain: Callable[[], object]
    before_sweep: Callable[[], None]
    clock: Clock
    rng: random.Random
    stopping: Callable[[], bool]
    watchdog: Watchdog = field(default_factory=lambda: Watchdog(0))
    heard: Callable[[], float | None] = lambda: None
    give_up: Callable[[], object] = lambda: None
    notices: Callable[[], object] = lambda: None
    _repair: Repair = field(default_factory=Repair)
    _pruning: Pruning | None = None
    _publisher: Publisher | None = None
    _draining: threading.Thread | None = None
    _failing: set[str] = field(default_factory=set)
    _idle_sweeps: int = 0
    _sweeps: int = 0
    _looked_at: datetime | None = None
    _leases_ended: datetime | None = None
    _not_before: dict[str, float] = field(default_factory=dict)

    def loop(self) -> None:
        """Sweep until the stop sign is up, then let a drain of our own end."""
        never = threading.Event()
        next_sweep = self.clock.monotonic()
        looks = 0
        while not self.stopping():
            pause = POLL_SECONDS
            try:
                if self.clock.monotonic() >= next_sweep:
                    next_sweep = self.clock.monotonic() + self.plan.every * self.rng.uniform(0.8, 1.0)
                    self.sweep()
                    looks = 0
                looks += 1
                if not self._idle_sweeps or looks % _IDLE_POLL == 0:
                    pause = self.poll()
                self._failing.discard("poll")
            except Exception as error:  # noqa: BLE001 - a database that is away for a while must not end the sweeper
                self._tell("poll", error)
            self.clock.wait(never, max(0.0, min(pause, next_sweep - self.clock.monotonic(), POLL_SECONDS)))
        if self._draining is not None:
            self._draining.join()

    def sweep(self) -> None:
        """Everything that is due by time, in several short transactions; a step that fails does not stop the others.

        Where nothing is left to move on, a look and a sign of life are all of it, most of the time.

        Raises:
            sqlalchemy.exc.OperationalError: The database is away; the steps left would only wait for it too.
        """
        begun = self.clock.monotonic()
        self._try("broker", self.before_sweep)
        if not self._try("look", lambda: in_transaction(self.engine, self._is_idle)):
            for name, step in self._steps.items():
                if self.clock.monotonic() >= self._not_before.get(name, 0.0):
                    self._timed(name, step)
        self._sweeps += 1
        TALLY.add("sweeps")
        TALLY.time("sweep_seconds", self.clock.monotonic() - begun)
        telemetry.emit("sweep.done")

    def _timed(self, name: str, step: Callable[[], object]) -> None:
        begun = self.clock.monotonic()
        self._try(name, step)
        now = self.clock.monotonic()
        if name in _MAY_WAIT and now - begun > _LONG_SECONDS:
            self._not_before[name] = now + _LONG_SHARE * (now - begun)

    def _try(self, name: str, step: Callable[[], object]) -> object:
        """Take a step; None if it fails."""
        try:
            answer = step()
        except sa.exc.OperationalError:
            raise
        except Exception as error:  # noqa: BLE001 - the next sweep tries again
            self._tell(name, error)
            return None
        self._failing.discard(name)
        return answer

    def _is_idle(self, connection: sa.Connection) -> bool:
        """True if this look is all of the sweep: nothing is left to move on, and the last full one is not long ago."""
        is_work_left, now = sweep.is_work_left(connection)
        self._looked_at = now
        self._idle_sweeps = 0 if is_work_left else self._idle_sweeps + 1
        is_pruning = self._pruning is not None and self._pruning.after > 0
        if is_work_left or is_pruning or self._idle_sweeps % _IDLE_SWEEP == 1:  # the first: an event's end is news
            return False
        self._write_progress(connection, now)
        return True

    @property
    def _steps(self) -> dict[str, Callable[[], object]]:
        def transaction(work: Callable[[sa.Connection], object]) -> Callable[[], object]:
            return lambda: in_transaction(self.engine, work)

        return {
            "leases": self._end_leases,
            "expiry": self._expire,
            "probes": self._send_probes,
            "wakes": transaction(sweep.pay_wakes),
            "repair": self._repair_lines,
            "turns": transaction(sweep.spread_the_word),
            "permits": transaction(lambda connection: permits.forget_past(connection, read_clock(connection))),
            "retention": self._prune,
            "progress": transaction(lambda connection: self._write_progress(connection, read_clock(connection))),
            "notices": self.notices,
        }

    def poll(self) -> float:
        """See whose turn it is: ring, or drain if ringing leads nowhere. Answers how long to wait."""
        due_in = reading(self.engine, sweep.next_turn_in)
        if due_in is None:
            return POLL_SECONDS
        self._idle_sweeps = 0
        late = -due_in.total_seconds()
        if late < 0:
            return min(POLL_SECONDS, -late)
        rung, overdue = self._ring(), late > _OVERDUE_SWEEPS * self.plan.every
        if overdue or not rung:
            self._drain_here()
        if overdue and rung and self.watchdog.bell_in_vain(self.clock.monotonic(), self.heard()):
            self._end_worker()
        return POLL_SECONDS

    def _write_progress(self, connection: sa.Connection, now: datetime) -> None:
        heard = self.heard()
        ago = None if heard is None else timedelta(seconds=self.clock.monotonic() - heard)
        worker_rows.progress(connection, self.plan.worker, now, heard=ago)

    def _end_worker(self) -> None:
        """Say so where people and probes look, then end the worker; what it is sending is finished first."""
        telemetry.emit(
            "worker.stalled",
            worker=self.plan.worker,
            bells_in_vain=self.watchdog.bells,
            seconds=round(self.clock.monotonic() - self.watchdog.since, 1),
        )
        try:
            in_transaction(self.engine, lambda connection: worker_rows.stalled(connection, self.plan.worker))
        except Exception as error:  # noqa: BLE001 - it ends all the same
            self._tell("progress", error)
        self.give_up()

    def _end_leases(self) -> None:
        since = None if self._sweeps % _COMPLETE_SWEEP == 0 else self._leases_ended
        while found := reading(self.engine, lambda connection: sweep.abandoned(connection, since)):
            settlements = [self.decide(attempt) for attempt in found]
            settled = in_transaction(
                self.engine,
                lambda connection, settlements=settlements: self._settle(connection, settlements),  # type: ignore[misc]  # mypy: lambda default
            )
            for done in settled.done:
                TALLY.add("attempts", verdict=done.verdict.value)
                telemetry.emit("sweep.abandoned", account=done.account, key=done.key, attempt=done.held.attempt)
            if not settled.done:
                return  # locked by somebody else, or settled meanwhile: the next sweep looks again
        self._leases_ended = self._looked_at

    def _settle(self, connection: sa.Connection, settlements: list[Settlement]) -> Settled:
        settled = settle(
            connection,
            settlements,
            probe_every=self.plan.probe_every,
            worker=self.plan.worker,
            rng=self.rng,
        )
        owe(connection, settled.owed)
        return settled

    def _expire(self) -> None:
        while (count := in_transaction(self.engine, sweep.expire)) > 0:
            telemetry.emit("sweep.expired", count=count)

    def _repair_lines(self) -> None:
        if repaired := in_transaction(self.engine, self._repair.step):
            telemetry.emit("sweep.repaired", leads=repaired)

    def _prune(self) -> None:
        if self._pruning is None:
            self._pruning = Pruning(self.plan.retention, size=_PRUNE_STEP)
        done = in_transaction(self.engine, self._pruning.step)
        if done.removed or done.discarded:
            telemetry.emit("sweep.pruned", removed=done.removed, discarded=done.discarded)

    def _send_probes(self) -> None:
        due = in_transaction(
            self.engine, lambda connection: sweep.due_probes(connection, probe_every=self.plan.probe_every)
        )
        for account in due:
            self.probes.submit(self._probe, account)

    def _probe(self, account: str) -> None:
        try:
            self.probe(account)
        except Exception as error:  # noqa: BLE001 - the next probe is on its way already
            telemetry.emit("sweep.failed", step="probe", account=account, error=telemetry.where(error))

    def _ring(self) -> bool:
        """Ring once: a drain serves all accounts. Answers whether the broker took the bell."""
        try:
            if self._publisher is None:
                self._publisher = self.make_publisher()
            self._publisher.publish("")
        except Exception:  # noqa: BLE001 - kombu's transports raise what they like; the drain below is the answer
            publisher, self._publisher = self._publisher, None
            if publisher is not None:
                publisher.close()
            TALLY.add("bells", result="lost")
            return False
        TALLY.add("bells", result="published")
        return True

    def _tell(self, step: str, error: Exception) -> None:
        """Once, until the step has succeeded again."""
        if step not in self._failing:
            telemetry.emit("sweep.failed", step=step, error=telemetry.where(error))
        self._failing.add(step)

    def _drain_here(self) -> None:
        if self._draining is None or not self._draining.is_alive():
            self._draining = threading.Thread(target=self.drain, name="dispatcher-drain", daemon=True)
            self._draining.start()
