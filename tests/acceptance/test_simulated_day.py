"""Issue 3, line 4: a day at both plans beside another app. What is real and what is doubled: `simulated_day.py`.

The whole day is for DISPATCHER_TEST_SCALE=1; otherwise a part of it, in which the other app comes and goes faster.
"""

from __future__ import annotations

import random

import pytest

from tests.acceptance.corners import SCALE
from tests.acceptance.simulated_day import Day, available, in_bursts, on_and_off

DAY = 86_400.0
PLANS = [(120, DAY if SCALE else 900), (500, DAY if SCALE else 240)]
SPAN = 900.0 if SCALE else 60.0
"""Seconds for which the other app sends, on average; it pauses twice as long."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * 3600 if SCALE else 300)]


@pytest.mark.parametrize(("limit", "seconds"), PLANS)
def test_beside_another_app_no_window_is_exceeded_and_what_is_left_is_used(
    sqlite_url: str, limit: int, seconds: float
) -> None:
    others = list(on_and_off(limit, seconds, on=SPAN, off=2 * SPAN, rng=random.Random(7)))  # noqa: S311 - repeatable
    day = Day(sqlite_url, limit, others, lead_per_day=120 if SCALE else 10)

    day.run(seconds)

    violations = day.sandbox.violations()
    assert (violations.total, violations.lead_overlaps) == (0, 0)
    free = available(limit, seconds, others)
    assert day.delivered >= 0.95 * free, f"{day.delivered} of {free}, {day.refused} refused"
    assert day.refused <= 0.1 * day.delivered
    assert day.at_its_limit() > 0
    assert day.left_behind() < 1000, "the lead at its limit holds up others"


def test_a_third_taken_at_once_at_random_times_leaves_as_little_unused(sqlite_url: str) -> None:
    limit, seconds = 120, 7_200 if SCALE else 900
    others = list(in_bursts(limit, seconds, random.Random(3)))  # noqa: S311 - repeatable
    day = Day(sqlite_url, limit, others)
    day.run(seconds)
    assert day.sandbox.violations().total == 0
    assert day.delivered >= 0.95 * available(limit, seconds, others)


def test_the_sandbox_sees_a_limiter_that_is_broken(sqlite_url: str) -> None:
    """Ours believes in a limit that is five above RD Station's: nobody but we exceed it, and the report says so."""
    day = Day(sqlite_url, 120, (), believed=125)
    day.run(90)
    violations = day.sandbox.violations()
    assert violations.total > 0
    assert violations.accounts[0].max_in_window > 120
