"""Rejections alike and strange answers in a row. Real: everything. Doubled: nothing; leads are made-up hashes."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.streaks import (
    NO_STREAK,
    REJECTED_LEADS,
    REJECTIONS_IN_A_ROW,
    STRANGE_ANSWERS_IN_A_ROW,
    Streak,
    advance,
    advance_strange,
)

ERROR = "400 INVALID@$.payload.name"
OTHER = "400 INVALID@$.payload.email"


def lead(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def after(rejections: int, *, leads: int, streak: Streak = NO_STREAK) -> tuple[Streak, bool]:
    suspend = False
    for number in range(rejections):
        streak, suspend = advance(streak, ERROR, lead(number % leads))
    return streak, suspend


def test_the_figures_are_those_of_the_design() -> None:
    assert (REJECTIONS_IN_A_ROW, REJECTED_LEADS, STRANGE_ANSWERS_IN_A_ROW) == (20, 10, 5)


@pytest.mark.parametrize(
    ("rejections", "leads", "suspend"),
    [(20, 10, True), (19, 10, False), (20, 9, False), (500, 9, False), (20, 20, True), (21, 10, True), (1, 1, False)],
)
def test_twenty_alike_over_ten_leads_suspend_the_type(rejections: int, leads: int, suspend: bool) -> None:
    assert after(rejections, leads=leads)[1] is suspend


def test_another_error_starts_again_with_count_and_leads() -> None:
    streak, _ = after(19, leads=10)
    assert advance(streak, OTHER, lead(0)) == (Streak(OTHER, 1, (lead(0)[:16],)), False)
    assert advance(streak, ERROR, lead(0))[1] is True


def test_a_probe_that_meets_the_same_error_keeps_the_type_suspended() -> None:
    streak, _ = after(20, leads=10)
    for number in range(3):
        streak, suspend = advance(streak, ERROR, lead(number))
        assert suspend is True


def test_the_count_of_leads_goes_by_different_leads_and_is_capped() -> None:
    streak, _ = after(500, leads=400)
    assert streak.count == 500
    assert len(streak.leads) == len(set(streak.leads)) == 10


@given(st.lists(st.tuples(st.sampled_from([ERROR, OTHER]), st.integers(0, 30)), max_size=80))
def test_only_the_unbroken_tail_of_equal_errors_counts(rejections: list[tuple[str, int]]) -> None:
    streak, suspend = NO_STREAK, False
    for error, number in rejections:
        streak, suspend = advance(streak, error, lead(number))
    tail: list[int] = []
    for error, number in reversed(rejections):
        if error != rejections[-1][0]:
            break
        tail.append(number)
    assert streak.count == len(tail)
    assert suspend is (len(tail) >= 20 and len(set(tail)) >= 10)


@given(st.lists(st.integers(0, 30), max_size=30))
def test_a_streak_survives_its_way_through_json(numbers: list[int]) -> None:
    streak = NO_STREAK
    for number in numbers:
        streak, _ = advance(streak, ERROR, lead(number))
    assert Streak.from_dict(json.loads(json.dumps(streak.as_dict()))) == streak


@pytest.mark.parametrize("stored", [None, {}, {"signature": ERROR}, {"signature": 1, "count": 2, "leads": []}])
def test_what_is_not_a_stored_streak_reads_as_none_yet(stored: dict[str, object] | None) -> None:
    assert Streak.from_dict(stored) == NO_STREAK


@pytest.mark.parametrize(("before", "now", "suspend"), [(0, 1, False), (3, 4, False), (4, 5, True), (5, 6, True)])
def test_the_fifth_strange_answer_in_a_row_suspends_the_account(before: int, now: int, suspend: bool) -> None:
    assert advance_strange(before) == (now, suspend)
