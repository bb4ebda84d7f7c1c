"""Whose turn it is: fairness between accounts, what holds one back, hints, and accounts nobody has heard of.

Rows and SQL are real; time is written into the rows.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox import account_rows, sweep, turns
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import accounts, events, permits
from dispatcher.outbox.transaction import reading
from dispatcher.policy.effects import Proven
from tests.contract.outbox_under_test import OutboxUnderTest, buried, delivered, released, rules

SOON = timedelta(minutes=1)


def _events(outbox: OutboxUnderTest, account: str, count: int = 1, **given: object) -> list[int]:
    return outbox.add_all([{"account": account, **given} for _ in range(count)])


def test_an_account_with_thousands_delays_none_of_fifty_with_one_event(outbox: OutboxUnderTest) -> None:
    small = [f"shop-{number:02}" for number in range(50)]
    _events(outbox, "default", 300)
    for account in small:
        outbox.account(account)
        _events(outbox, account)
    served: Counter[str] = Counter()
    for _ in range(2):
        served.update(event.account for event in outbox.claim(room=60).events)
    assert all(served[account] == 1 for account in small), "each small account is served within two claims"
    assert served["default"] >= 60, "and room that nobody else wants is not left unused"


def test_the_account_that_has_waited_longest_goes_first_and_then_last(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    for place, account in enumerate(["third", "first", "second"]):
        waited = {"third": 10, "first": 30, "second": 20}[account]
        outbox.account(account, turn_at=now - timedelta(seconds=waited))
        _events(outbox, account, 2 + place)
    outbox.account("default", turn_at=None)
    order = []
    for _ in range(6):
        order += [event.account for event in outbox.claim(room=1).events]
        claimed_at = outbox.now()
        while outbox.now() == claimed_at:  # SQLite tells milliseconds apart, and two claims may fit into one
            pass
    assert order == ["first", "second", "third"] * 2


def test_the_room_is_shared_and_never_exceeded(outbox: OutboxUnderTest) -> None:
    for account in ("a", "b", "c"):
        outbox.account(account)
        _events(outbox, account, 10)
    batch = outbox.claim(room=9)
    assert Counter(event.account for event in batch.events) == {"a": 3, "b": 3, "c": 3}
    assert batch.more
    assert outbox.claim(room=0).events == []


def test_an_account_gets_no_more_than_the_cap_with_what_is_being_sent_already(outbox: OutboxUnderTest) -> None:
    for account in ("a", "b"):
        outbox.account(account)
        _events(outbox, account, 10)
    batch = outbox.claim(room=50, cap=4, busy={"a": 3})
    assert Counter(event.account for event in batch.events) == {"a": 1, "b": 4}
    assert outbox.claim(room=50, cap=4, busy={"a": 4, "b": 4}).events == [], "both are full"


HELD = {
    "paused": {"paused_by": "somebody", "paused_at": True},
    "suspended": {"suspended_at": True, "suspend_reason": "credentials"},
}


@pytest.mark.parametrize("hold", HELD)
def test_a_held_account_gives_nothing_not_even_on_a_hint(outbox: OutboxUnderTest, hold: str) -> None:
    now = outbox.now()
    outbox.account("held", **{name: now if value is True else value for name, value in HELD[hold].items()})
    _events(outbox, "held")
    assert outbox.claim(hints=["held"]).events == []
    assert outbox.account_row("held").turn_at is None
    with outbox.engine.begin() as connection:
        assert "held" not in sweep.spread_the_word(connection)
    assert outbox.account_row("held").turn_at is None


@pytest.mark.parametrize("why", ["paused", "throttled", "nothing due", "nothing at all", "blocked", "no permit"])
def test_a_claim_that_met_only_an_account_which_gives_nothing_says_that_there_may_be_others(
    outbox: OutboxUnderTest, why: str
) -> None:
    now = outbox.now()
    stopped: dict[str, dict[str, Any]] = {
        "paused": {"paused_by": "ana", "paused_at": now},
        "throttled": {"throttled_until": now + SOON},
    }
    outbox.account("first", turn_at=now - timedelta(hours=1), **stopped.get(why, {}))
    if why != "nothing at all":
        due = now + SOON if why == "nothing due" else now
        _events(outbox, "first", available_at=due, ready_at=due, lead="l")
    if why == "blocked":
        _events(outbox, "first", state="in_flight", lead="l")
    if why == "no permit":
        taken = {"account": "first", "lead": "l", "counts_until": now + SOON, "lead_counts_until": now + SOON}
        with outbox.engine.begin() as connection:
            connection.execute(sa.insert(permits), {"event": 900_001, "attempt": 1, **taken})
    (mine,) = _events(outbox, "default")
    looked = outbox.claim(room=1, by=rules(account=1))
    assert (looked.events, looked.more) == ([], True)
    assert [event.id for event in outbox.claim(room=1, by=rules(account=1)).events] == [mine]
    assert not outbox.claim(room=1, by=rules(account=1)).more, "nobody's turn is now"


def test_what_ended_on_the_way_is_counted(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    _events(outbox, "default", 2, expires_at=now)
    _events(outbox, "default", 3, budget_from=now - timedelta(days=8))
    batch = outbox.claim()
    assert (batch.expired, batch.outlived, batch.superseded, batch.more) == (2, 3, 0, True)


def test_a_throttled_account_gives_nothing_until_its_window_opens(outbox: OutboxUnderTest) -> None:
    until = outbox.now() + SOON
    outbox.account("default", throttled_until=until)
    (event,) = _events(outbox, "default")
    assert outbox.claim(hints=["default"]).events == []
    assert outbox.account_row().turn_at == until
    with outbox.engine.begin() as connection:
        sweep.spread_the_word(connection)
    assert outbox.account_row().turn_at == until, "the sweep does not call it earlier"
    outbox.account("default", throttled_until=outbox.now())
    assert outbox.claim_ids() == [event]


@pytest.mark.parametrize("proven", [None, timedelta(seconds=-1)])
def test_an_unproven_account_gives_one_event_at_a_time(outbox: OutboxUnderTest, proven: timedelta | None) -> None:
    outbox.account("default", proven_until=None if proven is None else outbox.now() + proven)
    _events(outbox, "default", 5)
    (first,) = outbox.claim_all()
    before = outbox.now()
    assert outbox.claim_all() == []
    wait = timedelta(seconds=5)
    assert before + wait <= outbox.account_row().turn_at <= outbox.now() + wait, "so that no drain asks all the time"
    outbox.settle(buried(first))
    (second,) = outbox.claim_all()
    outbox.settle(released(second))
    (again,) = outbox.claim_all()
    with outbox.engine.begin() as connection:
        account_rows.prove(connection, ["default"], read_clock(connection))
    outbox.settle(delivered(again))
    assert len(outbox.claim_all()) == 3


def test_a_hint_finds_work_that_no_turn_tells_of(outbox: OutboxUnderTest) -> None:
    outbox.account("default", turn_at=None)
    (event,) = _events(outbox, "default")
    assert outbox.claim().events == []
    assert [found.id for found in outbox.claim(hints=["default"]).events] == [event]


def test_a_hint_finds_work_that_came_before_the_turn_that_is_known(outbox: OutboxUnderTest) -> None:
    outbox.account("default", turn_at=outbox.now() + SOON)
    hinted = _events(outbox, "default")
    assert outbox.claim().events == []
    outbox.account("other")
    due = _events(outbox, "other")
    assert sorted(found.id for found in outbox.claim(hints=["default"]).events) == [*hinted, *due]


def test_work_now_brings_a_later_turn_forward_and_puts_no_earlier_one_back(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    turn_of = {"early": now - SOON, "late": now + SOON, "idle": None, "nobody's": now + SOON}
    for account, turn_at in turn_of.items():
        outbox.account(account, turn_at=turn_at)
    with outbox.engine.begin() as connection:
        turns.make_due(connection, ["early", "late", "idle"])
        turns.make_due(connection, [])
    found = {account: outbox.account_row(account).turn_at for account in turn_of}
    assert {account: found[account] for account in ("early", "nobody's")} == {
        "early": now - SOON,
        "nobody's": now + SOON,
    }
    assert all(now <= found[account] <= outbox.now() for account in ("late", "idle"))


def test_a_hint_puts_no_account_before_its_turn(outbox: OutboxUnderTest) -> None:
    """A long backlog is hinted at after each settlement; beside many others it would go out in every claim."""
    now = outbox.now()
    visited = turns.places(200)
    small = [f"shop-{number:02}" for number in range(visited + 10)]
    for account in small:
        outbox.account(account, turn_at=now - timedelta(minutes=2) + timedelta(seconds=small.index(account)))
        _events(outbox, account)
    outbox.account("default", turn_at=now - timedelta(seconds=1))  # the others have waited longer
    _events(outbox, "default", 300)
    first = outbox.claim(room=200, hints=["default"])
    assert Counter(event.account for event in first.events) == dict.fromkeys(small[:visited], 1)
    assert first.more, "there are others whose turn it is"
    second = Counter(event.account for event in outbox.claim(room=200, hints=["default"]).events)
    assert second.pop("default") == 190
    assert second == dict.fromkeys(small[visited:], 1)


@pytest.mark.parametrize(("room", "places"), [(1, 1), (50, 50), (120, 50), (400, 100), (800, 200), (5000, 200)])
def test_a_claim_takes_turns_of_more_accounts_the_more_events_it_has_room_for(room: int, places: int) -> None:
    assert turns.places(room) == places


def test_a_success_queues_only_accounts_that_have_something_left(outbox: OutboxUnderTest) -> None:
    for account, count in (("one", 1), ("more", 2)):
        outbox.account(account, proven_until=None)
        _events(outbox, account, count)
    outbox.settle(*(delivered(event, effects=(Proven("ORDER_PLACED"),)) for event in outbox.claim().events))
    assert outbox.account_row("one").turn_at is None
    assert outbox.account_row("more").turn_at <= outbox.now()


def test_a_hint_for_an_account_that_does_not_exist_creates_nothing(outbox: OutboxUnderTest) -> None:
    assert outbox.claim(hints=["nobody", "' OR 1=1 --"]).events == []
    assert outbox.count(accounts) == 1


def test_an_account_with_a_backlog_keeps_its_turn_while_nobody_beside_it_waits(outbox: OutboxUnderTest) -> None:
    """Its row would change with each claim, and whoever looks it up would pass all that it has been."""
    waited = outbox.now() - timedelta(seconds=1)
    outbox.account("default", turn_at=waited)
    _events(outbox, "default", 5)
    for left in (3, 1):
        assert (len(outbox.claim(room=2).events), outbox.account_row().turn_at) == (2, waited), f"{left} are left"
    last = outbox.claim(room=2)
    assert (len(last.events), last.more, outbox.account_row().turn_at) == (1, False, None)


def test_a_backlog_that_is_worked_off_is_not_overdue(outbox: OutboxUnderTest) -> None:
    """How old the turns are that are due tells a sweeper whether the pool does its work."""
    outbox.account("default", turn_at=outbox.now() - timedelta(seconds=30))
    _events(outbox, "default", 5)
    assert len(outbox.claim(room=2).events) == 2
    due_in = reading(outbox.engine, sweep.next_turn_in)
    assert due_in is not None
    assert due_in > -timedelta(seconds=10)


def test_a_claim_names_the_hints_that_it_passes_over(outbox: OutboxUnderTest) -> None:
    for account in ("full", "free"):
        outbox.account(account, turn_at=None)
        _events(outbox, account)
    hints = ["full", "free", "nobody"]
    assert outbox.claim(hints=hints, busy={"full": 5}, cap=5).passed_over == ["full", "nobody"]
    assert outbox.claim(hints=["full"], busy={"full": 5}, cap=5).passed_over == ["full"]
    assert outbox.claim(hints=["nobody"]).passed_over == [], "so that nobody is looked for for ever"


@pytest.mark.usefixtures("two_writers")
def test_a_claim_that_moves_nothing_names_no_hint_to_be_tried_again(outbox: OutboxUnderTest) -> None:
    """What is due is in somebody's transaction: a drain would claim again and again until that ends."""
    (locked,) = _events(outbox, "default")
    with outbox.engine.begin() as shop:
        shop.execute(sa.select(events.c.id).where(events.c.id == locked).with_for_update())
        batch = outbox.claim(hints=["nobody"])
    assert (batch.events, batch.more, batch.passed_over) == ([], False, [])


