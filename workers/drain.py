"""The drain: claim, send, settle, until nothing is due, no permit is left, or the time slice is used up.

Knows nothing of Celery. The coordinating thread talks to the database, the sender threads to RD Station; no
transaction is open while the network is used.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import islice

import sqlalchemy as sa

from dispatcher import telemetry
from dispatcher.clock import Clock
from dispatcher.errors import ConfigurationError
from dispatcher.meters import TALLY
from dispatcher.outbox import turns
from dispatcher.outbox.claim import claim
from dispatcher.outbox.claim_again import claim_again
from dispatcher.outbox.claimed import Batch, Claimed
from dispatcher.outbox.moot import withdraw_moot
from dispatcher.outbox.settle import settle
from dispatcher.outbox.settlement import Settled, Settlement
from dispatcher.outbox.transaction import in_transaction
from dispatcher.outbox.wake import wake
from workers.batching import Made
from workers.fronts import Fronts
from workers.lines import Job
from workers.plan import MOOT, STOPPING, TOO_LATE, Attempts, Desk, DrainPlan, Report, Sent
from workers.senders import Senders
from workers.sharing import Sharing

SETTLE_EVERY = 32
SETTLE_WITHIN_SECONDS = 0.1
"""A finished send is settled within so many results or seconds: what a crash can repeat stays small."""

_SETTLE_AT_MOST = 256
"""What has piled up while the last settlement was written goes into the next one."""

SLICE_SECONDS = 10.0
"""A drain hands its pool process back after so long, so that other bells and Celery's own duties get a turn."""

_STRAGGLE_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 1.0
_RETRY_SECONDS = 0.5
_LOCKED_SECONDS = 0.05


