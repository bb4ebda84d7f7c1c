"""How fast an operation goes. Real: SQLite, the operation. Doubled: the clock, which nobody waits for, and the bell."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from dispatcher.admin import pacing
from dispatcher.admin.pacing import AT_ONCE, pace_for
from dispatcher.admin.root import Root
from dispatcher.lifecycle import Reason
from dispatcher.outbox import operations, ringing
from dispatcher.outbox.dead_letters import Letter, open_letters
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.operation_rows import Kind, OperationView, Signature
from dispatcher.outbox.permits import Quota
from dispatcher.outbox.queries import Criteria
from dispatcher.outbox.transaction import in_transaction
from dispatcher.settings import Settings
from tests.contract.outbox_under_test import insert

DEAD = 10


@pytest.mark.parametrize(
    ("total", "limit", "asked", "pace"),
    [
        (AT_ONCE, 120, None, None),
        (AT_ONCE + 1, 120, None, 60),
        (AT_ONCE + 1, 1, None, 1),
        (AT_ONCE + 1, 0, None, None),
        (AT_ONCE + 1, 120, 7, 7),
        (AT_ONCE + 1, 120, 0, None),
        (1, 120, 7, 7),
    ],
)
def test_a_large_replay_takes_half_of_the_permits_unless_told_otherwise(
    total: int, limit: int, asked: int | None, pace: int | None
) -> None:
    assert pace_for(total, Quota(account=limit, lead=0), asked) == pace


@dataclass
class HandClock:
    """Its time passes only where somebody waits."""

    at: float = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 27, tzinfo=UTC) + timedelta(seconds=self.at)

    def monotonic(self) -> float:
        return self.at

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.at += seconds
        return event.is_set()


@dataclass
class Bells:
    """When somebody rang for the account."""

    clock: HandClock
    rung: list[float] = field(default_factory=list)

    def ring(self, accounts: Iterable[str]) -> None:
        self.rung += [self.clock.at for account in accounts if account == "default"]


@pytest.fixture
def bells() -> Iterator[Bells]:
    bells = Bells(HandClock())
    ringing.install(bells)
    yield bells
    ringing.install(None)


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(sqlite_url)

    def kill(connection: sa.Connection) -> None:
        ids = insert(connection, [{"state": "dead"} for _ in range(DEAD)])
        open_letters(connection, [Letter(e, "default", "ORDER_PLACED", Reason.REJECTED, "400", 1) for e in ids])

    in_transaction(engine, kill)
    yield engine
    engine.dispose()


def begin(engine: sa.Engine, per_minute: int | None) -> OperationView:
    criteria = Criteria(account="default")
    return operations.start(engine, Kind.REPLAY, criteria, Signature("ana"), per_minute=per_minute)


def run(engine: sa.Engine, operation: OperationView, bells: Bells) -> OperationView:
    return pacing.run(Root(Settings(), engine, bells.clock), operation)[0]


def test_a_paced_operation_does_a_second_s_worth_in_a_second_and_rings_for_each(
    engine: sa.Engine, bells: Bells
) -> None:
    ended = run(engine, begin(engine, 120), bells)

    assert (ended.state, ended.counts["changed"]) == ("done", DEAD)
    assert bells.rung == [0, 1, 2, 3, 4]


def test_what_was_done_before_it_was_ended_is_not_waited_for_again(engine: sa.Engine, bells: Bells) -> None:
    begun = begin(engine, 120)
    left = operations.step(engine, begun.id, size=6).operation

    run(engine, left, bells)

    assert bells.rung == [0, 1]


def test_without_a_pace_all_of_it_goes_at_once(engine: sa.Engine, bells: Bells) -> None:
    run(engine, begin(engine, None), bells)

    assert (bells.rung, bells.clock.at) == ([0], 0)