def test_accounts_go_behind_others_whom_the_claim_had_no_place_for(outbox: OutboxUnderTest) -> None:
    waited = outbox.now() - timedelta(hours=1)
    for account in ("one", "other"):
        outbox.account(account, turn_at=waited)
        _events(outbox, account, 3)
    (first,) = outbox.claim(room=1).events
    (second,) = outbox.claim(room=1).events
    assert {first.account, second.account} == {"one", "other"}
    assert outbox.account_row(first.account).turn_at > waited


def test_after_a_claim_the_account_s_turn_is_when_its_next_candidate_is_due(outbox: OutboxUnderTest) -> None:
    later, sooner = outbox.now() + 2 * SOON, outbox.now() + SOON
    outbox.add()
    outbox.add(ready_at=later, available_at=later)
    outbox.add(ready_at=sooner, available_at=sooner, behind=1)
    assert len(outbox.claim_all()) == 1
    assert outbox.account_row().turn_at == sooner, "both lanes count"


@pytest.mark.usefixtures("two_writers")
def test_candidates_that_shops_have_locked_keep_no_drain_busy(outbox: OutboxUnderTest) -> None:
    (event,) = _events(outbox, "default")
    with outbox.engine.connect() as shop:
        shop.execute(sa.select(events.c.id).where(events.c.id == event).with_for_update())
        batch = outbox.claim(room=1)
        assert (batch.events, batch.more) == ([], False)
        shop.rollback()
    assert [found.id for found in outbox.claim(room=1).events] == [event]