class Drain:
    """At most one runs per pool process; bells that come meanwhile fold into it through `look_at`.

    Args:
        engine: Of this process.
        attempts: Sends one event.
        plan: What it keeps to.
        sharing: Sends several events in one request; None: every event goes alone.
        before_claim: What a claim needs; raises if the database is away.
        before_sends: What the sends of claimed events need; raises nothing.
        clock: For leases, slices and latencies.
        stopping: True once the worker shuts down.
    """

    def __init__(
        self,
        engine: sa.Engine,
        attempts: Attempts,
        plan: DrainPlan,
        *,
        sharing: Sharing | None = None,
        before_claim: Callable[[], object] = lambda: None,
        before_sends: Callable[[Sequence[Claimed]], object] = lambda _: None,
        clock: Clock,
        stopping: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._attempts = attempts
        self._sharing = sharing
        self._before_claim = before_claim
        self._before_sends = before_sends
        self._plan = plan
        self._clock = clock
        self._stopping = stopping
        self._one = threading.Lock()
        self._hints: dict[str, None] = {}  # in the order in which they came
        self._called = False
        self._hints_lock = threading.Lock()
        self._fronts = Fronts()

    def look_at(self, accounts: Collection[str]) -> None:
        """There may be work for these accounts."""
        with self._hints_lock:
            self._hints |= dict.fromkeys(accounts)
            self._called = True

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
        report, desk = Report(), Desk()
        senders: Senders[Sent] = Senders(self._clock, self._plan.slots)
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
                    for given_up in senders.give_up(STOPPING):
                        self._receive(senders, desk, given_up)
                    desk.leases_end = min(desk.leases_end, now)  # nothing is settled for longer than a send may take
                    more = False
                elif over:
                    self._hint_at(desk, list(desk.unqueued))
                    report.again |= more or self._has_hints()
                    more = False
                elif more or self._has_hints() or now - looked > _LOOK_AGAIN_SECONDS:
                    if now - looked > _LOOK_AGAIN_SECONDS:
                        self._called = True
                        self._hint_at(desk, list(desk.unqueued))
                    room = self._room(senders)
                    if room:
                        looked = now
                        more = self._claim(senders, desk, report, room)
                self._collect(senders, desk, wait=0.0 if more and room else SETTLE_WITHIN_SECONDS)
                self._settle(desk, report)
                self._lease_again(senders, desk, report)
                if not desk.in_flight and not more:
                    self._hint_at(desk, list(desk.unqueued))
                    if over or self._stopping() or not self._has_hints():
                        return report
        finally:
            senders.close()

    def _has_hints(self) -> bool:
        with self._hints_lock:
            return bool(self._hints)

    def _hint_at(self, desk: Desk, accounts: Iterable[str]) -> None:
        """The next claim looks at these too."""
        named = dict.fromkeys(accounts)
        with self._hints_lock:
            self._hints |= named
        for account in named:
            desk.unqueued.pop(account, None)

    def _room(self, senders: Senders[Sent]) -> int:
        """How many events to claim now; 0 until a claim is worth its commit. Two hanging accounts cannot fill it."""
        ahead = self._ahead(senders)
        room = 3 * ahead - sum(senders.outstanding().values())
        if not self._called and not senders.runs_low():
            return 0  # only what we have just settled says that there may be more
        return room if room >= max(1, ahead // 4) else 0

    def _ahead(self, senders: Senders[Sent]) -> int:
        """How many events of one account are worth holding at once."""
        return self._sharing.ahead(senders.ahead()) if self._sharing else senders.ahead()

    def _claim(self, senders: Senders[Sent], desk: Desk, report: Report, room: int) -> bool:
        """Lease events and hand them to the senders; answers whether there may be more right now."""
        ahead, busy = self._ahead(senders), senders.outstanding()
        with self._hints_lock:
            hints, self._called = list(islice(self._hints, turns.AT_MOST)), False
            for account in hints:
                del self._hints[account]
        before = self._clock.monotonic()  # the lease is shorter than we think, never longer
        fronts = self._fronts.at(before)

        def lease(connection: sa.Connection) -> Batch:
            return claim(
                connection,
                self._plan.rules,
                worker=self._plan.worker,
                room=room,
                hints=hints,
                busy=busy,
                cap=ahead,
                fronts=fronts,
            )

        try:
            self._before_claim()
            batch = in_transaction(self._engine, lease)
        except sa.exc.SQLAlchemyError as error:
            telemetry.emit("drain.failed", step="claim", error=telemetry.where(error))
            report.failed = True
            return False
        except ConfigurationError as error:  # no key for what is stored: another worker may have it
            telemetry.emit("drain.failed", step="claim", error=str(error))
            report.failed = True
            return False
        took = self._clock.monotonic() - before
        self._fronts.met(batch.fronts, began=before, took=took)
        TALLY.time("claim_seconds", took)
        TALLY.add("claimed_events", len(batch.events))
        self._plan.traces.claimed(batch.events, took)
        moot = self._withdraw_moot(batch.events)
        desk.leases_end = before + self._plan.rules.lease.total_seconds()
        self._before_sends(batch.events)
        senders.submit(self._jobs([event for event in batch.events if event.id not in moot], desk.leases_end))
        desk.unqueued |= dict.fromkeys([*batch.unqueued, *batch.passed_over])
        desk.results += [self._attempts.unsent(event, MOOT) for event in batch.events if event.id in moot]
        desk.owed += batch.owed
        if batch.expired or batch.superseded or batch.outlived:
            ended = {"expired": batch.expired, "superseded": batch.superseded, "outlived": batch.outlived}
            telemetry.emit("claim.ended", **ended)
        desk.in_flight += len(batch.events)
        report.claimed += len(batch.events)
        return batch.more or len(batch.events) >= room

    def _withdraw_moot(self, claimed: Sequence[Claimed]) -> set[int]:
        """What an order superseded before the claim had committed: not sent, and ended by its settlement."""
        about = [event.id for event in claimed if event.about]
        if not about:
            return set()
        try:
            return in_transaction(self._engine, lambda connection: withdraw_moot(connection, about))
        except sa.exc.SQLAlchemyError as error:  # the events are ours already: they may go out once, not be forgotten
            telemetry.emit("drain.failed", step="withdraw", error=telemetry.where(error))
            return set()

    def _jobs(self, events: Sequence[Claimed], leases_end: float) -> list[Job[Sent]]:
        if self._sharing is not None:
            return self._sharing.jobs(events, leases_end, alone=self._job)
        return [self._job(event, leases_end) for event in events]

    def _job(self, event: Claimed, lease_ends: float) -> Job[Sent]:
        latest = lease_ends - self._plan.deadline_seconds

        def run() -> Settlement:
            if self._stopping():
                return self._attempts.unsent(event, STOPPING)
            if self._clock.monotonic() >= latest:
                return self._attempts.unsent(event, TOO_LATE)
            return self._attempts.make(event, lease_ends - self._clock.monotonic())

        return Job(event.account, latest, run, lambda why: self._attempts.unsent(event, why))

    def _collect(self, senders: Senders[Sent], desk: Desk, *, wait: float) -> None:
        """Take results until a settlement is worth its commit, or no more came in time."""
        if not desk.results:
            desk.oldest = self._clock.monotonic()
        for late in senders.overdue():
            self._receive(senders, desk, late)
        desk.in_flight -= senders.broken()  # what became of them nobody knows: their leases end
        missing = min(SETTLE_EVERY, desk.in_flight) - len(desk.results)
        left = min(wait, desk.oldest + SETTLE_WITHIN_SECONDS - self._clock.monotonic()) if missing > 0 else 0.0
        for found in senders.results(max(1, missing), left, at_most=_SETTLE_AT_MOST - len(desk.results)):
            self._receive(senders, desk, found)

    def _receive(self, senders: Senders[Sent], desk: Desk, found: Sent) -> None:
        self._plan.traces.received([found] if isinstance(found, Settlement) else found.settlements)
        if isinstance(found, Settlement):
            desk.results.append(found)
        elif found.again and not self._stopping():
            desk.split.append(found)
        else:
            self._go_on(senders, desk, found)

    def _go_on(self, senders: Senders[Sent], desk: Desk, made: Made) -> None:
        desk.results += made.settlements
        if self._sharing is not None:
            senders.submit(self._sharing.waiting(made))

    def _lease_again(self, senders: Senders[Sent], desk: Desk, report: Report) -> None:
        """Settle refused batches, lease in the same transaction what of them goes again, and go on with that."""
        refused, desk.split = desk.split, []
        for made in refused:
            before = self._clock.monotonic()
            try:
                settled, leased = in_transaction(self._engine, partial(self._settle_and_lease, made))
            except sa.exc.SQLAlchemyError as error:
                telemetry.emit("drain.failed", step="claim_again", error=telemetry.where(error))
                report.failed = True
                self._go_on(senders, desk, made)
                continue
            self._book(settled, desk, report)
            desk.results += settled.busy
            desk.owed += settled.owed
            desk.in_flight += len(leased)
            report.claimed += len(leased)
            TALLY.add("claimed_events", len(leased))
            self._plan.traces.claimed(leased, self._clock.monotonic() - before)
            leases_end = before + self._plan.rules.lease.total_seconds()
            desk.leases_end = max(desk.leases_end, leases_end)
            if self._sharing is not None:
                moot = self._withdraw_moot(leased)
                jobs, unsent = self._sharing.next(made, leased, moot=moot, leases_end=leases_end)
                senders.submit(jobs)
                desk.results += unsent

    def _settle_and_lease(self, made: Made, connection: sa.Connection) -> tuple[Settled, list[Claimed]]:
        settled = self._write(connection, made.settlements)
        again = {event.id for part in made.again for event in part.members}
        given_back = [done.held.id for done in settled.done if done.held.id in again]
        account, worker = made.settlements[0].account, self._plan.worker
        return settled, claim_again(connection, self._plan.rules, account, given_back, worker=worker)

    def _settle(self, desk: Desk, report: Report) -> None:
        """Write what has come in, if it is enough or has waited long enough."""
        waited = self._clock.monotonic() - desk.oldest >= SETTLE_WITHIN_SECONDS
        if not desk.results or not (waited or len(desk.results) >= min(SETTLE_EVERY, desk.in_flight)):
            return
        batch, owed = desk.results, desk.owed

        def write(connection: sa.Connection) -> Settled:
            settled = self._write(connection, batch)
            more_owed, woken = wake(connection, owed)
            settled.owed += more_owed
            settled.again |= woken
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
        self._book(settled, desk, report)
        if settled.busy:
            self._wait_for_the_database(desk, failed=failed)

    def _write(self, connection: sa.Connection, settlements: Sequence[Settlement]) -> Settled:
        return settle(
            connection,
            settlements,
            probe_every=self._plan.rules.probe_every,
            worker=self._plan.worker,
            rng=self._plan.rng,
        )

    def _book(self, settled: Settled, desk: Desk, report: Report) -> None:
        desk.in_flight -= len(settled.done) + len(settled.lost)
        report.settled += len(settled.done)
        report.lost += len(settled.lost)
        self._tell(settled)
        over = {settlement.account for settlement in settled.done + settled.lost}
        self._hint_at(desk, sorted(settled.again | (over & desk.unqueued.keys())))

    def _wait_for_the_database(self, desk: Desk, *, failed: bool) -> None:
        """Rows are locked by somebody else, or the database is away: try again soon, until the leases are over."""
        if self._clock.monotonic() > desk.leases_end + self._plan.deadline_seconds:
            telemetry.emit("drain.failed", step="settle", error="LeasesOver", given_up=len(desk.results))
            desk.in_flight -= len(desk.results)
            desk.results = []
        else:
            self._clock.wait(threading.Event(), _RETRY_SECONDS if failed else _LOCKED_SECONDS)

    def _tell(self, settled: Settled) -> None:
        for verdict, count in Counter(done.verdict for done in settled.done).items():
            TALLY.add("attempts", count, verdict=verdict.value)
        for done in settled.done:
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
