"""The search for the bad events of a refused batch, played against an imagined RD Station. Doubled: only that one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.bisection import Parts, after_passing, after_refusal, halves, together


class Imagined:
    """Refuses a request that holds a bad event; remembers what it was asked."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.requests: list[tuple[int, ...]] = []
        self.accepted: list[int] = []
        self.convicted: list[int] = []

    def takes(self, members: tuple[int, ...]) -> bool:
        self.requests.append(members)
        if self.bad & set(members):
            return False
        self.accepted += members
        return True


def search(count: int, bad: set[int]) -> Imagined:
    """Send a batch and whatever the policy says follows; what is in no part goes alone."""
    station = Imagined(bad)
    everybody = tuple(range(count))
    parts: Parts[int] = together([everybody])
    while parts:
        now, waiting = parts[0], parts[1:]
        if station.takes(now.members):
            parts = after_passing(waiting)
        else:
            parts = halves(now.members, one_is_bad=True) + after_refusal(waiting)
    for member in everybody:
        if member not in station.accepted and not station.takes((member,)):
            station.convicted.append(member)
    return station


@pytest.mark.parametrize("count", [*range(2, 40), 50, 64, 65, 99, 100, 127, 128, 200])
def test_one_bad_event_costs_at_most_one_request_and_two_for_each_halving(count: int) -> None:
    for bad in range(count):
        station = search(count, {bad})
        assert station.convicted == [bad]
        assert len(station.requests) <= 1 + 2 * math.log2(count), f"event {bad} of {count}"


def test_a_good_batch_is_one_request() -> None:
    assert search(100, set()).requests == [tuple(range(100))]


@given(count=st.integers(2, 150), data=st.data())
def test_however_many_are_bad_each_good_one_is_accepted_once_and_each_bad_one_convicted_alone(
    count: int, data: st.DataObject
) -> None:
    bad = data.draw(st.sets(st.integers(0, count - 1)))
    station = search(count, bad)
    assert station.convicted == sorted(bad)
    assert sorted(station.accepted) == sorted(set(range(count)) - bad)
    assert all(list(request) == sorted(request) for request in station.requests), "each in its order"
    assert len(station.requests) <= 2 * count


def test_a_batch_refused_for_its_length_is_halved_without_looking_for_a_culprit() -> None:
    first, second = halves(range(10), one_is_bad=False)
    assert (first.members, second.members) == (tuple(range(5)), tuple(range(5, 10)))
    assert after_passing((second,)) == (second,)


def test_a_group_of_one_goes_alone() -> None:
    assert [part.members for part in together([[1, 2], [3], [], [4, 5, 6]])] == [(1, 2), (4, 5, 6)]


@pytest.mark.parametrize("count", [2, 3])
def test_of_three_refused_events_each_goes_alone(count: int) -> None:
    assert halves(range(count), one_is_bad=True) == ()
    assert len(halves(range(4), one_is_bad=True)) == 2
