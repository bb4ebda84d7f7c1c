"""What a claim works out between its statements: why one may go, which windows are read, who gets the room. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from dispatcher.outbox.account_rows import AccountRow, SuspendedTypes
from dispatcher.outbox.candidates import Candidate
from dispatcher.outbox.claimed import ClaimRules
from dispatcher.outbox.looking import Look, sort_out
from dispatcher.outbox.permits import NO_LIMITS, Quota, Use
from dispatcher.outbox.sealing import SEALED
from dispatcher.outbox.visit import LOOK_AT_MOST, Visit, share_out
from dispatcher.outbox.window import Found, Lanes, Place
from dispatcher.policy.breaker import CLOSED

NOW = datetime(2026, 11, 27, 3, tzinfo=UTC)
TICK = timedelta(microseconds=1)
WEEK = timedelta(days=7)
ACCOUNT = AccountRow("shop", None, None, None, None, None, SuspendedTypes(), {}, [], CLOSED)
RULES = ClaimRules(timedelta(seconds=45), NO_LIMITS, max_age=WEEK, probe_every=timedelta(minutes=1))


def candidate(number: int = 1, **given: Any) -> Candidate:
    """One that may go, unless what is given says otherwise."""
    row: dict[str, Any] = dict.fromkeys(Candidate._fields)
    row |= {"id": number, "event_id": UUID(int=number), "lead": f"lead-{number}", "event_type": "SALE", "key": "SALE:1"}
    row |= {"payload": "{}", "budget_from": NOW, "moot": False, "known": False, "lead_used": 0, "oldest": number}
    return Candidate(**row | given)


def looked(*window: Candidate, want: int = 10, by: ClaimRules = RULES) -> Look:
    return sort_out(window, ACCOUNT, by, NOW, want)


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ({"expires_at": NOW}, "expired"),
        ({"expires_at": NOW + TICK}, "free"),
        ({"budget_from": NOW - WEEK}, "free"),
        ({"budget_from": NOW - WEEK - TICK}, "outlived"),
        ({"payload": f"{SEALED}1"}, "unreadable"),
        ({"attached": f"{SEALED}1"}, "unreadable"),
        ({"known": True, "moot": True}, "known"),
        ({"moot": True, "flying": 7}, "superseded"),
        ({"budget_from": NOW - 2 * WEEK, "oldest": 7}, "blocked"),
    ],
    ids=str,
)
def test_what_becomes_of_a_candidate_is_decided_to_the_moment(given: dict[str, Any], becomes: str) -> None:
    look = looked(candidate(**given))
    assert {name for name in Look.__slots__ if getattr(look, name)} == {becomes}


@pytest.mark.parametrize(("used", "limit", "free"), [(0, 3, 3), (2, 3, 1), (3, 3, 0), (4, 3, 0), (0, 1, 1), (9, 0, 5)])
def test_a_lead_gets_what_its_limit_leaves_and_no_event_less(used: int, limit: int, free: int) -> None:
    window = [candidate(number, lead="mine", lead_used=used) for number in range(1, 6)]
    look = looked(*window, candidate(9), by=replace(RULES, quota=Quota(0, limit)))
    assert look.free == [*window[:free], candidate(9)]
    assert look.over_lead_limit == [(row.id, "mine") for row in window[free:]]


def test_what_a_claim_has_no_room_for_stays_as_it_is_and_what_ends_ends_all_the_same() -> None:
    look = looked(
        candidate(1), candidate(2), candidate(3, expires_at=NOW), candidate(4, budget_from=NOW - 2 * WEEK), want=1
    )
    assert (look.free, look.gone()) == ([candidate(1)], [3, 4])


def windows_read(visit: Visit, *, held: int | None = None, taken: int = 0) -> list[tuple[int, int, Place]]:
    """Lane, size and place of each window, of which each holds so many candidates, or is full."""
    read, look = [], visit.look(NOW)
    window = next(look, None)
    while window is not None:
        read.append((window.lane, window.size, window.after))
        visit.taken += taken
        seen = window.size if held is None else held
        try:
            window = look.send(Found(seen, Place(NOW, len(read)), []))
        except StopIteration:
            window = None
    return read


@pytest.mark.parametrize(
    ("first", "lanes"),
    [
        ((NOW, NOW), [0, 1]),
        ((NOW, None), [0]),
        ((None, NOW), [1]),
        ((NOW + TICK, NOW), [1]),
        ((NOW - WEEK, NOW + TICK), [0]),
        ((None, None), []),
    ],
)
def test_a_lane_is_read_from_the_moment_its_first_is_due(first: Lanes, lanes: list[int]) -> None:
    visit = Visit(ACCOUNT, first, most=2, want=2)
    assert windows_read(visit, held=1) == [(lane, 2, Place(due, 0)) for lane in lanes if (due := first[lane])]
    assert not visit.cut


def test_where_all_are_blocked_windows_grow_one_behind_the_other_up_to_what_a_claim_looks_at() -> None:
    visit = Visit(ACCOUNT, (NOW, None), most=300, want=300)
    assert windows_read(visit) == [
        (0, 300, Place(NOW, 0)),
        (0, 600, Place(NOW, 1)),
        (0, LOOK_AT_MOST - 900, Place(NOW, 2)),
    ]
    assert visit.cut


def test_who_has_all_that_it_wants_looks_at_as_many_of_those_guessed_to_be_behind() -> None:
    visit = Visit(ACCOUNT, (NOW, NOW), most=9, want=3)
    assert windows_read(visit, taken=3) == [(0, 3, Place(NOW, 0)), (1, 3, Place(NOW, 0))]
    assert visit.wants_more() is False, "it has got more than it wanted"
    visit = Visit(ACCOUNT, (NOW, NOW), most=9, want=3)
    windows_read(visit, taken=1, held=1)
    assert not visit.cut, "neither lane has more"


@pytest.mark.parametrize(
    ("most", "taken", "cut", "more"),
    [(4, 3, True, True), (3, 3, True, False), (4, 2, True, False), (4, 3, False, False)],
)
def test_more_room_is_for_whoever_has_used_its_own_and_can_use_it(most: int, taken: int, cut: bool, more: bool) -> None:
    assert Visit(ACCOUNT, (NOW, None), most, want=3, taken=taken, cut=cut).wants_more() is more


@pytest.mark.parametrize(
    ("room", "most", "shares"),
    [
        (9, [9, 9, 9], [3, 3, 3]),
        (10, [9, 9, 9], [4, 3, 3]),
        (2, [9, 9, 9], [1, 1, 0]),
        (12, [2, 20, 20], [2, 5, 5]),
        (12, [20, 20, 2], [4, 4, 2]),
    ],
)
def test_room_is_shared_alike_and_what_one_may_not_take_goes_to_those_after_it(
    room: int, most: list[int], shares: list[int]
) -> None:
    visits = [Visit(ACCOUNT, (NOW, None), each) for each in most]
    share_out(visits, room)
    assert [visit.want for visit in visits] == shares


def test_a_second_share_is_added_and_exceeds_what_one_may_take_no_more_than_the_first() -> None:
    visits = [Visit(ACCOUNT, (NOW, None), most, want=4) for most in (5, 20)]
    share_out(visits, 6)
    assert [visit.want for visit in visits] == [5, 9]


@pytest.mark.parametrize(
    ("use", "ceiling", "left"),
    [
        (Use(4, 0), None, 6),
        (Use(12, 0), None, 0),
        (Use(4, 1), 5, 2),
        (Use(6, 0), 5, 0),
        (Use(9, 8), 5, 1),
        (Use(), 20, 10),
    ],
)
def test_what_was_refused_fills_our_window_and_not_our_share(use: Use, ceiling: int | None, left: int) -> None:
    assert use.left(Quota(10, 0), ceiling) == left
    assert use.left(Quota(0, 10), ceiling) is None
