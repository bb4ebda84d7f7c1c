"""Who waits for a row that somebody holds, and who passes over it: read off what is said to PostgreSQL.

The work is done on SQLite, which locks no rows; of each SELECT is kept how it would lock on PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from dispatcher import cancel
from dispatcher.outbox import fleet, notice_rows, sweep
from dispatcher.outbox.forgetting import forget
from dispatcher.outbox.intake import fact_hash
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.prune import Pruning, Retention
from dispatcher.outbox.tables import owed_wakes
from dispatcher.outbox.transaction import in_transaction
from dispatcher.outbox.wake import step_aside, wake_lead
from dispatcher.policy.effects import FeedBreaker
from dispatcher.policy.notices import Condition, Kind
from tests.contract.outbox_under_test import PROBE_EVERY, OutboxUnderTest, retried

PASSES, WAITS = "FOR NO KEY UPDATE SKIP LOCKED", "FOR NO KEY UPDATE"
"""Over what others hold, or for it; rows that refer to the locked one come in meanwhile."""

PASSES_WHOLE, WAITS_WHOLE = "FOR UPDATE SKIP LOCKED", "FOR UPDATE"
"""The same, of rows that nothing refers to, or that go."""

KEY = "ORDER_PLACED:1"

Work = Callable[[OutboxUnderTest], object]


def _expire(outbox: OutboxUnderTest) -> Work:
    outbox.add_all([{"lead": "l", "expires_at": outbox.now()}, {"lead": "l", "ready_at": None}])
    return lambda outbox: in_transaction(outbox.engine, sweep.expire)


def _pay(outbox: OutboxUnderTest) -> Work:
    ended, _ = outbox.add_all([{"lead": "l", "state": "delivered"}, {"lead": "l", "ready_at": None}])
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(owed_wakes), [{"event": ended}])
    return lambda outbox: in_transaction(outbox.engine, sweep.pay_wakes)


def _repair(outbox: OutboxUnderTest) -> Work:
    outbox.add_all([{"ready_at": None}, {"ready_at": None, "reason": "type_suspended"}])
    return lambda outbox: in_transaction(outbox.engine, sweep.Repair().step)


def _probe(outbox: OutboxUnderTest) -> Work:
    now = outbox.now()
    outbox.account(suspended_at=now, suspend_reason="credentials", probe_at=now)
    return lambda outbox: in_transaction(outbox.engine, lambda c: sweep.due_probes(c, probe_every=PROBE_EVERY))


def _step_aside(outbox: OutboxUnderTest) -> Work:
    flying, blocked = outbox.add_all([{"lead": "l", "state": "in_flight"}, {"lead": "l"}])
    return lambda outbox: in_transaction(outbox.engine, lambda c: step_aside(c, {blocked: flying}))


def _wake_lead(outbox: OutboxUnderTest) -> Work:
    outbox.add(lead="l", ready_at=None)
    return lambda outbox: in_transaction(outbox.engine, lambda c: wake_lead(c, "default", "l"))


def _tell(outbox: OutboxUnderTest) -> Work:
    found = Condition(Kind.ACCOUNT_SUSPENDED, "default", "", "credentials: refused")
    in_transaction(outbox.engine, lambda c: notice_rows.observe(c, [found], tell=True))
    return lambda outbox: in_transaction(outbox.engine, notice_rows.take_to_tell)


def _probe_for_all(outbox: OutboxUnderTest) -> Work:
    return lambda outbox: in_transaction(outbox.engine, fleet.lock_for_probe)


def _fail(outbox: OutboxUnderTest) -> Work:
    outbox.add()
    (event,) = outbox.claim().events
    return lambda outbox: outbox.settle(retried(event, after=0, effects=(FeedBreaker(),)))


def _cancel(outbox: OutboxUnderTest) -> Work:
    outbox.add(key=KEY, fact=fact_hash(KEY))
    return lambda outbox: in_transaction(outbox.engine, lambda c: cancel(c, KEY))


def _prune(outbox: OutboxUnderTest, state: str) -> Work:
    long_ago = outbox.now() - timedelta(days=9)
    outbox.add(state=state, created_at=long_ago, ended_at=long_ago)
    return lambda outbox: in_transaction(outbox.engine, Pruning(Retention.of_days(1, 1, 1)).step)


def _forget(outbox: OutboxUnderTest) -> Work:
    outbox.add(attached='"maria@cliente.example"')
    return lambda outbox: forget(outbox.engine, "maria@cliente.example", Signature("ana"))


WORK: dict[str, tuple[Callable[[OutboxUnderTest], Work], list[str]]] = {
    "the sweep ends what has expired and wakes the next": (_expire, [PASSES, PASSES]),
    "the sweep pays owed wakes": (_pay, [PASSES_WHOLE, PASSES]),
    "the sweep wakes the forgotten and the parked": (_repair, [PASSES, PASSES]),
    "the sweep takes a probe": (_probe, [PASSES]),
    "an event steps aside": (_step_aside, [PASSES]),
    "a lead is woken by its name": (_wake_lead, [PASSES]),
    "a notice is taken to be told": (_tell, [PASSES_WHOLE]),
    "one event asks for all accounts": (_probe_for_all, [PASSES_WHOLE]),
    "a failure is counted for all accounts": (_fail, [PASSES, WAITS, WAITS_WHOLE, PASSES]),
    "a shop takes an event back": (_cancel, [WAITS]),
    "what was delivered is pruned": (lambda outbox: _prune(outbox, "delivered"), [PASSES_WHOLE]),
    "what nobody ended is given up": (lambda outbox: _prune(outbox, "dead"), [PASSES_WHOLE]),
    "a person is forgotten": (_forget, [WAITS]),
}


@pytest.mark.alone("the locks of all work are counted")
@pytest.mark.parametrize("name", WORK)
def test_rows_are_locked_no_more_and_no_less_than_the_work_needs(outbox: OutboxUnderTest, name: str) -> None:
    if outbox.backend != "sqlite":
        pytest.skip("what would be said is read: once is enough")
    prepare, expected = WORK[name]
    work = prepare(outbox)
    locks: list[str] = []

    def before(_connection: object, element: object, *_: Any) -> None:
        if isinstance(element, sa.Select):
            said = str(element.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
            locks.extend(re.findall(r"FOR (?:NO KEY )?UPDATE.*$", said))

    sa.event.listen(outbox.engine, "before_execute", before)
    try:
        work(outbox)
    finally:
        sa.event.remove(outbox.engine, "before_execute", before)
    assert locks == expected