@pytest.mark.parametrize("due_in", [None, SOON])
def test_a_look_that_finds_nothing_due_says_when_the_next_is(outbox: OutboxUnderTest, due_in: timedelta | None) -> None:
    due = None if due_in is None else outbox.now() + due_in
    if due is not None:
        outbox.add(ready_at=due, available_at=due)
    assert outbox.claim().events == []
    assert outbox.account_row().turn_at == due, "an account whose turn it is leaves the queue"
    outbox.account("default", turn_at=None)
    assert outbox.claim(hints=["default"]).events == []
    assert outbox.account_row().turn_at == due, "and one that is hinted at enters it"


@pytest.mark.parametrize("known", [None, 3 * SOON])
def test_the_next_turn_of_an_account_that_came_by_a_hint_is_looked_for_by_the_claim_after(
    outbox: OutboxUnderTest, known: timedelta | None
) -> None:
    """Nobody waits for it before what was claimed is sent."""
    now = outbox.now()
    later, turn_at = now + SOON, None if known is None else now + known
    outbox.account("default", turn_at=turn_at)
    outbox.add()
    outbox.add(ready_at=later, available_at=later)
    batch = outbox.claim(hints=["default"])
    assert (len(batch.events), batch.unqueued) == (1, ["default"])
    assert outbox.account_row().turn_at == turn_at
    batch = outbox.claim(hints=batch.unqueued)
    assert (batch.events, batch.unqueued) == ([], [])
    assert outbox.account_row().turn_at == later


