"""A wake that could not be done is owed, and the next sweep pays it. Real: two shops' transactions, the sweep's step.

Without the debt nobody but the slow repair would find the event that sleeps behind the two.
"""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from dispatcher import cancel
from dispatcher.outbox import sweep
from dispatcher.outbox.intake import fact_hash
from dispatcher.outbox.tables import events, owed_wakes
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
