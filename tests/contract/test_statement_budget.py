"""What a thousand deliveries cost the database, in statements and commits. Real: three databases, the drain, threads.

Doubled: RD Station answers at once. A drain that asks the database more often than this is slower for everybody.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from dispatcher.clock import SystemClock
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.settlement import Settlement
from dispatcher.policy.effects import Proven
from tests.contract.outbox_under_test import RULES, OutboxUnderTest, delivered, released, rules
from workers.drain import Drain
from workers.plan import DrainPlan

EVENTS = 1000
STATEMENTS = 300
COMMITS = 60
"""With 32 results to a settlement and as many events to a claim. Where the senders outrun the database, as here, more
pile up for each, and a third of it is enough."""


class Answering:
    """Attempts that RD Station accepts at once."""

    def make(self, event: Claimed, seconds: float) -> Settlement:  # noqa: ARG002 - the drain's form
        return delivered(event, effects=(Proven(event.event_type),))

    def unsent(self, event: Claimed, why: str) -> Settlement:  # noqa: ARG002 - as above
        return released(event)


@pytest.fixture
def outbox(database_url: str) -> Iterator[OutboxUnderTest]:
    engine = create_engine(database_url)
    yield OutboxUnderTest(engine)
    engine.dispose()


def test_a_thousand_deliveries_stay_within_their_budget(outbox: OutboxUnderTest) -> None:
    outbox.account()
    outbox.add_all({} for _ in range(EVENTS))
    asked: Counter[str] = Counter()

    @event.listens_for(outbox.engine, "before_cursor_execute")
    def _statement(*arguments: Any) -> None:
        asked[arguments[2].partition("FROM")[0][:60]] += 1

    @event.listens_for(outbox.engine, "commit")
    def _commit(_: sa.Connection) -> None:
        asked["COMMIT"] += 1

    plan = DrainPlan(RULES, 30.0, 4, "w1", random.Random(1))  # noqa: S311 - jitter
    drain = Drain(outbox.engine, Answering(), plan, clock=SystemClock(), stopping=lambda: False)
    report = drain.run(["default"])
    commits = asked.pop("COMMIT")
    assert report is not None
    assert report.settled == EVENTS
    assert commits <= COMMITS, f"{commits} commits"
    assert asked.total() <= STATEMENTS, asked.most_common()


BEFORE_A_SEND = {"postgresql": 4, "sqlite": 5, "mysql": 6}
"""What a bell waits for: its account, then the time, the fleet and the first candidates in one, a window, a lease.

The others look for the accounts in two statements, and MySQL for a window too."""


def test_an_event_that_a_bell_tells_of_waits_for_few_statements(outbox: OutboxUnderTest) -> None:
    outbox.account()  # proven
    outbox.account(turn_at=None)
    outbox.add()
    asked: list[str] = []

    @event.listens_for(outbox.engine, "before_cursor_execute")
    def _statement(*arguments: Any) -> None:
        if not arguments[2].startswith("BEGIN"):
            asked.append(arguments[2])

    assert len(outbox.claim(hints=["default"], by=rules()).events) == 1
    assert len(asked) == BEFORE_A_SEND[outbox.engine.url.get_backend_name()], asked
