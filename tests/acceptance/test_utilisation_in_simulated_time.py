"""Many accounts with more waiting than a minute allows: is the limit used, and kept? In simulated time.

Real: claims, permits, turns, settlements, the database. Doubled: RD Station, and time. Ten thousand accounts with a
hundred events each are for DISPATCHER_TEST_SCALE=1, some minutes; otherwise sixty.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from uuid import UUID

import pytest
import sqlalchemy as sa

from dispatcher.outbox import account_rows, sweep, turns
from dispatcher.outbox.claim import claim
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.settle import settle
from dispatcher.outbox.tables import accounts, events
from dispatcher.outbox.transaction import in_transaction, reading
from tests.acceptance.corners import SCALE
from tests.acceptance.simulated_clock import engine_that_obeys, obey
from tests.contract.outbox_under_test import PROBE_EVERY, delivered, rules

ACCOUNTS, EACH = (10_000 if SCALE else 60), 100
PER_MINUTE = 30
"""Three full minutes and a part of a fourth for each account. RD Station's 120 would let all go in the first."""
WINDOW = timedelta(seconds=60)
LATENCY = timedelta(seconds=0.2)
ROOM = 500
BEGIN = datetime(2026, 11, 27, tzinfo=UTC)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if SCALE else 300)]


class Fleet:
    """As many workers as there is work for: whatever may go out at a moment does."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine, self.now = engine, BEGIN
        self.sent: dict[str, list[datetime]] = defaultdict(list)
        obey(engine, lambda: self.now)

    def enqueue(self) -> None:
        names = [f"shop-{number}" for number in range(ACCOUNTS)]
        with self.engine.begin() as connection:
            for start in range(0, ACCOUNTS, 1000):
                account_rows.ensure(connection, names[start : start + 1000])
            connection.execute(sa.update(accounts).values(proven_until=self.now + timedelta(days=1)))
            for number in range(EACH):
                connection.execute(
                    sa.insert(events),
                    [
                        {
                            "event_id": UUID(int=number * ACCOUNTS + place),
                            "account": name,
                            "event_type": "ORDER_PLACED",
                            "key": f"order:{number}",
                            "fact": f"{number:064}",
                            "lead": f"{number:064}",
                            "payload": "{}",
                        }
                        for place, name in enumerate(names)
                    ],
                )

    def deliver_all(self) -> None:
        answered = list[Claimed]()
        while True:
            flying = self._claim_all(dict.fromkeys(event.account for event in answered))
            if flying:
                self.now += LATENCY
                for start in range(0, len(flying), ROOM):
                    in_transaction(self.engine, partial(self._settle, flying[start : start + ROOM]))
            elif (due_in := reading(self.engine, sweep.next_turn_in)) is not None:
                self.now += max(due_in, timedelta(milliseconds=1))
            else:
                return
            answered = flying

    def _claim_all(self, hints: dict[str, None]) -> list[Claimed]:
        """Claim until there is nothing, with hints as a worker gives them after its settlements."""
        flying = list[Claimed]()
        while True:
            some = list(islice(hints, turns.AT_MOST))
            batch = in_transaction(self.engine, partial(self._claim, some))
            for account in some:
                del hints[account]
            flying += batch
            for event in batch:
                self.sent[event.account].append(self.now)
            if not batch and not hints:
                return flying

    def _claim(self, hints: list[str], connection: sa.Connection) -> list[Claimed]:
        return claim(connection, rules(account=PER_MINUTE), worker="w", room=ROOM, hints=hints).events

    def _settle(self, batch: list[Claimed], connection: sa.Connection) -> None:
        rng = random.Random(4)  # noqa: S311 - jitter
        settle(connection, [delivered(event) for event in batch], probe_every=PROBE_EVERY, worker="w", rng=rng)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    with engine_that_obeys(request, request.param) as engine:
        yield Fleet(engine)


def test_each_account_uses_its_limit_and_keeps_it_however_many_there_are(fleet: Fleet) -> None:
    fleet.enqueue()
    fleet.deliver_all()
    assert len(fleet.sent) == ACCOUNTS
    full = EACH // PER_MINUTE
    utilisation = []
    for moments in fleet.sent.values():
        assert len(moments) == EACH
        for first, beyond in zip(moments, moments[PER_MINUTE:], strict=False):
            assert beyond - first >= WINDOW, "a violation"
        utilisation.append(full * WINDOW / (moments[full * PER_MINUTE] - BEGIN))
    logging.getLogger(__name__).info("utilisation %.4f to %.4f", min(utilisation), max(utilisation))
    assert min(utilisation) >= 0.97