@pytest.mark.parametrize("why", ["no room", "no room for the other lane", "one has ended", "none was claimed"])
def test_an_account_that_came_by_a_hint_is_queued_at_once_where(outbox: OutboxUnderTest, why: str) -> None:
    outbox.account("default", turn_at=None)
    mine: dict[str, dict[str, Any]] = {
        "no room": {},
        "no room for the other lane": {"behind": 1},
        "one has ended": {"expires_at": outbox.now()},
        "none was claimed": {"available_at": outbox.now() + SOON, "ready_at": outbox.now() + SOON},
    }
    if why != "none was claimed":
        outbox.add()
    outbox.add(**mine[why])
    batch = outbox.claim(hints=["default"], room=1 if "no room" in why else 2)
    assert batch.unqueued == []
    found = outbox.account_row().turn_at
    assert found is None if why == "one has ended" else found is not None


def test_an_account_whose_turn_it_is_gets_its_next_one_with_the_claim(outbox: OutboxUnderTest) -> None:
    later = outbox.now() + SOON
    outbox.add()
    outbox.add(ready_at=later, available_at=later)
    batch = outbox.claim(hints=["default"])
    assert (len(batch.events), batch.unqueued) == (1, [])
    assert outbox.account_row().turn_at == later


def test_an_account_without_candidates_is_not_looked_at_again(outbox: OutboxUnderTest) -> None:
    outbox.add()
    outbox.claim_all()
    assert outbox.account_row().turn_at is None


