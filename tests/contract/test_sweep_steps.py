"""The sweep's steps: leases that ended, stale events, probes. Two at once are harmless.

Rows and SQL are real; time is written into the rows; the decision about an abandoned attempt is the test's.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.lifecycle import Reason
from dispatcher.outbox import sweep, transitions
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.sweep import Abandoned
from dispatcher.outbox.tables import attempts, events
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.outbox.wake import owe
from dispatcher.policy.decision import Reschedule
from dispatcher.policy.verdicts import Verdict
from tests.contract.outbox_under_test import PROBE_EVERY, OutboxUnderTest, delivered, retried


def _let_lease_end(outbox: OutboxUnderTest, event: int) -> None:
    outbox.set(event, lease_until=outbox.now() - timedelta(milliseconds=5))


def _abandoned(outbox: OutboxUnderTest) -> list[Abandoned]:
    return reading(outbox.engine, sweep.abandoned)


def _end(found: Abandoned) -> Settlement:
    decision = Reschedule(0.0, counts_failure=True, unreachable_streak=0, why="its worker died")
    return Settlement(
        held=found.held,
        account=found.account,
        event_type=found.event_type,
        key=found.key,
        verdict=Verdict.ABANDONED,
        decision=decision,
    )


LEFT: dict[str, dict[str, Any]] = {
    "a candidate": {"state": "pending"},
    "one that sleeps": {"state": "pending", "ready_at": None},
    "one in flight": {"state": "in_flight"},
}


@pytest.mark.parametrize("kind", LEFT)
@pytest.mark.alone("it asks of the whole outbox")
def test_an_event_that_has_not_ended_is_work_left(outbox: OutboxUnderTest, kind: str) -> None:
    outbox.account(turn_at=None)
    outbox.add_all([{"state": "delivered"}, {"state": "cancelled"}, {"state": "dead"}])
    assert not _is_work_left(outbox)
    outbox.add(**LEFT[kind])
    assert _is_work_left(outbox)


@pytest.mark.alone("it asks of the whole outbox")
def test_an_owed_wake_and_a_suspended_account_are_work_left(outbox: OutboxUnderTest) -> None:
    ended = outbox.add(state="delivered")
    outbox.account(turn_at=None)
    outbox.account(suspended_at=outbox.now(), suspend_reason="refused", probe_at=outbox.now() + timedelta(hours=1))
    assert _is_work_left(outbox)
    outbox.account(suspended_at=None, suspend_reason=None, probe_at=None)
    assert not _is_work_left(outbox)
    in_transaction(outbox.engine, lambda connection: owe(connection, [ended]))
    assert _is_work_left(outbox)


@pytest.mark.alone("it asks of the whole outbox")
def test_an_account_that_waits_for_its_turn_is_work_left(outbox: OutboxUnderTest) -> None:
    outbox.account(turn_at=outbox.now() + timedelta(hours=1))
    assert not _is_work_left(outbox)
    outbox.account(turn_at=outbox.now() - timedelta(seconds=1))
    assert _is_work_left(outbox)


def test_leases_that_ended_long_before_the_last_look_are_not_looked_for_again(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    ends = {minutes: now - timedelta(minutes=minutes) for minutes in (9, 4, 1)}
    old, middle, new = (outbox.add(state="in_flight", lease_until=at) for at in ends.values())

    def seen(since: datetime | None) -> list[int]:
        return [
            found.held.id for found in reading(outbox.engine, lambda connection: sweep.abandoned(connection, since))
        ]

    assert seen(None) == [old, middle, new]
    assert seen(now - timedelta(minutes=4, seconds=30)) == [middle, new], "a minute before counts too"
    assert seen(now - timedelta(minutes=2)) == [new]
    late = outbox.add(state="in_flight", lease_until=now - timedelta(seconds=1))
    assert seen(now + timedelta(hours=1)) == [late], "the clock was put back since: a minute before it counts"


def _is_work_left(outbox: OutboxUnderTest) -> bool:
    found, now = reading(outbox.engine, sweep.is_work_left)
    assert now.tzinfo is not None
    return found


def test_an_attempt_whose_lease_has_ended_is_found_and_one_that_lasts_is_not(outbox: OutboxUnderTest) -> None:
    ended, _ = outbox.add_all([{}, {}])
    outbox.claim_all()
    assert _abandoned(outbox) == []
    _let_lease_end(outbox, ended)
    (found,) = _abandoned(outbox)
    assert (found.held.id, found.held.attempt, found.worker, found.abandoned_before) == (ended, 1, "w1", False)


def test_a_dead_worker_s_event_is_claimable_again_and_its_lead_in_order(outbox: OutboxUnderTest) -> None:
    first, _ = outbox.add_all([{"lead": "l"}] * 2)
    outbox.claim_all()
    _let_lease_end(outbox, first)
    outbox.settle(*map(_end, _abandoned(outbox)))
    (again,) = outbox.claim_all()
    assert (again.id, again.attempt, again.failures) == (first, 2, 1)
    _let_lease_end(outbox, first)
    assert [found.abandoned_before for found in _abandoned(outbox)] == [True]


def test_an_attempt_that_failed_before_was_not_abandoned(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    outbox.settle(retried(outbox.claim_all()[0], after=0))
    outbox.claim_all()
    _let_lease_end(outbox, event)
    assert [(found.held.attempt, found.abandoned_before) for found in _abandoned(outbox)] == [(2, False)]


def test_of_two_sweeps_that_found_the_same_attempt_one_settles_it(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    outbox.claim_all()
    _let_lease_end(outbox, event)
    one, other = _abandoned(outbox), _abandoned(outbox)
    assert len(outbox.settle(*map(_end, one)).done) == 1
    assert len(outbox.settle(*map(_end, other)).lost) == 1
    assert outbox.count(attempts) == 1
    assert outbox.row(event).failures == 1


def test_a_worker_that_settles_before_the_sweep_wins_and_after_it_loses(outbox: OutboxUnderTest) -> None:
    events_ = outbox.add_all([{}, {}])
    early, late = sorted(outbox.claim_all(), key=lambda event: event.id)
    for event in events_:
        _let_lease_end(outbox, event)
    found = _abandoned(outbox)
    assert outbox.settle(delivered(early)).done
    result = outbox.settle(*map(_end, found))
    assert [lost.held for lost in result.lost] == [early.held]
    assert outbox.settle(delivered(late)).lost
    assert outbox.states(*events_) == ["delivered", "pending"]


def test_an_abandoned_attempt_of_a_cancelled_event_ends_cancelled(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    outbox.claim_all()
    with outbox.engine.begin() as connection:
        transitions.mark_cancelled(connection, [event], Reason.FORGOTTEN)
    _let_lease_end(outbox, event)
    outbox.settle(*map(_end, _abandoned(outbox)))
    assert (outbox.states(event), outbox.row(event).reason) == (["cancelled"], "forgotten")


def test_stale_events_end_expired_wherever_they_wait(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    stale = outbox.add_all(
        [
            {"expires_at": now},
            {"expires_at": now, "lead": "l"},
            {"expires_at": now, "ready_at": None, "lead": "l"},
            {"expires_at": now, "ready_at": None, "reason": "type_suspended"},
            {"expires_at": now, "account": "paused"},
        ]
    )
    outbox.account("paused", paused_at=now, paused_by="somebody")
    follower = outbox.add(lead="l", ready_at=None)
    flying = outbox.add(expires_at=now, state="in_flight")
    fresh = outbox.add(expires_at=now + timedelta(hours=1))
    assert in_transaction(outbox.engine, sweep.expire) == len(stale)
    assert set(outbox.states(*stale)) == {"cancelled"}
    assert {outbox.row(event).reason for event in stale} == {"expired"}
    assert outbox.states(flying, fresh, follower) == ["in_flight", "pending", "pending"]
    assert outbox.row(follower).ready_at is not None, "it was woken"
    assert in_transaction(outbox.engine, sweep.expire) == 0


def test_the_sweep_takes_some_hundred_stale_events_at_a_time_those_that_expired_first(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_STEP", 2)
    now = outbox.now()
    ids = outbox.add_all({"expires_at": now - timedelta(seconds=ago)} for ago in (1, 4, 2, 5, 3))
    assert in_transaction(outbox.engine, sweep.expire) == 2
    assert outbox.states(*ids) == ["pending", "cancelled", "pending", "cancelled", "pending"]
    assert [in_transaction(outbox.engine, sweep.expire) for _ in range(3)] == [2, 1, 0]


def test_the_sweep_finds_some_hundred_ended_leases_at_a_time_those_that_ended_first(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_STEP", 2)
    now = outbox.now()
    ids = [outbox.add(state="in_flight", lease_until=now - timedelta(seconds=ago)) for ago in (1, 3, 2)]
    assert [found.held.id for found in _abandoned(outbox)] == [ids[1], ids[2]]


def test_an_attempt_that_went_with_another_is_abandoned_with_it_and_by_itself_once_that_has_ended(
    outbox: OutboxUnderTest,
) -> None:
    now = outbox.now()
    whole, ended = outbox.add(state="in_flight", lease_until=now), outbox.add(state="delivered")
    _, left = (outbox.add(state="in_flight", lease_until=now, sent_with=other) for other in (whole, ended))
    assert sorted(found.held.id for found in _abandoned(outbox)) == [whole, left]


def test_an_abandoned_attempt_of_an_account_without_a_row_has_no_age(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    outbox.add(account="rowless", state="in_flight", lease_until=now, budget_from=now - timedelta(days=1))
    assert [(found.account, found.age_seconds) for found in _abandoned(outbox)] == [("rowless", 0.0)]


@pytest.mark.usefixtures("two_writers")
def test_two_sweeps_that_expire_at_once_share_the_work_without_waiting(outbox: OutboxUnderTest) -> None:
    outbox.add_all([{"expires_at": outbox.now()}] * 4)
    with outbox.engine.connect() as one, outbox.engine.connect() as other:
        assert sweep.expire(one) == 4
        assert sweep.expire(other) == 0
        other.commit()
        one.commit()
    assert outbox.count(events, events.c.state == "cancelled") == 4


@pytest.mark.usefixtures("two_writers")
def test_an_event_that_a_claim_is_taking_is_not_expired_under_its_feet(outbox: OutboxUnderTest) -> None:
    event = outbox.add(expires_at=outbox.now() + timedelta(hours=1))
    with outbox.engine.connect() as claimer:
        claimer.execute(sa.select(events.c.id).where(events.c.id == event).with_for_update())
        outbox_now = outbox.now() + timedelta(days=1)
        claimer.execute(sa.update(events).where(events.c.id == event).values(expires_at=outbox.now()))
        assert in_transaction(outbox.engine, sweep.expire) == 0
        transitions.claim(claimer, [event], lease_until=outbox_now, worker="w")
        claimer.commit()
    assert in_transaction(outbox.engine, sweep.expire) == 0
    assert outbox.states(event) == ["in_flight"]


@pytest.mark.usefixtures("two_writers")
def test_of_two_sweeps_at_once_one_probes_a_suspended_account(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    outbox.account("default", suspended_at=now, suspend_reason="credentials", probe_at=now)
    with outbox.engine.connect() as one, outbox.engine.connect() as other:
        assert sweep.due_probes(one, probe_every=PROBE_EVERY) == ["default"]
        assert sweep.due_probes(other, probe_every=PROBE_EVERY) == []
        one.commit()
        other.rollback()
        assert sweep.due_probes(other, probe_every=PROBE_EVERY) == []


def test_the_sweep_takes_some_hundred_probes_at_a_time_those_that_were_due_first(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_STEP", 2)
    now = outbox.now()
    for account, ago in (("a", 1), ("b", 3), ("c", 2)):
        since = now - timedelta(seconds=ago)
        outbox.account(account, suspended_at=since, suspend_reason="credentials", probe_at=since)

    def probes() -> set[str]:
        return set(
            in_transaction(outbox.engine, lambda connection: sweep.due_probes(connection, probe_every=PROBE_EVERY))
        )

    assert [probes(), probes(), probes()] == [{"b", "c"}, {"a"}, set()]


def test_the_sweep_names_some_hundred_accounts_at_a_time_those_that_have_waited_longest(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_STEP", 2)
    now = outbox.now()
    for account, ago in (("default", 1), ("b", 2), ("a", 3)):
        outbox.account(account, turn_at=now - timedelta(seconds=ago))
    assert in_transaction(outbox.engine, sweep.spread_the_word) == ["a", "b"]
