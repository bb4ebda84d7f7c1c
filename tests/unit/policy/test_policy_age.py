"""The age of an event without the time it was held. Real: everything. Doubled: nothing; moments are made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.age import age_seconds

BIRTH = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = 100

Hold = tuple[int, int | None]


def at(second: int) -> datetime:
    return BIRTH + timedelta(seconds=second)


def age(*holds: Hold, now: int = NOW) -> float:
    return age_seconds(at(0), at(now), [(at(start), None if end is None else at(end)) for start, end in holds])


@pytest.mark.parametrize(
    ("holds", "seconds"),
    [
        ([], 100),
        ([(10, 30)], 80),
        ([(10, 30), (50, 60)], 70),
        ([(50, 60), (10, 30)], 70),  # any order
        ([(10, 30), (30, 40)], 70),  # touching
        ([(10, 30), (20, 40)], 70),  # overlapping
        ([(10, 60), (20, 30)], 50),  # one inside the other
        ([(10, 30), (10, 30)], 80),  # the same twice
        ([(-50, -10)], 100),  # over before the event was there
        ([(-50, 10)], 90),  # held when it came
        ([(-50, 150)], 0),  # held all its life
        ([(60, None)], 60),  # still held
        ([(60, None), (10, 20)], 50),
        ([(60, None), (70, None)], 60),
        ([(90, 150)], 90),  # ends later than now
        ([(100, 150)], 100),  # begins now
        ([(150, None)], 100),  # begins later than now
        ([(40, 40)], 100),  # no time at all
    ],
)
def test_held_time_does_not_count(holds: list[Hold], seconds: float) -> None:
    assert age(*holds) == seconds


@pytest.mark.parametrize("holds", [[], [(-5, None)], [(-20, -10)], [(5, 6)]])
def test_an_event_from_the_future_has_no_age(holds: list[Hold]) -> None:
    assert age(*holds, now=-10) == 0


moments = st.integers(min_value=-20, max_value=120)
some_holds = st.lists(st.tuples(moments, st.none() | moments), max_size=6)


@given(some_holds)
def test_the_age_is_the_number_of_seconds_in_which_nothing_held_the_event(holds: list[Hold]) -> None:
    def held(second: int) -> bool:
        return any(start <= second < (NOW if end is None else end) for start, end in holds)

    assert age(*holds) == sum(not held(second) for second in range(NOW))


def test_fractions_of_a_second_count() -> None:
    assert age_seconds(BIRTH, BIRTH + timedelta(milliseconds=250)) == 0.25