def test_the_sweep_creates_the_row_of_an_account_that_only_events_know(outbox: OutboxUnderTest) -> None:
    (event,) = _events(outbox, "unheard-of")
    assert outbox.claim().events == []
    with outbox.engine.begin() as connection:
        assert "unheard-of" in sweep.spread_the_word(connection)
    assert outbox.account_row("unheard-of").proven_until is None, "nobody vouches for its credentials"
    assert [found.id for found in outbox.claim().events] == [event]


def test_the_sweep_finds_due_work_in_either_lane_and_its_earliest_moment_counts(outbox: OutboxUnderTest) -> None:
    late = outbox.now() + timedelta(hours=1)
    due = {"guessed-behind": 1, "not-behind": 0}
    for account, lane in due.items():
        outbox.account(account, turn_at=late, throttled_until=late - timedelta(hours=2))
        outbox.add(account=account, behind=lane)
        outbox.add(account=account, behind=1 - lane, ready_at=late, available_at=late)
    before = outbox.now()
    soon = before + SOON
    outbox.account("later", turn_at=None)
    outbox.add(account="later", ready_at=soon, available_at=soon)
    outbox.account("idle", turn_at=None)
    outbox.add(account="idle", state="delivered")
    with outbox.engine.begin() as connection:
        called = sweep.spread_the_word(connection)
    assert set(called) == {*due, "default"}
    assert all(outbox.account_row(account).turn_at >= before for account in due), "not before those that wait already"
    assert outbox.account_row("later").turn_at == soon
    assert outbox.account_row("idle").turn_at is None


def test_the_sweep_takes_no_turn_back_that_a_claim_has_set_meanwhile(outbox: OutboxUnderTest) -> None:
    now = outbox.now()
    with outbox.engine.begin() as connection:
        turns.advance_turns(connection, {"default": now + SOON})
    assert outbox.account_row().turn_at < now, "it wanted to be looked at earlier than the sweep knew"


@pytest.mark.parametrize("hold", HELD)
def test_the_sweep_gives_a_held_account_no_turn(outbox: OutboxUnderTest, hold: str) -> None:
    now = outbox.now()
    held = {name: now if value is True else value for name, value in HELD[hold].items()}
    outbox.account("held", turn_at=None, **held)
    outbox.account("open", turn_at=None)
    with outbox.engine.begin() as connection:
        turns.advance_turns(connection, {"held": now, "open": now})
    assert (outbox.account_row("held").turn_at, outbox.account_row("open").turn_at) == (None, now)


@pytest.mark.usefixtures("two_writers")
def test_two_sweeps_at_once_know_every_account_once(outbox: OutboxUnderTest) -> None:
    for number in range(5):
        _events(outbox, f"new-{number}")
    with outbox.engine.connect() as one, outbox.engine.connect() as other:
        for sweeper in (one, other):  # both have looked before either writes
            assert len(sweep._all_overlooked(sweeper)) == 5
        sweep.spread_the_word(one)
        one.commit()
        sweep.spread_the_word(other)
        other.commit()
    assert outbox.count(accounts, accounts.c.account.like("new-%")) == 5


@pytest.mark.alone("it asks of all accounts")
def test_next_turn_tells_how_long_a_sweeper_may_sleep(outbox: OutboxUnderTest) -> None:
    outbox.account("default", turn_at=outbox.now() + SOON)
    with outbox.engine.connect() as connection:
        left = sweep.next_turn_in(connection)
        assert left is not None
        assert timedelta(0) < left <= SOON
    outbox.account("default", turn_at=sa.null())
    with outbox.engine.connect() as connection:
        assert sweep.next_turn_in(connection) is None
