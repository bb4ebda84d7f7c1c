"""Which rows are locked by what workers do on their own, and whether they wait for who holds them or pass over it.

Sweeps, settlements and pruning, as they are on real rows: no more is locked, and no less, than the work needs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from dispatcher.outbox import fleet, notice_rows, sweep
from dispatcher.outbox.parking import unpark
from dispatcher.outbox.prune import Pruning, Retention
from dispatcher.outbox.tables import owed_wakes
from dispatcher.outbox.transaction import in_transaction
from dispatcher.outbox.wake import step_aside, wake_lead
from dispatcher.policy.effects import FeedBreaker
from dispatcher.policy.notices import Condition, Kind
from tests.contract.locks_asked import PASSES, PASSES_WHOLE, WAITS, WAITS_WHOLE, Lock, locks_asked, locks_of
from tests.contract.outbox_under_test import PROBE_EVERY, OutboxUnderTest, delivered, retried

EVENTS, ACCOUNTS, FLEET = "outbox_events", "outbox_accounts", "outbox_fleet"

Step = Callable[[sa.Connection], object]
"""Done in a transaction of its own, on the rows that were made for it."""


def _expire(outbox: OutboxUnderTest) -> Step:
    outbox.add_all([{"lead": "l", "expires_at": outbox.now()}, {"lead": "l", "ready_at": None}])
    return sweep.expire


def _pay(outbox: OutboxUnderTest) -> Step:
    ended, _ = outbox.add_all([{"lead": "l", "state": "delivered"}, {"lead": "l", "ready_at": None}])
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(owed_wakes), [{"event": ended}])
    return sweep.pay_wakes


def _repair(outbox: OutboxUnderTest) -> Step:
    outbox.add_all([{"ready_at": None}, {"ready_at": None, "reason": "type_suspended"}])
    return sweep.Repair().step


def _probe(outbox: OutboxUnderTest) -> Step:
    now = outbox.now()
    outbox.account(suspended_at=now, suspend_reason="credentials", probe_at=now)
    return lambda c: sweep.due_probes(c, probe_every=PROBE_EVERY)


def _step_aside(outbox: OutboxUnderTest) -> Step:
    flying, blocked = outbox.add_all([{"lead": "l", "state": "in_flight"}, {"lead": "l"}])
    return lambda c: step_aside(c, {blocked: flying})


def _wake_lead(outbox: OutboxUnderTest) -> Step:
    outbox.add(lead="l", ready_at=None)
    return lambda c: wake_lead(c, "default", "l")


def _unpark(outbox: OutboxUnderTest) -> Step:
    return lambda c: unpark(c, "default", "SALE")


def _tell(outbox: OutboxUnderTest) -> Step:
    found = Condition(Kind.ACCOUNT_SUSPENDED, "default", "", "credentials: refused")
    in_transaction(outbox.engine, lambda c: notice_rows.observe(c, [found], tell=True))
    return notice_rows.take_to_tell


def _probe_for_all(outbox: OutboxUnderTest) -> Step:
    return fleet.lock_for_probe


def _prune_delivered(outbox: OutboxUnderTest) -> Step:
    return _prune(outbox, "delivered")


def _prune_dead(outbox: OutboxUnderTest) -> Step:
    return _prune(outbox, "dead")


def _prune(outbox: OutboxUnderTest, state: str) -> Step:
    long_ago = outbox.now() - timedelta(days=9)
    outbox.add(state=state, created_at=long_ago, ended_at=long_ago)
    return Pruning(Retention.of_days(1, 1, 1)).step


STEPS: dict[str, tuple[Callable[[OutboxUnderTest], Step], list[tuple[str, str]]]] = {
    "the sweep ends what has expired and wakes the next": (_expire, [(EVENTS, PASSES)] * 2),
    "the sweep pays owed wakes": (_pay, [("outbox_owed_wakes", PASSES_WHOLE), (EVENTS, PASSES)]),
    "the sweep wakes the forgotten and the parked": (_repair, [(EVENTS, PASSES)] * 2),
    "the sweep takes a probe": (_probe, [(ACCOUNTS, PASSES)]),
    "an event steps aside": (_step_aside, [(EVENTS, PASSES)]),
    "a lead is woken by its name": (_wake_lead, [(EVENTS, PASSES)]),
    "a type opens": (_unpark, [(EVENTS, PASSES)]),
    "a notice is taken to be told": (_tell, [("outbox_notices", PASSES_WHOLE)]),
    "one event asks for all accounts": (_probe_for_all, [(FLEET, PASSES_WHOLE)]),
    "what was delivered is pruned": (_prune_delivered, [(EVENTS, PASSES_WHOLE)]),
    "what nobody ended is given up": (_prune_dead, [(EVENTS, PASSES_WHOLE)]),
}


@pytest.mark.parametrize("name", STEPS)
def test_rows_are_locked_no_more_and_no_less_than_the_work_needs(outbox: OutboxUnderTest, name: str) -> None:
    prepare, expected = STEPS[name]
    step = prepare(outbox)
    assert locks_of(outbox.engine, lambda: in_transaction(outbox.engine, step)) == expected


def test_a_settlement_passes_over_what_somebody_holds(outbox: OutboxUnderTest) -> None:
    outbox.add()
    (event,) = outbox.claim().events

    with locks_asked(outbox.engine) as asked:
        outbox.settle(delivered(event))

    assert asked == [Lock(EVENTS, PASSES, order="outbox_events.id")]


def test_a_failure_is_counted_for_all_accounts_after_its_own(outbox: OutboxUnderTest) -> None:
    outbox.add()
    (event,) = outbox.claim().events
    settlement = retried(event, after=0, effects=(FeedBreaker(),))

    locks = locks_of(outbox.engine, lambda: outbox.settle(settlement))

    assert locks == [(EVENTS, PASSES), (ACCOUNTS, WAITS), (FLEET, WAITS_WHOLE), (EVENTS, PASSES)]
