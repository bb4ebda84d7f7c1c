"""A limit of 120 a minute with 400 events waiting, in simulated time. Real: claims, permits, settlements on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.clock import SystemClock
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.tables import accounts, permits
from tests.contract.outbox_under_test import OutboxUnderTest, delivered, rules

LIMIT, EVENTS = 120, 400
WINDOW = timedelta(seconds=60)


class Passing:
    """Time passes by moving what is written into the past: the database's clock cannot be set."""

    def __init__(self, outbox: OutboxUnderTest) -> None:
        self.outbox, self.passed = outbox, timedelta()

    def now(self) -> datetime:
        return self.outbox.now() + self.passed

    def let(self, span: timedelta) -> None:
        self.passed += span
        with self.outbox.engine.begin() as connection:
            for table in (permits, accounts):
                moments = [c for c in table.columns if isinstance(c.type, type(accounts.c.turn_at.type))]
                for row in connection.execute(sa.select(table)).mappings().all():
                    earlier: dict[str, Any] = {c.name: row[c.name] - span for c in moments if row[c.name] is not None}
                    same = [column == row[column.name] for column in table.primary_key.columns]
                    connection.execute(sa.update(table).where(*same).values(earlier))


@pytest.fixture
def outbox(sqlite_url: str) -> Iterator[OutboxUnderTest]:
    engine = create_engine(sqlite_url)
    yield OutboxUnderTest(engine)
    engine.dispose()


def test_no_sliding_minute_holds_more_than_the_limit_and_none_goes_unused(outbox: OutboxUnderTest) -> None:
    outbox.account()
    outbox.add_all([{} for _ in range(EVENTS)])
    clock = SystemClock()
    begun = clock.monotonic()
    limit, time, sent = rules(account=LIMIT), Passing(outbox), list[datetime]()
    while len(sent) < EVENTS:
        if batch := outbox.claim(room=48, by=limit).events:
            time.let(timedelta(seconds=0.2))  # on their way
            sent += [time.now()] * len(batch)
            time.let(timedelta(seconds=0.1))  # until the answers are settled
            outbox.settle(*map(delivered, batch))
        turn_at = outbox.account_row().turn_at
        if turn_at is not None and turn_at > outbox.now():
            time.let(turn_at - outbox.now())

    for first, beyond in zip(sent, sent[LIMIT:], strict=False):
        assert beyond - first >= WINDOW
    minutes = EVENTS // LIMIT
    computing = timedelta(seconds=clock.monotonic() - begun)  # the database's clock runs on while the test computes
    assert (sent[minutes * LIMIT] - sent[0] - computing) * 0.95 <= minutes * WINDOW
