"""A wake that could not be done is owed, and the next sweep pays it. Real: two shops' transactions, the sweep's step.

Without the debt nobody but the slow repair would find the event that sleeps behind the two.
"""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher import cancel
from dispatcher.outbox import sweep
from dispatcher.outbox.intake import fact_hash
from dispatcher.outbox.tables import events, owed_wakes
from dispatcher.outbox.wake import wake
from tests.contract.meanwhile import meanwhile
from tests.contract.outbox_under_test import OutboxUnderTest, delivered


def _pay(outbox: OutboxUnderTest) -> int:
    with outbox.engine.begin() as connection:
        return sweep.pay_wakes(connection)


@pytest.mark.usefixtures("two_writers")
def test_two_shops_that_cancel_neighbours_at_once_leave_nobody_asleep(outbox: OutboxUnderTest) -> None:
    keys = [f"ORDER_PLACED:neighbour-{number}" for number in range(3)]
    facts = [fact_hash(key) for key in keys]
    flying = outbox.add(lead="l")
    ids = outbox.add_all([{"lead": "l", "key": key, "fact": fact} for key, fact in zip(keys, facts, strict=True)])
    (event,) = outbox.claim_all()
    assert event.id == flying
    outbox.settle(delivered(event))
    assert outbox.row(ids[2]).ready_at is None
    with outbox.engine.connect() as one, outbox.engine.connect() as other:
        other.execute(sa.select(events.c.id).where(events.c.id == ids[1]).with_for_update())  # as `cancel` begins
        assert cancel(one, keys[0])
        assert cancel(other, keys[1])
        one.commit()
        other.commit()
    assert outbox.breaches() == [ids[2]], "neither of the two could see that the other's event was gone"
    assert _pay(outbox) > 0
    assert outbox.breaches() == []
    assert outbox.count(owed_wakes) == 0
    assert outbox.claim_ids() == [ids[2]]


@pytest.mark.usefixtures("two_writers")
def test_a_debt_that_still_cannot_be_paid_is_kept(outbox: OutboxUnderTest) -> None:
    first, second = outbox.add_all([{"lead": "l"}, {"lead": "l", "ready_at": None}])
    outbox.set(first, state="cancelled", reason="cancelled", ready_at=None, ended_at=outbox.now())
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(owed_wakes), [{"event": first}])
    with outbox.engine.begin() as shop:
        shop.execute(sa.text(f"SELECT id FROM outbox_events WHERE id = {second} FOR UPDATE"))  # noqa: S608 - a number
        assert _pay(outbox) == 0
    assert _pay(outbox) == 1
    assert outbox.claim_ids() == [second]


@pytest.mark.usefixtures("two_writers")
def test_a_debt_that_another_sweep_is_paying_is_not_waited_for(outbox: OutboxUnderTest) -> None:
    gone, other = outbox.add_all([{"state": "delivered"}, {"state": "delivered"}])
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(owed_wakes), [{"event": gone}, {"event": other}])
    with outbox.engine.begin() as paying:
        paying.execute(sa.select(owed_wakes.c.id).where(owed_wakes.c.event == gone).with_for_update())
        assert _pay(outbox) == 1
    assert _pay(outbox) == 1


def test_a_debt_about_an_event_that_is_gone_is_dropped(outbox: OutboxUnderTest) -> None:
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(owed_wakes), [{"event": 999_999}])
    assert _pay(outbox) == 1
    assert outbox.count(owed_wakes) == 0


def test_what_a_shop_takes_back_wakes_the_next_of_its_lead(outbox: OutboxUnderTest) -> None:
    key = "ORDER_PLACED:taken-back"
    outbox.add(lead="l", key=key, fact=fact_hash(key))
    asleep = outbox.add(lead="l", ready_at=None)
    with outbox.engine.begin() as connection:
        assert cancel(connection, key)
    assert outbox.row(asleep).ready_at is not None
    assert outbox.count(owed_wakes) == 0


def test_some_hundred_debts_are_paid_at_a_time_and_each_wakes_the_next_of_its_lead(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_STEP", 2)
    ended = outbox.add_all({"lead": lead, "state": "delivered"} for lead in "abc")
    asleep = outbox.add_all({"lead": lead, "ready_at": None} for lead in "abc")
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(owed_wakes), [{"event": event} for event in ended])
    assert _pay(outbox) == 2
    assert [outbox.row(event).ready_at is not None for event in asleep] == [True, True, False]
    assert [_pay(outbox), _pay(outbox)] == [1, 0]
    assert outbox.breaches() == []


def test_what_becomes_of_the_next_in_line_while_it_is_woken_is_seen(outbox: OutboxUnderTest) -> None:
    """Others commit between the statements: one next ends, another is taken and given back."""
    ended = outbox.add_all({"lead": lead, "state": "delivered"} for lead in "abc")
    ends, follows, taken, woken = outbox.add_all(
        {"lead": lead, "ready_at": None, "behind": int(lead == "c")} for lead in "aabc"
    )
    now = outbox.now()

    def move(connection: sa.Connection, event: int, **values: Any) -> None:
        connection.execute(sa.update(events).where(events.c.id == event).values(values))

    def one_ends_and_one_is_taken(connection: sa.Connection) -> None:
        move(connection, ends, state="cancelled", reason="cancelled", ended_at=now)
        move(connection, taken, state="in_flight", attempt=1, lease_until=now, leased_by="w2")

    def it_is_given_back(connection: sa.Connection) -> None:
        move(connection, taken, state="pending", lease_until=None, leased_by=None)

    with (
        meanwhile(
            outbox,
            ("SELECT outbox_events.id, outbox_events.account, outbox_events.ready_at", one_ends_and_one_is_taken),
            ("SELECT outbox_events.id, outbox_events.state", it_is_given_back),
        ),
        outbox.engine.begin() as connection,
    ):
        assert wake(connection, ended).owed == [ended[1]], "and the sweep looks at it again"
    rows = outbox.rows()
    assert [rows[event]["ready_at"] is not None for event in (follows, taken, woken)] == [True, False, True]
    assert [rows[event]["behind"] for event in (follows, woken)] == [0, 0]
