"""The drain: claim, send, settle, until nothing is due, no permit is left, or the time slice is used up.

Knows nothing of Celery. The coordinating thread talks to the database, the sender threads to RD Station; no
transaction is open while the network is used.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

import sqlalchemy as sa

from dispatcher import telemetry
from dispatcher.clock import Clock
from dispatcher.meters import TALLY
from dispatcher.outbox.claim import Batch, Claimed, ClaimRules, claim
from dispatcher.outbox.moot import withdraw_moot
from dispatcher.outbox.settle import settle
from dispatcher.outbox.settlement import Settled, Settlement
from dispatcher.outbox.transaction import in_transaction
from dispatcher.outbox.wake import wake
from workers.senders import Job, Senders

SETTLE_EVERY = 32
SETTLE_WITHIN_SECONDS = 0.1
"""A finished send is settled within so many results or seconds: what a crash can repeat stays small."""

SLICE_SECONDS = 10.0
"""A drain hands its pool process back after so long, so that other bells and Celery's own duties get a turn."""

_STRAGGLE_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 1.0
_MOOT = "another event has superseded it"
_RETRY_SECONDS = 0.5
_LOCKED_SECONDS = 0.05


class Attempts(Protocol):
    """What turns a claimed event into a judged attempt: sends it, judges the outcome, decides."""

    def make(self, event: Claimed, seconds: float) -> Settlement:
        """Send the event within so many seconds. Runs in a sender thread; raises nothing."""
        ...

    def unsent(self, event: Claimed, why: str) -> Settlement:
        """The settlement of an event that is given back without a try."""
        ...


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """What a drain keeps to.

    Attributes:
        rules: Of the claim.
        deadline_seconds: The longest a send may take; a lease with less left is given back unsent.
        slots: Sends in parallel, 0 = by latency.
        worker: Who holds the leases.
        rng: For the breaker's jitter.
    """

    rules: ClaimRules
    deadline_seconds: float
    slots: int
    worker: str
    rng: random.Random


@dataclass(slots=True)
class Report:
    """What a drain did.

    Attributes:
        claimed: Events leased.
        settled: Settlements written.
        lost: Settlements that came too late.
        again: True if it ended with work left: somebody should ring.
        failed: The database did not answer.
    """

    claimed: int = 0
    settled: int = 0
    lost: int = 0
    again: bool = False
    failed: bool = False


@dataclass(slots=True)
class _Desk:
    """What lies between the senders and the database."""

    results: list[Settlement] = field(default_factory=list)
    oldest: float = 0.0
    owed: list[int] = field(default_factory=list)
    in_flight: int = 0
    leases_end: float = 0.0


