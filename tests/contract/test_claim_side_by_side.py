"""A claim visits its accounts side by side: with the outcome of visiting one after another, and at a flat cost.

Rows and SQL are real. On PostgreSQL a claim asks as often for fifty accounts as for two; on the other databases it
asks some reads for each account, and everything else together.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox import claim as claiming
from dispatcher.outbox.claimed import Batch
from dispatcher.outbox.tables import accounts, events, permits
from tests.contract.outbox_under_test import OutboxUnderTest, rules

READS_OF_ONE = {"postgresql": 0, "mysql": 5, "sqlite": 4}
"""Twice when its candidates are due, whether one is in flight, and its window, which MariaDB reads in two steps."""


def _shops(outbox: OutboxUnderTest, count: int, **values: Any) -> list[str]:
    names = [f"shop-{number:02}" for number in range(count)]
    for name in names:
        outbox.account(name, **values)
    return names


def _statements_of_a_claim(outbox: OutboxUnderTest, count: int) -> int:
    names = _shops(outbox, count, proven_until=None, turn_at=outbox.now() - timedelta(minutes=1))
    outbox.add_all([{"account": name} for name in names for _ in range(2)])
    asked: list[str] = []

    def statement(*arguments: Any) -> None:
        asked.append(arguments[2])

    sa.event.listen(outbox.engine, "before_cursor_execute", statement)
    try:
        batch = outbox.claim(room=100, by=rules(account=100, lead=10))
    finally:
        sa.event.remove(outbox.engine, "before_cursor_execute", statement)
    assert Counter(event.account for event in batch.events) == dict.fromkeys(names, 1)
    with outbox.engine.begin() as connection:
        for table in (events, permits):
            connection.execute(sa.delete(table).where(table.c.account.in_(names)))
    return len(asked)


def test_forty_accounts_cost_a_claim_no_more_statements_than_their_reads(outbox: OutboxUnderTest) -> None:
    outbox.account(turn_at=None)
    few = _statements_of_a_claim(outbox, 2)
    assert _statements_of_a_claim(outbox, 42) - few <= 40 * READS_OF_ONE[outbox.backend]
    assert few <= 10 + 2 * READS_OF_ONE[outbox.backend]


def test_room_that_one_account_leaves_goes_to_whoever_was_before_it(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    for waited, (name, count) in enumerate({"few": 2, "most": 20, "none": 1}.items()):
        outbox.account(name, turn_at=now - timedelta(hours=3 - waited))
        outbox.add_all([{"account": name}] * count)
    outbox.account(turn_at=None)
    batch = outbox.claim(room=12)
    assert Counter(event.account for event in batch.events) == {"most": 9, "few": 2, "none": 1}
    assert batch.more
    left = outbox.claim(room=12)
    assert (len(left.events), left.more) == (11, False)


def test_what_an_account_may_not_take_goes_to_the_others(outbox: OutboxUnderTest) -> None:
    for name in ("free", "limited"):
        outbox.account(name, per_minute=3 if name == "limited" else None)
        outbox.add_all([{"account": name}] * 20)
    batch = outbox.claim(room=12)
    assert Counter(event.account for event in batch.events) == {"free": 9, "limited": 3}


def test_long_lines_are_walked_side_by_side(outbox: OutboxUnderTest) -> None:
    """Each of the accounts needs several windows, and another number of them."""
    free: list[int] = []
    for place, name in enumerate(_shops(outbox, 3)):
        outbox.add(account=name, lead="long", state="in_flight")
        outbox.add_all([{"account": name, "lead": "long"}] * (5 + 20 * place))
        free += outbox.add_all([{"account": name, "ready_at": outbox.now()}] * 2)
    batch = outbox.claim(room=6)
    assert sorted(event.id for event in batch.events) == free
    assert [row["id"] for row in outbox.rows().values() if row["ready_at"] is not None] == []


def test_both_lanes_of_several_accounts_are_looked_at(outbox: OutboxUnderTest) -> None:
    ahead, behind, both = _shops(outbox, 3)
    lanes = {ahead: [0], behind: [1], both: [0, 1]}
    due = outbox.add_all([{"account": name, "behind": lane} for name, some in lanes.items() for lane in some])
    assert sorted(event.id for event in outbox.claim().events) == due


@pytest.mark.usefixtures("two_writers")
def test_what_a_shop_has_locked_holds_no_other_account_back(outbox: OutboxUnderTest) -> None:
    names = _shops(outbox, 3)
    first = dict(zip(names, outbox.add_all([{"account": name} for name in names]), strict=True))
    second = outbox.add_all([{"account": name} for name in names])
    with outbox.engine.connect() as shop:
        shop.execute(sa.select(events.c.id).where(events.c.id == first["shop-01"]).with_for_update())
        taken = sorted(event.id for event in outbox.claim().events)
        shop.rollback()
    assert taken == sorted({*first.values(), *second} - {first["shop-01"]})
    assert [event.id for event in outbox.claim().events] == [first["shop-01"]]


TYPES = ["ORDER_PLACED", "ECOMMERCE_ORDER_PLACED", "CART_ABANDONED", "OPPORTUNITY", "CONVERSION"]
BY = rules(account=6, lead=2)


def _anything(outbox: OutboxUnderTest, random: Random) -> list[str]:
    """Accounts in every condition, with events in every condition."""
    now = outbox.now()
    later, before = now + timedelta(minutes=5), now - timedelta(minutes=5)
    suspended = json.dumps({"OPPORTUNITY": {"reason": "plan", "detail": "", "probe_at": later.isoformat()}})
    conditions: list[dict[str, Any]] = [
        {}, {"proven_until": None}, {"per_minute": 2}, {"lead_per_day": 1}, {"suspended_types": suspended},
        {"throttled_until": later}, {"paused_at": before, "paused_by": "ana"},
    ]  # fmt: skip
    names = [f"shop-{number}" for number in range(len(conditions) * 2)]
    for name, condition in zip(names, conditions * 2, strict=True):
        outbox.account(name, turn_at=random.choice([before, None, later]), **condition)
    rows: list[dict[str, Any]] = []
    for _ in range(200):
        row: dict[str, Any] = {
            "account": random.choice(names),
            "event_type": random.choice(TYPES),
            "lead": f"lead-{random.randrange(4)}",
            "behind": random.randrange(2),
            "ordering": random.choice(["lead", "lead", "lead", "none"]),
        }
        state = random.choice(["pending"] * 9 + ["delivered"])
        due = random.choice([before, before, before, later])
        rows.append({**row, "state": state, "available_at": due, "ready_at": due if state == "pending" else None})
        if random.random() < 0.1:
            rows[-1]["expires_at"] = before
        if random.random() < 0.1:
            rows[-1]["budget_from"] = now - timedelta(days=8)
    rows += [{"account": name, "state": "in_flight"} for name in random.sample(names, 5)]
    outbox.add_all(rows)
    used = [{"account": random.choice(names), "lead": f"lead-{random.randrange(4)}"} for _ in range(30)]
    moments = {"counts_until": later, "lead_counts_until": later}
    with outbox.engine.begin() as connection:
        connection.execute(
            sa.insert(permits),
            [{"event": 900_000 + place, "attempt": 1, **row, **moments} for place, row in enumerate(used)],
        )
    return names


def _claimed(connection: sa.Connection, hints: list[str], others: list[str]) -> Batch:
    full = dict.fromkeys(others, 1000)
    return claiming.claim(connection, BY, worker="w", room=1000, hints=hints, busy=full, cap=1000)


def _left(connection: sa.Connection) -> list[tuple[Any, ...]]:
    """What is written, apart from moments of the claim."""
    lines = sa.select(events.c.id, events.c.state, events.c.attempt, events.c.reason, events.c.ready_at.is_(None))
    turns = sa.select(accounts.c.account, accounts.c.turn_at.is_(None), accounts.c.suspended_types)
    used = sa.select(permits.c.event, permits.c.attempt, permits.c.account, permits.c.lead)
    queries = (lines.order_by(events.c.id), turns.order_by(accounts.c.account), used.order_by(permits.c.event))
    return [tuple(row) for query in queries for row in connection.execute(query)]


@pytest.mark.parametrize("seed", range(6))
def test_side_by_side_comes_to_the_same_as_one_after_another(outbox: OutboxUnderTest, seed: int) -> None:
    outbox.account(turn_at=None)
    names = _anything(outbox, Random(seed))  # noqa: S311 - a seed, not secrets
    with outbox.engine.connect() as connection:
        together = _claimed(connection, names, [])
        left = _left(connection)
        connection.rollback()
        others = {name: [other for other in names if other != name] for name in names}
        alone = [_claimed(connection, [name], others[name]) for name in names]
        later = [_claimed(connection, [name], others[name]) for batch in alone for name in batch.unqueued]
        assert [batch.events for batch in later] == [[]] * len(later), "only their turns were left to look for"
        assert _left(connection) == left
        connection.rollback()
    assert {event.held for event in together.events} == {event.held for batch in alone for event in batch.events}
    assert len({event.account for event in together.events}) > 5, "enough to be side by side"
    for name in ("expired", "outlived"):
        assert getattr(together, name) == sum(getattr(batch, name) for batch in alone)
    assert together.expired + together.outlived > 0
    assert together.more == any(batch.more for batch in alone)
