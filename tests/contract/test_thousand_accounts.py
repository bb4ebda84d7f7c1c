"""An account with a long backlog, and many accounts with one event each: those go out as if the backlog were not there.

Real: claims, settlements, turns, the database. What is compared is work and not time: the events claimed until the last
of the small accounts is served, alone and beside the backlog. The time, with a million, is measured by benchmarks.
"""

from __future__ import annotations

import sqlalchemy as sa

from dispatcher.outbox.tables import accounts
from tests.contract.outbox_under_test import OutboxUnderTest, delivered, insert

SMALL, BACKLOG, ROOM = 200, 2_000, 100


def _work_until_all_are_served(outbox: OutboxUnderTest) -> int:
    """Claims and settles like a worker; answers how many events that took."""
    small, claimed = set[str](), 0
    for _ in range(1000):
        batch = outbox.claim(room=ROOM)
        claimed += len(batch.events)
        outbox.settle(*map(delivered, batch.events))
        small |= {event.account for event in batch.events} - {"default"}
        if len(small) == SMALL:
            return claimed
    raise AssertionError(f"only {len(small)} of {SMALL} were served")


def _fill(outbox: OutboxUnderTest) -> None:
    with outbox.engine.begin() as connection:
        now = connection.execute(sa.select(accounts.c.turn_at).where(accounts.c.account == "default")).scalar_one()
        rows = [{"account": f"shop-{number}", "turn_at": now, "proven_until": None} for number in range(SMALL)]
        connection.execute(sa.insert(accounts), rows)
        insert(connection, [{"account": row["account"]} for row in rows])


def test_beside_a_long_backlog_the_others_take_at_most_twice_the_work(outbox: OutboxUnderTest) -> None:
    _fill(outbox)
    alone = _work_until_all_are_served(outbox)
    assert alone == SMALL
    with outbox.engine.begin() as connection:
        insert(connection, [{"account": f"shop-{number}"} for number in range(SMALL)])
        insert(connection, [{} for _ in range(BACKLOG)])
        connection.execute(sa.update(accounts).values(turn_at=accounts.c.created_at))
    assert _work_until_all_are_served(outbox) <= 2 * alone
