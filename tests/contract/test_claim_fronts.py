"""A claim that is told where the candidates began last time looks from there on; nothing due is forgotten by that."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import events
from dispatcher.outbox.window import EVERYTHING, Front, front_of, next_ready
from tests.contract.outbox_under_test import OutboxUnderTest, delivered


def _due(outbox: OutboxUnderTest, *minutes_ago: int, **values: Any) -> list[int]:
    """Events that have been due for so long."""
    now = outbox.now()
    moments = [now - timedelta(minutes=ago) for ago in minutes_ago]
    return outbox.add_all([{"available_at": at, "ready_at": at, "line_at": at, **values} for at in moments])


def _ready(outbox: OutboxUnderTest, event: int) -> datetime:
    moment: datetime = outbox.row(event).ready_at
    return moment


def _ids(outbox: OutboxUnderTest, **options: Any) -> list[int]:
    return [event.id for event in outbox.claim(**options).events]


def test_a_claim_tells_where_each_lane_began(outbox: OutboxUnderTest) -> None:
    first, second, *_ = _due(outbox, 9, 8, 7)
    (behind,) = _due(outbox, 5, behind=1)
    one, two, other = (_ready(outbox, event) for event in (first, second, behind))
    assert outbox.claim(room=1).fronts == {"default": (one, other)}
    assert outbox.claim(room=1).fronts == {"default": (two, other)}


def test_a_lane_without_candidates_begins_with_the_claim(outbox: OutboxUnderTest) -> None:
    _due(outbox, 9)
    before = outbox.now()
    assert before <= outbox.claim(room=1).fronts["default"][1] <= outbox.now()


def test_an_account_without_candidates_has_no_front(outbox: OutboxUnderTest) -> None:
    assert outbox.claim().fronts == {}


@pytest.mark.parametrize("lane", [0, 1])
def test_from_a_front_on_what_is_due_before_is_passed_over_until_a_complete_look(
    outbox: OutboxUnderTest, lane: int
) -> None:
    early, at_the_front, later = _due(outbox, 9, 8, 7, behind=lane)
    fronts = {"default": (_ready(outbox, at_the_front), _ready(outbox, at_the_front))}
    assert _ids(outbox, room=1, fronts=fronts) == [at_the_front]
    assert outbox.account_row().turn_at <= outbox.now(), "it wants to be looked at again"
    assert _ids(outbox, room=9) == [early, later]


@pytest.mark.parametrize("lane", [0, 1])
def test_where_nothing_is_due_from_the_front_on_the_look_is_complete(outbox: OutboxUnderTest, lane: int) -> None:
    early, delayed = _due(outbox, 9, -60, behind=lane)
    fronts = {"default": (outbox.now(), outbox.now())}
    batch = outbox.claim(fronts=fronts)
    assert [event.id for event in batch.events] == [early]
    assert outbox.account_row().turn_at == _ready(outbox, delayed)


def test_what_is_left_before_the_front_gets_its_turn_when_all_behind_it_is_taken(outbox: OutboxUnderTest) -> None:
    early, late = _due(outbox, 9, 7)
    fronts = {"default": (_ready(outbox, late), _ready(outbox, late))}
    batch = outbox.claim(room=1, fronts=fronts)
    assert [event.id for event in batch.events] == [late]
    assert _ids(outbox, room=1) == [early]
    assert outbox.account_row().turn_at is None


def test_each_of_many_accounts_has_a_front_of_its_own(outbox: OutboxUnderTest) -> None:
    outbox.account(turn_at=None)
    fronts: dict[str, Front] = {}
    wanted, hidden = [], []
    for number, name in enumerate(["shop-1", "shop-2", "shop-3"]):
        outbox.account(name)
        early, late = _due(outbox, 9 + number, 5 - number, account=name)
        if number == 1:  # it has none
            wanted += [early, late]
        else:
            fronts[name] = _ready(outbox, late), outbox.now()
            wanted.append(late)
            hidden.append(early)
    assert sorted(_ids(outbox, room=100, fronts=fronts)) == sorted(wanted)
    assert sorted(_ids(outbox, room=100, fronts={})) == sorted(hidden)


def test_the_order_of_a_lead_holds_across_a_front(outbox: OutboxUnderTest) -> None:
    """Its first event lies before the front; the second, from there on, does not go before it."""
    first, second = _due(outbox, 9, 7, lead="l" * 32)
    fronts = {"default": (_ready(outbox, second), outbox.now())}
    batch = outbox.claim(room=1, fronts=fronts)
    assert (batch.events, batch.more) == ([], True), "the second steps aside, and the next look is to be complete"
    assert outbox.row(second).ready_at is None
    assert batch.fronts == {"default": EVERYTHING}
    assert _ids(outbox, room=1, fronts=batch.fronts) == [first]


def test_a_complete_look_that_finds_all_locked_by_others_does_not_ask_for_another(
    two_writers: None, outbox: OutboxUnderTest
) -> None:
    (event,) = _due(outbox, 9)
    with outbox.engine.connect() as other:
        other.execute(sa.select(events.c.id).where(events.c.id == event).with_for_update())
        batch = outbox.claim(fronts={"default": (_ready(outbox, event), outbox.now())})
        assert (batch.events, batch.more, batch.fronts) == ([], True, {"default": EVERYTHING})
        again = outbox.claim(fronts=batch.fronts)
        assert (again.events, again.more) == ([], False)


def test_a_front_is_no_later_than_the_claim_that_saw_it(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    later, earlier = now + timedelta(hours=1), now - timedelta(hours=1)
    assert front_of((later, None), now) == (now, now)
    assert front_of((earlier, now), now) == (earlier, now)


@pytest.mark.postgres
@pytest.mark.alone("counts what one statement reads")
def test_while_a_transaction_stays_open_a_look_from_the_front_passes_nothing_that_has_gone(postgres_url: str) -> None:
    """Other databases keep what has gone, too, or let it go at once; only PostgreSQL tells what a look has read."""
    engine = create_engine(postgres_url)
    outbox = OutboxUnderTest(engine)
    outbox.account()
    _due(outbox, *range(900, 0, -1))
    patient = engine.connect().execution_options(isolation_level="REPEATABLE READ")
    patient.exec_driver_sql("SELECT pg_current_snapshot()")
    fronts: dict[str, Front] = {}
    for _ in range(8):
        batch = outbox.claim(room=100, fronts=fronts)
        fronts = batch.fronts
        outbox.settle(*map(delivered, batch.events))
    assert _pages(engine, fronts["default"]) * 4 < _pages(engine, EVERYTHING)
    patient.close()
    engine.dispose()


def _pages(engine: sa.Engine, front: Front) -> int:
    """How many pages the look for an account's first candidates reads."""
    asked: list[tuple[str, Any]] = []

    def explain(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> tuple[str, Any]:
        if statement.startswith("EXPLAIN"):
            return statement, parameters
        asked.append((statement, parameters))
        return statement, parameters

    with engine.connect() as connection:
        read_clock(connection)
        sa.event.listen(engine, "before_cursor_execute", explain, retval=True)
        try:
            next_ready(connection, {"default": front})
        finally:
            sa.event.remove(engine, "before_cursor_execute", explain)
        statement, parameters = asked[-1]
        plan = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters
        ).scalar_one()
    root = plan[0]["Plan"]
    pages: int = root["Shared Hit Blocks"] + root["Shared Read Blocks"]
    return pages
