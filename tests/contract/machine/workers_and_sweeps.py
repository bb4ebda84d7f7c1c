"""Workers claim, look again, settle with any verdict, come late and give back; sweeps end leases and expire."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Literal

import sqlalchemy as sa
from hypothesis import strategies as st

from dispatcher.outbox import claim as claiming
from dispatcher.outbox import moot, permits, sweep
from dispatcher.outbox.claimed import Claimed, ClaimRules
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.settle import settle
from dispatcher.outbox.settlement import Settled, Settlement
from dispatcher.outbox.transaction import in_transaction
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.decision import Budget, Bury, Complete, Decision, EventFacts, Reschedule, decide
from dispatcher.policy.outcome import Outcome, Stage
from dispatcher.policy.verdict import Judgement, abandoned
from dispatcher.policy.verdicts import Verdict
from tests.contract.machine.acting import act, when
from tests.contract.machine.forecast import MAX_AGE, forecast
from tests.contract.machine.machine import ACCOUNTS, SECOND, Fate, Machine
from tests.contract.machine.snapshot import Row, Snapshot

LEASE = timedelta(seconds=45)
PROBE_EVERY = timedelta(seconds=60)
BUDGET = Budget(max_failures=3, max_age_seconds=MAX_AGE.total_seconds(), backoff=Backoff(20, 300))

_SENT = Outcome(Stage.ANSWERED, status=200)
_CUT = Outcome(Stage.WRITTEN)
_UNSENT = Outcome(Stage.NOT_CONNECTED)

ENDINGS: dict[str, tuple[Judgement, Outcome | None]] = {
    "delivered": (Judgement(Verdict.DELIVERED, "200", event_uuid="uuid-of-rd"), _SENT),
    "without a receipt": (Judgement(Verdict.DELIVERED, "200"), _SENT),
    "rejected": (Judgement(Verdict.REJECTED, "400"), _SENT),
    "unavailable": (Judgement(Verdict.UNAVAILABLE, "503"), _SENT),
    "uncertain": (Judgement(Verdict.UNCERTAIN, "cut"), _CUT),
    "unreachable": (Judgement(Verdict.UNREACHABLE, "refused"), _UNSENT),
    "throttled": (Judgement(Verdict.THROTTLED, "429"), _SENT),
    "released": (Judgement(Verdict.RELEASED, "shutdown"), _UNSENT),
    "malformed": (Judgement(Verdict.MALFORMED, "no JSON"), None),
}


endings = st.lists(st.sampled_from([*ENDINGS, "unavailable", "unavailable", "rejected"]), min_size=1, max_size=4)

picks = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(sorted(ENDINGS))), min_size=1, max_size=4)


class WorkersAndSweeps(Machine):
    """See the module."""

    @act(room=st.sampled_from([1, 2, 3, 100, 100, 100]))
    @when(Machine.has_work)
    def claim(self, room: int) -> None:
        now = self.tick()
        expected = forecast(self.before, now, paused=self._paused(), held_once=self.held_once, moot=self.moot)
        rules = ClaimRules(LEASE, self.quota, MAX_AGE, PROBE_EVERY)
        quiet = self.shop is None and not self.owed and not self.before.debts
        taken: list[Claimed] = []
        while True:
            batch = in_transaction(
                self.stage.engine,
                lambda connection: claiming.claim(connection, rules, worker="w", room=room, hints=ACCOUNTS),
            )
            assert len(batch.events) <= room
            taken += batch.events
            self.owed += batch.owed
            if not batch.more or room < len(ACCOUNTS) * 10:
                break
        ids = {event.id for event in taken}
        assert len(ids) == len(taken), "an event was leased twice"
        wrong = ids - expected.taken - expected.perhaps
        assert not wrong, f"leased although they may not go: {wrong}"
        for event in taken:
            self.flights.append(event)
            self.windows.reserve((event.id, event.attempt), event.account, event.lead, self.physical(), LEASE)
        self.windows.check(self.quota, self.physical())
        becomes: dict[int, Fate] = dict.fromkeys(ids, ("in_flight", None))
        may: dict[int, Fate] = {**expected.may, **expected.ended}
        after = Snapshot.of(self.stage.engine)
        if room == 100 and quiet and self.quota.counted is False:
            assert ids >= expected.taken, f"left lying: {expected.taken - ids}"
            becomes |= expected.ended
        elif room == 100 and quiet:
            for left in expected.taken - ids:
                assert self._is_over_a_limit(after, after.events[left]), f"left lying: {after.events[left]['key']}"
        self.look(becomes, may=may)

    @act(often=3, endings=endings)
    @when(Machine.has_work)
    def drain(self, endings: list[str]) -> None:
        """A whole round of a worker; what it has no ending for it keeps, as one that dies does."""
        self.claim(room=100)
        chosen = [(event, ENDINGS[ending]) for event, ending in zip(self.flights, endings, strict=False)]
        if chosen:
            self.tick()
            self._settle([self._settlement(event, *ending) for event, ending in chosen], "w")

    @act()
    @when(lambda self: bool(self.flights))
    def look_again_before_sending(self) -> None:
        """What has become moot since its claim is not sent."""
        self.tick()
        claimed = [event.id for event in self.flights if event.about]
        marked = in_transaction(self.stage.engine, lambda connection: moot.withdraw_moot(connection, claimed))
        for event in self.flights:
            row = self.before.events.get(event.id)
            if event.about and row is not None and (row["state"], row["attempt"]) == ("in_flight", event.attempt):
                assert (event.id in marked) == self.moot(self.before, row), row["key"]
        self.look()

    @act(
        often=2, picks=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(sorted(ENDINGS))), min_size=1, max_size=4)
    )
    @when(lambda self: bool(self.flights))
    def settle(self, picks: list[tuple[int, str]]) -> None:
        self.tick()
        chosen: dict[tuple[int, int], Settlement] = {}
        for number, ending in picks:
            event = self.flights[number % len(self.flights)]
            chosen.setdefault((event.id, event.attempt), self._settlement(event, *ENDINGS[ending]))
        self._settle(list(chosen.values()), "w")

    @act(often=2, number=st.integers(0, 9), ending=st.sampled_from(sorted(ENDINGS)))
    @when(lambda self: bool(self.ghosts))
    def settle_late(self, number: int, ending: str) -> None:
        """A worker that has lost its lease, or has settled already, changes nothing."""
        self.tick()
        event = self.ghosts[number % len(self.ghosts)]
        done = self._write([self._settlement(event, *ENDINGS[ending])], "w")
        assert not done.done, "a late worker changed something"
        assert not done.busy
        self.look()

    @act()
    @when(Machine.has_work)
    def sweep_leases(self) -> None:
        now = self.tick()
        found = in_transaction(self.stage.engine, sweep.abandoned)
        over = {row["id"] for row in self.before.in_state("in_flight") if row["lease_until"] <= now}
        assert {one.held.id for one in found} == over, "the leases that have ended, and no others"
        settlements = []
        for one in found:
            judgement = abandoned()
            facts = EventFacts(
                one.event_type, one.lead, one.failures, one.age_seconds, self._when_unsure(one.event_type),
                abandoned_before=one.abandoned_before,
            )  # fmt: skip
            decision = decide(judgement, facts, BUDGET, Random(1))  # noqa: S311 - jitter
            settlements.append(
                Settlement(
                    one.held,
                    one.account,
                    one.event_type,
                    one.key,
                    judgement.verdict,
                    decision,
                    (),
                    None,
                    judgement.why,
                    self.quota,
                )
            )
        if settlements:
            self._settle(settlements, "sweep")
        else:
            self.look()

    @act()
    @when(Machine.has_work)
    def sweep_the_rest(self) -> None:
        """Expire, pay debts, repair, spread the word, forget permits: each changes only what its name says."""
        now = self.tick()
        late = {row["id"] for row in self.before.in_state("pending") if row["expires_at"] and row["expires_at"] <= now}
        in_transaction(self.stage.engine, sweep.expire)
        fates: dict[int, Fate] = dict.fromkeys(late, ("cancelled", "expired"))
        self.look(*([fates] if self.shop is None else []), may=fates)
        self.pay()
        in_transaction(self.stage.engine, sweep.pay_wakes)
        quiet = self.shop is None and not self.owed
        self.look()
        mended = in_transaction(self.stage.engine, sweep.Repair().step)
        assert not (quiet and mended), f"{mended} events had been forgotten"
        in_transaction(self.stage.engine, sweep.spread_the_word)
        in_transaction(self.stage.engine, lambda connection: permits.forget_past(connection, read_clock(connection)))
        self.look()

    @act(often=3, endings=endings)
    @when(Machine.has_work)
    def a_worker_dies_and_another_drains(self, endings: list[str]) -> None:
        """What the first has claimed is claimed again once its lease has ended, and then the first is back."""
        self.claim(room=100)
        first = list(self.flights)
        self.time_goes(by=timedelta(seconds=50))
        self.sweep_leases()
        lost = [event for event in first if event in self.ghosts]  # a clock that was put back leaves others their lease
        self.claim(room=100)
        self.tick()
        late = [self._settlement(event, *ENDINGS[ending]) for event, ending in zip(lost, endings, strict=False)]
        done = self._write(late, "w")
        assert not done.done, "a late worker changed something"
        self.look()
        self.drain(endings=endings)

    @act(often=3, endings=endings)
    @when(Machine.has_work)
    def drain_when_backoffs_are_over(self, endings: list[str]) -> None:
        self.time_goes(by=timedelta(minutes=6))
        self.drain(endings=endings)

    @act(
        by=st.sampled_from(
            [*(timedelta(seconds=seconds) for seconds in (30, 50, 120, 10_800, -30, -600)), timedelta(days=2)]
        )
    )
    @when(Machine.has_work)
    def time_goes(self, by: timedelta) -> None:
        """Forward it passes; back somebody sets the clock, and it goes on."""
        self.tick(max(by, SECOND))
        self.stage.now += min(by, timedelta())
        self.look()

    def come_to_an_end(self) -> None:
        """What was committed ends, whatever has happened, and all that waits has a way out by time."""
        if self.shop is not None:
            self.shop.rollback()
            self.shop.close()
            self.shop = None
        self.resume_all()
        for _ in range(40):
            if not self.before.in_state("pending", "in_flight"):
                return
            self.tick(timedelta(hours=25))
            self.look()
            self.sweep_leases()
            self.sweep_the_rest()
            self.claim(room=100)
            here = [event for event in self.flights if self._is_held(event)]
            if here:
                self._settle([self._settlement(event, *ENDINGS["delivered"]) for event in here], "w")
        raise AssertionError(f"never ended: {self.waiting()}")

    def resume_all(self) -> None:
        """Operators let everything go on."""

    def _settlement(self, event: Claimed, judgement: Judgement, outcome: Outcome | None) -> Settlement:
        facts = EventFacts(
            event.event_type, event.lead, event.failures, event.age_seconds, self._when_unsure(event.event_type),
            unreachable_streak=event.postponed,
        )  # fmt: skip
        decision = decide(judgement, facts, BUDGET, Random(1))  # noqa: S311 - jitter
        return Settlement(
            event.held, event.account, event.event_type, event.key, judgement.verdict, decision, (), outcome,
            judgement.why, event.quota,
        )  # fmt: skip

    def _settle(self, settlements: list[Settlement], worker: str) -> None:
        before = self.before.events
        done = self._write(settlements, worker)
        if self.shop is None:
            assert not done.busy, "nobody holds a row"
        becomes: dict[int, Fate] = {}
        for s in settlements:
            row = before.get(s.held.id)
            ours = row is not None and (row["state"], row["attempt"]) == ("in_flight", s.held.attempt)
            assert (s in done.done or s in done.busy) == ours, f"{s.held} is {'' if ours else 'not '}ours"
            if s in done.done and row is not None:
                becomes[s.held.id] = _fate(row, s.decision, s.verdict)
                counts = isinstance(s.decision, Reschedule) and s.decision.counts_failure
                if counts and becomes[s.held.id][0] == "pending":
                    self.failures[s.held.id] = self.failures.get(s.held.id, 0) + 1
                self.windows.settle((s.held.id, s.held.attempt), self.physical(), sent=s.sent, answered=s.answered)
        over = {(s.held.id, s.held.attempt) for s in [*done.done, *done.lost]}
        self.ghosts += [event for event in self.flights if (event.id, event.attempt) in over]
        self.flights = [event for event in self.flights if (event.id, event.attempt) not in over]
        self.look(becomes)
        for s in done.done:
            written = self.before.attempts[s.held.id, s.held.attempt]
            assert (written["verdict"], written["worker"]) == (s.verdict.value, worker)

    def _write(self, settlements: list[Settlement], worker: str) -> Settled:
        def work(connection: sa.Connection) -> Settled:
            return settle(connection, settlements, probe_every=PROBE_EVERY, worker=worker, rng=Random(1))  # noqa: S311

        done = in_transaction(self.stage.engine, work)
        self.owed += done.owed
        return done

    def _is_held(self, event: Claimed) -> bool:
        row = self.before.events.get(event.id)
        return row is not None and (row["state"], row["attempt"]) == ("in_flight", event.attempt)

    def _paused(self) -> set[str]:
        return {name for name, row in self.before.accounts.items() if row["paused_at"] is not None}

    def _is_over_a_limit(self, snapshot: Snapshot, row: Row) -> bool:
        now = self.stage.now
        here = [permit for permit in snapshot.permits if permit["account"] == row["account"]]
        account = sum(permit["counts_until"] > now for permit in here)
        lead = sum(permit["lead_counts_until"] > now for permit in here if permit["lead"] == row["lead"])
        return bool(account >= self.quota.account or lead >= self.quota.lead)

    @staticmethod
    def _when_unsure(event_type: str) -> Literal["resend", "hold"]:
        return "resend" if event_type == "ORDER_PLACED" else "hold"


def _fate(row: Row, decision: Decision, verdict: Verdict) -> Fate:
    if isinstance(decision, Complete):
        return ("delivered", None if decision.reason is None else decision.reason.value)
    if row["cancel_reason"] is not None:
        return ("cancelled", row["cancel_reason"])
    if isinstance(decision, Bury):
        return ("dead", decision.reason.value)
    return ("pending", None if verdict is Verdict.RELEASED else verdict.value)
