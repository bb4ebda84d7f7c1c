"""Everything at once: producers that roll back, claimers with random fates, a canceller. Bounded by events, not time.

Real databases and threads. The seed is in the title; the threads' order is the machine's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest
import sqlalchemy as sa

from dispatcher.outbox import sweep, transitions
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.tables import attempts, dead_letters, events
from dispatcher.outbox.transaction import in_transaction
from dispatcher.outbox.wake import wake
from tests.contract.outbox_under_test import (
    OutboxUnderTest,
    buried,
    delivered,
    insert,
    released,
    retried,
)

LEADS_OF_EACH = 5
TRANSACTIONS_OF_EACH = 20
CANCELLATIONS = 60
ACCOUNTS = ("default", "other")


@dataclass
class Storm:
    """What the threads agree on, and what they saw."""

    outbox: OutboxUnderTest
    producing: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    committed: list[int] = field(default_factory=list)
    attempts: set[tuple[int, int]] = field(default_factory=set)
    flying: set[tuple[str, str]] = field(default_factory=set)
    first_claims: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    never: threading.Event = field(default_factory=threading.Event)

    def claimed(self, batch: list[Claimed]) -> None:
        with self.lock:
            for event in batch:
                line = (event.account, event.lead)
                if (event.id, event.attempt) in self.attempts:
                    self.broken.append(f"attempt {event.attempt} of {event.id} was given twice")
                if line in self.flying:
                    self.broken.append(f"two of {line} in flight")
                self.attempts.add((event.id, event.attempt))
                self.flying.add(line)
                if event.attempt == 1:
                    self.first_claims.setdefault(line, []).append(event.id)

    def landing(self, batch: list[Claimed]) -> None:
        with self.lock:
            self.flying -= {(event.account, event.lead) for event in batch}

    def over(self) -> bool:
        if self.producing or self.broken:
            return bool(self.broken)
        return self.outbox.count(events, events.c.state.in_(["pending", "in_flight"])) == 0


def _produce(storm: Storm, number: int, rng: Random) -> None:
    for _ in range(TRANSACTIONS_OF_EACH):
        rows = [
            {
                "account": rng.choice(ACCOUNTS),
                "lead": f"{number}-{rng.randrange(LEADS_OF_EACH)}",
                "behind": rng.choice((0, 1)),
            }
            for _ in range(rng.randrange(1, 4))
        ]
        at = storm.outbox.now()
        with storm.outbox.engine.connect() as connection:
            ids = insert(connection, [{**row, "line_at": at, "available_at": at} for row in rows])
            if rng.random() < 0.1:
                connection.rollback()
                continue
            connection.commit()
        with storm.lock:
            storm.committed += ids
    with storm.lock:
        storm.producing -= 1


def _claim_and_settle(storm: Storm, rng: Random) -> None:
    owed: list[int] = []
    while not storm.over():
        batch = storm.outbox.claim(room=rng.randrange(1, 9), hints=ACCOUNTS)
        owed += batch.owed
        storm.claimed(batch.events)
        fates = [_fate(event, rng) for event in batch.events]
        storm.landing(batch.events)
        while fates:
            result = storm.outbox.settle(*fates)
            storm.broken += [f"{lost.held} lost its fence" for lost in result.lost]
            owed += result.owed
            fates = result.busy
        if not batch.events:
            storm.never.wait(0.02)  # let others have SQLite's one lock; its queue is not fair
        if owed:
            debts, owed = owed, []
            owed += in_transaction(storm.outbox.engine, lambda connection, debts=debts: wake(connection, debts).owed)  # type: ignore[misc]  # mypy: lambda default


def _fate(event: Claimed, rng: Random) -> Settlement:
    chance = rng.random()
    if chance < 0.15 and event.attempt < 5:
        return retried(event, after=0)
    if chance < 0.25 and event.attempt < 5:
        return released(event)
    return buried(event) if chance < 0.3 else delivered(event)


def _cancel_some(storm: Storm, rng: Random) -> None:
    for _ in range(CANCELLATIONS):
        with storm.lock:
            event = rng.choice(storm.committed) if storm.committed else None
        if event is None:
            continue
        with storm.outbox.engine.connect() as shop:
            row = shop.execute(sa.select(events.c.state).where(events.c.id == event).with_for_update()).one()
            if row.state == "pending" and rng.random() < 0.3:
                transitions.cancel(shop, [event])
                wake(shop, [event])
            if rng.random() < 0.8:
                shop.commit()
            else:
                shop.rollback()


@pytest.mark.parametrize("seed", [1])
def test_after_the_storm_everything_is_accounted_for_and_nobody_was_overtaken(
    outbox: OutboxUnderTest, seed: int
) -> None:
    outbox.account("other")
    producers, claimers = (2, 2) if outbox.backend == "sqlite" else (3, 4)
    storm = Storm(outbox, producers)

    def part(work: Callable[..., None], *arguments: object) -> None:
        try:
            work(storm, *arguments)
        except BaseException as error:
            storm.broken.append(repr(error))  # and so ends the others
            raise

    dice = (Random(number) for number in count(seed))  # noqa: S311 - a test's dice
    with ThreadPoolExecutor(producers + claimers + 1) as pool:
        work = [pool.submit(part, _produce, number, next(dice)) for number in range(producers)]
        work += [pool.submit(part, _claim_and_settle, next(dice)) for _ in range(claimers)]
        work.append(pool.submit(part, _cancel_some, next(dice)))
    for finished in work:
        finished.result()
    assert storm.broken == []
    assert outbox.breaches() == []
    with outbox.engine.begin() as connection:
        assert sweep.Repair().step(connection) == 0, "there was nothing to repair"
    rows = outbox.rows()
    assert sorted(rows) == sorted(storm.committed), "what was rolled back left nothing, what was committed is there"
    assert {row["state"] for row in rows.values()} <= {"delivered", "dead", "cancelled"}
    dead = [event for event, row in rows.items() if row["state"] == "dead"]
    assert outbox.count(dead_letters, dead_letters.c.open_event.is_not(None)) == len(dead)
    assert outbox.count(attempts) == len(storm.attempts) == sum(row["attempt"] for row in rows.values())
    for line, order in storm.first_claims.items():
        assert order == sorted(order, key=lambda event: (rows[event]["line_at"], event)), f"overtaken: {line}"
