"""The line of a lead: one event at a time, in order, and what leaves or joins it.

Rows and SQL are real; time is written into the rows.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from dispatcher.outbox import sweep, transitions
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.tables import dead_letters, events
from dispatcher.outbox.wake import oldest_pending, step_aside, wake, wake_lead
from tests.contract.outbox_under_test import (
    OutboxUnderTest,
    breaches,
    buried,
    delivered,
    insert,
    released,
    retried,
)

HOUR = timedelta(hours=1)


def test_a_lead_s_events_go_one_at_a_time_by_place_and_then_by_id(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    early, late = now - timedelta(seconds=20), now - timedelta(seconds=10)
    third, first, second = outbox.add_all(
        [{"lead": "l", "line_at": late}, {"lead": "l", "line_at": early}, {"lead": "l", "line_at": early}]
    )
    seen = []
    for _ in range(3):
        (event,) = outbox.claim_all()
        assert outbox.claim_all() == [], "while one is in flight the others wait"
        seen.append(event.id)
        assert outbox.settle(delivered(event)).owed == []
    assert seen == [first, second, third]


def test_leads_and_accounts_do_not_wait_for_each_other(outbox: OutboxUnderTest) -> None:
    outbox.account("other")
    ids = outbox.add_all([{"lead": "l"}, {"lead": "m"}, {"lead": "l", "account": "other"}])
    batch = outbox.claim()
    assert sorted(event.id for event in batch.events) == ids


def test_a_blocked_event_steps_aside_once_and_is_woken_when_the_one_before_it_has_gone(
    outbox: OutboxUnderTest,
) -> None:
    first, second, third = outbox.add_all([{"lead": "l"}] * 3)
    (event,) = outbox.claim_all()
    assert [outbox.row(blocked).ready_at for blocked in (second, third)] == [None, None]
    outbox.settle(delivered(event))
    woken, sleeper = outbox.row(second), outbox.row(third)
    assert (woken.ready_at, woken.behind, sleeper.ready_at) == (woken.available_at, 0, None)
    assert first == event.id


def test_nobody_steps_aside_behind_an_event_that_has_ended(outbox: OutboxUnderTest) -> None:
    ended, following = outbox.add_all([{"lead": "l", "state": "delivered"}, {"lead": "l"}])
    with outbox.engine.begin() as connection:  # it ended after a claim had read that it comes first
        step_aside(connection, {following: ended})
    assert outbox.claim_ids() == [following]


def test_who_was_behind_and_is_the_first_now_is_looked_at_with_the_first(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    first, second = outbox.add_all([{"lead": "l"}, {"lead": "l", "behind": 1}])
    (event,) = outbox.claim_all()
    assert event.id == first
    outbox.add_all([{"available_at": now - timedelta(seconds=ago)} for ago in (2, 1)])
    outbox.settle(delivered(event))
    batch = outbox.claim(room=1, hints=["default"])
    assert [claimed.id for claimed in batch.events] == [second], "it was due before the others"


def test_the_next_that_is_no_sleeper_but_was_behind_is_looked_at_with_the_first(outbox: OutboxUnderTest) -> None:
    ended, behind = outbox.add_all([{"lead": "l", "state": "delivered"}, {"lead": "l", "behind": 1}])
    with outbox.engine.begin() as connection:
        assert wake(connection, [ended]).owed == []
    assert outbox.row(behind).behind == 0


def test_a_retry_keeps_its_place_and_blocks_its_lead(outbox: OutboxUnderTest) -> None:
    first, second = outbox.add_all([{"lead": "l"}] * 2)
    (event,) = outbox.claim_all()
    outbox.settle(retried(event, after=600))
    assert outbox.claim_ids() == [], "the second must not overtake"
    past = outbox.now() - timedelta(seconds=1)
    outbox.set(first, available_at=past, ready_at=past)
    assert outbox.claim_ids() == [first]
    assert outbox.states(first, second) == ["in_flight", "pending"]


def test_a_dead_letter_leaves_the_line_and_its_replay_joins_the_end(outbox: OutboxUnderTest) -> None:
    first, second, third = outbox.add_all([{"lead": "l"}] * 3)
    (event,) = outbox.claim_all()
    outbox.settle(buried(event))
    (event,) = outbox.claim_all()
    assert event.id == second
    with outbox.engine.begin() as connection:
        transitions.replay(connection, [first])
    outbox.settle(delivered(event))
    (event,) = outbox.claim_all()
    assert event.id == third
    outbox.settle(delivered(event))
    assert outbox.claim_ids() == [first]


def test_a_delayed_event_blocks_nobody_and_waits_for_its_hour(outbox: OutboxUnderTest) -> None:
    later = outbox.now() + HOUR
    delayed, order = outbox.add_all([{"lead": "l", "available_at": later}, {"lead": "l"}])
    (event,) = outbox.claim_all()
    assert event.id == order
    outbox.settle(delivered(event))
    assert outbox.claim_ids() == []
    past = outbox.now() - timedelta(seconds=1)
    outbox.set(delayed, available_at=past, ready_at=past, line_at=past)
    assert outbox.claim_ids() == [delayed]


def test_a_delayed_event_enters_behind_a_retry_that_was_first_due_earlier(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    delayed, order = outbox.add_all([{"lead": "l", "available_at": now - timedelta(seconds=1)}, {"lead": "l"}])
    outbox.set(order, line_at=now - HOUR, available_at=now + HOUR, ready_at=now + HOUR)
    assert outbox.claim_ids() == []
    assert outbox.row(delayed).ready_at is None


def test_events_without_ordering_go_together_and_before_or_behind_anybody(outbox: OutboxUnderTest) -> None:
    line = outbox.add(lead="l")
    free = outbox.add_all([{"lead": "l", "ordering": "none"}] * 3)
    assert sorted(outbox.claim_ids()) == sorted([line, *free])


def test_events_without_ordering_pass_one_of_their_lead_that_is_in_flight(outbox: OutboxUnderTest) -> None:
    outbox.add(lead="l", state="in_flight")
    free = outbox.add(lead="l", ordering="none")
    blocked = outbox.add(lead="l")
    assert outbox.claim_ids() == [free]
    assert outbox.row(blocked).ready_at is None


def test_an_event_without_ordering_that_is_in_flight_or_waits_holds_nobody_of_its_lead_back(
    outbox: OutboxUnderTest,
) -> None:
    now = outbox.now()
    ended = outbox.add(lead="l", state="delivered")
    outbox.add(lead="l", ordering="none", state="in_flight")
    waits = {"available_at": now + HOUR, "ready_at": now + HOUR, "line_at": now - HOUR}
    outbox.add(lead="l", ordering="none", **waits)
    asleep = outbox.add(lead="l", ready_at=None)
    with outbox.engine.begin() as connection:
        assert wake(connection, [ended]).owed == []
    assert outbox.claim_ids() == [asleep]


def test_the_end_of_an_event_without_ordering_wakes_nobody(outbox: OutboxUnderTest) -> None:
    outbox.add(lead="l", state="in_flight")
    asleep, ended = outbox.add_all(
        [{"lead": "l", "ready_at": None}, {"lead": "l", "ordering": "none", "state": "delivered"}]
    )
    with outbox.engine.begin() as connection:
        assert wake(connection, [ended]).owed == []
    assert outbox.row(asleep).ready_at is None


def test_a_lead_that_is_woken_by_its_name_has_its_oldest_waiting_event_woken_and_no_other(
    outbox: OutboxUnderTest,
) -> None:
    now = outbox.now()
    at = [now - timedelta(seconds=ago) for ago in (60, 50, 40, 30, 20)]
    asleep = {"lead": "l", "ready_at": None, "behind": 1}
    outbox.add_all([{"lead": "l", "state": "dead", "line_at": at[0]}, {"lead": "m", "ready_at": None}])
    outbox.add(**asleep, ordering="none", line_at=at[1])
    outbox.add(**asleep, account="other", line_at=at[1])
    ids = [outbox.add(**asleep, line_at=place, available_at=at[4]) for place in (at[3], at[2], at[2])]
    before = outbox.rows()
    with outbox.engine.begin() as connection:
        wake_lead(connection, "default", "l")
    after = outbox.rows()
    assert {event for event, row in after.items() if row != before[event]} == {ids[1]}
    assert (after[ids[1]]["ready_at"], after[ids[1]]["behind"]) == (at[4], 0)


def test_a_guess_that_is_wrong_costs_no_event(outbox: OutboxUnderTest) -> None:
    guessed = outbox.add_all([{"behind": 1}] * 3)
    others = outbox.add_all([{}] * 3)
    assert [event.id for event in outbox.claim(room=6).events] == [*others, *guessed]


def test_what_was_due_first_is_sent_first(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    late, early, middle = (
        outbox.add(ready_at=now - timedelta(seconds=ago), available_at=now - timedelta(seconds=ago))
        for ago in (10, 30, 20)
    )
    assert [event.id for event in outbox.claim(room=3).events] == [early, middle, late]


@pytest.mark.postgres
def test_the_order_of_a_line_is_no_accident_of_the_index_that_was_read(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    outbox = OutboxUnderTest(engine)
    now = outbox.now()
    second, first = (outbox.add(lead="l", line_at=now - timedelta(seconds=ago)) for ago in (10, 20))
    with engine.begin() as connection:
        for kind in ("indexscan", "indexonlyscan", "bitmapscan"):
            connection.exec_driver_sql(f"SET LOCAL enable_{kind} = off")
        query = sa.select(oldest_pending(events)).where(events.c.id == second)
        assert connection.execute(query).scalar_one() == first
    engine.dispose()


def test_a_long_line_of_one_lead_hides_nobody_for_more_than_a_look(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    line = outbox.add_all([{"lead": "long", "behind": min(place, 1)} for place in range(60)])
    other = outbox.add(line_at=now, available_at=now)
    batch = outbox.claim(room=5)
    assert [event.id for event in batch.events] == [line[0], other]


def test_a_look_passes_over_nobody_who_became_due_later_under_a_smaller_number(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    late = outbox.add(ready_at=now - timedelta(seconds=1))
    line = outbox.add_all([{"lead": "long", "ready_at": now - timedelta(seconds=60)}] * 9)
    assert [event.id for event in outbox.claim(room=2).events] == [line[0], late]


def test_a_claim_that_only_met_blocked_events_says_that_there_is_more(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.outbox.visit.LOOK_AT_MOST", 4)
    outbox.add(lead="l", state="in_flight")
    outbox.add_all([{"lead": "l"}] * 6)
    free = outbox.add()
    first = outbox.claim(room=2)
    assert (first.events, first.more) == ([], True)
    assert [event.id for event in outbox.claim(room=2).events] == [free]


def test_what_has_expired_ends_cancelled_and_wakes_the_next(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    stale, asleep = outbox.add_all(
        [{"lead": "l", "expires_at": now}, {"lead": "l", "ready_at": None, "state": "pending"}]
    )
    batch = outbox.claim()
    assert batch.expired == 1
    assert [*[event.id for event in batch.events], *outbox.claim_ids()] == [asleep]
    row = outbox.row(stale)
    assert (row.state, row.reason, row.attempt) == ("cancelled", "expired", 0)


def test_a_blocked_event_expires_in_its_place_and_its_lead_goes_on(outbox: OutboxUnderTest) -> None:
    flying, stale, next_ = outbox.add_all(
        [{"lead": "l", "state": "in_flight"}, {"lead": "l", "expires_at": outbox.now()}, {"lead": "l"}]
    )
    assert outbox.claim().expired == 1
    assert outbox.states(flying, stale, next_) == ["in_flight", "cancelled", "pending"]
    assert outbox.breaches() == []


def test_what_is_older_than_max_age_is_buried_with_a_letter_and_wakes_the_next(outbox: OutboxUnderTest) -> None:
    old, young = outbox.add_all([{"lead": "l"}, {"lead": "l"}])
    outbox.set(old, budget_from=outbox.now() - timedelta(days=8))
    outbox.set(young, ready_at=None)
    batch = outbox.claim()
    assert batch.outlived == 1
    row = outbox.row(old)
    assert (row.state, row.reason) == ("dead", "too_old")
    assert outbox.count(dead_letters, dead_letters.c.open_event == old, dead_letters.c.reason == "too_old") == 1
    assert outbox.count(dead_letters) == 1, "the young one has no letter"
    assert young in [*[event.id for event in batch.events], *outbox.claim_ids()]


def test_time_on_hold_does_not_age_an_event(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    event = outbox.add(available_at=now - timedelta(days=8))
    held = [[(now - timedelta(days=6)).isoformat(), (now - timedelta(days=2)).isoformat()]]
    outbox.account("default", holds=str(held).replace("'", '"'))
    (claimed,) = outbox.claim_all()
    assert claimed.id == event
    assert timedelta(days=4).total_seconds() == pytest.approx(claimed.age_seconds, abs=60)


def test_cancelling_the_first_wakes_the_second(outbox: OutboxUnderTest) -> None:
    first, second = outbox.add_all([{"lead": "l"}, {"lead": "l", "ready_at": None}])
    with outbox.engine.begin() as connection:
        transitions.cancel(connection, [first])
        assert wake(connection, [first]).owed == []
    assert outbox.claim_ids() == [second]


def test_one_wake_for_many_leads_wakes_each_and_nobody_else(outbox: OutboxUnderTest) -> None:
    ended = outbox.add_all([{"lead": lead, "state": "delivered"} for lead in "abc"])
    sleepers = outbox.add_all([{"lead": lead, "ready_at": None} for lead in "aabbccd"])
    with outbox.engine.begin() as connection:
        assert wake(connection, [*ended, ended[0]]).owed == []
    awake = [event for event in sleepers if outbox.row(event).ready_at is not None]
    assert awake == [sleepers[0], sleepers[2], sleepers[4]]


def test_no_two_events_of_a_lead_can_be_in_flight_even_if_a_claim_went_wrong(outbox: OutboxUnderTest) -> None:
    if outbox.backend == "mysql":
        pytest.skip("MySQL has no partial unique index; the account's lock is what prevents it there")
    outbox.add(lead="l", state="in_flight")
    with pytest.raises(sa.exc.IntegrityError):
        outbox.add(lead="l", state="in_flight")
    outbox.add_all([{"lead": "l", "state": "in_flight", "ordering": "none"}] * 2)


def test_a_released_event_is_due_at_once_and_still_first(outbox: OutboxUnderTest) -> None:
    first, _ = outbox.add_all([{"lead": "l"}] * 2)
    (event,) = outbox.claim_all()
    outbox.settle(released(event))
    (again,) = outbox.claim_all()
    assert (again.id, again.attempt, again.failures) == (first, 2, 0)


def test_the_repair_wakes_a_sleeper_that_everybody_forgot(outbox: OutboxUnderTest) -> None:
    forgotten = outbox.add(lead="a", ready_at=None, behind=1)
    waiting = outbox.add_all([{"lead": "b", "state": "in_flight"}, {"lead": "b", "ready_at": None}])[1]
    assert outbox.breaches() == [forgotten]
    with outbox.engine.begin() as connection:
        assert sweep.Repair().step(connection) == 1
        assert breaches(connection) == []
    assert outbox.row(forgotten).behind == 0, "it is the first of its lead"
    assert outbox.claim_ids() == [forgotten]
    assert outbox.row(waiting).ready_at is None


@pytest.mark.alone("it asks for the very first row")
def test_the_repair_begins_at_the_first_event_there_is_whenever_it_begins(outbox: OutboxUnderTest) -> None:
    first, repair = outbox.add(id=1, ready_at=None), sweep.Repair()
    for _ in range(2):
        outbox.set(first, ready_at=None)
        with outbox.engine.begin() as connection:
            assert repair.step(connection) == 1


@pytest.mark.alone("the steps of a walk are counted")
def test_the_repair_walks_on_and_begins_again(outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_REPAIR_STEP", 2)
    outbox.add(lead="l", state="in_flight")
    outbox.add_all([{"lead": "l", "ready_at": None}] * 3)
    last = outbox.add(lead="m", ready_at=None)
    repair = sweep.Repair()
    found = []
    for _ in range(3):
        with outbox.engine.begin() as connection:
            found.append(repair.step(connection))
    assert found == [0, 1, 0]
    outbox.set(last, ready_at=None)
    with outbox.engine.begin() as connection:
        steps = [repair.step(connection) for _ in range(2)]
    assert sum(steps) == 1


def test_the_repair_leaves_parked_events_to_their_type_until_it_is_open(outbox: OutboxUnderTest) -> None:
    parked = outbox.add(ready_at=None, reason="type_suspended", event_type="SALE")
    unordered = outbox.add(ready_at=None, reason="type_suspended", event_type="SALE", ordering="none")
    closed = '{"SALE": {"reason": "forbidden", "detail": "", "probe_at": "2999-01-01T00:00:00+00:00"}}'
    outbox.account("default", suspended_types=closed)
    with outbox.engine.begin() as connection:
        assert sweep.Repair().step(connection) == 0
    outbox.account("default", suspended_types=None)
    with outbox.engine.begin() as connection:
        assert sweep.Repair().step(connection) == 2
    assert sorted(outbox.claim_ids()) == [parked, unordered]


@pytest.mark.usefixtures("two_writers")
def test_an_insert_that_commits_late_with_an_earlier_place_waits_for_the_one_in_flight(
    outbox: OutboxUnderTest,
) -> None:
    if outbox.backend == "sqlite":
        pytest.skip("SQLite has one writer: nobody commits late")
    earlier = outbox.now() - timedelta(seconds=90)
    with outbox.engine.begin() as late:
        (first,) = insert(late, [{"lead": "l", "line_at": earlier, "available_at": earlier}])
        second = outbox.add(lead="l")
        (event,) = outbox.claim_all()
        assert event.id == second, "nobody can know of the other one yet"
    assert outbox.claim_ids() == [], "never both in flight"
    outbox.settle(retried(event, after=600))
    assert outbox.claim_ids() == [first], "it is the first of the line now"


@pytest.mark.usefixtures("two_writers")
def test_rows_that_a_shop_has_locked_are_passed_over_without_waiting(outbox: OutboxUnderTest) -> None:
    locked, free = outbox.add_all([{}, {}])
    with outbox.engine.begin() as shop:
        shop.execute(sa.select(events.c.id).where(events.c.id == locked).with_for_update())
        assert outbox.claim_ids() == [free]
        with outbox.engine.begin() as connection:
            assert sweep.Repair().step(connection) == 0
            assert sweep.expire(connection) == 0
    assert outbox.claim_ids() == [locked]