class Drain:
    """At most one runs per pool process; bells that come meanwhile fold into it through `look_at`."""

    def __init__(
        self, engine: sa.Engine, attempts: Attempts, plan: DrainPlan, *, clock: Clock, stopping: Callable[[], bool]
    ) -> None:
        self._engine = engine
        self._attempts = attempts
        self._plan = plan
        self._clock = clock
        self._stopping = stopping
        self._one = threading.Lock()
        self._hints: set[str] = set()
        self._hints_lock = threading.Lock()

    def look_at(self, accounts: Collection[str]) -> None:
        """There may be work for these accounts."""
        with self._hints_lock:
            self._hints |= set(accounts)

    def run(self, accounts: Collection[str] = (), *, moves_on: Callable[[], object] = lambda: None) -> Report | None:
        """Drain until there is nothing to do; None if another thread of this process does so already.

        Args:
            accounts: Those that may have work.
            moves_on: Called again and again while the drain is not stuck in a claim or a settlement.
        """
        self.look_at(accounts)
        report = None
        while report is None or self._has_hints():
            if not self._one.acquire(blocking=False):
                return report
            try:
                report = self._drain(moves_on)
            finally:
                self._one.release()
            if report.failed or report.again or self._stopping():
                return report
        return report

    def _drain(self, moves_on: Callable[[], object]) -> Report:
        report, desk = Report(), _Desk()
        senders: Senders[Settlement] = Senders(self._clock, self._plan.slots)
        begun = looked = self._clock.monotonic()
        more = True
        try:
            while True:
                moves_on()
                now = self._clock.monotonic()
                if now - begun > SLICE_SECONDS + _STRAGGLE_SECONDS and not report.failed:
                    begun = now  # some send hangs: to wait for it would stop the other accounts
                over = report.failed or now - begun > SLICE_SECONDS
                room = 0
                if self._stopping():
                    desk.results += senders.give_up("the worker is shutting down")
                    desk.leases_end = min(desk.leases_end, now)  # nothing is settled for longer than a send may take
                    more = False
                elif over:
                    report.again |= more or self._has_hints()
                    more = False
                elif more or self._has_hints() or now - looked > _LOOK_AGAIN_SECONDS:
                    room = self._room(senders)
                    if room:
                        looked = now
                        more = self._claim(senders, desk, report, room)
                self._collect(senders, desk, wait=0.0 if more and room else SETTLE_WITHIN_SECONDS)
                self._settle(desk, report)
                if not desk.in_flight and not more and (over or self._stopping() or not self._has_hints()):
                    return report
        finally:
            senders.close()

    def _has_hints(self) -> bool:
        with self._hints_lock:
            return bool(self._hints)

    def _room(self, senders: Senders[Settlement]) -> int:
        """How many events to claim now; 0 until a claim is worth its commit. Two hanging accounts cannot fill it."""
        ahead = senders.ahead()
        room = 3 * ahead - sum(senders.outstanding().values())
        return room if room >= max(1, ahead // 4) else 0

    def _claim(self, senders: Senders[Settlement], desk: _Desk, report: Report, room: int) -> bool:
        """Lease events and hand them to the senders; answers whether there may be more right now."""
        ahead, busy = senders.ahead(), senders.outstanding()
        with self._hints_lock:
            hints, self._hints = self._hints, set()
        before = self._clock.monotonic()  # the lease is shorter than we think, never longer

        def lease(connection: sa.Connection) -> Batch:
            return claim(
                connection,
                self._plan.rules,
                worker=self._plan.worker,
                room=room,
                hints=hints,
                busy=busy,
                cap=ahead,
            )

        try:
            batch = in_transaction(self._engine, lease)
        except sa.exc.SQLAlchemyError as error:
            telemetry.emit("drain.failed", step="claim", error=telemetry.where(error))
            report.failed = True
            return False
        TALLY.time("claim_seconds", self._clock.monotonic() - before)
        TALLY.add("claimed_events", len(batch.events))
        moot = self._withdraw_moot(batch)
        desk.leases_end = before + self._plan.rules.lease.total_seconds()
        senders.submit([self._job(event, desk.leases_end) for event in batch.events if event.id not in moot])
        desk.results += [self._attempts.unsent(event, _MOOT) for event in batch.events if event.id in moot]
        desk.owed += batch.owed
        desk.in_flight += len(batch.events)
        report.claimed += len(batch.events)
        return batch.more or len(batch.events) >= room

    def _withdraw_moot(self, batch: Batch) -> set[int]:
        """What an order superseded before the claim had committed: not sent, and ended by its settlement."""
        about = [event.id for event in batch.events if event.about]
        if not about:
            return set()
        try:
            return in_transaction(self._engine, lambda connection: withdraw_moot(connection, about))
        except sa.exc.SQLAlchemyError as error:  # the events are ours already: they may go out once, not be forgotten
            telemetry.emit("drain.failed", step="withdraw", error=telemetry.where(error))
            return set()

    def _job(self, event: Claimed, lease_ends: float) -> Job[Settlement]:
        latest = lease_ends - self._plan.deadline_seconds

        def run() -> Settlement:
            if self._stopping():
                return self._attempts.unsent(event, "the worker is shutting down")
            if self._clock.monotonic() >= latest:
                return self._attempts.unsent(event, "too little of the lease was left")
            return self._attempts.make(event, lease_ends - self._clock.monotonic())

        return Job(event.account, latest, run, lambda why: self._attempts.unsent(event, why))

    def _collect(self, senders: Senders[Settlement], desk: _Desk, *, wait: float) -> None:
        """Take results until a settlement is worth its commit, or no more came in time."""
        if not desk.results:
            desk.oldest = self._clock.monotonic()
        desk.results += senders.overdue()
        desk.in_flight -= senders.broken()  # what became of them nobody knows: their leases end
        while len(desk.results) < SETTLE_EVERY and desk.in_flight > len(desk.results):
            left = min(wait, desk.oldest + SETTLE_WITHIN_SECONDS - self._clock.monotonic())
            found = senders.result(max(0.0, left))
            if found is None:
                return
            if not desk.results:
                desk.oldest = self._clock.monotonic()
            desk.results.append(found)

    def _settle(self, desk: _Desk, report: Report) -> None:
        """Write what has come in, if it is enough or has waited long enough."""
        waited = self._clock.monotonic() - desk.oldest >= SETTLE_WITHIN_SECONDS
        if not desk.results or not (waited or len(desk.results) >= min(SETTLE_EVERY, desk.in_flight)):
            return
        batch, owed = desk.results, desk.owed

        def write(connection: sa.Connection) -> Settled:
            settled = settle(
                connection,
                batch,
                probe_every=self._plan.rules.probe_every,
                worker=self._plan.worker,
                rng=self._plan.rng,
            )
            settled.owed += wake(connection, owed)
            return settled

        failed, begun = False, self._clock.monotonic()
        try:
            settled = in_transaction(self._engine, write)
            TALLY.time("settle_seconds", self._clock.monotonic() - begun)
        except sa.exc.SQLAlchemyError as error:
            telemetry.emit("drain.failed", step="settle", error=telemetry.where(error))
            report.failed = failed = True
            settled = Settled(busy=batch, owed=owed)
        desk.results, desk.owed = settled.busy, settled.owed
        desk.in_flight -= len(settled.done) + len(settled.lost)
        report.settled += len(settled.done)
        report.lost += len(settled.lost)
        self._tell(settled)
        self.look_at({done.account for done in settled.done})  # their leads' next events may be candidates now
        if settled.busy:
            self._wait_for_the_database(desk, failed=failed)

    def _wait_for_the_database(self, desk: _Desk, *, failed: bool) -> None:
        """Rows are locked by somebody else, or the database is away: try again soon, until the leases are over."""
        if self._clock.monotonic() > desk.leases_end + self._plan.deadline_seconds:
            telemetry.emit("drain.failed", step="settle", error="LeasesOver", given_up=len(desk.results))
            desk.in_flight -= len(desk.results)
            desk.results = []
        else:
            self._clock.wait(threading.Event(), _RETRY_SECONDS if failed else _LOCKED_SECONDS)

    def _tell(self, settled: Settled) -> None:
        for done in settled.done:
            TALLY.add("attempts", verdict=done.verdict.value)
            if done.sent and done.outcome is not None:
                TALLY.time("send_seconds", done.outcome.seconds)
            telemetry.emit(
                "delivery.attempted",
                account=done.account,
                event_type=done.event_type,
                key=done.key,
                attempt=done.held.attempt,
                verdict=done.verdict.value,
                decision=type(done.decision).__name__.lower(),
                status=done.outcome.status if done.outcome else None,
                seconds=round(done.outcome.seconds, 4) if done.outcome else None,
            )
        for lost in settled.lost:
            telemetry.emit("delivery.lost", account=lost.account, key=lost.key, attempt=lost.held.attempt)
        for notice in settled.notices:
            telemetry.emit(notice.name, account=notice.account, detail=notice.detail)
